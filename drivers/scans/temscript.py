"""A Thermo Fisher (FEI) microscope's STEM scan through a temscript server on its PC, over HTTP with JSON.

Sources: those of :mod:`drivers.scans.temscript_http` and :mod:`drivers.scans.temscript_device`.
Unverified, as nothing was tried on hardware: that the field is inversely proportional to the STEM
magnification; the direction and the scale of the beam shift against the image (options say them); where
the beam rests when nothing scans (taken to be the middle of the field, so that a probe is parked by the
shift); what HALF and QUARTER show (not used unless an option says it); the range of dwell times.

The server answers nobody while the microscope takes a frame, and has no command to end one. So a frame
that is cut is only no longer waited for: the microscope goes on to its end, the specimen gets its whole
dose, and whatever is asked or told meanwhile, the blanking by ``make_safe`` included, takes effect after
it. Choose short frames where this matters; limits of the station bound the dwell time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Signal, finite_rate
from acquire.errors import HotstageError, InstrumentError, LimitError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    ScanExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from acquire.units import show
from drivers.links import ExchangeCut
from drivers.scans import microscope, temscript_settings
from drivers.scans.microscope import TIMING, TIMING_SPEC, within
from drivers.scans.temscript_beam import TemscriptBeam
from drivers.scans.temscript_device import Parameters, TemscriptDevice
from drivers.scans.temscript_http import TemscriptHttp
from drivers.scans.temscript_settings import Settings

logger = logging.getLogger(__name__)

DWELL = "dwell_time"
ROTATION = "scan_rotation"
DWELL_TOLERANCE = 0.01
CLOCK_TOLERANCE = 1e-3
"""The microscope's clock is not ours."""
_DEVICE = "the microscope"


def open_temscript(
    context: DriverContext,
    *,
    address: str,
    width_at_1x: str,
    detectors: Mapping[str, str] | None = None,
    full_size: int = 2048,
    partial_field: str = "unused",
    field_of_view: Sequence[str] = ("5 nm", "5000 nm"),
    field_tolerance: float = 0.05,
    dwell_time: Sequence[str] = ("100 ns", "20 ms"),
    rotation: str | None = None,
    shift: str = "beam_shift",
    shift_unit: str = "1 m",
    shift_rotation: str = "0 deg",
    shift_mirrored: bool = False,
    maximum_shift: str = "1 µm",
    count_offset: int = 0,
    blank_between_frames: bool = True,
    probe_current: str | None = None,
    beam_energy: str | None = None,
    convergence_semi_angle: str | None = None,
    detector_angles: Mapping[str, Sequence[str]] | None = None,
) -> TemscriptScan:
    """Connect to a temscript server: the entry point ``temscript`` of ``hotstage.drivers``.

    Args:
        context: the station's.
        address: ``HOST:PORT`` of the server.
        width_at_1x: the calibration: width of the whole field times the STEM magnification. Take it
            from an image of a calibrated specimen.
        detectors: the microscope's name by ours: ``{haadf = "HAADF", abf = "BF"}``. Default: all that
            it offers, under their names in small letters.
        full_size: pixels on a side of an image without binning; smaller ones are binned.
        partial_field: whether smaller sizes are also taken as HALF and QUARTER, and what these show:
            ``unused``, a ``cropped`` field, or the ``whole`` field in fewer pixels.
        field_of_view: smallest and largest width of an image.
        field_tolerance: how far, relatively, the column's step of magnification may be from the field
            that was asked for; the axes of the images tell what it took.
        dwell_time: shortest and longest.
        rotation: of the scan; default: as it is.
        shift: what moves the field: ``beam_shift`` or ``image_shift``.
        shift_unit: what 1 m of it is on the specimen.
        shift_rotation: from the axes of an image to those of the shift.
        shift_mirrored: whether y is turned round before, for a shift whose y goes up in the image.
        maximum_shift: that the shift may reach along an axis, the centres of fields included.
        count_offset: added to the microscope's values, which may be negative; images have 0 to 65535.
        blank_between_frames: whether the beam is blanked after each frame of an acquisition.
        probe_current: of the microscope, for doses: ``100 pA``.
        beam_energy: for the metadata, as the next two: ``300 keV``.
        convergence_semi_angle: ``23 mrad``.
        detector_angles: inner and outer angle by detector: ``{haadf = ["70 mrad", "175 mrad"]}``.

    Raises:
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: it is another server, has no STEM, or lacks a detector.
    """
    settings = temscript_settings.read(
        detectors=detectors,
        full_size=full_size,
        partial_field=partial_field,
        width_at_1x=width_at_1x,
        field_of_view=field_of_view,
        field_tolerance=field_tolerance,
        dwell_time=dwell_time,
        rotation=rotation,
        shift=shift,
        shift_unit=shift_unit,
        shift_rotation=shift_rotation,
        shift_mirrored=shift_mirrored,
        maximum_shift=maximum_shift,
        count_offset=count_offset,
        blank_between_frames=blank_between_frames,
        facts=microscope.facts(
            probe_current=probe_current,
            beam_energy=beam_energy,
            convergence_semi_angle=convergence_semi_angle,
            detector_angles=detector_angles,
        ),
    )
    http = TemscriptHttp(address, context.clock)
    try:
        return TemscriptScan(context, http, settings)
    except BaseException:
        http.close()
        raise


