"""Where the beam of a DigiScan is: field, shift, parked probe, blank; and how it is made safe for sure."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Cut
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Limit, ScanExposure
from acquire.units import show
from drivers.scans.column import Point, column_shift, expect_shift, followed, taken_field_nm
from drivers.scans.digiscan_device import DigiScanDevice
from drivers.scans.digiscan_settings import Settings, within
from drivers.scans.keeping import Keeper
from drivers.serialemccd import COMMAND_S, Emccd

MAGNIFICATION_TOLERANCE = 1e-3
"""A greater change was made by a person, or by another program."""
KNOWN_WALL_S = 2.0
"""How long a command waits for the beam to be made safe, before it says that this is not known."""


class Beam:
    """The beam of one column; any thread may call. Methods raise LinkError, InstrumentError.

    Args:
        emccd: the link.
        device: the commands on it.
        settings: of the driver.
        reach: how far the beam shift may go along an axis.
    """

    def __init__(
        self, emccd: Emccd, device: DigiScanDevice, settings: Settings, reach: Limit
    ) -> None:
        self._emccd = emccd
        self._device = device
        self._settings = settings
        self._reach = reach
        self._base = device.beam_shift()
        self._told: Point | None = self._base
        """Beam shift that the column had when it was last told one; None: what it did is not known."""
        self._shift_nm: Point = (0.0, 0.0)
        self._center_nm: Point = (0.0, 0.0)
        self._magnification = device.magnification()
        self._field_nm = settings.width_at_1x_nm / max(self._magnification, 1e-9)
        self._moved: tuple[Point, Point, int] | None = None
        """Shift and centre to which it was moved, and the connection on which."""
        self.exposing = threading.Lock()
        """Held while DigiScan scans: another scan would end the one under way."""
        self._corners: NDArray[np.float64] | None = None
        self._set_up_lock = threading.Lock()
        self._blank_lock = threading.Lock()
        self._was_blanked = False
        self._made_safe = 0
        where = f"the beam at {emccd.address}"
        self._blanking = Keeper(f"{where} is being blanked", self._blank_surely)
        self._stopping = Keeper(f"{where} is being stopped", self._stop_surely)

    # ------------------------------------------------------------------- field and probe

    def check(self, exposure: ScanExposure) -> None:
        """Raise LimitError if the centre of a field is out of reach."""
        self._check(self._shift_nm, exposure.center_nm)

    def set_up(self, exposure: ScanExposure) -> float:
        """Set field and centre; returns the pixel size that was taken, in nm."""
        # DigiScan's field is that of the longer side
        pixels = max(exposure.shape)
        with self._set_up_lock:
            self._magnify(exposure.pixel_size_nm * pixels)
            self._move(self._shift_nm, exposure.center_nm)
            return self._field_nm / pixels

    def demand_field(self, cut: Cut | None = None) -> None:
        """Raise InstrumentError if the column's magnification is no longer what it was set to; ExchangeCut."""
        now = self._device.magnification(cut)
        if not abs(now - self._magnification) <= MAGNIFICATION_TOLERANCE * self._magnification:
            raise InstrumentError(
                f"the column's magnification was changed from {self._magnification:.6g} to {now:.6g} "
                "since the scan was armed: what its pixels are is not known. Arm it again, and leave "
                "the magnification to it."
            )

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move field and probe, relative to where they are; raises LimitError."""
        with self._set_up_lock:
            wanted = (self._shift_nm[0] + dx_nm, self._shift_nm[1] + dy_nm)
            self._check(wanted, self._center_nm)
            self._move(wanted, self._center_nm)

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the probe on a point of the field; raises LimitError beyond it."""
        with self._set_up_lock:
            center, field_nm = self._center_nm, self._field_nm
            offset = np.array([x_nm - center[0], y_nm - center[1]]) / field_nm
            if not np.all(np.abs(offset) <= 0.5):
                raise LimitError(
                    f"probe at ({x_nm:.4g}, {y_nm:.4g}) nm refused: the field is "
                    f"{show(field_nm, 'nm')} around ({center[0]:.4g}, {center[1]:.4g}) nm. Arm a "
                    "scan that holds the point."
                )
            self.demand_field()
            if self._corners is None:
                self._corners = self._calibrate()
            top_left, right, below = self._corners
            middle = (right + below) / 2
            x, y = middle + offset[0] * (right - top_left) + offset[1] * (below - top_left)
            self._device.position(float(x), float(y))

    # ----------------------------------------------------------------------------- blank

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank, and read back that it is so, where the column can tell."""
        self.demand_known()
        with self._blank_lock:
            if self._blanking.pending and not blanked:
                raise InstrumentError("un-blank refused: the beam is being made safe. Wait for it.")
            self._set_blanked(blanked)

    def blanked(self) -> bool:
        """Whether it is blanked; LinkError when that is not known."""
        self.demand_known()
        return self._device.blanked() if self._device.tells_blank else self._was_blanked

    def make_safe(self) -> None:
        """Begin to blank in the background, and return at once."""
        self._made_safe += 1
        self._blanking.start()

    def stop_scan(self) -> None:
        """Begin to end a scan, and to take the beam off the field, in the background."""
        self._stopping.start()

    def demand_known(self) -> None:
        """Wait for what runs in the background; raises LinkError if its end is not known."""
        if not (self._blanking.wait(KNOWN_WALL_S) and self._stopping.wait(KNOWN_WALL_S)):
            raise LinkError(
                "the beam is being stopped or blanked, and it is not known yet whether it is: "
                "DigitalMicrograph does not answer. Blank it by hand."
            )

    def close(self) -> None:
        """Try nothing more; idempotent."""
        self._blanking.close()
        self._stopping.close()

    # ---------------------------------------------------------------------------- within

    def _magnify(self, wanted_nm: float) -> None:
        calibration = self._settings
        # each time anew: a person may have turned it meanwhile
        taken = self._device.magnify(calibration.width_at_1x_nm / wanted_nm)
        self._field_nm = taken_field_nm(calibration, wanted_nm, taken)
        self._magnification = taken

    def _move(self, shift_nm: Point, center_nm: Point) -> None:
        if self._moved == (shift_nm, center_nm, self._emccd.connections):
            return
        self._moved = None
        if self._told is not None:
            found = self._device.beam_shift()
            self._base = followed(self._settings, self._base, self._told, found)
        whole_nm = shift_nm[0] + center_nm[0], shift_nm[1] + center_nm[1]
        wanted = column_shift(self._settings, self._base, whole_nm)
        self._told = None
        self._device.set_beam_shift(*wanted)
        taken = self._device.beam_shift()
        expect_shift(self._settings, wanted, taken, whole_nm)
        self._told = taken
        self._shift_nm, self._center_nm = shift_nm, center_nm
        self._moved = (shift_nm, center_nm, self._emccd.connections)

    def _check(self, shift_nm: Point, center_nm: Point) -> None:
        for part in (0, 1):
            within(self._reach, shift_nm[part] + center_nm[part], "beam shift")

    def _calibrate(self) -> NDArray[np.float64]:
        """DigiScan's coordinates of three corners of the field, from a small frame in the dark."""
        if not self.exposing.acquire(timeout=COMMAND_S):
            raise InstrumentError(
                "the probe cannot be parked while a frame is taken, which positions must be calibrated "
                "by. Park it when the frame has ended."
            )
        try:
            before, made_safe = self.blanked(), self._made_safe
            self.blank(True)
            channel = next(iter(self._settings.detectors.values()))
            corners = self._device.coordinates(channel, self._settings.rotation_deg)
            self._device.rest(COMMAND_S)
            if not before and made_safe == self._made_safe:
                self.blank(False)
        finally:
            self.exposing.release()
        across = np.linalg.det(corners[1:] - corners[0])
        if not (np.isfinite(corners).all() and across != 0):
            raise InstrumentError(
                "DigitalMicrograph does not tell where the points of an image are; the probe cannot "
                "be put on one."
            )
        return corners

    def _set_blanked(self, blanked: bool) -> None:
        self._device.set_blanked(blanked)
        if self._device.tells_blank and self._device.blanked() is not blanked:
            raise InstrumentError(
                f"the beam is {'not ' if blanked else ''}blanked though it was told otherwise. Look "
                "whether DigitalMicrograph may control the blanker."
            )
        self._was_blanked = blanked

    def _blank_surely(self) -> None:
        self._emccd.stop_scan(KNOWN_WALL_S)
        with self._blank_lock:
            self._set_blanked(True)

    def _stop_surely(self) -> None:
        self._emccd.stop_scan(KNOWN_WALL_S)
        self._device.rest(COMMAND_S)
