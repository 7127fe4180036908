"""Gatan's DigiScan as a scan, through the SerialEMCCD plug-in of DigitalMicrograph.

Sources: those of :mod:`drivers.serialemccd` and :mod:`drivers.scans.digiscan_device`, which say what is
unverified; nothing was tried on hardware.

The plug-in serves nobody while it takes a frame. So a frame of more than 0.2 s (on the wall) is started
as a continuous scan that is told to finish with this frame, and is fetched when DigiScan says that it
has: it can be cut, and the beam blanked, at any time, and the specimen gets the dose of one frame.
Images are 16-bit unsigned, as the plug-in itself makes them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Description, Frame, FrameMeta, ScanExposure, StreamSpec
from acquire.station import DriverContext
from acquire.units import show
from drivers.links import ExchangeCut
from drivers.scans.digiscan_beam import Beam
from drivers.scans.digiscan_device import DigiScanDevice, Properties, Raster
from drivers.scans.digiscan_settings import (
    Settings,
    expect,
    lasts_s,
    limits_of,
    read,
    shortest_s,
    spec_of,
    within,
)
from drivers.scans.microscope import TIMING
from drivers.serialemccd import COMMAND_S, Emccd

logger = logging.getLogger(__name__)

UNCUT_WALL_S = 0.2
"""A frame that takes longer is taken so that it can be cut."""
STOP_WALL_S = 0.15
POLL_WALL_S = 0.01
LOOK_WALL_S = 0.1
"""How often DigiScan is asked whether it still scans, before the end is due."""


def open_digiscan(
    context: DriverContext,
    *,
    address: str,
    detectors: Mapping[str, int],
    width_at_1x: str,
    field_of_view: Sequence[str] = ("5 nm", "5000 nm"),
    field_tolerance: float = 0.01,
    maximum_size: int = 4096,
    rotation: str = "0 deg",
    flyback: str | None = None,
    line_sync: bool = False,
    rest: Literal["safe", "fixed", "edge"] = "safe",
    shift_unit: str = "1 nm",
    shift_rotation: str = "0 deg",
    shift_mirrored: bool = False,
    maximum_shift: str = "1 µm",
    probe_current: str | None = None,
    beam_energy: str | None = None,
    convergence_semi_angle: str | None = None,
    detector_angles: Mapping[str, Sequence[str]] | None = None,
) -> DigiScan:
    """Connect to DigiScan: the entry point ``digiscan`` of ``hotstage.drivers``.

    Args:
        context: the station's.
        address: ``HOST:PORT`` of the plug-in; the port is what SERIALEMCCD_PORT says on the Gatan PC.
        detectors: DigiScan's signal number by the name of the detector: ``{haadf = 0, abf = 1}``.
        width_at_1x: the calibration: width of the scanned field times the magnification that
            DigitalMicrograph shows. Take it from an image of a calibrated specimen.
        field_of_view: smallest and largest width of an image.
        field_tolerance: how far, relatively, the column's step of magnification may be from the field
            that was asked for; the axes of the images tell what it took.
        maximum_size: pixels on a side.
        rotation: of the scan.
        flyback: set it, for all of DigiScan; default: as it is.
        line_sync: begin each line at a phase of the mains.
        rest: where the beam goes after a frame: the ``safe`` position of DigiScan's set-up, or beyond
            the ``edge`` after the last or the ``fixed`` place before the first pixel. After frames of
            more than 0.2 s it is always the safe position.
        shift_unit: what a unit of the column's calibrated beam shift is.
        shift_rotation: from the axes of an image to those of the beam shift.
        shift_mirrored: whether y is turned round before, for a beam shift whose y goes up in the image.
        maximum_shift: that the beam shift may reach along an axis, the centres of fields included.
        probe_current: of the microscope, for doses: ``100 pA``.
        beam_energy: for the metadata, as the next two: ``300 keV``, or ``300 kV``.
        convergence_semi_angle: ``23 mrad``.
        detector_angles: inner and outer angle by detector: ``{haadf = ["70 mrad", "175 mrad"]}``.

    Raises:
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: there is no DigiScan, or it lacks a signal.
    """
    settings = read(
        detectors=detectors,
        width_at_1x=width_at_1x,
        field_of_view=field_of_view,
        field_tolerance=field_tolerance,
        maximum_size=maximum_size,
        rotation=rotation,
        flyback=flyback,
        line_sync=line_sync,
        rest=rest,
        shift_unit=shift_unit,
        shift_rotation=shift_rotation,
        shift_mirrored=shift_mirrored,
        maximum_shift=maximum_shift,
        probe_current=probe_current,
        beam_energy=beam_energy,
        convergence_semi_angle=convergence_semi_angle,
        detector_angles=detector_angles,
    )
    emccd: Emccd = context.shared.get(
        f"serialemccd {address}", lambda: Emccd(address, context.clock)
    )
    emccd.open()
    return DigiScan(context, emccd, settings)


class DigiScan:
    """A scan of DigiScan's signals; see :func:`open_digiscan`."""

    def __init__(self, context: DriverContext, emccd: Emccd, settings: Settings) -> None:
        self._role = context.role
        self._clock: Clock = context.clock
        self._emccd = emccd
        self._settings = settings
        self._device = DigiScanDevice(emccd)
        self._properties = self._set_up()
        expect(self._properties, settings)
        self._limits = limits_of(self._properties, settings)
        self._beam = Beam(emccd, self._device, settings, self._limits[3])
        self._acquisition = Acquisition(context.clock, context.role)
        self._exposure: ScanExposure | None = None

    def describe(self) -> Description:
        """Identity, limits, calibration and the microscope's facts."""
        found, settings = self._properties, self._settings
        return Description(
            role=self._role,
            model="Gatan DigiScan",
            driver="digiscan",
            limits=self._limits,
            detectors=tuple(settings.detectors),
            details={
                "dm_version": float(self._emccd.dm_version),
                "line_flyback_s": found.flyback_us * 1e-6,
                "line_frequency_hz": found.line_frequency_hz,
                "scan_rotation_deg": settings.rotation_deg,
                "scan_rotation_offset_deg": found.rotation_offset_deg,
                "scan_flipped": "yes" if found.flipped else "no",
                "width_at_1x_nm": settings.width_at_1x_nm,
                "blank_is_read_back": "yes" if self._device.tells_blank else "no",
                "saturation_counts": 65535.0,
                **settings.facts,
            },
        )

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if the exposure cannot be taken."""
        known = self._settings.detectors
        asked = request.detectors
        if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(known):
            raise LimitError(
                f"detectors {list(asked)} refused: the scan has {', '.join(known)}; name one or more "
                "of them, each once."
            )
        field, dwell, size, _ = self._limits
        for pixels in request.shape:
            within(size, pixels)
        within(field, request.field_of_view_nm)
        within(field, request.shape[0] * request.pixel_size_nm, "height of the field of view")
        within(dwell, request.dwell_time_s)
        self._beam.check(request)
        if not math.isfinite(request.frame_period_s) or request.frame_period_s < 0:
            raise LimitError(
                f"frame period {request.frame_period_s} s refused: it must be finite, at least 0."
            )

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Set magnification and shift, and say what frames will look like; the axes are as taken.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed already, or the column has no such magnification.
        """
        self.check(exposure)
        self._acquisition.arm(frames)
        try:
            # a person may have changed them
            self._properties = self._set_up()
            pixel_nm = self._beam.set_up(exposure)
        except BaseException:
            self._acquisition.disarm()
            raise
        self._exposure = exposure
        duration_s = lasts_s(exposure, self._properties, self._settings.flags)
        return spec_of(self._role, exposure, pixel_nm, duration_s)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames; their time spans hold the exposure for sure.

        Raises:
            LinkError: the link was lost in a frame, which is not taken again.
            InstrumentError: not armed, DigiScan took another size or pixel time, or somebody changed
                the magnification.
        """
        exposure = self._exposure
        period_s = 0.0 if exposure is None else exposure.frame_period_s

        def expose(index: int, cut: Cut) -> Frame | None:
            return None if exposure is None else self._expose(exposure, index, cut)

        return self._acquisition.frames(stop, period_s, expose)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point of the last armed field.

        Positions are calibrated, once, by a small frame with the beam blanked.

        Raises:
            LimitError: the point is not in the field.
        """
        self._beam.park(x_nm, y_nm)

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move field and parked probe by the beam shift, relative to the present one; raises LimitError."""
        self._beam.shift(dx_nm, dy_nm)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam, and read back that it is so, where the column can tell."""
        self._beam.blank(blanked)

    def blanked(self) -> bool:
        """Whether the beam is blanked.

        Raises:
            LinkError: not known: the link is down, or ``make_safe`` could not be confirmed yet.
        """
        return self._beam.blanked()

    def make_safe(self, reason: str) -> None:
        """End the acquisition, and blank the beam in the background until that is confirmed."""
        logger.info("the beam is made safe: %s", reason)
        self._acquisition.disarm()
        self._beam.make_safe()

    def close(self) -> None:
        """Let go of the device; idempotent."""
        self._acquisition.disarm()
        self._beam.close()

    # ---------------------------------------------------------------------------- frames

    def _set_up(self) -> Properties:
        """Set what the options say of all of DigiScan; returns what it has."""
        if self._settings.flyback_us is not None:
            self._device.set_flyback(self._settings.flyback_us)
        return self._device.properties()

    def _expose(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        # the last frame of an acquisition before may be still on its way out, and would end this one
        while not self._beam.exposing.acquire(timeout=POLL_WALL_S):
            if cut():
                return None
        try:
            return self._frame(exposure, index, cut)
        finally:
            self._beam.exposing.release()

    def _frame(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        settings = self._settings
        raster = Raster(
            exposure.shape,
            exposure.dwell_time_s * 1e6,
            settings.rotation_deg,
            tuple(settings.detectors[name] for name in exposure.detectors),
            settings.flags,
        )
        self._beam.demand_known()
        duration_s = lasts_s(exposure, self._properties, self._settings.flags)
        wall_s = duration_s / finite_rate(self._clock)
        try:
            if wall_s <= UNCUT_WALL_S or not self._device.finishes:
                images = self._device.take(raster, 1.5 * wall_s, cut)
                start_s, end_s = images[0].asked_s, images[0].announced_s
            else:
                span = self._scan(raster, duration_s, cut)
                if span is None:
                    return None
                start_s, end_s = span
                images = self._device.fetch(raster, raster.channels, cut)
            self._beam.demand_field(cut)
        except ExchangeCut:
            return None
        least_s = shortest_s(exposure, self._properties, self._settings.flags)
        if end_s - start_s < least_s:
            raise InstrumentError(
                f"DigiScan took a frame in {end_s - start_s:.4g} s that lasts at least "
                f"{least_s:.4g} s: it was stopped, or it has shortened the dwell time of "
                f"{show(exposure.dwell_time_s, 's')}. Choose another."
            )
        data = {name: image.data for name, image in zip(exposure.detectors, images, strict=True)}
        meta = FrameMeta({TIMING: max(0.0, end_s - start_s - duration_s)})
        return Frame(self._role, index, data, start_s, end_s, meta)

    def _scan(self, raster: Raster, duration_s: float, cut: Cut) -> tuple[float, float] | None:
        """Scan one frame that can be cut; its time span, or None when it was."""
        try:
            begun = self._device.begin(raster, cut)
            self._device.finish()
            if not self._wait(begun.asked_s + duration_s, duration_s, cut):
                self._device.stop(STOP_WALL_S)
                self._device.rest(STOP_WALL_S)
                return None
            end_s = self._clock.now_s()
            # it has ended; only now the plug-in lets all its images be returned
            self._device.stop(COMMAND_S)
            self._device.rest(COMMAND_S)
            return begun.asked_s, end_s
        except BaseException as error:
            # the scan may still run: it is stopped for sure, over a new connection if need be
            self._beam.stop_scan()
            if isinstance(error, LinkError) and cut():
                return None
            raise

    def _wait(self, due_s: float, duration_s: float, cut: Cut) -> bool:
        """Wait for the end of a scan; False when it is cut."""
        rate = finite_rate(self._clock)
        patience_s = due_s + 0.5 * duration_s + COMMAND_S * rate
        # not from the beginning, when it may not have begun yet
        look_s = due_s - 0.5 * duration_s
        while not cut():
            now_s = self._clock.now_s()
            if now_s >= look_s:
                if not self._device.scanning(cut):
                    return True
                look_s = max(now_s, min(due_s, now_s + LOOK_WALL_S * rate))
            if now_s > patience_s:
                raise InstrumentError(
                    f"DigiScan goes on with a frame of {duration_s:.3g} s; it was stopped. Look "
                    "whether its dwell time or flyback differ from what is asked."
                )
            time.sleep(POLL_WALL_S)
        return False
