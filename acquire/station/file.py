"""What a station file may say: strict, so that a key that is not known is an error."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from acquire import farends
from acquire.units import Celsius, CelsiusDifference, CelsiusPerSecond, Seconds

SIMULATED = "simulated"
ROLES = ("holder", "scan", "spectrometer")


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


class WireSettings(_Strict):
    """A wire at whose far end simulated instruments answer."""

    wire: str
    """Entry point in ``hotstage.wires``."""
    listen: dict[str, str] = Field(default_factory=dict)
    """``HOST:PORT`` by the name of a port; any free one where nothing is said."""
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("listen")
    @classmethod
    def _loopback(cls, value: dict[str, str]) -> dict[str, str]:
        for port, address in value.items():
            host, _, number = address.rpartition(":")
            if not (number.isascii() and number.isdigit()) or int(number) > 65535:
                raise ValueError(f"{port}: write HOST:PORT, for example '127.0.0.1:5557'")
            if host not in farends.LOOPBACK:
                raise ValueError(
                    f"{port}: host {host!r} is beyond this machine, and vendors' protocols know no "
                    "authentication; use 127.0.0.1"
                )
        return value


class ServerSettings(_Strict):
    """Where the instrument server of a station listens."""

    listen: str = "127.0.0.1:0"
    """``HOST:PORT`` on this machine, or ``tls://HOST:PORT`` for others, too."""
    launch: bool = True
    """Whether who opens the station starts the server (on this machine), or finds it running."""
    identity: str = ""
    """Folder that ``hotstage keys issue`` made: of the server where it runs, of the user elsewhere;
    relative to the station file."""
    allowed: str = ""
    """The list that ``hotstage keys`` keeps of who may connect; needed where the server runs."""

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        tls = value.startswith("tls://")
        host, _, port = value.removeprefix("tls://").rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("write HOST:PORT, for example '127.0.0.1:7746'")
        if host not in farends.LOOPBACK and not tls:
            raise ValueError(
                f"host {host!r} is beyond this machine, which needs mutual TLS: write "
                f"'tls://{value}', give server.identity and server.allowed, and see "
                "`hotstage keys --help`; or use 127.0.0.1"
            )
        return value


class StationFile(_Strict):
    """The whole of a station file."""

    hotstage: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    description: str = ""
    simulation: SimulationSettings | None = None
    wires: dict[str, WireSettings] = Field(default_factory=dict)
    server: ServerSettings = ServerSettings()
    holder: HolderSettings
    scan: InstrumentSettings
    spectrometer: InstrumentSettings | None = None
    channels: dict[str, InstrumentSettings] = Field(default_factory=dict)

    @field_validator("channels")
    @classmethod
    def _own_names(cls, value: dict[str, InstrumentSettings]) -> dict[str, InstrumentSettings]:
        for name in value:
            if name in ROLES:
                raise ValueError(f"{name}: a channel cannot be called so; choose another name")
        return value
