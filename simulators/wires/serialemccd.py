"""The far end of the SerialEMCCD socket: Gatan's DigiScan and a GIF camera, as the plugin in DM serves them.

One command at a time, as the plugin's single thread has it: a command that exposes keeps everybody
waiting, also a new connection, which drops the old one. A continuous scan goes on without any
connection until it is stopped. Times of the protocol (dwell, exposure, delays) are seconds of the
simulation's clock; the patience for a handshake is wall time.

Sources: mastcu/SerialEMCCD (``SocketPathway.cpp``, ``TemplatePlugIn.cpp``, ``SEMCCDDefines.h``, plugin
120): packets, arguments, chunks, codes, what fails when. Differences: it listens on loopback only;
packets that come together are answered one after the other (the plugin would lose the second);
packets beyond 1 MiB are refused; scans turn by 90° only; cameras expose singly, never continuously;
images are always complete frames (a real buffer may be in the middle of the next one). The plugin's
code -3 (a reply that does not fit its buffer) cannot come: no reply is that long.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
from collections.abc import Mapping, Sequence

from acquire.errors import ConfigError
from acquire.farends import FarEnd, FarEndContext
from simulators import faults as fault_options
from simulators import options
from simulators.faults import Faults
from simulators.instruments import ExsolutionSimulation
from simulators.scan import SimulatedScan
from simulators.spectrometer import SimulatedSpectrometer
from simulators.wires.emccd_camera import COLUMNS, GifCamera
from simulators.wires.emccd_digiscan import MOST_CHANNELS, DigiScan
from simulators.wires.emccd_library import library
from simulators.wires.emccd_optics import EnergyFilter, Optics
from simulators.wires.emccd_packets import (
    LONGEST_PACKET,
    BadPacket,
    Function,
    Refusal,
    Reply,
    chunk_lengths,
    is_handshake,
    pack,
    unpack,
)
from simulators.wires.emccd_plugin import Plugin, with_chunks
from simulators.wires.listening import Connection, Listener

logger = logging.getLogger(__name__)

PORT = "socket"
SLOWEST_BYTES_PER_S = 5e6
"""A client that acknowledges a chunk more slowly is dropped."""
SHORTEST_PATIENCE_S = 0.2
REST_S = 10.0
"""Wall seconds for the rest of a packet that has begun."""
LONGEST_SEND_CHUNK = 1 << 22


def serve(
    context: FarEndContext,
    *,
    channels: Sequence[str] = ("haadf", "abf"),
    field_times_magnification: str = "0.1 m",
    line_frequency: str = "50 Hz",
    dispersions: Sequence[str] = ("0.05 eV", "0.1 eV", "0.25 eV", "0.5 eV", "1 eV"),
    zero_loss_channel: float = 100.0,
    rows: int = 256,
    faults: Mapping[str, float] | None = None,
) -> FarEnd:
    """Listen on port ``socket``: the entry point ``serialemccd`` of ``hotstage.wires``.

    Args:
        context: the station's simulation and clock.
        channels: detectors by the number of their DigiScan channel.
        field_times_magnification: width of a scan at a magnification of 1.
        line_frequency: of the mains.
        dispersions: energies per channel of the filter, the finest first.
        zero_loss_channel: column of the camera (of 2048) of the energy loss that is set.
        rows: of the camera.
        faults: shares of replies that go wrong, by fault.

    Raises:
        ConfigError: the simulation has no such instruments.
        TypeError, ValueError: an option cannot be used.
        OSError: the port cannot be had.
    """
    context.expect(PORT)
    simulation = context.simulation
    if not isinstance(simulation, ExsolutionSimulation):
        raise ConfigError(
            f"{context.source}: wires.{context.name} can only answer for the simulator 'exsolution'."
        )
    scan = simulation.instruments["scan"]
    spectrometer = simulation.instruments["spectrometer"]
    if not isinstance(scan, SimulatedScan) or not isinstance(spectrometer, SimulatedSpectrometer):
        raise ConfigError(f"{context.source}: the simulation has no scan, or no spectrometer.")
    if isinstance(channels, str) or not 1 <= len(channels) <= MOST_CHANNELS:
        raise TypeError(f"channels must be a list of 1 to {MOST_CHANNELS} names of detectors.")
    for name in channels:
        if name not in scan.describe().detectors:
            known = ", ".join(scan.describe().detectors)
            raise ValueError(f"channels: there is no detector {name!r}; there are {known}.")
    if isinstance(dispersions, str) or not dispersions:
        raise TypeError('dispersions must be a list of quantities, for example ["0.1 eV"].')
    world = simulation.world
    closing = context.clock.signal()
    optics = Optics(
        world,
        options.quantity("field_times_magnification", field_times_magnification, "nm", 1e6, 1e9),
    )
    digiscan = DigiScan(
        scan,
        context.clock,
        optics,
        channels,
        options.quantity("line_frequency", line_frequency, "Hz", 10, 1000),
        closing,
    )
    energy_filter = EnergyFilter(
        world,
        tuple(options.quantity("dispersions", text, "eV", 0.01, 1.0) for text in dispersions),
        spectrometer.zero_loss_ev,
    )
    world.energy_filter = energy_filter  # for other cameras behind it
    camera = GifCamera(
        world,
        spectrometer,
        energy_filter,
        int(options.number("rows", rows, 16, 2048)),
        options.number("zero_loss_channel", zero_loss_channel, 0, COLUMNS - 1),
    )
    plugin = Plugin(digiscan, camera, library(optics, digiscan, energy_filter, closing), closing)
    return SerialEmccd(context, plugin, digiscan, fault_options.from_options(faults, world.seed))


class SerialEmccd:
    """The listening far end."""

    def __init__(
        self, context: FarEndContext, plugin: Plugin, digiscan: DigiScan, faults: Faults
    ) -> None:
        self.faults = faults
        self._plugin = plugin
        self._digiscan = digiscan
        self._one_at_a_time = threading.Lock()
        self._closing = plugin.closing
        self._listener = Listener(
            context.where(PORT), self._serve, name=context.name, faults=faults, at_most=1
        )

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of the port ``socket``."""
        return {PORT: self._listener.address}

    def close(self) -> None:
        """End everything; idempotent."""
        self._closing.set()
        self._digiscan.halt()
        self._listener.close()

    def _serve(self, connection: Connection) -> None:
        while True:
            packet, refusal = _receive(connection)
            with self._one_at_a_time:
                function, reply = self._answer(packet, refusal)
                self._send(connection, function, reply)

    def _answer(self, packet: bytes, refusal: Refusal | None) -> tuple[Function | None, Reply]:
        if refusal is not None:
            return None, Reply(refusal)
        try:
            request = unpack(packet)
        except BadPacket as error:
            logger.info("a packet was refused: %s", error.refusal.name)
            return None, Reply(error.refusal)
        return request.function, self._plugin.call(request)

    def _send(self, connection: Connection, function: Function | None, reply: Reply) -> None:
        if reply.image is None or reply.value:
            connection.send(pack(function, reply))
            return
        lengths = chunk_lengths(len(reply.image))
        head = pack(function, with_chunks(reply, len(lengths)))
        begin = 0
        for i, length in enumerate(lengths):
            chunk = reply.image[begin : begin + length]
            if i == 0:
                connection.send(head + bytes(chunk))
            else:
                connection.send_as_is(chunk)
            begin += length
            if begin < len(reply.image):
                self._await_handshake(connection, length)

    def _await_handshake(self, connection: Connection, length: int) -> None:
        patience_s = max(SHORTEST_PATIENCE_S, length / SLOWEST_BYTES_PER_S)
        came = b""
        with contextlib.suppress(TimeoutError):
            came = connection.receive_exactly(8, within_s=patience_s)
        if not is_handshake(came):
            logger.info("%s did not acknowledge a chunk", connection.peer)
            connection.close()


def _receive(connection: Connection) -> tuple[bytes, Refusal | None]:
    """The next packet, or why it is none; raises OSError when the connection is over."""
    first = connection.receive_exactly(4)
    (length,) = struct.unpack("<i", first)
    if length < 8:
        # what else has come cannot be told from a packet, and is thrown away with it
        connection.drop(len(connection.peek()))
        return b"", Refusal.TOO_SHORT
    if length > LONGEST_PACKET:
        left = length - 4
        while left > 0:
            left -= len(connection.receive(min(left, LONGEST_SEND_CHUNK)))
        return b"", Refusal.TOO_LONG
    return first + connection.receive_exactly(length - 4, within_s=REST_S), None
