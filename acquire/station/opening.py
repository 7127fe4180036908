"""Opens the instruments of a station one by one: simulated ones of this process, or drivers."""

from __future__ import annotations

from collections.abc import Mapping

from acquire import farends, plugins
from acquire.clock import Clock
from acquire.errors import ConfigError, InstrumentError
from acquire.farends import Shared
from acquire.instruments import Instrument, Simulation
from acquire.station.file import SIMULATED, InstrumentSettings
from acquire.station.opened import DriverContext


class Opener:
    """Makes instruments from their settings; what several of them share is closed with it.

    Args:
        settings: of every instrument, by role.
        source: the station file, for messages.
        clock: that the instruments run on.
        addresses: where far ends listen, for options such as ``@impulse.control``.
        simulation: has the instruments of the driver ``simulated``.
    """

    def __init__(
        self,
        settings: Mapping[str, InstrumentSettings],
        source: str,
        clock: Clock,
        addresses: Mapping[str, str],
        simulation: Simulation | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._addresses = addresses
        self._simulation = simulation
        self._shared = Shared()

    def open(self, role: str) -> Instrument:
        """The instrument of a role.

        Raises:
            ConfigError, PluginError, InstrumentError: it cannot be opened.
        """
        settings = self._settings[role]
        if settings.driver == SIMULATED and self._simulation is not None:
            return self._simulated(role, settings, self._simulation)
        factory = plugins.find(plugins.DRIVERS, settings.driver)
        where = f"{self._source}: {role}.options"
        options = {
            name: farends.resolve(value, self._addresses, f"{where}.{name}")
            for name, value in settings.options.items()
        }
        context = DriverContext(role, self._clock, self._source, self._shared)
        try:
            opened: Instrument = factory(context, **options)
        except TypeError as error:
            raise ConfigError(f"{where}: {error}") from error
        except (OSError, ValueError) as error:
            raise InstrumentError(
                f"{self._source}: {role} ({settings.driver}) cannot be opened: {error}"
            ) from error
        return opened

    def close(self) -> None:
        """Close what several instruments shared; idempotent."""
        self._shared.close()

    def _simulated(
        self, role: str, settings: InstrumentSettings, simulation: Simulation
    ) -> Instrument:
        if settings.options:
            raise ConfigError(
                f"{self._source}: {role}.options: a simulated instrument has none; "
                "settings of the simulator go into [simulation.options]."
            )
        if role not in simulation.instruments:
            raise ConfigError(
                f"{self._source}: the simulator has no {role!r}; "
                f"it has {', '.join(sorted(simulation.instruments))}."
            )
        return simulation.instruments[role]
