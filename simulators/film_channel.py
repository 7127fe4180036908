"""The film's four-point resistance as an in-process channel, as a source-meter would tell it."""

from __future__ import annotations

from collections.abc import Mapping

from acquire.clock import Clock
from acquire.instruments import Description, Limit
from simulators.film_resistance import FilmCircuit
from simulators.noise import generator

CURRENT_A = 1e-6
COMPLIANCE_V = 20.0
_LIMIT = Limit("resistance", 0.0, COMPLIANCE_V / CURRENT_A, "Ω", "driver")


class SimulatedResistance:
    """Four points on the simulated film and 1 µA; the values of the driver ``source_meter_resistance``."""

    def __init__(self, circuit: FilmCircuit, clock: Clock, seed: int) -> None:
        self._circuit = circuit
        self._clock = clock
        self._seed = seed

    def describe(self) -> Description:
        """Identity, the highest resistance, and the units of what :meth:`read` gives."""
        return Description(
            role="resistance",
            model="simulated four-point resistance",
            driver="simulated",
            simulated=True,
            limits=(_LIMIT,),
            details={
                "resistance": "Ω",
                "voltage": "V",
                "current": "A",
                "forced_current_a": CURRENT_A,
                "compliance_v": COMPLIANCE_V,
            },
        )

    def make_safe(self, reason: str) -> None:
        """Do nothing: so small a current does no harm, and flows only while it measures."""

    def read(self) -> Mapping[str, float]:
        """``resistance`` (Ω), ``voltage`` (V) and ``current`` (A) now, with the noise of the device."""
        t_s = self._clock.now_s()
        ohm = self._circuit.resistance_ohm(t_s)
        noise = generator(self._seed, "film", max(0, round(t_s * 1e6))).standard_normal()
        ohm += float(noise) * self._circuit.noise_ohm(ohm)
        return {"resistance": ohm, "voltage": ohm * CURRENT_A, "current": CURRENT_A}
