"""A microscope as a TOML file: roles, drivers, addresses and limits; opens the instruments in this process."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from acquire import plugins
from acquire.clock import Clock, ClockRelation, WallClock
from acquire.config import explain, suggest
from acquire.errors import ConfigError, InstrumentError, PluginError
from acquire.guard import GuardedHolder, HolderLimits
from acquire.instruments import (
    Channel,
    HeatingHolder,
    Instrument,
    Scan,
    Simulation,
    Spectrometer,
)
from acquire.units import Celsius, CelsiusDifference, CelsiusPerSecond, Seconds

SIMULATED = "simulated"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HolderLimitSettings(_Strict):
    """What this chip allows, whatever its driver can do."""

    temperature: Celsius
    ramp_rate: CelsiusPerSecond = Field(gt=0)
    deviation: CelsiusDifference = Field(default=50.0, gt=0)
    """A measured temperature further than this from the setpoint …"""
    deviation_time: Seconds = Field(default=5.0, gt=0)
    """… for longer than this trips the heater."""


class InstrumentSettings(_Strict):
    """One instrument of a station."""

    driver: str
    """Entry point in ``hotstage.drivers``; ``simulated`` takes the role from ``[simulation]``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Address and settings, checked by the driver."""


class HolderSettings(InstrumentSettings):
    """The heating holder of a station."""

    limits: HolderLimitSettings


class SimulationSettings(_Strict):
    """The simulator that stands behind a station's ``simulated`` instruments."""

    simulator: str = "exsolution"
    seed: int = Field(default=1, strict=True)
    clock_rate: float = Field(default=1.0, gt=0, le=1000, strict=True)
    """Simulated seconds per second on the wall."""
    options: dict[str, Any] = Field(default_factory=dict)


