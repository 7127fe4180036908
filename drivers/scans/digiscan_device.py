"""What DigiScan and the column are told, one function for each thing, through DM scripts and plug-in calls.

Sources of the script functions: those starting with ``DS`` are described in D. Mitchell's public "faux
DigiScan library" (dmscripting.com, GMS 2.3) or used by mastcu/SerialEMCCD itself; ``EMSetBeamBlanked``,
``EMSetMagnification``, ``EMGetMagnification``, ``EMSetCalibratedBeamShift`` and ``EMGetCalibratedBeamShift`` are
used in public scripts. Unverified: ``EMGetBeamBlanked`` (from memory; used only if DigitalMicrograph
says that it exists), that a calibrated beam shift is in nm, that DigiScan's field is inversely
proportional to the magnification, and everything else about real hardware.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from acquire.errors import LinkError
from drivers.serialemccd import Emccd, Image
from drivers.serialemccd_packets import Function, script_number

CALIBRATION_PIXELS = 64
CALIBRATION_DWELL_US = 1.0


class Flags(IntFlag):
    """The argument ``lineSync`` of AcquireDSImage (SEMCCDDefines.h)."""

    LINE_SYNC = 1
    BEAM_TO_SAFE = 2
    BEAM_TO_FIXED = 4
    BEAM_TO_EDGE = 8
    CONTROL_SCAN = 16


REST = {
    "safe": Flags.BEAM_TO_SAFE,
    "fixed": Flags.BEAM_TO_FIXED,
    "edge": Flags.BEAM_TO_EDGE,
}
"""Where the beam may go after a frame: DigiScan's safe position, or beside the first or last pixel."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What DigiScan says of itself."""

    flyback_us: float
    line_frequency_hz: float
    rotation_offset_deg: float
    flipped: bool
    signals: int
    shortest_us: float
    """Pixel time for all signals at once."""
    longest_us: float


@dataclass(frozen=True, slots=True)
class Raster:
    """How a frame is scanned."""

    shape: tuple[int, int]
    """Rows, columns."""
    pixel_us: float
    rotation_deg: float
    channels: tuple[int, ...]
    flags: Flags
    """Line synchronisation, and where the beam goes after a frame."""


