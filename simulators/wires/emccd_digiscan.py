"""DigiScan as the SerialEMCCD plugin drives it, over the simulated scan.

One acquisition at a time. A single one blocks until it is over; a continuous one runs on its own
and outlives the connection that began it, until it is stopped. After either, the image of every
channel waits to be fetched once. Source of what fails when: mastcu/SerialEMCCD,
``TemplatePlugIn.cpp`` (AcquireDSImage, ReturnDSChannel, StopDSAcquisition).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntFlag

from acquire.clock import Clock, Signal
from acquire.errors import HotstageError
from acquire.instruments import ScanExposure
from simulators.scan import LINE_FLYBACK_S, SimulatedScan
from simulators.wires.emccd_optics import SAFE_DS, Optics
from simulators.wires.emccd_packets import Failure
from simulators.wires.emccd_run import Pixels, Run
from simulators.wires.emccd_values import Image, ScriptError

MOST_CHANNELS = 8
SHORTEST_PIXEL_US = 0.5
LONGEST_PIXEL_US = 100_000.0
LONGEST_LINE_PX = 4096
RETURN_MARGIN_S = 0.18
"""A continuous image is handed out so long after a frame's time has passed since the last one."""


class Ending(IntFlag):
    """Bits of the argument that says whether to follow the mains, and where the beam goes after."""

    LINE_SYNC = 1
    BEAM_TO_SAFE = 2
    BEAM_TO_FIXED = 4
    BEAM_TO_EDGE = 8
    CONTROL_SCAN = 16


class Failed(Exception):
    """A call that returns a positive code."""

    def __init__(self, failure: Failure, why: str = "") -> None:
        super().__init__(why or failure.name)
        self.failure = failure