class ServerSettings(_Strict):
    """Where the instrument server of a station listens."""

    listen: str = "127.0.0.1:0"
    launch: bool = True
    """Whether who opens the station starts the server (on this machine), or finds it running."""

    @field_validator("listen")
    @classmethod
    def _loopback(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("write HOST:PORT, for example '127.0.0.1:7746'")
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            raise ValueError(
                f"host {host!r} is beyond this machine, which needs mutual TLS and is not available "
                "yet; use 127.0.0.1"
            )
        return value


class StationFile(_Strict):
    """The whole of a station file."""

    hotstage: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    description: str = ""
    simulation: SimulationSettings | None = None
    server: ServerSettings = ServerSettings()
    holder: HolderSettings
    scan: InstrumentSettings
    spectrometer: InstrumentSettings | None = None
    channels: dict[str, InstrumentSettings] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What a driver factory is given beside its options: ``factory(context, **options)``."""

    role: str
    clock: Clock
    source: str
    """The station file, for error messages."""


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


@dataclass(frozen=True)
class Station:
    """A station file that was read and checked; nothing is open yet."""

    file: StationFile
    source: str
    """Path or package resource that it came from."""
    text: str
    """The file as it was read, for the record of a run."""

    @property
    def name(self) -> str:
        """The station's name."""
        return self.file.name

    @property
    def simulated(self) -> bool:
        """Whether a simulator stands behind it."""
        return self.file.simulation is not None

    @classmethod
    def load(cls, name_or_path: str | Path) -> Station:
        """Read a station by its path, or by the name of an installed one.

        Raises:
            ConfigError: not found, or it names file, key, value and mend.
        """
        path = Path(name_or_path)
        if path.suffix == ".toml" or path.is_file():
            try:
                return cls.parse(path.read_text(encoding="utf-8"), str(path))
            except OSError as error:
                raise ConfigError(
                    f"station {str(path)!r} cannot be read: {error.strerror}."
                ) from error
            except UnicodeDecodeError as error:
                raise ConfigError(f"station {str(path)!r} is not UTF-8 text: {error}.") from error
        known = installed()
        if str(name_or_path) not in known:
            raise ConfigError(
                f"station {str(name_or_path)!r} is not known{suggest(str(name_or_path), known)}. "
                f"Installed are: {', '.join(sorted(known)) or 'none'}; or give the path of a .toml file."
            )
        found = known[str(name_or_path)]
        return cls.parse(found.read_text(encoding="utf-8"), str(found))

    @classmethod
    def parse(cls, text: str, source: str = "station.toml") -> Station:
        """Read a station from TOML text; raises ConfigError."""
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{source} is not valid TOML: {error}.") from error
        try:
            file = StationFile.model_validate(raw)
        except ValidationError as error:
            raise ConfigError(explain(error, source, StationFile)) from error
        station = cls(file, source, text)
        station._check_roles()
        return station

    def _settings(self) -> dict[str, InstrumentSettings]:
        found: dict[str, InstrumentSettings] = {"holder": self.file.holder, "scan": self.file.scan}
        if self.file.spectrometer is not None:
            found["spectrometer"] = self.file.spectrometer
        return {**found, **self.file.channels}

    def _check_roles(self) -> None:
        for role, settings in self._settings().items():
            if settings.driver == SIMULATED and self.file.simulation is None:
                raise ConfigError(
                    f"{self.source}: {role}.driver = 'simulated' needs a [simulation] table. "
                    "Add one, or name a driver (`hotstage drivers` lists them)."
                )

    def make_clock(self) -> WallClock:
        """The clock this station runs on: the wall's, or the simulation's faster one."""
        return WallClock(self.file.simulation.clock_rate if self.file.simulation else 1.0)

    def open(self, clock: Clock | None = None, *, draft: bool = False) -> OpenStation:
        """Open every instrument in this process.

        Only an instrument server, a preflight or a test does that; who runs an experiment opens the
        station through :func:`acquire.remote.connect`, so that no heater lives in its process.

        Args:
            clock: the clock to run on; default the station's own.
            draft: simulated images are left empty, for a fast preflight.

        Raises:
            ConfigError, PluginError, InstrumentError: an instrument cannot be opened; those that
                were opened are closed again.
        """
        on: Clock = clock if clock is not None else self.make_clock()
        simulation = self._build_simulation(on, draft)
        closers: list[Callable[[], None]] = []
        opened: dict[str, Instrument] = {}
        try:
            for role, settings in self._settings().items():
                instrument = self._open_one(role, settings, on, simulation)
                close = getattr(instrument, "close", None)
                if callable(close):
                    closers.append(close)
                opened[role] = instrument
            holder = _expect(opened, "holder", HeatingHolder, self)
            limits = self.file.holder.limits
            guarded = GuardedHolder(
                holder,
                HolderLimits(
                    limits.temperature,
                    limits.ramp_rate,
                    limits.deviation,
                    limits.deviation_time,
                    f"{self.source}, holder.limits",
                ),
                on,
            )
            closers.append(guarded.close)
            return OpenStation(
                station=self,
                clock=on,
                holder=guarded,
                scan=_expect(opened, "scan", Scan, self),
                spectrometer=(
                    _expect(opened, "spectrometer", Spectrometer, self)
                    if "spectrometer" in opened
                    else None
                ),
                channels={
                    name: _expect(opened, name, Channel, self) for name in self.file.channels
                },
                simulation=simulation,
                on_close=closers,
            )
        except BaseException:
            for close in reversed(closers):
                close()
            raise

    def _build_simulation(self, clock: Clock, draft: bool) -> Simulation | None:
        settings = self.file.simulation
        if settings is None:
            return None
        build = plugins.find(plugins.SIMULATORS, settings.simulator)
        try:
            built: Simulation = build(clock, seed=settings.seed, draft=draft, **settings.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.source}: simulation.options: {error}") from error
        return built

    def _open_one(
        self,
        role: str,
        settings: InstrumentSettings,
        clock: Clock,
        simulation: Simulation | None,
    ) -> Instrument:
        if settings.driver == SIMULATED and simulation is not None:
            if settings.options:
                raise ConfigError(
                    f"{self.source}: {role}.options: a simulated instrument has none; "
                    "settings of the simulator go into [simulation.options]."
                )
            if role not in simulation.instruments:
                raise ConfigError(
                    f"{self.source}: the simulator has no {role!r}; "
                    f"it has {', '.join(sorted(simulation.instruments))}."
                )
            return simulation.instruments[role]
        factory = plugins.find(plugins.DRIVERS, settings.driver)
        try:
            opened: Instrument = factory(
                DriverContext(role, clock, self.source), **settings.options
            )
        except TypeError as error:
            raise ConfigError(f"{self.source}: {role}.options: {error}") from error
        except (OSError, ValueError) as error:
            raise InstrumentError(
                f"{self.source}: {role} ({settings.driver}) cannot be opened: {error}"
            ) from error
        return opened


def _expect(opened: Mapping[str, Instrument], role: str, kind: type[Any], station: Station) -> Any:
    instrument = opened[role]
    if not isinstance(instrument, kind):
        raise PluginError(
            f"{station.source}: the driver of {role!r} is a {type(instrument).__name__}, "
            f"which is not a {kind.__name__}. Choose another driver for this role."
        )
    return instrument


def installed() -> dict[str, Any]:
    """Station files that installed packages offer, by name (entry point group hotstage.stations)."""
    from importlib.resources import files

    found: dict[str, Any] = {}
    for plugin in plugins.discover(plugins.STATIONS):
        if not plugin.works:
            continue
        for item in files(plugin.loaded).iterdir():
            if item.name.endswith(".toml"):
                found[item.name.removesuffix(".toml")] = item
    return found
