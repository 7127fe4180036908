"""The beam of a microscope behind a temscript server: blanked, shifted, parked, and made safe for sure."""

from __future__ import annotations

import logging
import math
import threading
import time

from acquire.acquisition import Cut
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.instruments import Limit
from drivers.scans.column import Point, column_shift, expect_shift, followed, taken_field_nm
from drivers.scans.keeping import Keeper
from drivers.scans.microscope import within
from drivers.scans.temscript_device import TemscriptDevice
from drivers.scans.temscript_http import TemscriptHttp
from drivers.scans.temscript_settings import Settings

logger = logging.getLogger(__name__)

MAGNIFICATION_TOLERANCE = 1e-3
"""A greater change was made by a person, or by another program."""
KNOWN_WALL_S = 2.0
"""How long a command waits for the beam to be made safe, after the frame that is being taken."""
LOOK_WALL_S = 0.05


class TemscriptBeam:
    """Where the beam is and whether it is blanked; any thread may call at any time.

    Args:
        http: the server, which answers nobody while a frame is taken.
        device: the same, command by command.
        settings: calibrations.
        reach: how far the shift may go, in nm.
    """

    def __init__(
        self, http: TemscriptHttp, device: TemscriptDevice, settings: Settings, reach: Limit
    ) -> None:
        self._http = http
        self._device = device
        self._settings = settings
        self._reach = reach
        self._base = device.shift(settings.shift)
        self._told = self._base
        """Shift that the column had when it was last told one."""
        self._shift_nm = (0.0, 0.0)
        self._at_nm = (0.0, 0.0)
        """What the beam is on when it rests, from the scan's origin: a field's middle, or a parked point."""
        self._placed = True
        """Whether the beam is known to be where the last shift said."""
        self._field_nm = self._magnification = math.nan
        self._blank_wanted = device.blanked()
        self._dark_between = False
        """Whether the beam is blanked only because no frame is taken now."""
        self._safe_calls = 0
        self._lock = threading.RLock()
        """Held while the column is told something."""
        where = f"the beam at {http.address}"
        self._blanking = Keeper(f"{where} is being blanked", self._blank_surely)
        self._darkening = Keeper(f"{where} is being blanked after a frame", self._darken_surely)

    def check(self, center_nm: tuple[float, float]) -> None:
        """Raise LimitError for a field's middle that is out of reach."""
        for shift, center in zip(self._shift_nm, center_nm, strict=True):
            within(self._reach, shift + center, "the microscope", "shift of the field or the probe")

    def set_up(self, field_nm: float, center_nm: tuple[float, float]) -> float:
        """Set width and middle of the field; returns the width that was taken.

        Raises:
            InstrumentError: the column takes others.
        """
        with self._lock:
            self._magnify(field_nm)
            self._go(self._shift_nm, center_nm)
            return self._field_nm

    def demand_field(self, cut: Cut) -> None:
        """Raise InstrumentError if the magnification is no longer what it was set to; ExchangeCut."""
        now = self._device.magnification(cut)
        if not abs(now - self._magnification) <= MAGNIFICATION_TOLERANCE * self._magnification:
            raise InstrumentError(
                f"the magnification was changed from {self._magnification:.6g} to {now:.6g} since the "
                "scan was armed: what its pixels are is not known. Arm it again, and leave the "
                "magnification to it."
            )

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point; a beam that is only dark between frames is on again."""
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

    def make_safe(self) -> None:
        """Blank in the background until it is confirmed; nothing un-blanks it meanwhile."""
        self._safe_calls += 1
        self._blank_wanted = True
        self._blanking.start()

    def begin(self, center_nm: tuple[float, float], cut: Cut) -> None:
        """Bring the field back if a probe was parked, and the beam if it was only dark between frames."""
        with self._lock:
            self._go(self._shift_nm, center_nm)
            if not cut():
                self._lighten()

    def darken(self, *, at_once: bool = False) -> None:
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

    def wait_until_known(self, cut: Cut) -> bool:
        """Wait for what runs in the background; False when it is cut."""
        deadline = time.monotonic() + self._http.busy_left_s + KNOWN_WALL_S
        while self._blanking.pending or self._darkening.pending:
            if cut():
                return False
            if time.monotonic() > deadline:
                self._demand_known()
            time.sleep(LOOK_WALL_S)
        return True

    def close(self) -> None:
        """Try no more to blank; idempotent."""
        self._blanking.close()
        self._darkening.close()

    def _lighten(self) -> None:
        if self._dark_between and not self._blank_wanted:
            self._device.set_blanked(False)
            self._dark_between = False

    def _magnify(self, wanted_nm: float) -> None:
        calibration = self._settings
        taken = self._device.magnify(calibration.width_at_1x_nm / wanted_nm)
        self._field_nm = taken_field_nm(calibration, wanted_nm, taken)
        self._magnification = taken

    def _go(self, shift_nm: Point, at_nm: Point) -> None:
        """Bring the beam to a place of the scan's frame under a shift; raises LimitError."""
        settings = self._settings
        whole_nm = shift_nm[0] + at_nm[0], shift_nm[1] + at_nm[1]
        for coordinate in whole_nm:
            within(self._reach, coordinate, "the microscope", "shift of the field or the probe")
        with self._lock:
            if (shift_nm, at_nm) == (self._shift_nm, self._at_nm) and self._placed:
                return
            if self._placed:  # else it is not known where it was left
                found = self._device.shift(settings.shift)
                self._base = followed(settings, self._base, self._told, found)
            wanted = column_shift(settings, self._base, whole_nm)
            self._placed = False
            self._device.set_shift(settings.shift, *wanted)
            taken = self._device.shift(settings.shift)
            expect_shift(settings, wanted, taken, whole_nm)
            self._told = taken
            self._shift_nm, self._at_nm, self._placed = shift_nm, at_nm, True

    def _blank_surely(self) -> None:
        with self._lock:
            # an un-blank that was under way when this was asked for has had its say
            self._blank_wanted = True
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
