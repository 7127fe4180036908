"""What DigitalMicrograph moves beside the detectors: magnification, blanker, beam shift, resting probe, filter."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from simulators.wires.emccd_values import ScriptError
from simulators.world import World

FULL_SCALE_DS = 11264.0
"""DigiScan's coordinate at the left and upper edge of the field, its negative at the others; after
D. Mitchell's public stand-in for the DigiScan library."""
FARTHEST_DS = 32768.0
SAFE_DS = (30000.0, 30000.0)
"""Where the beam is safe: outside of the field."""
FIELD_LIMITS_NM = (2.0, 1600.0)
SETTLE_S = 0.2
"""The filter takes this time to go to another energy."""
ENERGY_STEP_EV = 0.05
ENERGY_LIMITS_EV = (-100.0, 3000.0)
SLIT_LIMITS_EV = (1.0, 100.0)


class Optics:
    """The column as scripts see it, on the simulated one.

    Args:
        world: whose beam it is.
        field_times_magnification_nm: width of a scan's field at a magnification of 1.
    """

    def __init__(self, world: World, field_times_magnification_nm: float) -> None:
        self._world = world
        self._product_nm = field_times_magnification_nm
        self._lock = threading.Lock()
        self._magnification = field_times_magnification_nm / 100.0
        self._beam_ds = (0.0, 0.0)
        self.scan_control = False

    @property
    def world(self) -> World:
        """The simulated world."""
        return self._world

    @property
    def magnification(self) -> float:
        """Of the scan."""
        return self._magnification

    @property
    def field_nm(self) -> float:
        """Of the larger side of a scan."""
        return self._product_nm / self._magnification

    def magnify(self, magnification: float) -> None:
        """Set the magnification; raises ScriptError beyond what the simulated scan can show."""
        low, high = (self._product_nm / field for field in reversed(FIELD_LIMITS_NM))
        if not low <= magnification <= high:
            raise ScriptError(f"magnification {magnification:g}: {low:g} to {high:g} can be set")
        with self._lock:
            self._magnification = magnification
        self._place()

    def set_shift(self, x_nm: float, y_nm: float) -> None:
        """Move the beam, and with it the field; raises ScriptError."""
        if not (math.isfinite(x_nm) and math.isfinite(y_nm)) or max(abs(x_nm), abs(y_nm)) > 1e6:
            raise ScriptError(f"beam shift ({x_nm:g}, {y_nm:g}) cannot be reached")
        column = self._world.column
        with self._lock:
            x, y = column.shift()
            column.shift_by(x_nm - x, y_nm - y)

    def shift(self) -> tuple[float, float]:
        """The beam shift in nm."""
        return self._world.column.shift()

    def take_scan_control(self, control: bool) -> None:
        """Let DigiScan hold the beam where it was put, or the microscope in its centre."""
        self.scan_control = control
        self._place()

    def beam_ds(self) -> tuple[float, float]:
        """Where DigiScan has put the beam, in its coordinates."""
        return self._beam_ds

    def put_beam_ds(self, x: float, y: float) -> None:
        """Put the beam somewhere; it only goes there while DigiScan has control. Raises ScriptError."""
        if not (abs(x) <= FARTHEST_DS and abs(y) <= FARTHEST_DS):
            raise ScriptError(f"beam position ({x:g}, {y:g}) is out of range")
        self._beam_ds = (x, y)
        self._place()

    def to_ds(
        self, x_px: float, y_px: float, width: int, height: int, rotation_deg: float = 0.0
    ) -> tuple[float, float]:
        """DigiScan's coordinates of a point of an image; the corner of its first pixel is (0, 0)."""
        half = max(width, height) / 2
        right, down = _turned((x_px - width / 2) / half, (y_px - height / 2) / half, -rotation_deg)
        return -right * FULL_SCALE_DS, -down * FULL_SCALE_DS

    def from_ds(
        self, x: float, y: float, width: int, height: int, rotation_deg: float = 0.0
    ) -> tuple[float, float]:
        """The other way round."""
        half = max(width, height) / 2
        right, down = _turned(-x / FULL_SCALE_DS, -y / FULL_SCALE_DS, rotation_deg)
        return width / 2 + right * half, height / 2 + down * half

    def _place(self) -> None:
        x, y = self._beam_ds if self.scan_control else (0.0, 0.0)
        half_nm = self.field_nm / 2
        self._world.column.park(-x / FULL_SCALE_DS * half_nm, -y / FULL_SCALE_DS * half_nm)


