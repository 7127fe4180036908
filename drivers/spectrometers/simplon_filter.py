"""What gives a counting detector its energy axis: a Gatan filter that obeys, or a fixed calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from acquire.acquisition import Cut
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Limit
from acquire.units import show
from drivers.serialemccd import Emccd
from drivers.serialemccd_packets import script_number

FILTER_S = 15.0
"""Wall seconds that the filter may need for a new energy loss or dispersion."""
OBEYED_EV = 0.5
"""A filter that comes no nearer to an energy loss does not obey."""
SAME_EV = 2e-3
"""Energies are told with the digits of a 32-bit float."""
SAME_CHANNELS = 0.1
"""An axis is right for a spectrum whose filter is so near to where it was tuned to."""


@dataclass(frozen=True, slots=True)
class EnergyAxis:
    """Energy loss at the first channel, and energy per channel."""

    offset_ev: float
    dispersion_ev: float


class EnergyFilter(Protocol):
    """Sets and tells the energy axis."""

    @property
    def limits(self) -> tuple[Limit, Limit]:
        """Of the energy offset and of the dispersion."""

    @property
    def moves(self) -> bool:
        """Whether it can go from one energy to another, as dual spectra need."""

    def check(self, axis: EnergyAxis) -> None:
        """Raise LimitError if ``tune`` would refuse the axis."""

    def tune(self, axis: EnergyAxis, cut: Cut | None = None) -> EnergyAxis:
        """Set it, and what was taken; raises InstrumentError, LinkError."""

    def expect(self, axis: EnergyAxis, cut: Cut) -> None:
        """Raise InstrumentError if it is not where it was found when it was tuned."""

    def return_to(self, asked: EnergyAxis, found: EnergyAxis, cut: Cut) -> None:
        """Tune again, and raise InstrumentError if it does not come to where it was ``found`` then."""

    def describe(self) -> dict[str, str | float]:
        """Facts for the metadata."""


class FixedAxis:
    """A calibration that a person gives, of a filter that is set by hand."""

    moves = False

    def __init__(self, axis: EnergyAxis) -> None:
        self._axis = axis

    @property
    def limits(self) -> tuple[Limit, Limit]:
        """The one value of each."""
        offset, dispersion = self._axis.offset_ev, self._axis.dispersion_ev
        return (
            Limit("energy_offset", offset, offset, "eV", "energy_offset"),
            Limit("dispersion", dispersion, dispersion, "eV", "dispersion"),
        )

    def check(self, axis: EnergyAxis) -> None:
        """Only the calibration itself is accepted; raises LimitError."""
        known = self._axis
        same = math.isclose(axis.dispersion_ev, known.dispersion_ev, rel_tol=1e-6)
        if not (same and abs(axis.offset_ev - known.offset_ev) < OBEYED_EV):
            raise LimitError(
                f"energy offset {show(axis.offset_ev, 'eV')} with dispersion "
                f"{show(axis.dispersion_ev, 'eV')} refused: the filter is set by hand to "
                f"{show(known.offset_ev, 'eV')} and {show(known.dispersion_ev, 'eV')} (options "
                "energy_offset, dispersion). Set it and change them, or name a filter that obeys."
            )

    def tune(self, axis: EnergyAxis, cut: Cut | None = None) -> EnergyAxis:
        """The calibration."""
        self.check(axis)
        return self._axis

    def expect(self, axis: EnergyAxis, cut: Cut) -> None:
        """Nothing: what a person sets cannot be read."""

    def return_to(self, asked: EnergyAxis, found: EnergyAxis, cut: Cut) -> None:
        """Nothing: it does not move."""

    def describe(self) -> dict[str, str | float]:
        """That it does not move."""
        return {"filter": "set by hand"}


class GatanFilter:
    """A Gatan filter through the SerialEMCCD plug-in, by the script functions of the GIF driver.

    Args:
        emccd: the link; shared with other drivers.
        dispersions_ev: energy per channel *of this detector* by the filter's index.
        zero_channel: where the zero-loss peak lies on the detector at an energy loss of 0.
        offsets_ev: range of the energy offset.

    Raises:
        InstrumentError: there is no filter.
    """

    moves = True

    def __init__(
        self,
        emccd: Emccd,
        dispersions_ev: Sequence[float],
        zero_channel: float,
        offsets_ev: tuple[float, float],
    ) -> None:
        self._emccd = emccd
        self._dispersions_ev = tuple(dispersions_ev)
        self._zero_channel = zero_channel
        self._offsets_ev = offsets_ev
        emccd.open()
        if not emccd.has("IFSetEnergyLoss"):
            raise InstrumentError(
                f"DigitalMicrograph at {emccd.address} has no script function IFSetEnergyLoss, so no "
                "filter is installed there. Look whether the address (option filter) is right."
            )
        self._tells = emccd.has("IFCGetActiveDispersion")

    @property
    def limits(self) -> tuple[Limit, Limit]:
        """As the options say."""
        low, high = self._offsets_ev
        known = self._dispersions_ev
        return (
            Limit("energy_offset", low, high, "eV", "energy_offsets"),
            Limit("dispersion", min(known), max(known), "eV", "dispersions"),
        )

    def check(self, axis: EnergyAxis) -> None:
        """Raise LimitError beyond a limit, or for a dispersion that there is not."""
        low, high = self._offsets_ev
        if not low <= axis.offset_ev <= high:
            raise LimitError(
                f"energy offset {show(axis.offset_ev, 'eV')} refused: {show(low, 'eV')} to "
                f"{show(high, 'eV')} is allowed (option energy_offsets). Choose a value in between."
            )
        self._index(axis.dispersion_ev)

    def tune(self, axis: EnergyAxis, cut: Cut | None = None) -> EnergyAxis:
        """Set dispersion and energy loss and wait for the filter; raises InstrumentError, LinkError, ExchangeCut."""
        self.check(axis)
        index = self._index(axis.dispersion_ev)
        dispersion = self._dispersions_ev[index]
        if not self._tells or self._dispersion(cut) != index:
            self._emccd.script(
                f"IFCSetActiveDispersions({index})\nIFWaitForFilter()\nExit(0)\n",
                doing=f"dispersion {index}",
                within_s=FILTER_S,
                cut=cut,
            )
        if self._tells and self._dispersion(cut) != index:
            raise InstrumentError(
                f"the filter did not take dispersion {index}. Look whether somebody else uses it."
            )
        wanted = axis.offset_ev + self._zero_channel * dispersion
        taken = self._emccd.script(
            f"IFSetEnergyLoss({script_number(wanted)})\nIFWaitForFilter()\n"
            "number value = IFGetEnergyLoss(0)\nExit(value)\n",
            doing=f"energy loss {wanted:.6g} eV",
            within_s=FILTER_S,
            cut=cut,
        )
        if not abs(taken - wanted) <= OBEYED_EV:
            raise InstrumentError(
                f"the filter is at an energy loss of {show(taken, 'eV', 7)} instead of "
                f"{show(wanted, 'eV', 7)}. Look whether it is in range, and tune it again."
            )
        # what was asked for, where the filter differs only in the digits of its answer
        same = abs(taken - wanted) < 1e-6
        return EnergyAxis(axis.offset_ev if same else axis.offset_ev + taken - wanted, dispersion)

    def expect(self, axis: EnergyAxis, cut: Cut) -> None:
        """Raise InstrumentError if somebody has moved it since it was tuned; LinkError, ExchangeCut."""
        index = self._index(axis.dispersion_ev)
        if self._tells and self._dispersion(cut) != index:
            raise InstrumentError(
                f"the filter has not dispersion {index} any more, to which it was set. "
                "Look whether somebody else uses it, and tune it again."
            )
        doing = "a question for the energy loss"
        loss_ev = self._emccd.value("IFGetEnergyLoss(0)", doing=doing, cut=cut)
        self._expect_offset(axis, loss_ev - self._zero_channel * axis.dispersion_ev)

    def return_to(self, asked: EnergyAxis, found: EnergyAxis, cut: Cut) -> None:
        """Tune again; raises InstrumentError if it goes elsewhere than before, LinkError, ExchangeCut."""
        self._expect_offset(found, self.tune(asked, cut).offset_ev)

    def _expect_offset(self, axis: EnergyAxis, offset_ev: float) -> None:
        tolerance_ev = max(SAME_EV, SAME_CHANNELS * axis.dispersion_ev)
        if not abs(offset_ev - axis.offset_ev) <= tolerance_ev:
            raise InstrumentError(
                f"the filter is at an energy offset of {show(offset_ev, 'eV', 7)} instead of "
                f"{show(axis.offset_ev, 'eV', 7)}, where it was when it was tuned. Look whether "
                "somebody else uses it, and tune it again."
            )

    def describe(self) -> dict[str, str | float]:
        """Where it is."""
        return {"filter": f"Gatan filter at {self._emccd.address}"}

    def _dispersion(self, cut: Cut | None) -> int:
        doing = "a question for the dispersion"
        return round(self._emccd.value("IFCGetActiveDispersion()", doing=doing, cut=cut))

    def _index(self, dispersion_ev: float) -> int:
        for index, known in enumerate(self._dispersions_ev):
            if math.isclose(known, dispersion_ev, rel_tol=1e-6):
                return index
        shown = ", ".join(show(known, "eV") for known in self._dispersions_ev)
        raise LimitError(
            f"dispersion {show(dispersion_ev, 'eV')} refused: the filter has {shown}. "
            "Choose one of them (option dispersions)."
        )