class TemscriptScan:
    """A scan of the microscope's STEM detectors; see :func:`open_temscript`."""

    def __init__(self, context: DriverContext, http: TemscriptHttp, settings: Settings) -> None:
        self._role, self._clock = context.role, context.clock
        self._http = http
        self._settings = settings
        self._device = TemscriptDevice(http)
        self._identity = self._device.identify()
        self._detectors = temscript_settings.detectors_of(settings, self._identity)
        self._sizes = temscript_settings.sizes_of(
            settings, self._identity, list(self._detectors.values())
        )
        self._limits = temscript_settings.limits_of(settings, self._sizes)
        self._rotation_rad = self._device.rotate(settings.rotation_rad)
        self._beam = TemscriptBeam(http, self._device, settings, self._limits[3])
        self._acquisition = Acquisition(context.clock, context.role)
        self._exposure: ScanExposure | None = None
        self._taken = Parameters("", 0, 0.0)

    def describe(self) -> Description:
        """Identity, limits, calibration and the microscope's facts."""
        found, settings = self._identity, self._settings
        return Description(
            role=self._role,
            model=f"{found.family} STEM",
            driver="temscript",
            serial=found.microscope,
            limits=self._limits,
            detectors=tuple(self._detectors),
            details={
                "temscript_version": found.version,
                "width_at_1x_nm": settings.width_at_1x_nm,
                "scan_rotation_deg": math.degrees(self._rotation_rad),
                "count_offset": float(settings.count_offset),
                "sizes": ", ".join(str(size) for size in sorted(self._sizes)),
                "cut_frames_go_on": "yes",
                "saturation_counts": 65535.0,
                **settings.facts,
            },
        )

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if the exposure cannot be taken."""
        microscope.check_detectors(request.detectors, tuple(self._detectors))
        field, dwell, _, _ = self._limits
        rows, columns = request.shape
        if rows != columns or rows not in self._sizes:
            raise LimitError(
                f"{rows} x {columns} pixels refused: the microscope takes squares of "
                f"{', '.join(str(size) for size in sorted(self._sizes))} pixels. Choose one of them."
            )
        within(field, request.field_of_view_nm, _DEVICE)
        within(dwell, request.dwell_time_s, _DEVICE)
        self._beam.check(request.center_nm)
        if not math.isfinite(request.frame_period_s) or request.frame_period_s < 0:
            raise LimitError(
                f"frame period {request.frame_period_s} s refused: it must be finite, at least 0."
            )

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Set size, dwell time, magnification and shift; axes and dwell time are as taken.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed already, not in STEM, or the microscope takes other values.
        """
        self.check(exposure)
        self._acquisition.arm(frames)
        try:
            pixel_nm = self._set_up(exposure)
        except BaseException:
            self._acquisition.disarm()
            raise
        self._exposure = exposure
        return StreamSpec(
            self._role,
            microscope.channels(exposure, pixel_nm, exposure.center_nm),
            {
                TIMING: TIMING_SPEC,
                DWELL: ScalarSpec("s", "dwell time that the microscope took"),
                ROTATION: ScalarSpec("deg", "rotation of the scan, as the microscope tells it"),
            },
            max(exposure.frame_period_s, exposure.scan_time_s),
        )

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames; their time spans hold the exposure for sure.

        Raises:
            LinkError: the link was lost in a frame, which is not taken again.
            InstrumentError: not armed, the microscope refuses, or somebody changed its magnification,
                rotation, or the dwell time.
        """
        exposure = self._exposure
        period_s = 0.0 if exposure is None else exposure.frame_period_s

        def expose(index: int, cut: Cut) -> Frame | None:
            return None if exposure is None else self._expose(exposure, index, cut)

        return self._acquisition.frames(stop, period_s, expose)

    def disarm(self) -> None:
        """End the acquisition; idempotent. The microscope ends a frame that it has begun."""
        self._acquisition.disarm()

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point, by the shift, which the next frame sets back.

        A beam that is only dark between frames is on again.

        Raises:
            LimitError: it is out of reach.
        """
        self._beam.park(x_nm, y_nm)

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move field and parked probe, relative to the present shift; raises LimitError."""
        self._beam.shift(dx_nm, dy_nm)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam, and read back that it is so; after the frame that is taken now."""
        self._beam.blank(blanked)

    def blanked(self) -> bool:
        """Whether the beam is blanked, other than between the frames of an acquisition.

        Raises:
            LinkError: not known: the link is down, or ``make_safe`` could not be confirmed yet.
        """
        return self._beam.blanked()

    def make_safe(self, reason: str) -> None:
        """End the acquisition, and blank the beam in the background until that is confirmed.

        While the microscope takes a frame, the server hears this only after it.
        """
        logger.info("the beam is made safe: %s", reason)
        # the frame that is being taken must not un-blank it, nor another begin
        self._acquisition.disarm()
        self._beam.make_safe()

    def close(self) -> None:
        """Let go of the server; idempotent."""
        self._acquisition.disarm()
        self._beam.close()
        self._http.close()

    # ---------------------------------------------------------------------------- frames

    def _expose(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        wall_s = exposure.scan_time_s / finite_rate(self._clock)
        names = [self._detectors[name] for name in exposure.detectors]
        try:
            if not self._beam.wait_until_known(cut):
                return None
            self._device.wait_until_free(cut)
            self._beam.begin(exposure.center_nm, cut)
            taken = self._device.acquire(
                names, exposure.shape, self._settings.count_offset, wall_s, cut
            )
        except ExchangeCut:
            self._beam.darken()
            return None
        except HotstageError:
            self._beam.darken()
            if cut():
                return None
            raise
        self._beam.darken(at_once=True)
        try:
            self._device.demand_unchanged(self._taken, self._rotation_rad, cut)
            self._beam.demand_field(cut)
        except HotstageError:
            if cut():
                return None
            raise
        duration_s = exposure.shape[0] * exposure.shape[1] * self._taken.dwell_time_s
        start_s, end_s = taken.asked_s, taken.answered_s
        if end_s - start_s < duration_s * (1 - CLOCK_TOLERANCE):
            raise InstrumentError(
                f"the microscope took a frame in {end_s - start_s:.4g} s that lasts {duration_s:.4g} s. "
                "Look whether its own program changes the dwell time or the size."
            )
        end_s = max(end_s, start_s + duration_s)
        data = {
            ours: taken.images[theirs]
            for ours, theirs in zip(exposure.detectors, names, strict=True)
        }
        scalars = {
            TIMING: end_s - start_s - duration_s,
            DWELL: self._taken.dwell_time_s,
            ROTATION: math.degrees(self._rotation_rad),
        }
        return Frame(self._role, index, data, start_s, end_s, FrameMeta(scalars))

    def _set_up(self, exposure: ScanExposure) -> float:
        """Set everything for a frame; returns the pixel size that was taken, in nm."""
        self._device.demand_stem()
        # each time anew: a person may have changed it meanwhile
        self._rotation_rad = self._device.rotate(self._settings.rotation_rad)
        size = self._sizes[exposure.shape[0]]
        wanted = Parameters(size.image_size, size.binning, exposure.dwell_time_s)
        taken = self._device.set_parameters(wanted)
        off = abs(taken.dwell_time_s / wanted.dwell_time_s - 1)
        if (taken.image_size, taken.binning) != (wanted.image_size, wanted.binning):
            raise InstrumentError(f"the microscope took {taken} where {wanted} was asked for.")
        if off > DWELL_TOLERANCE:
            raise InstrumentError(
                f"dwell time {show(wanted.dwell_time_s, 's')} refused: the microscope takes "
                f"{show(taken.dwell_time_s, 's')}. Ask for that."
            )
        self._taken = taken
        whole_nm = exposure.field_of_view_nm / size.field_share
        return (
            self._beam.set_up(whole_nm, exposure.center_nm) * size.field_share / exposure.shape[1]
        )
