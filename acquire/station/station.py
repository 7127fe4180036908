"""A station file that was read and checked, and how its instruments are opened in this process."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acquire import farends, plugins
from acquire.clock import Clock, WallClock
from acquire.config import explain, suggest
from acquire.errors import ConfigError, PluginError
from acquire.farends import FarEnds, WirePlan
from acquire.guard import GuardedHolder, HolderLimits
from acquire.instruments import (
    Channel,
    HeatingHolder,
    Instrument,
    Scan,
    Simulation,
    Spectrometer,
)
from acquire.station.file import SIMULATED, InstrumentSettings, StationFile
from acquire.station.opened import OpenStation
from acquire.station.opening import Opener


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

    @property
    def in_process(self) -> bool:
        """Whether all its instruments live in the process that opens it, and follow any clock."""
        return all(settings.driver == SIMULATED for settings in self.settings.values())

    def with_seed(self, seed: int) -> Station:
        """The station with another seed for its simulation; raises ConfigError for a real one."""
        simulation = self.file.simulation
        if simulation is None:
            raise ConfigError(
                f"--seed {seed}: station {self.name!r} is not simulated. Leave the option out."
            )
        changed = {"simulation": simulation.model_copy(update={"seed": seed})}
        return replace(self, file=self.file.model_copy(update=changed))

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

    @property
    def settings(self) -> dict[str, InstrumentSettings]:
        """What the file says of every instrument, by role."""
        found: dict[str, InstrumentSettings] = {"holder": self.file.holder, "scan": self.file.scan}
        if self.file.spectrometer is not None:
            found["spectrometer"] = self.file.spectrometer
        return {**found, **self.file.channels}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that instruments play here, the holder first."""
        return tuple(self.settings)

    @property
    def drivers(self) -> frozenset[str]:
        """Names of the drivers that talk to devices."""
        return frozenset(s.driver for s in self.settings.values()) - {SIMULATED}

    def opener(self, clock: Clock, addresses: Mapping[str, str]) -> Opener:
        """What opens single instruments of this station, on devices or far ends that are running."""
        return Opener(self.settings, self.source, clock, addresses)

    def _check_roles(self) -> None:
        for role, settings in self.settings.items():
            if settings.driver == SIMULATED and self.file.simulation is None:
                raise ConfigError(
                    f"{self.source}: {role}.driver = 'simulated' needs a [simulation] table. "
                    "Add one, or name a driver (`hotstage drivers` lists them)."
                )

        if not self.file.wires:
            return
        for role, settings in self.settings.items():
            if settings.driver == SIMULATED:
                raise ConfigError(
                    f"{self.source}: {role}.driver = 'simulated' beside [wires]: on wires every role "
                    "needs a driver, since the simulated instruments then live in another process. "
                    "Name a driver, or leave [wires] out."
                )
        if self.file.simulation is None:
            raise ConfigError(
                f"{self.source}: [wires] needs a [simulation] table, whose instruments answer on them. "
                "Add one, or leave [wires] out and give the drivers the addresses of their devices."
            )

    def start_far_ends(self, clock: Clock) -> FarEnds:
        """Start the simulated instruments that answer on this station's wires.

        Raises:
            ConfigError, PluginError: there are none, or one cannot be started.
        """
        simulation = self._build_simulation(clock, draft=False)
        if simulation is None or not self.file.wires:
            raise ConfigError(
                f"{self.source}: there is nothing to simulate on a wire; the station has no [wires]. "
                "`hotstage stations` tells which have."
            )
        plans = {
            name: WirePlan(wire.wire, wire.listen, wire.options)
            for name, wire in self.file.wires.items()
        }
        return farends.start(plans, simulation, clock, self.source)

    def make_clock(self) -> WallClock:
        """The clock this station runs on: the wall's, or the simulation's faster one."""
        return WallClock(self.file.simulation.clock_rate if self.file.simulation else 1.0)

    def open(
        self,
        clock: Clock | None = None,
        *,
        draft: bool = False,
        addresses: Mapping[str, str] | None = None,
    ) -> OpenStation:
        """Open every instrument in this process.

        Only an instrument server, a preflight or a test does that; who runs an experiment opens the
        station through :func:`acquire.remote.connect`, so that no heater lives in its process.

        Args:
            clock: the clock to run on; default the station's own.
            draft: simulated images are left empty, for a fast preflight.
            addresses: where the far ends of its wires listen; default: they are started in this
                process, too.

        Raises:
            ConfigError, PluginError, InstrumentError: an instrument cannot be opened; those that
                were opened are closed again.
        """
        on: Clock = clock if clock is not None else self.make_clock()
        self._refuse_virtual_time(on)
        closers: list[Callable[[], None]] = []
        opened: dict[str, Instrument] = {}
        simulation: Simulation | None = None
        try:
            if self.file.wires and addresses is None:
                far_ends = self.start_far_ends(on)
                closers.append(far_ends.close)
                simulation, addresses = far_ends.simulation, far_ends.addresses
            elif not self.file.wires:
                simulation = self._build_simulation(on, draft)
            opener = Opener(self.settings, self.source, on, addresses or {}, simulation)
            closers.append(opener.close)
            for role in self.roles:
                instrument = opener.open(role)
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

    def _refuse_virtual_time(self, clock: Clock) -> None:
        for driver in self.drivers:  # a name that is misspelt is told first
            plugins.find(plugins.DRIVERS, driver)
        if not math.isfinite(clock.rate) and not self.in_process:
            raise ConfigError(
                f"{self.source}: the drivers of station {self.name!r} talk to devices, which know no "
                "virtual time. Use a station whose instruments are all 'simulated'."
            )


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
