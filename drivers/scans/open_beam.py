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

import logging
import math
from collections.abc import Iterator, Sequence

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Signal
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    ScanExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from drivers.scans import microscope, open_beam_settings
from drivers.scans import open_beam_protocol as obi
from drivers.scans.microscope import TIMING, TIMING_SPEC, within
from drivers.scans.open_beam_beam import OpenBeam
from drivers.scans.open_beam_settings import Geometry, Settings

logger = logging.getLogger(__name__)

DWELL = "dwell_time"
CLOCK_TOLERANCE = 1e-3
"""The board's clock is not ours."""
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
        self._beam = OpenBeam(address, context.clock, settings, self._limits[3])
        self._acquisition = Acquisition(context.clock, context.role)
        self._armed: tuple[ScanExposure, Geometry] | None = None

    def open(self) -> None:
        """Connect and take control with the beam blanked; raises LinkError."""
        self._beam.open()

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
            self._beam.control()
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
        self._beam.park(x_nm, y_nm)

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move the next fields, and the resting probe if it is parked, by the DAC; raises LimitError."""

        def check(wanted_nm: tuple[float, float]) -> None:
            armed = self._armed
            if armed is not None and self._acquisition.armed():
                # its next frame could not be taken
                open_beam_settings.geometry(self._settings, armed[0], wanted_nm)

        self._beam.shift(dx_nm, dy_nm, check)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam, in a frame with its next pixels."""
        self._beam.blank(blanked)

    def blanked(self) -> bool:
        """Whether the beam is blanked, other than between the frames of an acquisition.

        On a new connection, on which the board's state is not known, it is blanked first.

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
        """Blank the beam, give it back to the microscope, and let go of the board; idempotent."""
        self._acquisition.disarm()
        self._beam.close()

    def _expose(self, exposure: ScanExposure, index: int, cut: Cut) -> Frame | None:
        found = self._geometry(exposure)
        scanned = self._beam.scan(found.raster, cut)
        if scanned is None:
            return None
        duration_s = found.raster.pixels * found.dwell_s
        span_s = scanned.end_s - scanned.start_s
        if span_s < duration_s * (1 - CLOCK_TOLERANCE):
            raise InstrumentError(
                f"a frame came in {span_s:.4g} s that lasts {duration_s:.4g} s: the board's clock is not "
                "what its documentation says."
            )
        span_s = max(span_s, duration_s)
        scalars = {TIMING: span_s - duration_s, DWELL: found.dwell_s}
        data = {self._settings.detector: scanned.counts}
        return Frame(
            self._role, index, data, scanned.start_s, scanned.start_s + span_s, FrameMeta(scalars)
        )

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
        return open_beam_settings.geometry(settings, request, self._beam.shift_nm)