class DigiScan:
    """Scan generator and digitiser; commands come one at a time.

    Args:
        scan: exposes the images.
        clock: of the simulation; times of the protocol are its seconds.
        optics: where the beam rests, and the field.
        channels: names of detectors by the number of their channel.
        line_frequency_hz: of the mains.
        closing: raised when the far end ends.
    """

    def __init__(
        self,
        scan: SimulatedScan,
        clock: Clock,
        optics: Optics,
        channels: Sequence[str],
        line_frequency_hz: float,
        closing: Signal,
    ) -> None:
        self.channels = tuple(channels)
        self.line_frequency_hz = line_frequency_hz
        self.flyback_us = 1e6 * LINE_FLYBACK_S
        self._scan = scan
        self._clock = clock
        self._optics = optics
        self._closing = closing
        self._run: Run | None = None
        self._continuous: tuple[tuple[int, ...], float] | None = None
        self._returned_s = -math.inf
        self._waiting: dict[int, Pixels] = {}
        self._last: dict[int, Image] = {}
        self._ids = 0
        self._extra_flyback_us = 0.0
        self._margin_us = 0.0

    # ---------------------------------------------------------------- the plugin's calls

    def prepare(self, extra_flyback_us: float, margin_us: float) -> None:
        """Take over what a client knows better than DM: flyback beyond DM's, margin of the mains."""
        self._extra_flyback_us, self._margin_us = extra_flyback_us, margin_us

    def acquire(
        self,
        shape: tuple[int, int],
        rotation_deg: float,
        pixel_us: float,
        ending: Ending,
        continuous: int,
        channels: tuple[int, ...],
    ) -> Pixels | None:
        """Expose, and return the image of the first channel.

        Args:
            shape: rows, columns.
            rotation_deg: of the image, clockwise.
            pixel_us: dwell time; taken into the range that the device can do.
            ending: flags.
            continuous: 0 exposes once; 1 begins to expose for ever and returns None; -1 returns the
                present image.
            channels: numbers.

        Raises:
            Failed: it could not.
        """
        if continuous < 0:
            return self._present()
        if self._continuous is not None:
            self.stop()
        exposure, turns = self._exposure(shape, rotation_deg, pixel_us, channels)
        extra_s = self._wait_for_mains_s(exposure) if Ending.LINE_SYNC in ending else 0.0
        self._waiting.clear()
        run = Run(self._scan, self._clock, exposure, turns, extra_s, self._closing)
        self._run = run
        for channel in channels:
            self._ids += 1
            name = f"SEMchan{channel}"
            self._last[channel] = Image(self._ids, name, shape[1], shape[0], rotation_deg)
        if continuous:
            self._continuous = (channels, self._frame_s(shape, pixel_us, ending))
            self._returned_s = self._clock.now_s()
            run.begin(None)
            self._waiting.update(dict.fromkeys(channels, run.blank()))
            return None
        run.begin(1)
        run.wait()
        images = run.images()
        if not images:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"no image: {run.trouble}")
        self._rest(ending, shape)
        self._waiting.update(self._by_channel(images, channels))
        return self._waiting.pop(channels[0])

    def fetch(self, channel: int) -> Pixels:
        """The image of a channel that was acquired and not fetched; raises Failed.

        While a continuous acquisition runs, it is that of its first channel, whichever is asked for:
        so the plugin does it.
        """
        self._collect()
        if channel not in self._waiting:
            raise Failed(Failure.DS_CHANNEL_NOT_ACQUIRED)
        if self._continuous is not None:
            return self._waiting[self._continuous[0][0]]
        return self._waiting.pop(channel)

    def stop(self) -> None:
        """End a continuous acquisition; raises Failed if there is none."""
        if self._continuous is None:
            raise Failed(Failure.CONTINUOUS_ENDED)
        self.halt()
        self._collect()
        self._continuous = None

    # ------------------------------------------------------------------- what scripts can

    def finish(self) -> None:
        """End the running acquisition when its present frame is complete; returns at once."""
        if self._run is not None:
            self._run.finishing = True

    def halt(self) -> None:
        """End the running acquisition now."""
        if self._run is not None:
            self._run.halt()

    def active(self) -> bool:
        """Whether an acquisition runs."""
        return self._run is not None and self._run.running()

    def wait(self) -> None:
        """Wait until the running acquisition has ended, as one does that was told to finish."""
        if self._run is not None:
            self._run.wait()

    def named(self, name: str) -> Image | None:
        """The image of a channel that waits to be fetched, by its name ``SEMchan<number>``."""
        for channel in self._waiting:
            if self._last[channel].name.lower() == name.lower():
                return self._last[channel]
        return None

    def last(self, channel: float) -> Image:
        """The image that a channel was last acquired into; raises ScriptError."""
        if channel not in self._last:
            raise ScriptError(f"no image was acquired of signal {channel:g}")
        return self._last[int(channel)]

    # ------------------------------------------------------------------------- within

    def _present(self) -> Pixels:
        if self._continuous is None:
            raise Failed(Failure.CONTINUOUS_ENDED)
        channels, frame_s = self._continuous
        wait_s = self._returned_s + frame_s + RETURN_MARGIN_S - self._clock.now_s()
        if wait_s > 0:
            self._closing.wait(wait_s)
        if self._run is not None:
            self._run.wait_for_frame()  # drawing an image may take longer than exposing it
        image = self.fetch(channels[0])
        self._returned_s = self._clock.now_s()
        return image

    def _collect(self) -> None:
        """Take over what a continuous acquisition has exposed since."""
        if self._continuous is None or self._run is None:
            return
        channels, _ = self._continuous
        images = self._run.images()
        if images:
            self._waiting.update(self._by_channel(images, channels))

    def _by_channel(
        self, images: dict[str, Pixels], channels: tuple[int, ...]
    ) -> dict[int, Pixels]:
        return {channel: images[self.channels[channel]] for channel in channels}

    def _exposure(
        self,
        shape: tuple[int, int],
        rotation_deg: float,
        pixel_us: float,
        channels: tuple[int, ...],
    ) -> tuple[ScanExposure, int]:
        if not channels or not all(0 <= c < len(self.channels) for c in channels):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"channels {channels} do not all exist")
        if len(set(channels)) < len(channels):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"channels {channels}: one comes twice")
        if not (math.isfinite(rotation_deg) and math.isfinite(pixel_us)):
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, "rotation or pixel time is no number")
        turns = round(rotation_deg / 90)
        if abs(rotation_deg - 90 * turns) > 1e-6 or (turns % 2 and shape[0] != shape[1]):
            raise Failed(
                Failure.GENERAL_SCRIPT_ERROR,
                f"the simulated scan cannot turn by {rotation_deg:g}°: only squares, by 90°",
            )
        field = self._optics.field_nm * shape[1] / max(*shape, 1)
        pixel_us = min(max(pixel_us, SHORTEST_PIXEL_US), LONGEST_PIXEL_US)
        exposure = ScanExposure(
            tuple(self.channels[channel] for channel in channels), shape, field, 1e-6 * pixel_us
        )
        try:
            self._scan.check(exposure)
        except HotstageError as error:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, str(error)) from error
        return exposure, turns

    def _wait_for_mains_s(self, exposure: ScanExposure) -> float:
        """What a frame takes longer when every line begins with a period of the mains."""
        line_s = exposure.shape[1] * exposure.dwell_time_s + LINE_FLYBACK_S
        periods = math.ceil(line_s * self.line_frequency_hz - 1e-9)
        return exposure.shape[0] * (periods / self.line_frequency_hz - line_s)

    def _frame_s(self, shape: tuple[int, int], pixel_us: float, ending: Ending) -> float:
        """What the plugin reckons that a frame takes."""
        line_us = shape[1] * pixel_us + self.flyback_us + self._extra_flyback_us
        if Ending.LINE_SYNC in ending:
            line_us += self._margin_us
        return 1e-6 * shape[0] * line_us

    def _rest(self, ending: Ending, shape: tuple[int, int]) -> None:
        """Where the beam goes after a single acquisition."""
        if not ending & ~Ending.LINE_SYNC:
            return
        self._optics.take_scan_control(True)
        rows, columns = shape
        if Ending.BEAM_TO_SAFE in ending:
            self._optics.put_beam_ds(*SAFE_DS)
        elif Ending.BEAM_TO_FIXED in ending:
            at = (-(columns // 8), -(rows // 8))
            self._optics.put_beam_ds(*self._optics.to_ds(*at, columns, rows))
        elif Ending.BEAM_TO_EDGE in ending:
            at = (columns + columns // 8, rows + rows // 8)
            self._optics.put_beam_ds(*self._optics.to_ds(*at, columns, rows))
