"""The live estimator ``particles``: sizes of every frame, and what becomes of particles over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from pydantic import ValidationError
from scipy.spatial import KDTree

from acquire.config import explain
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import AnyArray, Frame, StreamSpec
from acquire.measure.particles.calibrate import ShapePool
from acquire.measure.particles.choosing import ChoosingParticles
from acquire.measure.particles.level import LevelWatch
from acquire.measure.particles.live_options import EstimatorOptions
from acquire.measure.particles.live_quantities import LIVE_COLUMNS, LIVE_QUANTITIES
from acquire.measure.particles.measure import (
    ParticleMeasurement,
    empty_table,
)
from acquire.measure.particles.one_frame import measure_alone, measure_declared
from acquire.measure.particles.places import PlaceMemory
from acquire.measure.particles.prepare import Segmenter
from acquire.measure.particles.summary import no_values
from acquire.measure.particles.warm import begin_warm_up
from acquire.measure.scale import pixel_size_of
from acquire.measure.tracking import (
    EventKind,
    GrowthWindow,
    Sightings,
    Tracker,
    TrackerOptions,
    TrackEvent,
)
from acquire.stream.records import Estimate, Quantity, Value
from acquire.units import show

_LEAST_SPAN = 0.25
"""Share of the growth window that must have been watched before a rate is told."""
_STALE = 0.25
"""Share of the window after which a rate without new sizes is stale; after twice that it is none."""
_SHOWS_SNR = 3.5
_NO_CALIBRATION = {"blank", "saturated", "polarity"}
"""Frames with these flags do not tell the shape of particles."""
_NAN = Value(math.nan, math.nan)


class ParticleEstimator:
    """Sizes and follows the particles of one detector; the same frames give the same estimates.

    An image that cannot be measured gives an estimate of NaN with a flag and the run goes on; the
    ids of the particles survive it. Flags beside those of :func:`measure_particles`: ``unreadable``
    (not an image of the declared shape and type), ``blank`` (beam off), ``dose_change`` (three
    frames after a sudden change of the level; sizes before and after are not compared),
    ``field_moved`` (all tracks ended, growth begins anew), ``calibrating``, ``few_tracked``,
    ``short_watch`` and ``stale_growth`` (see the growth rate).
    """

    quantities: tuple[Quantity, ...] = LIVE_QUANTITIES
    columns: Mapping[str, str] = LIVE_COLUMNS
    segmenter: Segmenter | None = None
    """Finds the particles in hotstage's stead; set by :func:`with_segmenter`."""

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            chosen = EstimatorOptions.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", EstimatorOptions)) from error
        self.name = name
        self.stream = spec.name
        self.channel = channel
        self.options = chosen.for_channel(channel)
        self.pixel_size_nm = pixel_size_of(name, spec, channel)
        radius_px = chosen.smallest_diameter / self.options.diameter_per_radius
        if radius_px < self.pixel_size_nm:
            raise ConfigError(
                f"estimate.{name}: smallest_diameter = {show(chosen.smallest_diameter, 'nm')} is too "
                f"small for pixels of {show(self.pixel_size_nm, 'nm')} in {spec.name!r}. "
                "Scan a smaller field of view or more pixels, or raise smallest_diameter."
            )
        declared = spec.channels[channel]
        self._shape, self._type = tuple(declared.shape), np.dtype(declared.dtype)
        self._calibrating: ShapePool | None = None
        if chosen.exponent == "calibrate":
            self._calibrating = ShapePool(self.pixel_size_nm, self.options)
        self._calibrate_frames = chosen.calibrate_frames
        footprint = 2.0 / self.options.diameter_per_radius
        height, width = (side * self.pixel_size_nm for side in self._shape)
        self._tracker = Tracker(
            TrackerOptions(chosen.link_distance, footprint_per_diameter=footprint), (height, width)
        )
        self._places = PlaceMemory(chosen.link_distance)
        self._level = LevelWatch()
        self._growth = GrowthWindow(chosen.growth_window)
        self._counts = dict.fromkeys(EventKind, 0)
        self._doubt = dict.fromkeys(EventKind, 0.0)
        self._ended: dict[int, TrackEvent] = {}
        self._t_s = -math.inf
        self._warm = begin_warm_up(self._type)

    @classmethod
    def choosing(
        cls, name: str, spec: StreamSpec, detectors: tuple[str, ...], options: Mapping[str, object]
    ) -> ChoosingParticles:
        """One for the detector that shows the particles best, see :class:`ChoosingParticles`."""
        return ChoosingParticles(cls, name, spec, detectors, options)

    def prepare(self) -> None:
        """Wait until all is compiled, which takes up to a minute the first time on a machine."""
        self._warm.wait()

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one frame; None if it lacks the channel."""
        image = frame.data.get(self.channel)
        if image is None:
            return None
        self.prepare()
        measured = measure_declared(
            image,
            self._shape,
            self._type,
            self.pixel_size_nm,
            self.options,
            self.segmenter,
            self._places.places_nm + self._tracker.predicted_shift_nm(frame.t_end_s),
            self._places.trusted,
        )
        estimate = self.follow(frame, measured)
        if (
            self._calibrating is not None
            and measured.context is not None
            and estimate is not None
            and not _NO_CALIBRATION.intersection(estimate.flags)
        ):
            self._calibrate(self._calibrating, image)
        return estimate

    def measurer(self) -> Callable[[Frame], ParticleMeasurement | None]:
        """Measures a frame by itself, see :class:`acquire.analysis.SplitEstimator`.

        Without the places of known particles, one that is fainter than what finding needs is
        missed in the frames in which :meth:`update` would still measure it.

        Raises:
            ConfigError: the exponent is still to be calibrated, which needs the frames in order.
        """
        if self._calibrating is not None:
            raise ConfigError(
                f"estimate.{self.name}: exponent = calibrate needs the frames one after the other. "
                "Calibrate on some images (calibrate_shape) and write the exponent and probe_sigma."
            )
        return partial(
            measure_alone,
            self.channel,
            self._shape,
            self._type,
            self.pixel_size_nm,
            self.options,
            self.segmenter,
        )

    def follow(self, head: Frame, measured: ParticleMeasurement | None) -> Estimate | None:
        """The estimate for the next frame, whose data are not looked at; ids last."""
        if measured is None:
            return None
        t_s = head.t_end_s
        flags = list(measured.flags)
        usable = bool(measured.table) and measured.context is not None
        light, changed = self._level.judge(measured.level, *self._again(measured, t_s))
        if light:
            flags.append(light)
        values, table = dict(measured.values), {**empty_table(), **_untracked(0)}
        if light == "blank":
            values, usable = no_values(), False
        if changed:
            self._tracker.new_segments()
        if self._calibrating is not None:
            flags.append("calibrating")
        if usable:
            table = {**measured.table, **_untracked(len(measured.table["id"]))}
            if t_s > self._t_s and "polarity" not in flags:
                table |= self._track(t_s, measured, flags)
                self._t_s = t_s
        values["growth_rate"] = self._rate(t_s, flags) if usable else _NAN
        values |= self._counted()
        return Estimate(
            estimator=self.name,
            stream=head.stream,
            frame_index=head.index,
            t_s=t_s,
            values=values,
            flags=tuple(dict.fromkeys(flags)),
            table=table,
        )

    # ------------------------------------------------------------------ over time

    def _track(
        self, t_s: float, measured: ParticleMeasurement, flags: list[str]
    ) -> dict[str, AnyArray]:
        """Ids and ages of the table's particles; events are counted, sizes enter the growth."""
        seen = Sightings.from_table(measured.table)
        if "saturated" in flags:
            seen = replace(seen, sized=np.zeros(len(seen), bool))
        tracked = self._tracker.update(t_s, seen)
        for event in tracked.events:
            if event.kind is EventKind.RETURN:
                taken_back = self._ended.pop(event.track)
                self._counts[taken_back.kind] -= 1
                self._doubt[taken_back.kind] -= _doubt(taken_back)
                if taken_back.kind is EventKind.DISAPPEARANCE:
                    self._doubt[EventKind.MERGE] -= _doubt(taken_back)
                continue
            self._counts[event.kind] += 1
            self._doubt[event.kind] += _doubt(event)
            if event.kind is EventKind.DISAPPEARANCE:
                self._doubt[EventKind.MERGE] += _doubt(event)  # it may have been one
            if event.kind in (EventKind.MERGE, EventKind.DISAPPEARANCE):
                self._ended[event.track] = event
        if any(event.kind is EventKind.FIELD_MOVED for event in tracked.events):
            flags.append("field_moved")
            self._growth.clear()
            self._places.clear()
        self._places.learn(measured, seen.places_nm, tracked.shift_nm)
        rows = seen.sized
        if rows.any():
            self._growth.add(
                t_s,
                tracked.track[rows],
                tracked.segment[rows],
                seen.diameter_nm[rows],
                seen.sigma_nm[rows],
            )
        return {"id": tracked.track, "age_frames": tracked.age_frames}

    def _rate(self, t_s: float, flags: list[str]) -> Value:
        window = self._growth.window_s
        age = t_s - self._growth.newest_s
        if age > _STALE * window:
            flags.append("stale_growth")
        growth = self._growth.rate(t_s)
        if growth.span_s < _LEAST_SPAN * window:
            flags.append("short_watch")
        elif not math.isfinite(growth.rate_nm_per_min):
            flags.append("few_tracked")
        if growth.span_s < _LEAST_SPAN * window or age > 2 * _STALE * window:
            return _NAN
        return Value(growth.rate_nm_per_min, growth.sigma_nm_per_min)

    def _counted(self) -> dict[str, Value]:
        waiting = self._tracker.undecided
        return {
            name: Value(
                float(self._counts[kind]),
                math.sqrt(max(self._doubt[kind], 0.0) + 0.25 * waiting[kind]),
            )
            for name, kind in (
                ("nucleations", EventKind.NUCLEATION),
                ("merges", EventKind.MERGE),
                ("disappearances", EventKind.DISAPPEARANCE),
            )
        }

    def _again(self, measured: ParticleMeasurement, t_s: float) -> tuple[int, int, int]:
        """Particles found, those that were expected, and how many of these show."""
        found = len(measured.table["id"]) if measured.table else 0
        alive = self._tracker.alive
        sure = alive.where(alive.sure & (alive.unseen == 0))
        expected = sure.places_nm + self._tracker.predicted_shift_nm(t_s)
        if not len(expected):
            return found, 0, 0
        shows = np.zeros(len(expected), bool)
        gate = self._tracker.options.link_distance_nm
        if found:
            places = np.stack([measured.table["y_nm"], measured.table["x_nm"]], axis=1)
            shows |= KDTree(places).query(expected)[0] <= gate
        if len(measured.known_snr) == len(self._places.places_nm) > 0:
            looked = self._places.places_nm + self._tracker.predicted_shift_nm(t_s)
            apart, nearest = KDTree(looked).query(expected)
            shows |= (apart <= gate) & (measured.known_snr[nearest] > _SHOWS_SNR)
        return found, len(expected), int(shows.sum())

    def _calibrate(self, pool: ShapePool, image: AnyArray) -> None:
        """Take the profiles; once there are enough, calibrate on them and hold what comes out."""
        pool.add(image)
        if len(pool) < self._calibrate_frames:
            return
        try:
            found = pool.calibrate()
        except MeasureError:
            # too few particles yet: the frames to come may show more
            pool.forget_oldest()
            return
        self.options = found.applied_to(self.options)
        self._calibrating = None
        self._tracker.new_segments()


def with_segmenter(segmenter: Segmenter) -> type[ParticleEstimator]:
    """An estimator, ready for an entry point, whose particles are found by ``segmenter``.

    Sizes, flags, tracks and quantities are as ever. A function that can be imported by its name
    serves ``hotstage analyse`` too, which sends it to other processes.
    """
    return type(
        "SegmentedEstimator",
        (ParticleEstimator,),
        {"segmenter": staticmethod(segmenter), "__doc__": ParticleEstimator.__doc__},
    )


def _doubt(event: TrackEvent) -> float:
    """Variance of a count that an event adds."""
    return event.confidence * (1 - event.confidence)


def _untracked(rows: int) -> dict[str, AnyArray]:
    return {"id": np.full(rows, -1, np.int64), "age_frames": np.zeros(rows, np.int64)}
