"""The beam under an Open Beam Interface: controlled, blanked, parked, shifted, and made safe for sure.

The gateware blanks only while it has control of the beam; so control is kept as long as the beam shall
stay blanked, and given back only after it was blanked. On a new connection nothing is known of the
board's state: control is taken anew then, which blanks the beam at rest.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from acquire.acquisition import Cut
from acquire.clock import Clock
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.instruments import Limit
from drivers.scans import open_beam_protocol as obi
from drivers.scans import open_beam_settings
from drivers.scans.keeping import Keeper
from drivers.scans.microscope import within
from drivers.scans.open_beam_device import OpenBeamDevice, Raster, Scanned
from drivers.scans.open_beam_settings import Settings

KNOWN_WALL_S = 2.0
"""How long a command waits for the beam to be made safe, before it says that this is not known."""
IN_FRAME_WALL_S = 1.0
"""How long a blank in a frame waits for its pixels."""
BLANK_TRIES = 3
LOOK_WALL_S = 0.05


class OpenBeam:
    """Where the beam is and whether it is blanked; any thread may call at any time.

    Args:
        address: ``HOST:PORT`` of the board's server.
        clock: of the station.
        settings: calibration, and what safe is.
        reach: how far a shift may go, in nm.
    """

    def __init__(self, address: str, clock: Clock, settings: Settings, reach: Limit) -> None:
        self._settings = settings
        self._reach = reach
        self._blank_wanted = True
        self._dark_between = False
        """Whether the beam is blanked only because no frame is taken now."""
        self._controlled_on = 0
        """The connection on which control was taken."""
        self._released = True
        """Whether the microscope has the beam."""
        self._parked_nm: tuple[float, float] | None = None
        self._shift_nm = (0.0, 0.0)
        self._safe_calls = 0
        self._device = OpenBeamDevice(address, clock, lambda: self._blank_wanted)
        self._lock = threading.RLock()
        """Held while the beam is told something, outside of frames; never while waiting for the keeper."""
        self._blanking = Keeper(f"the beam at {address} is being blanked", self._blank_surely)

    @property
    def shift_nm(self) -> tuple[float, float]:
        """The present shift (x, y)."""
        return self._shift_nm

    def open(self) -> None:
        """Connect and take control with the beam blanked."""
        self._device.open()
        self.control()

    def control(self) -> None:
        """Take the beam, blanked, unless this was done on the present connection."""
        with self._lock:
            self._device.do(b"", "a look whether it is there")
            if self._controlled_on != self._device.connections or self._released:
                self._device.do(
                    obi.blank(True) + obi.ELECTRONS + obi.external_control(True), "taking control"
                )
                self._controlled_on = self._device.connections
                self._released, self._dark_between, self._parked_nm = False, True, None

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point; a beam that is only dark between frames is on again there."""
        self._codes((x_nm, y_nm), self._shift_nm)
        self._demand_known()
        with self._lock:
            self._park((x_nm, y_nm), self._shift_nm)

    def shift(
        self, dx_nm: float, dy_nm: float, check: Callable[[tuple[float, float]], object]
    ) -> None:
        """Move the next fields, and the resting probe if it is parked.

        ``check`` is given the shift (x, y) before anything moves, and raises LimitError.
        """
        self._demand_known()
        with self._lock:
            wanted = (self._shift_nm[0] + dx_nm, self._shift_nm[1] + dy_nm)
            for value in wanted:
                within(self._reach, value, "the Open Beam Interface", "shift of the field")
            check(wanted)
            if self._parked_nm is not None:
                self._park(self._parked_nm, wanted)
            self._shift_nm = wanted

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank, in a frame with its next pixels."""
        calls = self._safe_calls
        self._demand_known()
        self._blank_wanted = blanked
        try:
            self._change(blanked, calls)
            if not blanked and calls != self._safe_calls:
                raise InstrumentError("the beam was made safe meanwhile; it stays blanked.")
        except HotstageError:
            # what is not known to have been un-blanked shall not be so in the next frame
            self._blank_wanted = True
            raise

    def blanked(self) -> bool:
        """Whether the beam is blanked, other than between the frames of an acquisition."""
        self._demand_known()
        with self._lock:
            if self._released:
                self._device.do(b"", "a look whether it is there")
                return False
            if not self._device.in_frame:
                self.control()
            return self._blank_wanted

    def make_safe(self) -> None:
        """Blank in the background until it is confirmed; nothing un-blanks it meanwhile."""
        self._safe_calls += 1
        self._blank_wanted = True
        self._blanking.start()

    def scan(self, raster: Raster, cut: Cut) -> Scanned | None:
        """Scan a frame, on the beam only for its pixels; None if it was cut. Raises LinkError."""
        if not self._wait_until_known(cut):
            return None
        with self._lock:
            self.control()
            self._parked_nm = None
            self._dark_between = True
            self._device.announce()
        try:
            return self._device.scan(raster, cut)
        except LinkError:
            self._blanking.start()
            if cut():
                return None
            raise

    def close(self) -> None:
        """Blank the beam, give it back, and let go of the board; idempotent."""
        self._blanking.close()
        if not self._released:
            with contextlib.suppress(HotstageError):  # what cannot be reached cannot be given back
                self._release()
        self._device.close()

    def _change(self, blanked: bool, calls: int) -> None:
        for _ in range(BLANK_TRIES):
            if self._device.wait_for_blank(blanked, IN_FRAME_WALL_S):
                return
            with self._lock:
                if not blanked and calls != self._safe_calls:
                    raise InstrumentError("the beam was made safe meanwhile; it stays blanked.")
                if self._device.in_frame:
                    continue
                self.control()
                self._device.do(obi.blank(blanked), "blank" if blanked else "un-blank")
                self._dark_between = False
                return
        raise LinkError("the beam did not change in a frame; whether it is blanked is not known.")

    def _park(self, place_nm: tuple[float, float], shift_nm: tuple[float, float]) -> None:
        x, y = self._codes(place_nm, shift_nm)
        self.control()
        lighten = self._dark_between and not self._blank_wanted
        self._device.park(x, y, obi.blank(False) if lighten else b"")
        self._parked_nm = place_nm
        self._dark_between = self._dark_between and not lighten

    def _codes(
        self, place_nm: tuple[float, float], shift_nm: tuple[float, float]
    ) -> tuple[int, int]:
        """The DAC's codes of a place of the scan's frame under a shift; raises LimitError."""
        x, y = (
            open_beam_settings.code(self._settings, place + shift)
            for place, shift in zip(place_nm, shift_nm, strict=True)
        )
        return x, y

    def _release(self) -> None:
        """Blank, then give the beam back: the other way round it would be on before."""
        with self._lock:
            self._device.do(obi.blank(True) + obi.external_control(False), "the release")
            self._released = True

    def _blank_surely(self) -> None:
        with self._lock:
            self.control()
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
