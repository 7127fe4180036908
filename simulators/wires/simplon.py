"""The far end of the SIMPLON API 1.8.0: a counting detector such as DECTRIS's ELA behind an energy filter.

Ports: ``api`` (REST, 80 of a real one), ``stream`` (version 1, 9999), ``stream2`` (version 2, 31001). Each
message goes to one client; what nobody reads in time is lost and counted (``stream/status/dropped``).
Exposures follow the simulation's clock. The detector sees what the filter of the station's SerialEMCCD
wire is set to; without one, a fixed band of energies.

Sources: those of the modules ``simplon_*`` beside this one. Differences from a real one: one threshold, no
corrections, no file writer, no regions of interest; there is no cable at the external trigger input, only
:meth:`Simplon.pulse`.
"""

from __future__ import annotations

from collections.abc import Mapping

from acquire.farends import FarEnd, FarEndContext
from simulators import faults as fault_options
from simulators import options
from simulators.faults import Faults
from simulators.spectrometer import SimulatedSpectrometer
from simulators.wires import behind, simplon_parameters
from simulators.wires.listening import Connection, Listener
from simulators.wires.simplon_api import Api, Monitor
from simulators.wires.simplon_camera import CountingCamera
from simulators.wires.simplon_detector import Detector, with_stream
from simulators.wires.simplon_http import serve as serve_http
from simulators.wires.simplon_messages import CborMessages, Image, LegacyMessages, Series
from simulators.wires.simplon_parameters import Parameters
from simulators.wires.simplon_stream import Pusher

API, STREAM, STREAM2 = "api", "stream", "stream2"
CONNECTIONS = 16
LARGEST_SIDE = 4096


def serve(
    context: FarEndContext,
    *,
    columns: int = 1030,
    rows: int = 514,
    bit_depth: int = 32,
    shortest_frame: str = "444 µs",
    zero_loss_channel: float = 100.0,
    energy_loss: str = "0 eV",
    dispersion: str = "0.5 eV",
    buffer: int = 200,
    initialized: bool = True,
    serial_number: str = "E-00-0000",
    faults: Mapping[str, float] | None = None,
) -> FarEnd:
    """Listen on ports ``api``, ``stream``, ``stream2``: the entry point ``simplon`` of ``hotstage.wires``.

    Args:
        context: the station's simulation and clock.
        columns: of the detector; they are energies.
        rows: of the detector.
        bit_depth: of images: 16 or 32.
        shortest_frame: shortest frame time.
        zero_loss_channel: column of the energy loss that the filter is set to.
        energy_loss: that is set where there is no filter.
        dispersion: energy per column where there is no filter.
        buffer: messages that wait for a client.
        initialized: whether it can be armed at once, or after the command ``initialize``.
        serial_number: of the detector.
        faults: shares of replies and messages that go wrong, by fault.

    Raises:
        TypeError, ValueError: an option cannot be used.
        OSError: a port cannot be had.
    """
    context.expect(API, STREAM, STREAM2)
    simulation = behind.simulation(context)
    spectrometer = simulation.instruments["spectrometer"]
    if not isinstance(spectrometer, SimulatedSpectrometer):
        raise ValueError("the simulation has no spectrometer.")
    shape = (_whole("rows", rows, 8), _whole("columns", columns, 64))
    if bit_depth not in (16, 32):
        raise ValueError(f"bit_depth = {bit_depth!r} refused: 16 or 32.")
    camera = CountingCamera(
        simulation.world,
        spectrometer,
        shape,
        options.number("zero_loss_channel", zero_loss_channel, 0, shape[1] - 1),
        (
            options.quantity("energy_loss", energy_loss, "eV", -100, 3000),
            options.quantity("dispersion", dispersion, "eV", 0.01, 10),
        ),
    )
    config = simplon_parameters.detector(
        shape[1],
        shape[0],
        bit_depth,
        options.quantity("shortest_frame", shortest_frame, "s", 1e-6, 1.0),
        str(serial_number),
    )
    return Simplon(
        context,
        config,
        camera,
        buffer=int(options.number("buffer", buffer, 1, 100_000)),
        initialized=options.switch("initialized", initialized),
        faults=fault_options.from_options(faults, simulation.world.seed),
    )


class Simplon:
    """The listening far end."""

    def __init__(
        self,
        context: FarEndContext,
        config: Parameters,
        camera: CountingCamera,
        *,
        buffer: int,
        initialized: bool,
        faults: Faults,
    ) -> None:
        self.faults = faults
        stream = simplon_parameters.stream()
        monitor = Monitor(simplon_parameters.monitor())
        self._pushers: dict[str, Pusher] = {}
        try:
            for port in (STREAM, STREAM2):
                self._pushers[port] = Pusher(
                    context.where(port), buffer, faults, f"{context.name} {port}"
                )
            self._detector = Detector(
                context.clock,
                config,
                camera,
                lambda series: with_stream(series, stream),
                (_Streaming(stream, self._pushers), monitor),
                initialized=initialized,
            )
            configs = {
                "detector": config,
                "stream": stream,
                "monitor": monitor.config,
                "filewriter": simplon_parameters.filewriter(),
            }
            self._api = Api(self._detector, configs, monitor, self._pushers)
            self._listener = Listener(
                context.where(API),
                self._serve,
                name=context.name,
                faults=faults,
                at_most=CONNECTIONS,
            )
        except BaseException:
            self._close_pushers()
            raise

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of all three ports."""
        return {
            API: self._listener.address,
            **{port: pusher.address for port, pusher in self._pushers.items()},
        }

    def pulse(self, width_s: float) -> None:
        """Put a pulse on the external trigger input; returns when its images are taken."""
        self._detector.pulse(width_s)

    def close(self) -> None:
        """End everything; idempotent."""
        self._detector.abort()
        self._listener.close()
        self._close_pushers()

    def _serve(self, connection: Connection) -> None:
        serve_http(connection, self._api.answer)

    def _close_pushers(self) -> None:
        for pusher in self._pushers.values():
            pusher.close()


class _Streaming:
    """Pushes a series in the format that is set, if the stream is enabled when it is armed."""

    def __init__(self, config: Parameters, pushers: Mapping[str, Pusher]) -> None:
        self._config = config
        self._pushers = pushers
        self._to: tuple[LegacyMessages | CborMessages, Pusher] | None = None

    def start(self, series: Series) -> None:
        for pusher in self._pushers.values():
            pusher.forget()
        self._to = None
        if self._config["mode"] == "enabled":
            if self._config["format"] == "cbor":
                self._to = (CborMessages(), self._pushers[STREAM2])
            else:
                self._to = (LegacyMessages(), self._pushers[STREAM])
            messages, pusher = self._to
            pusher.push(messages.start(series))

    def image(self, series: Series, image: Image) -> None:
        if self._to is not None:
            messages, pusher = self._to
            pusher.push(messages.image(series, image))

    def end(self, series: Series) -> None:
        if self._to is not None:
            messages, pusher = self._to
            pusher.push(messages.end(series))


def _whole(name: str, value: object, low: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} = {value!r} refused: a whole number is needed.")
    return int(options.number(name, value, low, LARGEST_SIDE))
