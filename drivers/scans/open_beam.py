"""The Open Beam Interface as a scan: open hardware that moves the beam and digitises one detector.

Sources: nanographs/Open-Beam-Interface (0BSD): commands, gateware and documentation, as in
:mod:`drivers.scans.open_beam_protocol`. Unverified, as nothing was tried on hardware: that the beam
stays where the last point or pixel was; how the ADC's values relate to electrons (they are given as
they are, 0 to 16383; the gateware averages the largest power of two of samples that fits into a dwell
time, so that 8 or 16 cycles use all of them, and 15 only 8); flyback, which the gateware does not know
of: the first pixels of a line may be distorted.

One ADC means one detector at a time: a recipe with two needs another scan, or two runs of this one.

The gateware blanks only while it has control of the beam. So the safe state is blanked, with control
kept; ``release_when_safe`` gives the beam back to the microscope after it was blanked, whose own
blanker then decides. ``close`` always does this. There is no way to ask the board for its state.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence

from acquire.clock import Signal
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
from drivers.acquisition import Acquisition, Cut
from drivers.scans import microscope, open_beam_settings
from drivers.scans import open_beam_protocol as obi
from drivers.scans.keeping import Keeper
from drivers.scans.microscope import TIMING, TIMING_SPEC, within
from drivers.scans.open_beam_device import OpenBeamDevice
from drivers.scans.open_beam_settings import Geometry, Settings

logger = logging.getLogger(__name__)

DWELL = "dwell_time"
KNOWN_WALL_S = 2.0
"""How long a command waits for the beam to be made safe, before it says that this is not known."""
IN_FRAME_WALL_S = 1.0
"""How long a blank in a frame waits for its pixels."""
BLANK_TRIES = 3
LOOK_WALL_S = 0.05
_DEVICE = "the Open Beam Interface"


def open_scan(
    context: DriverContext,
    *,
    address: str,
    full_field: str,
    detector: str = "haadf",
    release_when_safe: bool = False,
    probe_current: str | None = None,
    beam_energy: str | None = None,
    convergence_semi_angle: str | None = None,
    detector_angles: Sequence[str] | None = None,
) -> OpenBeamScan:
    """Connect to the board and take control, the beam blanked: the entry point ``open_beam_interface``.

    Args:
        context: the station's.
        address: ``HOST:PORT`` of the board's server; its port is 2224 unless configured otherwise.
        full_field: the calibration: what the whole range of the DAC scans at the microscope's present
            magnification. Take it from an image of a calibrated specimen.
        detector: name of the signal at the ADC.
        release_when_safe: whether ``make_safe`` gives the beam back to the microscope; nothing here
            blanks it then.
        probe_current: of the microscope, for doses: ``100 pA``.
        beam_energy: for the metadata, as the next two: ``300 keV``.
        convergence_semi_angle: ``23 mrad``.
        detector_angles: inner and outer: ``["70 mrad", "175 mrad"]``.

    Raises:
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached, or does not synchronise as the board does.
    """
    settings = open_beam_settings.read(
        detector=detector,
        full_field=full_field,
        release_when_safe=release_when_safe,
        probe_current=probe_current,
        beam_energy=beam_energy,
        convergence_semi_angle=convergence_semi_angle,
        detector_angles=detector_angles,
    )
    scan = OpenBeamScan(context, address, settings)
    try:
        scan.open()
    except BaseException:
        scan.close()
        raise
    return scan


class OpenBeamScan:
    """A scan with one detector; see :func:`open_scan`."""

    def __init__(self, context: DriverContext, address: str, settings: Settings) -> None:
        self._role = context.role
        self._settings = settings
        self._limits = open_beam_settings.limits_of(settings)
        self._blank_wanted = True
        self._dark_between = False
        """Whether the beam is blanked only because no frame is taken now."""
        self._controlled_on = 0
        """The connection on which control was taken."""
        self._released = True
        """Whether the microscope has the beam."""
        self._parked_nm: tuple[float, float] | None = None
        self._safe_calls = 0
        self._device = OpenBeamDevice(address, context.clock, lambda: self._blank_wanted)
        self._shift_nm = (0.0, 0.0)
        self._lock = threading.RLock()
        """Held while the beam is told something, outside of frames."""
        self._acquisition = Acquisition(context.clock, context.role)
        self._armed: tuple[ScanExposure, Geometry] | None = None
        self._blanking = Keeper(f"the beam at {address} is being blanked", self._blank_surely)

    def open(self) -> None:
        """Connect and take control with the beam blanked; raises LinkError."""
        self._device.open()
        with self._lock:
            self._control()

    def describe(self) -> Description:
        """Identity, limits, calibration and the microscope's facts."""
        settings = self._settings
        return Description(
            role=self._role,
            model="Open Beam Interface",
            driver="open_beam_interface",
            limits=self._limits,
            detectors=(settings.detector,),
            details={
                "full_field_nm": settings.full_field_nm,
                "dac_code_nm": settings.code_nm,
                "saturation_counts": float(obi.HIGHEST_COUNT),
                "bits": 14.0,
                "safe_state": "released" if settings.release_when_safe else "blanked",
                **settings.facts,
            },
        )

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if the exposure cannot be taken."""
        self._geometry(request)

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Prepare exposures; axes and dwell time are those of the DAC and the ADC.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed already.
        """
        found = self._geometry(exposure)
        self._acquisition.arm(frames)
        try:
            with self._lock:
                self._control()
        except BaseException:
            self._acquisition.disarm()
            raise
        self._armed = (exposure, found)
        return StreamSpec(
            self._role,
            microscope.channels(exposure, found.pixel_nm, found.center_nm),
            {TIMING: TIMING_SPEC, DWELL: ScalarSpec("s", "dwell time that the board takes")},
            max(exposure.frame_period_s, found.raster.pixels * found.dwell_s),
        )

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames; their time spans hold the exposure for sure.

        Raises:
            LinkError: the link was lost in a frame, which is not taken again.
            InstrumentError: not armed.
        """
        armed = self._armed
        period_s = 0.0 if armed is None else armed[0].frame_period_s

        def expose(index: int, cut: Cut) -> Frame | None:
            return None if armed is None else self._expose(armed[0], index, cut)

        return self._acquisition.frames(stop, period_s, expose)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point; a beam that is only dark between frames is on again there.

        Raises:
            LimitError: it is out of the DAC's range.
        """
        x, y = (
            open_beam_settings.code(self._settings, place + shift)
            for place, shift in zip((x_nm, y_nm), self._shift_nm, strict=True)
        )
        self._demand_known()
        with self._lock:
            self._control()
            lighten = self._dark_between and not self._blank_wanted
            self._device.park(x, y, obi.blank(False) if lighten else b"")
            self._parked_nm = (x_nm, y_nm)
            self._dark_between = self._dark_between and not lighten

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move the next fields, and the resting probe if it is parked, by the DAC; raises LimitError."""
        wanted = (self._shift_nm[0] + dx_nm, self._shift_nm[1] + dy_nm)
        for value in wanted:
            within(self._limits[3], value, _DEVICE, "shift of the field")
        with self._lock:
            before, self._shift_nm = self._shift_nm, wanted
            if self._parked_nm is not None:
                try:
                    self.park(*self._parked_nm)
                except LimitError:
                    self._shift_nm = before
                    raise

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam, in a frame with its next pixels."""
        calls = self._safe_calls
        self._demand_known()
        self._blank_wanted = blanked
        for _ in range(BLANK_TRIES):
            if self._device.wait_for_blank(blanked, IN_FRAME_WALL_S):
                return
            with self._lock:
                if not blanked and calls != self._safe_calls:
                    self._blank_wanted = True
                    raise InstrumentError("the beam was made safe meanwhile; it stays blanked.")
                if self._device.in_frame:
                    continue
                self._control()
                self._device.do(obi.blank(blanked), "blank" if blanked else "un-blank")
                self._dark_between = False
                return
        raise LinkError("the beam did not change in a frame; whether it is blanked is not known.")

    def blanked(self) -> bool:
        """Whether the beam is blanked, other than between the frames of an acquisition.

        On a new connection, on which the board's state is not known, it is blanked first.

        Raises:
            LinkError: not known: the link is down, or ``make_safe`` could not be confirmed yet.
        """
        self._demand_known()
        with self._lock:
            if self._released:
                self._device.do(b"", "a look whether it is there")
                return False
            if not self._device.in_frame:
                self._control()
            return self._blank_wanted

    def make_safe(self, reason: str) -> None:
        """End the acquisition, and blank the beam in the background until that is confirmed."""
        logger.info("the beam is made safe: %s", reason)
        self._safe_calls += 1
        self._blank_wanted = True
        self._acquisition.disarm()
        self._blanking.start()

    def close(self) -> None:
        """Blank the beam, give it back to the microscope, and let go of the board; idempotent."""
        self._acquisition.disarm()
        self._blanking.close()
        if not self._released:
            with contextlib.suppress(HotstageError):  # what cannot be reached cannot be given back
                self._release()
        self._device.close()

    # ---------------------------------------------------------------------------- frames

    def _expose(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        found = self._geometry(exposure)
        if not self._wait_until_known(cut):
            return None
        with self._lock:
            self._control()
            self._parked_nm = None
            self._dark_between = True
            self._device.announce()
        try:
            scanned = self._device.scan(found.raster, cut)
        except LinkError:
            self._blanking.start()
            if cut():
                return None
            raise
        if scanned is None:
            return None
        duration_s = found.raster.pixels * found.dwell_s
        span_s = scanned.end_s - scanned.start_s
        if span_s < duration_s * (1 - 1e-6):
            raise InstrumentError(
                f"a frame came in {span_s:.4g} s that lasts {duration_s:.4g} s: the board's clock is not "
                "what its documentation says."
            )
        scalars = {TIMING: span_s - duration_s, DWELL: found.dwell_s}
        data = {self._settings.detector: scanned.counts}
        return Frame(self._role, index, data, scanned.start_s, scanned.end_s, FrameMeta(scalars))

    def _geometry(self, request: ScanExposure) -> Geometry:
        """How an exposure is taken; raises LimitError."""
        settings = self._settings
        if len(request.detectors) > 1:
            raise LimitError(
                f"detectors {list(request.detectors)} refused: the board has one ADC, and on it "
                f"{settings.detector} (option detector). Ask for that alone, or use a scan that takes "
                "several at once."
            )
        microscope.check_detectors(request.detectors, (settings.detector,))
        field, dwell, size, _ = self._limits
        for pixels in request.shape:
            within(size, pixels, _DEVICE)
        within(field, request.field_of_view_nm, _DEVICE)
        within(dwell, request.dwell_time_s, _DEVICE)
        if not math.isfinite(request.frame_period_s) or request.frame_period_s < 0:
            raise LimitError(
                f"frame period {request.frame_period_s} s refused: it must be finite, at least 0."
            )
        return open_beam_settings.geometry(settings, request, self._shift_nm)

    # ------------------------------------------------------------------------------ beam

    def _control(self) -> None:
        """Take the beam, blanked, unless this was done on the present connection."""
        self._device.do(b"", "a look whether it is there")
        if self._controlled_on != self._device.connections or self._released:
            self._device.do(
                obi.blank(True) + obi.ELECTRONS + obi.external_control(True), "taking control"
            )
            self._controlled_on = self._device.connections
            self._released, self._dark_between, self._parked_nm = False, True, None

    def _release(self) -> None:
        """Blank, then give the beam back: the other way round it would be on before."""
        with self._lock:
            self._device.do(obi.blank(True) + obi.external_control(False), "the release")
            self._released = True

    def _blank_surely(self) -> None:
        with self._lock:
            self._control()
            self._device.do(obi.blank(True), "blank")
            if self._settings.release_when_safe:
                self._release()

    def _wait_until_known(self, cut: Cut) -> bool:
        """Wait for what runs in the background; False when it is cut."""
        deadline = time.monotonic() + KNOWN_WALL_S
        while self._blanking.pending:
            if cut():
                return False
            if time.monotonic() > deadline:
                self._demand_known()
            time.sleep(LOOK_WALL_S)
        return True

    def _demand_known(self) -> None:
        """Wait for what runs in the background; raises LinkError if its end is not known."""
        if not self._blanking.wait(KNOWN_WALL_S):
            raise LinkError(
                "the beam is being blanked, and it is not known yet whether it is: the Open Beam "
                "Interface does not answer. Blank it by hand."
            )