class DigiScanDevice:
    """The commands; every one raises LinkError, InstrumentError."""

    def __init__(self, emccd: Emccd) -> None:
        self._emccd = emccd
        self._scanned_on = 0
        """The connection on which the last scan was begun; the next one ends that scan."""
        self.tells_blank = emccd.has("EMGetBeamBlanked")
        """Whether it can say if the beam is blanked."""
        self.finishes = emccd.has("DSFinishAcquisition")
        """Whether a continuous scan can be told to end with its present frame."""

    def properties(self) -> Properties:
        """Read DigiScan's settings; fails where there is no DigiScan."""
        doing = "a question for DigiScan's properties"
        reply = self._emccd.call(
            Function.GET_DS_PROPERTIES, longs=(0,), doubles=(0.0, 0.0), doing=doing
        )
        flyback, frequency, rotation = reply.doubles
        signals = int(self._emccd.value("DSCountSignals()", doing=doing))
        shortest = f"DSGetMinPixelTime(2, {max(1, signals)})"
        return Properties(
            flyback_us=flyback,
            line_frequency_hz=frequency,
            rotation_offset_deg=rotation,
            flipped=reply.longs[0] != 0,
            signals=signals,
            shortest_us=self._emccd.value(shortest, doing=doing),
            longest_us=self._emccd.value("DSGetMaxPixelTime()", doing=doing),
        )

    def set_flyback(self, microseconds: float) -> None:
        """Set the time that the beam needs to the next line, for all of DigiScan."""
        self._run(f"DSSetFlybackTime({script_number(microseconds)})", "the flyback time")

    # ---------------------------------------------------------------------------- beam

    def set_blanked(self, blanked: bool) -> None:
        """Blank or un-blank the beam."""
        self._run(f"EMSetBeamBlanked({int(blanked)})", "blank" if blanked else "un-blank")

    def blanked(self) -> bool:
        """Whether the beam is blanked; only if ``tells_blank``."""
        return self._emccd.value("EMGetBeamBlanked()", doing="a question for the blank") != 0

    def magnify(self, magnification: float) -> float:
        """Set the magnification; returns what the column has taken."""
        wanted = script_number(magnification)
        return self._emccd.script(
            f"EMSetMagnification({wanted})\nnumber value = EMGetMagnification()\nExit(value)\n",
            doing=f"magnification {magnification:.6g}",
        )

    def magnification(self, cut: Callable[[], bool] | None = None) -> float:
        """The magnification that the column has; raises ExchangeCut."""
        what = "a question for the magnification"
        return self._emccd.value("EMGetMagnification()", doing=what, cut=cut)

    def beam_shift(self) -> tuple[float, float]:
        """The beam shift in the column's calibrated units."""
        x, y = (
            self._emccd.script(
                f"number x, y\nEMGetCalibratedBeamShift(x, y)\nExit({which})\n",
                doing="a question for the beam shift",
            )
            for which in "xy"
        )
        return x, y

    def set_beam_shift(self, x: float, y: float) -> None:
        """Set the beam shift in the column's calibrated units."""
        self._run(
            f"EMSetCalibratedBeamShift({script_number(x)}, {script_number(y)})", "the beam shift"
        )

    def rest(self, within_s: float) -> None:
        """Send the beam to DigiScan's safe position."""
        commands = "DSSetScanControl(1)\nDSSetBeamToSafePosition()\nExit(0)\n"
        self._emccd.script(commands, doing="the beam's safe position", within_s=within_s)

    def position(self, x: float, y: float) -> None:
        """Put the beam on a point in DigiScan's own coordinates."""
        self._run(
            f"DSSetScanControl(1)\nDSSetBeamDSPosition({script_number(x)}, {script_number(y)})",
            "the position of the probe",
        )

    # --------------------------------------------------------------------------- frames

    def take(self, raster: Raster, within_s: float, cut: Callable[[], bool] | None) -> list[Image]:
        """Scan one frame and return the image of every channel; the plug-in serves nothing else meanwhile."""
        flags = raster.flags | Flags.CONTROL_SCAN
        first = self._acquire(raster, flags, continuous=0, within_s=within_s, cut=cut)
        return [first, *self.fetch(raster, raster.channels[1:], cut)]

    def begin(self, raster: Raster, cut: Callable[[], bool] | None = None) -> Image:
        """Start a scan that goes on until it is stopped; the image is empty, only its times count."""
        return self._acquire(raster, raster.flags & Flags.LINE_SYNC, 1, within_s=0.0, cut=cut)

    def finish(self) -> None:
        """Let the present frame be the last one."""
        self._run("DSFinishAcquisition()", "the end of the scan after its frame")

    def scanning(self, cut: Callable[[], bool] | None = None) -> bool:
        """Whether a scan runs; raises ExchangeCut, and LinkError if the connection that began it was lost."""
        what = "a question for the scan"
        active = self._emccd.value("DSIsAcquisitionActive()", doing=what, cut=cut) != 0
        self._demand_connection()
        return active

    def stop(self, within_s: float) -> None:
        """End a scan at once."""
        self._emccd.stop_scan(within_s)

    def fetch(
        self, raster: Raster, channels: Sequence[int], cut: Callable[[], bool] | None = None
    ) -> list[Image]:
        """The images of channels of the last frame that were not returned yet."""
        rows, columns = raster.shape
        images = [
            self._emccd.image(
                Function.RETURN_DS_CHANNEL,
                longs=(columns, rows, channel, 0),
                shape=raster.shape,
                within_s=0.0,
                doing=f"channel {channel} of the frame",
                cut=cut,
            )
            for channel in channels
        ]
        self._demand_connection()
        return images

    def coordinates(self, channel: int, rotation_deg: float) -> NDArray[np.float64]:
        """DigiScan's coordinates (3 points × x, y) of three corners of a square field that is so rotated.

        The corners are top left, top right, bottom left. A small frame is scanned for it, whose image
        must not be returned before; blank the beam first.
        """
        size = CALIBRATION_PIXELS
        raster = Raster((size, size), CALIBRATION_DWELL_US, rotation_deg, (channel,), Flags(0))
        self.begin(raster)
        try:
            found = [
                self._emccd.script(
                    f'image im\nnumber found = GetNamedImage(im, "SEMchan{channel}")\n'
                    f"number x, y\nDSCalcDSCoordFromImage(im, {column}, {row}, x, y)\nExit({which})\n",
                    doing="the calibration of probe positions",
                )
                for column, row in ((0, 0), (size, 0), (0, size))
                for which in "xy"
            ]
        finally:
            self._emccd.stop_scan()
        self.fetch(raster, (channel,))
        return np.array(found).reshape(3, 2)

    def _acquire(
        self,
        raster: Raster,
        flags: Flags,
        continuous: int,
        within_s: float,
        cut: Callable[[], bool] | None,
    ) -> Image:
        rows, columns = raster.shape
        channels = raster.channels
        image = self._emccd.image(
            Function.ACQUIRE_DS_IMAGE,
            longs=(columns, rows, int(flags), continuous, 0, len(channels)),
            doubles=(raster.rotation_deg, raster.pixel_us),
            array=struct.pack(f"<{len(channels)}i", *channels),
            shape=raster.shape,
            within_s=within_s,
            doing="a frame",
            cut=cut,
        )
        self._scanned_on = self._emccd.connections
        return image

    def _demand_connection(self) -> None:
        if self._emccd.connections != self._scanned_on:
            raise LinkError(
                "the link to DigitalMicrograph was lost in a frame, which was stopped by that: its image "
                "is not whole, or another's."
            )

    def _run(self, commands: str, doing: str) -> None:
        self._emccd.script(f"{commands}\nExit(0)\n", doing=doing)
