"""Keeps what a window or a script may want to see of a run, so that looking never touches the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TypeVar

import numpy as np

from acquire.engine.live_maps import GrowingMap, LiveMap, MapGrid
from acquire.engine.live_places import Places
from acquire.engine.status import LiveImage, LiveNote, LiveSeries, LiveSpectrum
from acquire.engine.thinning import ThinnedRecord, joined
from acquire.instruments import Frame, HolderReading, StreamSpec
from acquire.measure.eels.true_axis import true_axis
from acquire.stream import Estimate

_T = TypeVar("_T")
_OUTLINED = "diameter_nm"
"""Column of a table that outlines are drawn from."""
KEPT_READINGS = 2**15
"""As they came; of those before the extremes of groups (:mod:`acquire.engine.thinning`)."""
KEPT_ESTIMATES = 2**12
"""Of each estimator, likewise."""
KEPT_NOTES = 2_000
KEPT_IMAGES = 4
"""Of each stream, so that an estimate still finds the frame it was made of."""


class LiveView:
    """Newest images and spectra, and the curves of the present run; any thread may read it.

    Writers never wait for readers beyond the copying of a few references.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # who waits for a map or a spectrum is not woken by every image: each would hold up the run's
        # own threads, two hundred times a second
        self._image_came = threading.Condition(self._lock)
        self._spectrum_came = threading.Condition(self._lock)
        self._map_changed = threading.Condition(self._lock)
        self._serial = 0
        self._run = 0
        self._reset()

    def begin(self) -> None:
        """Forget the run before."""
        with self._lock:
            self._run += 1
            self._reset()

    def _reset(self) -> None:
        self._images: dict[str, deque[tuple[int, Frame, float]]] = {}
        self._derived: set[str] = set()
        self._spectrum: LiveSpectrum | None = None
        self._newest_estimate: dict[str, Estimate] = {}
        self._maps: dict[str, GrowingMap] = {}
        self._places = Places()
        self._readings = ThinnedRecord(2, KEPT_READINGS)
        self._readings_seen = 0
        self._estimates: dict[tuple[str, ...], ThinnedRecord] = {}
        self._estimates_seen = 0
        self._notes: deque[LiveNote] = deque(maxlen=KEPT_NOTES)
        self._notes_seen = 0

    # ------------------------------------------------------------------- written by a run

    def put_image(self, frame: Frame, pixel_size_nm: float, *, derived: bool = False) -> None:
        """Show an image; one that was made of others is shown only to those who name its stream."""
        with self._lock:
            self._serial += 1
            kept = self._images.setdefault(frame.stream, deque(maxlen=KEPT_IMAGES))
            if derived:
                self._derived.add(frame.stream)
            kept.append((self._serial, frame, pixel_size_nm))
            self._places.took(frame)
            self._image_came.notify_all()

    def put_spectrum(self, frame: Frame, spec: StreamSpec) -> None:
        """Show a recorded spectrum; of several reads of a channel the newest."""
        energy = {}
        for name, channel in spec.channels.items():
            if channel.dims[-1] == "energy_loss":
                axis = true_axis(channel.axes["energy_loss"], name, frame.meta.scalars)
                energy[name] = axis.offset + axis.step * np.arange(channel.shape[-1])
        counts = {
            name: np.asarray(frame.data[name]).reshape(-1, len(axis))[-1]
            for name, axis in energy.items()
        }
        with self._lock:
            self._serial += 1
            self._spectrum = LiveSpectrum(
                self._serial, frame.stream, frame.index, frame.t_start_s, counts, energy
            )
            if frame.stream in self._maps:
                self._changed_map(self._maps[frame.stream]).took(frame)
            self._spectrum_came.notify_all()

    def begin_map(self, grid: MapGrid) -> None:
        """Expect the spectra of a map; one of this name that was taken before is not added to."""
        with self._lock:
            self._maps[grid.stream] = GrowingMap(grid)
            self._changed_map(self._maps[grid.stream])

    def _changed_map(self, grown: GrowingMap) -> GrowingMap:
        self._serial += 1
        grown.serial = self._serial
        self._map_changed.notify_all()  # they look when our lock is free again
        return grown

    def put_reading(self, reading: HolderReading) -> None:
        """Add to the temperature curves."""
        with self._lock:
            self._readings.append(
                self._readings_seen,
                reading.t_s,
                [reading.measured_celsius, reading.setpoint_celsius],
            )
            self._readings_seen += 1

    def put_estimate(self, estimate: Estimate) -> None:
        """Add to the curves of estimates."""
        flat: dict[str, float] = {}
        for name, value in estimate.values.items():
            flat[name] = value.value
            flat[f"{name}_sigma"] = value.sigma
        with self._lock:
            record = self._estimates.get(tuple(flat))
            if record is None:
                record = self._estimates[tuple(flat)] = ThinnedRecord(len(flat), KEPT_ESTIMATES)
            record.append(self._estimates_seen, estimate.t_s, list(flat.values()))
            self._estimates_seen += 1
            if estimate.stream in self._maps:
                self._changed_map(self._maps[estimate.stream]).told(estimate)
            self._places.told(estimate)
            # outlines stay when another estimator of the stream has none to draw
            last = self._newest_estimate.get(estimate.stream)
            if last is None or _OUTLINED in estimate.table or _OUTLINED not in last.table:
                self._newest_estimate[estimate.stream] = estimate
            self._image_came.notify_all()

    def put_note(self, t_s: float, kind: str, text: str) -> None:
        """Add a line to the log."""
        with self._lock:
            self._notes.append(LiveNote(t_s, kind, text))
            self._notes_seen += 1

    # --------------------------------------------------------------------- read by viewers

    def image(self, stream: str, after: int, wait_s: float) -> LiveImage | None:
        """See HostApi.image."""
        deadline = time.monotonic() + _bounded(wait_s)
        with self._lock:
            while True:
                found = self._newest(stream)
                if found is not None and found[0] > after:
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._image_came.wait(left)
            serial, frame, pixel_size_nm = found
            estimate = self._newest_estimate.get(frame.stream)
            streams = tuple(self._images)
            place = self._places.of(frame.stream, frame.index)
        return LiveImage(
            serial,
            frame.stream,
            frame.index,
            frame.t_start_s,
            pixel_size_nm,
            frame.data,
            estimate.frame_index if estimate else -1,
            estimate.table if estimate else {},
            streams,
            place.index,
            place.x_nm,
            place.y_nm,
        )

    def _newest(self, stream: str) -> tuple[int, Frame, float] | None:
        """What to show: the newest frame, or the one that was measured last while that keeps up.

        The view drifts, so outlines belong on the frame they were found in.
        """
        candidates = [self._images[stream]] if stream in self._images else []
        if not stream:
            candidates = [kept for name, kept in self._images.items() if name not in self._derived]
        kept = max(candidates, key=lambda frames: frames[-1][0], default=None)
        if kept is None:
            return None
        newest = kept[-1]
        estimate = self._newest_estimate.get(newest[1].stream)
        if estimate is None:
            return newest
        return next((item for item in kept if item[1].index == estimate.frame_index), newest)

    def spectrum(self, after: int, wait_s: float) -> LiveSpectrum | None:
        """See HostApi.spectrum."""
        deadline = time.monotonic() + _bounded(wait_s)
        with self._lock:
            while self._spectrum is None or self._spectrum.serial <= after:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._spectrum_came.wait(left)
            return self._spectrum

    def map(self, stream: str, after: int, wait_s: float) -> LiveMap | None:
        """See HostApi.map."""
        deadline = time.monotonic() + _bounded(wait_s)
        with self._lock:
            while True:
                asked = [grown for name, grown in self._maps.items() if stream in ("", name)]
                found = max(asked, key=lambda grown: grown.serial, default=None)
                if found is not None and found.serial > after:
                    found, streams = found.copy(), tuple(self._maps)
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._map_changed.wait(left)
        return found.view(streams)

    def series(self, cursor: tuple[int, int, int]) -> LiveSeries:
        """See HostApi.series."""
        with self._lock:
            readings = self._readings.since(cursor[0])
            estimates = {names: kept.since(cursor[1]) for names, kept in self._estimates.items()}
            notes = _since(self._notes, self._notes_seen, cursor[2])
            new_cursor = (self._readings_seen, self._estimates_seen, self._notes_seen)
            run = self._run
        estimate_t_s, values = joined(estimates)
        return LiveSeries(
            new_cursor,
            run,
            readings[1],
            readings[2],
            readings[3],
            estimate_t_s,
            values,
            tuple(notes),
        )


def _since(kept: deque[_T], seen: int, cursor: int) -> list[_T]:
    return list(kept)[len(kept) - min(len(kept), seen - cursor) :] if cursor < seen else []


def _bounded(wait_s: float) -> float:
    """A wait that anybody may ask for: 0 to 1 s, also when it is not a number."""
    return min(wait_s, 1.0) if wait_s > 0 else 0.0
