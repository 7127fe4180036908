"""What the run's own thread offers to a step that is being carried out, and who else has the beam."""

from __future__ import annotations

from typing import Protocol


class BeamLoop(Protocol):
    """Waits and the beam, as whoever exposes the specimen sees them."""

    def wait(self, timeout_s: float) -> float:
        """Wait in run time until something happens or the time is up; returns seconds paused.

        Raises the error that ends the run. Pauses, if the operator asks for one.
        """

    @property
    def beam_on(self) -> bool:
        """Whether the beam is on, as far as is known."""

    @property
    def beam_since_s(self) -> float:
        """Run time at which the beam was un-blanked last."""

    def beam(self, *, on: bool, briefly: bool = False) -> None:
        """Un-blank or blank the beam; tries again as the recipe allows if the scan is lost.

        ``briefly``: blanked for a moment only, which the journal does not tell.
        """

    @property
    def interrupted(self) -> bool:
        """Whether a pause or an end is asked for."""

    def checkpoint(self) -> float:
        """Pause or end the run here if asked to; never waits otherwise; returns seconds paused."""


class RunLoop(BeamLoop, Protocol):
    """Waits, pauses and the beam, as a step sees them."""

    def ask(self, message: str) -> None:
        """Wait until the operator confirms."""

    def request_pause(self, reason: str) -> None:
        """Pause at the next wait."""
