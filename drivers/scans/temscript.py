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
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from acquire.clock import Signal, finite_rate
from acquire.errors import HotstageError, InstrumentError, LimitError, LinkError
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
from drivers.acquisition import Acquisition, Cut
from drivers.links import ExchangeCut
from drivers.scans import microscope, temscript_settings
from drivers.scans.keeping import Keeper
from drivers.scans.microscope import TIMING, TIMING_SPEC, within
from drivers.scans.temscript_device import Parameters, TemscriptDevice
from drivers.scans.temscript_http import TemscriptHttp
from drivers.scans.temscript_settings import Settings

logger = logging.getLogger(__name__)

DWELL = "dwell_time"
DWELL_TOLERANCE = 0.01
SHIFT_TOLERANCE_NM = 0.5
KNOWN_WALL_S = 2.0
"""How long a command waits for the beam to be made safe, after the frame that is being taken."""
LOOK_WALL_S = 0.05
_DEVICE = "the microscope"


def open_temscript(
    context: DriverContext,
    *,
    address: str,
    width_at_1x: str,
    detectors: Mapping[str, str] | None = None,
    full_size: int = 4096,
    partial_field: str = "unused",
    field_of_view: Sequence[str] = ("5 nm", "5000 nm"),
    field_tolerance: float = 0.05,
    dwell_time: Sequence[str] = ("100 ns", "20 ms"),
    rotation: str | None = None,
    shift: str = "beam_shift",
    shift_unit: str = "1 m",
    shift_rotation: str = "0 deg",
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
        if settings.rotation_rad is not None:
            self._device.rotate(settings.rotation_rad)
        self._base = self._device.shift(settings.shift)
        self._shift_nm = (0.0, 0.0)
        self._at_nm = (0.0, 0.0)
        """What the beam is on when it rests, from the scan's origin: a field's middle, or a parked point."""
        self._field_nm = settings.width_at_1x_nm / max(self._device.magnification(), 1e-9)
        self._blank_wanted = self._device.blanked()
        self._dark_between = False
        """Whether the beam is blanked only because no frame is taken now."""
        self._safe_calls = 0
        self._placed = True
        """Whether the beam is known to be where the last shift said."""
        self._lock = threading.RLock()
        """Held while the column is set up."""
        self._acquisition = Acquisition(context.clock, context.role)
        self._exposure: ScanExposure | None = None
        self._taken = Parameters("", 0, 0.0)
        where = f"the beam at {http.address}"
        self._blanking = Keeper(f"{where} is being blanked", self._blank_surely)
        self._darkening = Keeper(f"{where} is being blanked after a frame", self._darken_surely)

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
        field, dwell, _, position = self._limits
        rows, columns = request.shape
        if rows != columns or rows not in self._sizes:
            raise LimitError(
                f"{rows} x {columns} pixels refused: the microscope takes squares of "
                f"{', '.join(str(size) for size in sorted(self._sizes))} pixels. Choose one of them."
            )
        within(field, request.field_of_view_nm, _DEVICE)
        within(dwell, request.dwell_time_s, _DEVICE)
        for shift, center in zip(self._shift_nm, request.center_nm, strict=True):
            within(position, shift + center, _DEVICE, "shift of the field")
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
            with self._lock:
                pixel_nm = self._set_up(exposure)
        except BaseException:
            self._acquisition.disarm()
            raise
        self._exposure = exposure
        return StreamSpec(
            self._role,
            microscope.channels(exposure, pixel_nm, exposure.center_nm),
            {TIMING: TIMING_SPEC, DWELL: ScalarSpec("s", "dwell time that the microscope took")},
            max(exposure.frame_period_s, exposure.scan_time_s),
        )

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames; their time spans hold the exposure for sure.

        Raises:
            LinkError: the link was lost in a frame, which is not taken again.
            InstrumentError: not armed, or the microscope refuses.
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
        with self._lock:
            self._go(self._shift_nm, (x_nm, y_nm))
            self._lighten()

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move field and parked probe, relative to the present shift; raises LimitError."""
        with self._lock:
            self._go((self._shift_nm[0] + dx_nm, self._shift_nm[1] + dy_nm), self._at_nm)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam, and read back that it is so; after the frame that is taken now."""
        calls = self._safe_calls
        self._demand_known()
        with self._lock:
            if not blanked and calls != self._safe_calls:
                raise InstrumentError("the beam was made safe meanwhile; it stays blanked.")
            self._device.set_blanked(blanked)
            self._blank_wanted, self._dark_between = blanked, False

    def blanked(self) -> bool:
        """Whether the beam is blanked, other than between the frames of an acquisition.

        Raises:
            LinkError: not known: the link is down, or ``make_safe`` could not be confirmed yet.
        """
        self._demand_known()
        with self._lock:
            dark = self._device.blanked()
            return dark and (self._blank_wanted or not self._dark_between)

    def make_safe(self, reason: str) -> None:
        """End the acquisition, and blank the beam in the background until that is confirmed.

        While the microscope takes a frame, the server hears this only after it.
        """
        logger.info("the beam is made safe: %s", reason)
        self._safe_calls += 1
        self._blank_wanted = True
        self._acquisition.disarm()
        self._blanking.start()

    def close(self) -> None:
        """Let go of the server; idempotent."""
        self._acquisition.disarm()
        self._blanking.close()
        self._darkening.close()
        self._http.close()

    # ---------------------------------------------------------------------------- frames

    def _expose(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        wall_s = exposure.scan_time_s / finite_rate(self._clock)
        names = [self._detectors[name] for name in exposure.detectors]
        try:
            if not self._wait_until_known(cut):
                return None
            self._device.wait_until_free(cut)
            self._begin(exposure, cut)
            taken = self._device.acquire(
                names, exposure.shape, self._settings.count_offset, wall_s, cut
            )
        except ExchangeCut:
            self._darken()
            return None
        except HotstageError:
            self._darken()
            if cut():
                return None
            raise
        self._darken(at_once=True)
        duration_s = exposure.shape[0] * exposure.shape[1] * self._taken.dwell_time_s
        start_s, end_s = taken.asked_s, taken.answered_s
        if end_s - start_s < duration_s * (1 - 1e-6):
            raise InstrumentError(
                f"the microscope took a frame in {end_s - start_s:.4g} s that lasts {duration_s:.4g} s. "
                "Look whether its own program changes the dwell time or the size."
            )
        data = {
            ours: taken.images[theirs]
            for ours, theirs in zip(exposure.detectors, names, strict=True)
        }
        scalars = {TIMING: end_s - start_s - duration_s, DWELL: self._taken.dwell_time_s}
        return Frame(self._role, index, data, start_s, end_s, FrameMeta(scalars))

    def _begin(self, exposure: ScanExposure, cut: Cut) -> None:
        """Bring the field back if a probe was parked, and the beam if it was only dark between frames."""
        with self._lock:
            self._go(self._shift_nm, exposure.center_nm)
            if not cut():
                self._lighten()

    def _lighten(self) -> None:
        if self._dark_between and not self._blank_wanted:
            self._device.set_blanked(False)
            self._dark_between = False

    def _darken(self, at_once: bool = False) -> None:
        """Blank the beam after a frame; in the background where the server may not answer yet."""
        if self._blank_wanted or not self._settings.blank_between:
            return
        if at_once:
            try:
                self._darken_surely()
            except HotstageError as error:
                logger.warning("the beam could not be blanked after a frame yet: %s", error)
            else:
                return
        self._darkening.start()

    def _wait_until_known(self, cut: Cut) -> bool:
        """Wait for what runs in the background; False when it is cut."""
        deadline = time.monotonic() + self._http.busy_left_s + KNOWN_WALL_S
        while self._blanking.pending or self._darkening.pending:
            if cut():
                return False
            if time.monotonic() > deadline:
                self._demand_known()
            time.sleep(LOOK_WALL_S)
        return True

    # ------------------------------------------------------------------------------ beam

    def _set_up(self, exposure: ScanExposure) -> float:
        """Set everything for a frame; returns the pixel size that was taken, in nm."""
        self._device.demand_stem()
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
        self._magnify(exposure.field_of_view_nm / size.field_share)
        self._go(self._shift_nm, exposure.center_nm)
        return self._field_nm * size.field_share / exposure.shape[1]

    def _magnify(self, wanted_nm: float) -> None:
        settings = self._settings
        taken = self._device.magnify(settings.width_at_1x_nm / wanted_nm)
        taken_nm = settings.width_at_1x_nm / taken if taken > 0 else math.nan
        off = abs(taken_nm / wanted_nm - 1)
        if not off <= settings.field_tolerance:
            raise InstrumentError(
                f"field of view {show(wanted_nm, 'nm')} refused: the column's nearest magnification "
                f"gives {show(taken_nm, 'nm')}. Ask for that, or raise field_tolerance."
            )
        self._field_nm = wanted_nm if off < 1e-6 else taken_nm

    def _go(self, shift_nm: tuple[float, float], at_nm: tuple[float, float]) -> None:
        """Bring the beam to a place of the scan's frame under a shift; raises LimitError."""
        settings = self._settings
        x, y = shift_nm[0] + at_nm[0], shift_nm[1] + at_nm[1]
        for coordinate in (x, y):
            within(self._limits[3], coordinate, _DEVICE, "shift of the field or the probe")
        cosine, sine = math.cos(settings.shift_rotation_rad), math.sin(settings.shift_rotation_rad)
        wanted = (
            self._base[0] + (cosine * x - sine * y) / settings.shift_nm,
            self._base[1] + (sine * x + cosine * y) / settings.shift_nm,
        )
        with self._lock:
            if (shift_nm, at_nm) == (self._shift_nm, self._at_nm) and self._placed:
                return
            self._placed = False
            self._device.set_shift(settings.shift, *wanted)
            taken = self._device.shift(settings.shift)
            off_nm = math.dist(wanted, taken) * settings.shift_nm
            if not off_nm <= SHIFT_TOLERANCE_NM + 0.01 * math.hypot(x, y):
                raise InstrumentError(
                    f"shift to ({x:.4g}, {y:.4g}) nm: the column is {show(off_nm, 'nm')} from it. Its "
                    "range may be at an end: bring the stage nearer."
                )
            self._shift_nm, self._at_nm, self._placed = shift_nm, at_nm, True

    def _blank_surely(self) -> None:
        with self._lock:
            self._device.set_blanked(True)

    def _darken_surely(self) -> None:
        with self._lock:
            if not self._blank_wanted:
                self._device.set_blanked(True)
                self._dark_between = True

    def _demand_known(self) -> None:
        """Wait for what runs in the background; raises LinkError if its end is not known."""
        for keeper in (self._blanking, self._darkening):
            if not keeper.wait(self._http.busy_left_s + KNOWN_WALL_S):
                raise LinkError(
                    "the beam is being blanked, and it is not known yet whether it is: the temscript "
                    "server does not answer. Blank it by hand."
                )
