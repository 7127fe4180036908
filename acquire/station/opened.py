"""A station whose instruments are open, in this process or behind a server, and who may command them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from acquire.clock import Clock, ClockRelation
from acquire.farends import Shared
from acquire.instruments import (
    Channel,
    HeatingHolder,
    Instrument,
    Scan,
    Simulation,
    Spectrometer,
)

if TYPE_CHECKING:
    from acquire.station.station import Station


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver factory is given beside its options: ``factory(context, **options)``."""

    role: str
    clock: Clock
    source: str
    """The station file, for error messages."""
    shared: Shared = field(default_factory=Shared)
    """For a connection that drivers of several roles use together."""


class Control(Protocol):
    """Who may command the heater and the beam of an open station."""

    def take(self, commander: str) -> None:
        """Take control and keep it alive from a thread of its own; LeaseError if another has it."""

    def release(self) -> None:
        """Give control back; idempotent."""

    def problem(self) -> str:
        """Empty while control is held as it should be, else what is wrong."""


class LocalControl:
    """Control of instruments that live in this process, where nobody else can reach them."""

    def take(self, commander: str) -> None:
        """Do nothing: it is ours."""

    def release(self) -> None:
        """Do nothing."""

    def problem(self) -> str:
        """Empty: control cannot be lost."""
        return ""


@dataclass
class OpenStation:
    """The instruments of a station, open and ready, in this process or behind a server."""

    station: Station
    clock: Clock
    holder: HeatingHolder
    scan: Scan
    spectrometer: Spectrometer | None
    channels: Mapping[str, Channel]
    simulation: Simulation | None = None
    control: Control = field(default_factory=LocalControl)
    relation: ClockRelation = field(default_factory=lambda: ClockRelation(0.0, 0.0))
    """How the instruments' own clock maps to ``clock`` (time stamps are mapped already)."""
    address: str = ""
    """Where the instrument server listens; empty in process."""
    on_close: list[Callable[[], None]] = field(default_factory=list)

    @property
    def instruments(self) -> dict[str, Instrument]:
        """Every instrument by role."""
        found: dict[str, Instrument] = {"holder": self.holder, "scan": self.scan}
        if self.spectrometer is not None:
            found["spectrometer"] = self.spectrometer
        return {**found, **self.channels}

    def make_safe(self, reason: str) -> None:
        """Bring everything to its safe state, the holder first; one that fails stops no other."""
        failed: list[Exception] = []
        for instrument in self.instruments.values():
            try:
                instrument.make_safe(reason)
            except Exception as error:  # noqa: BLE001  raised when all have been told
                failed.append(error)
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Let go of the instruments, last opened first; idempotent."""
        try:
            while self.on_close:
                self.on_close.pop()()
        finally:
            if self.on_close:  # one has failed: the others are closed all the same
                self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
