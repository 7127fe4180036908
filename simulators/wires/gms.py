"""The far end of our server inside GMS: that very server, in a process that plays GMS, over the simulation.

The server's script (:mod:`drivers.gms.server`) is found by its name when it is started, and runs as it would in
GMS, with a stand-in of the module ``DigitalMicrograph``. Its clients come through a small relay here, which can
inflict faults on whole replies. Exposures and dwell times are seconds of the simulation's clock.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acquire.clock import Signal
from acquire.farends import FarEnd, FarEndContext
from simulators import faults as fault_options
from simulators import options
from simulators.faults import Faults
from simulators.scan import SimulatedScan
from simulators.spectrometer import SimulatedSpectrometer
from simulators.wires.behind import simulation
from simulators.wires.emccd_camera import COLUMNS, DARK_COUNTS, GifCamera, Shot
from simulators.wires.emccd_digiscan import DigiScan, Ending
from simulators.wires.emccd_library import library
from simulators.wires.emccd_optics import EnergyFilter, Optics
from simulators.wires.emccd_scripts import execute
from simulators.wires.emccd_values import Callee, Library, Tags, Value
from simulators.wires.gms_pipe import answer
from simulators.wires.listening import Connection, ConnectionEnded, Listener

logger = logging.getLogger(__name__)

PORT = "pyro"
SCRIPT = "drivers.gms.server"
START_S = 30.0
END_S = 2.0
"""Wall seconds that the process may take to begin, and to end."""
_LISTENS = re.compile(r"listens on (\S+):(\d+)")
_HEADER = struct.Struct("!4sHBBHHII16sHH")
_LONGEST = 64 << 20
_UNPROCESSED = 1


def serve(
    context: FarEndContext,
    *,
    channels: Sequence[str] = ("haadf", "abf"),
    field_times_magnification: str = "0.1 m",
    dispersions: Sequence[str] = ("0.05 eV", "0.1 eV", "0.25 eV", "0.5 eV", "1 eV"),
    zero_loss_channel: float = 100.0,
    rows: int = 256,
    faults: Mapping[str, float] | None = None,
) -> FarEnd:
    """Listen on port ``pyro``: the entry point ``gms`` of ``hotstage.wires``.

    Args:
        context: the station's simulation and clock.
        channels: detectors by the number of their DigiScan signal.
        field_times_magnification: width of a scan at a magnification of 1.
        dispersions: energies per channel of the filter, the finest first; a filter that another
            wire of the station has is shared, with its own.
        zero_loss_channel: column of the camera (of 2048) of the energy loss that is set.
        rows: of the camera.
        faults: shares of replies that go wrong, by fault.

    Raises:
        TypeError, ValueError: an option cannot be used.
        OSError: the port cannot be had, or the process does not start.
    """
    context.expect(PORT)
    behind = simulation(context)
    scan, spectrometer = (behind.instruments[role] for role in ("scan", "spectrometer"))
    if not isinstance(scan, SimulatedScan) or not isinstance(spectrometer, SimulatedSpectrometer):
        raise ValueError("the simulation has no scan, or no spectrometer.")
    if isinstance(channels, str) or not channels:
        raise TypeError('channels must be a list of names, for example ["haadf", "abf"].')
    for name in channels:
        if name not in scan.describe().detectors:
            known = ", ".join(scan.describe().detectors)
            raise ValueError(f"channels: there is no detector {name!r}; there are {known}.")
    if isinstance(dispersions, str) or not dispersions:
        raise TypeError('dispersions must be a list of quantities, for example ["0.1 eV"].')
    world, closing = behind.world, context.clock.signal()
    known_ev = tuple(options.quantity("dispersions", text, "eV", 0.01, 1.0) for text in dispersions)
    energy_filter = world.energy_filter
    if not isinstance(energy_filter, EnergyFilter):
        energy_filter = EnergyFilter(world, known_ev, spectrometer.zero_loss_ev)
        world.energy_filter = energy_filter
    product_nm = options.quantity(
        "field_times_magnification", field_times_magnification, "nm", 1e6, 1e9
    )
    optics = Optics(world, product_nm)
    digiscan = DigiScan(scan, context.clock, optics, channels, 50.0, closing)
    camera = GifCamera(
        world,
        spectrometer,
        energy_filter,
        int(options.number("rows", rows, 16, 2048)),
        options.number("zero_loss_channel", zero_loss_channel, 0, COLUMNS - 1),
    )
    suite = Suite(camera, digiscan, library(optics, digiscan, energy_filter, closing), closing)
    return GmsEnd(context, suite, fault_options.from_options(faults, world.seed))


class Suite:
    """What the process that plays GMS asks for."""

    def __init__(
        self, camera: GifCamera, digiscan: DigiScan, functions: Library, closing: Signal
    ) -> None:
        self.closing = closing
        self.results = ""
        """What was written into the window of results."""
        self.shown = threading.Event()
        self._camera = camera
        self._digiscan = digiscan
        self._tags: dict[str, float] = {}
        self._scanning = False
        self._functions: Library = {
            **functions,
            "getpersistenttaggroup": [Callee((), Tags)],
            "taggroupsettagasfloat": [Callee(("tags", "string", "number"), self._set_tag)],
        }

    def halt(self) -> None:
        """End what runs."""
        self.closing.set()
        self._digiscan.halt()

    def answer(self, call: str, arguments: list[Any]) -> tuple[Any, bytes]:
        """One call of the stand-in; raises what went wrong."""
        match call:
            case "result":
                self.results += str(arguments[0])
                self.shown.set()
                return None, b""
            case "prepare":
                return None, b""
            case "script":
                execute(str(arguments[0]), self._functions)
                return None, b""
            case "tag":
                return self._tags.get(str(arguments[0])), b""
            case "acquire":
                return self._acquire(*arguments)
            case "scan":
                return self._scan(*arguments)
            case "scanning":
                return self._digiscan.active(), b""
            case "scanned":
                return self._scanned(int(arguments[0]))
        raise ValueError(f"there is no call {call!r}")

    def _set_tag(self, group: Value, label: str, value: float) -> None:
        # a float of 32 bits, as the tag has it
        self._tags[label] = float(np.float32(value))

    def _acquire(
        self,
        exposure_s: float,
        bin_x: int,
        bin_y: int,
        processing: int,
        top: int,
        left: int,
        bottom: int,
        right: int,
    ) -> tuple[Any, bytes]:
        if bin_x != bin_y:
            raise ValueError("the simulated camera bins squares only")
        shot = Shot(exposure_s, bin_x, top, left, bottom, right, processing=0, halved=False)
        pixels = self._camera.take(shot, self.closing).astype("<i4")
        if processing != _UNPROCESSED:
            pixels -= DARK_COUNTS
        return list(pixels.shape), pixels.tobytes()

    def _scan(
        self,
        shape: list[int],
        rotation_deg: float,
        pixel_us: float,
        line_sync: bool,
        signals: list[int],
    ) -> tuple[Any, bytes]:
        if self._scanning:
            self._digiscan.stop()
        ending = Ending.LINE_SYNC if line_sync else Ending(0)
        rows, columns = shape
        self._digiscan.acquire((rows, columns), rotation_deg, pixel_us, ending, 1, tuple(signals))
        self._scanning = True
        self._digiscan.finish()
        return None, b""

    def _scanned(self, signal: int) -> tuple[Any, bytes]:
        if self._scanning:
            self._digiscan.stop()
            self._scanning = False
        image = self._digiscan.fetch(signal).astype("<u2")
        return list(image.shape), image.tobytes()


class GmsEnd:
    """The process that plays GMS, and the relay that its clients come through."""

    def __init__(self, context: FarEndContext, suite: Suite, faults: Faults) -> None:
        self.faults = faults
        self.suite = suite
        found = importlib.util.find_spec(SCRIPT)
        if found is None or found.origin is None:
            raise ValueError(f"the server's script {SCRIPT} is not installed.")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulators.wires.gms_child", found.origin, "--port", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._answer, name=f"{context.name} is GMS")
        self._thread.daemon = True
        self._thread.start()
        self._listener: Listener | None = None
        try:
            self._server = self._wait_for_server()
            self._listener = Listener(
                context.where(PORT), self._relay, name=context.name, faults=faults, at_most=32
            )
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of the port ``pyro``."""
        return {} if self._listener is None else {PORT: self._listener.address}

    def close(self) -> None:
        """End everything; idempotent."""
        self.suite.halt()
        if self._listener is not None:
            self._listener.close()
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                process.stdin.close()  # which ends it
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S)
        self._thread.join(END_S)
        if process.stdout is not None:
            process.stdout.close()

    def _answer(self) -> None:
        process = self._process
        if process.stdin is None or process.stdout is None:
            return
        try:
            answer(process.stdout, process.stdin, self.suite.answer)
        except (OSError, ValueError) as error:  # closed under us
            logger.debug("the pipe has ended: %s", error)
        self.suite.shown.set()

    def _wait_for_server(self) -> tuple[str, int]:
        shown = self.suite.shown
        while (found := _LISTENS.search(self.suite.results)) is None:
            shown.clear()
            if self._process.poll() is not None or not shown.wait(START_S):
                raise OSError(f"the process that plays GMS does not start: {self.suite.results}")
        return found[1], int(found[2])

    # ------------------------------------------------------------------------- the relay

    def _relay(self, connection: Connection) -> None:
        """Hand a client's bytes to the server, and whole replies back."""
        with socket.create_connection(self._server, timeout=START_S) as server:
            server.settimeout(None)
            upwards = threading.Thread(
                target=_hand_on, args=(connection, server), name="gms relay", daemon=True
            )
            upwards.start()
            try:
                while not connection.closed:
                    connection.send(_message(server))
            finally:
                connection.close()
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                upwards.join(END_S)


def _hand_on(connection: Connection, server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side has ended
        while True:
            server.sendall(connection.receive())
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _message(server: socket.socket) -> bytes:
    """One whole message of the server."""
    header = _exactly(server, _HEADER.size)
    tag, _, _, _, _, _, size, annotated, *_ = _HEADER.unpack(header)
    if tag != b"PYRO" or size + annotated > _LONGEST:
        raise ConnectionEnded("the server sent something that is no message")
    return header + _exactly(server, size + annotated)


def _exactly(server: socket.socket, count: int) -> bytes:
    came = bytearray()
    while len(came) < count:
        piece = server.recv(min(count - len(came), 1 << 20))
        if not piece:
            raise ConnectionEnded("the server has closed the connection")
        came += piece
    return bytes(came)