def _turned(right: float, down: float, clockwise_deg: float) -> tuple[float, float]:
    cosine, sine = math.cos(math.radians(clockwise_deg)), math.sin(math.radians(clockwise_deg))
    return cosine * right - sine * down, sine * right + cosine * down


@dataclass(frozen=True, slots=True)
class _Energy:
    before_ev: float
    since_s: float
    now_ev: float


class EnergyFilter:
    """Energy loss, slit and dispersion of the filter.

    Args:
        world: for its clock.
        dispersions_ev: energies per channel that can be chosen, the finest first.
        zero_loss_ev: where the zero-loss peak is at a time.
    """

    def __init__(
        self,
        world: World,
        dispersions_ev: tuple[float, ...],
        zero_loss_ev: Callable[[float], float],
    ) -> None:
        self._world = world
        self._zero_loss_ev = zero_loss_ev
        self.dispersions_ev = dispersions_ev
        self._energy = _Energy(0.0, -math.inf, 0.0)
        self._correction_ev = 0.0
        self.dispersion = 0
        """Number of the present one."""
        self.slit_in = False
        self._slit_ev = 20.0

    @property
    def dispersion_ev(self) -> float:
        """Energy per channel."""
        return self.dispersions_ev[self.dispersion]

    @property
    def energy_loss_ev(self) -> float:
        """What is set."""
        return self._energy.now_ev

    @property
    def correction_ev(self) -> float:
        """What the axis was moved by to centre the zero-loss peak."""
        return self._correction_ev

    @property
    def slit_width_ev(self) -> float:
        """What is set."""
        return self._slit_ev

    def energy_at(self, t_s: float) -> float:
        """What is in effect at a time: what was set a while ago."""
        energy = self._energy
        return energy.now_ev if t_s >= energy.since_s + SETTLE_S else energy.before_ev

    def set_energy_loss(self, ev: float) -> None:
        """Go to an energy loss, in steps of 0.05 eV; raises ScriptError."""
        low, high = ENERGY_LIMITS_EV
        if not low <= ev <= high:
            raise ScriptError(f"energy loss {ev:g} eV: {low:g} to {high:g} eV can be set")
        now = self._world.clock.now_s()
        taken = round(round(ev / ENERGY_STEP_EV) * ENERGY_STEP_EV, 9)
        if taken != self._energy.now_ev:
            self._energy = _Energy(self.energy_at(now), now, taken)

    def settle_left_s(self) -> float:
        """How long it still takes until it is there."""
        return max(0.0, self._energy.since_s + SETTLE_S - self._world.clock.now_s())

    def set_slit_width(self, ev: float) -> None:
        """Open or close the slit; raises ScriptError."""
        low, high = SLIT_LIMITS_EV
        if not low <= ev <= high:
            raise ScriptError(f"slit width {ev:g} eV: {low:g} to {high:g} eV can be set")
        self._slit_ev = ev

    def set_dispersion(self, index: float) -> None:
        """Choose a dispersion by its number; raises ScriptError."""
        if index not in range(len(self.dispersions_ev)):
            raise ScriptError(f"dispersion {index:g}: 0 to {len(self.dispersions_ev) - 1} exist")
        self.dispersion = int(index)

    def centre(self) -> None:
        """Move the axis so that the zero-loss peak is where it belongs now."""
        self._correction_ev = -self._zero_loss_ev(self._world.clock.now_s())
