"""A hand-written stand-in for the SerialEMCCD plug-in, byte by byte, for tests of the drivers.

As the real one it has one thread and one client: while it exposes it neither reads nor accepts.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

CHUNK = 33_554_432
CAMERA = (8, 128)
"""Rows and columns of its camera."""
# function: longs, bools, doubles that come in; whether words follow
ARITY = {
    1: (1, 1, 0, True),
    6: (13, 0, 2, False),
    7: (11, 0, 2, False),
    9: (1, 0, 0, False),
    11: (0, 0, 0, False),
    12: (1, 0, 0, False),
    14: (0, 0, 0, False),
    18: (1, 0, 2, False),
    19: (7, 0, 2, True),
    20: (5, 0, 0, False),
    21: (0, 0, 0, False),
}


class EmccdDouble:
    """The plug-in with a DigiScan of three signals and a filter; its state is public."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, tuple[int, ...], tuple[float, ...]]] = []
        self.scripts: list[str] = []
        self.answers: dict[int, list[bytes]] = {}
        """Raw replies to send instead of the right ones, by function."""
        self.images: Callable[[int, tuple[int, int]], np.ndarray] = picture
        self.unknown: set[str] = set()
        """Script functions that this DigitalMicrograph does not have."""
        self.script_values: dict[str, float] = {}
        """What functions return instead of the truth."""
        self.silent = False
        self.connections = 0
        self.handshakes = 0
        self.speedup = 1.0
        """By how much exposures are shorter than they should be."""
        self.blanked = False
        self.magnification = 1e5
        self.flyback_us = 100.0
        self.line_s = 0.0
        """Time of a line, if lines wait for the mains."""
        self.shift = [3.0, -2.0]
        self.position: tuple[float, float] | None = None
        self.at_rest = False
        self.loss = 0.0
        self.loss_step = 0.0
        """Energy losses that the filter can take are this far apart; 0: all."""
        self.dispersion = 0
        self.slit = 0
        self.eels = 1
        """Whether the filter is in its spectroscopy mode."""
        self.inserted = True
        self.selected = -1
        self.exposures: list[float] = []
        self.darks = 0
        self.continuous = False
        self.ends_s: float | None = None
        self.began_s = 0.0
        self.frame_s = 0.0
        self.kept: set[int] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self._stop = threading.Event()
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="emccd-double", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(5)
        self._listener.close()
        if self._client is not None:
            self._client.close()

    def drop(self) -> None:
        """Break the connection under the client."""
        client = self._client
        if client is not None:
            client.shutdown(socket.SHUT_RDWR)

    @property
    def scanning(self) -> bool:
        if not self.continuous:
            return False
        return self.ends_s is None or time.monotonic() < self.ends_s

    # ------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            watched = [self._listener] if self._client is None else [self._listener, self._client]
            ready, _, _ = select.select(watched, [], [], 0.01)
            try:
                if self._client is not None and self._client in ready:
                    self._serve(self._client)
            except (OSError, struct.error):
                assert self._client is not None
                self._client.close()
                self._client = None
            if self._listener in ready:
                if self._client is not None:
                    self._client.close()
                self._client, _ = self._listener.accept()
                self._client.settimeout(2.0)
                self.connections += 1

    def _serve(self, client: socket.socket) -> None:
        (size,) = struct.unpack("<i", _exactly(client, 4))
        body = _exactly(client, size - 4)
        (function,) = struct.unpack_from("<i", body)
        if function not in ARITY:
            client.sendall(struct.pack("<ii", 8, -1))
            return
        n_longs, n_bools, n_doubles, has_words = ARITY[function]
        form = struct.Struct(f"<i{n_longs + n_bools}i{n_doubles}d")
        values = form.unpack_from(body)
        longs = tuple(int(v) for v in values[1 : 1 + n_longs])
        doubles = values[1 + n_longs + n_bools :]
        words = body[form.size :]
        assert len(words) == (4 * longs[-1] if has_words else 0), "wrong length"
        self.requests.append((function, longs, doubles))
        if self.silent:
            return
        if self.answers.get(function):
            client.sendall(self.answers[function].pop(0))
            return
        self._carry_out(client, function, longs, doubles, words)

    def _carry_out(
        self,
        client: socket.socket,
        function: int,
        longs: tuple[int, ...],
        doubles: tuple[float, ...],
        words: bytes,
    ) -> None:
        if function == 1:
            value = self._script(words.rstrip(b"\0").decode())
            client.sendall(struct.pack("<iid", 16, int(value == -999), value))
        elif function == 6:
            self.exposures.append(doubles[0])
            self._stop.wait(doubles[0] / self.speedup)
            rows, columns = longs[7] - longs[5], longs[8] - longs[6]
            data = self.images(-1, (rows, columns)) * round(1e3 * doubles[0])
            data = data + 100 * (longs[3] == 0)  # unprocessed: the dark level
            halves = np.trunc(data / 2) if longs[11] else np.clip(data, 0, 65535)
            self._send_image(client, halves.astype("<i2" if longs[11] else "<u2"))
        elif function == 7:
            rows, columns = longs[6] - longs[4], longs[7] - longs[5]
            self.darks += 1
            self._send_image(client, np.full((rows, columns), 100 + self.darks % 2, "<u2"))
        elif function == 9:
            self.selected = longs[0]
            client.sendall(struct.pack("<ii", 8, 0))
        elif function == 11:
            client.sendall(struct.pack("<iii", 12, 0, 1))
        elif function == 12:
            client.sendall(struct.pack("<iii", 12, 0, self.inserted))
        elif function == 14:
            client.sendall(struct.pack("<iii", 12, 0, 50500))
        elif function == 18:
            client.sendall(struct.pack("<iiiddd", 36, 0, 0, self.flyback_us, 50.0, 12.5))
        elif function == 19:
            self._acquire(client, longs, doubles, struct.unpack(f"<{longs[6]}i", words))
        elif function == 20:
            channel = longs[3]
            if channel not in self.kept:
                client.sendall(struct.pack("<iiiiii", 24, 28, *longs[:3], 0))
                return
            self.kept.discard(channel)
            self._send_image(client, self.images(channel, (longs[2], longs[1])))
        elif function == 21:
            code = 0 if self.continuous else 22
            self.continuous = False
            client.sendall(struct.pack("<ii", 8, code))

    def _acquire(
        self,
        client: socket.socket,
        longs: tuple[int, ...],
        doubles: tuple[float, ...],
        channels: tuple[int, ...],
    ) -> None:
        _, columns, rows, flags, continuous, _, _ = longs
        self.kept = set(channels)
        line_s = self.line_s or (columns * doubles[1] + self.flyback_us) * 1e-6
        self.frame_s = rows * line_s / self.speedup
        self.began_s = time.monotonic()
        if continuous:
            self.continuous, self.ends_s = True, None
            self._send_image(client, np.zeros((rows, columns), "<u2"))
            return
        self._stop.wait(self.frame_s)
        self.at_rest = bool(flags & 0b1110)
        self.kept.discard(channels[0])
        self._send_image(client, self.images(channels[0], (rows, columns)))

    def _send_image(self, client: socket.socket, image: np.ndarray) -> None:
        raw = memoryview(np.ascontiguousarray(image)).cast("B")
        chunks = -(-len(raw) // CHUNK)
        rows, columns = image.shape
        client.sendall(struct.pack("<iiiiii", 24, 0, image.size, columns, rows, chunks))
        step = -(-len(raw) // chunks)
        for begin in range(0, len(raw), step):
            client.sendall(raw[begin : begin + step])
            if begin + step < len(raw):
                assert _exactly(client, 8) == struct.pack("<ii", 8, 24)
                self.handshakes += 1

    # ------------------------------------------------------------------------ DM scripts

    def _script(self, text: str) -> float:
        self.scripts.append(text)
        if exists := re.search(r'DoesFunctionExist\("(\w+)"\)', text):
            return -1.0 if exists[1] in self.unknown else 1.0
        names: dict[str, float] = {}
        for line in text.splitlines():
            if done := re.fullmatch(r"Exit\((\w+)\)", line):
                return names[done[1]] if done[1] in names else float(done[1])
            if set_to := re.fullmatch(r"number (\w+) = (\w+)\((.*)\)", line):
                names[set_to[1]] = self._function(set_to[2], set_to[3], names)
            elif called := re.fullmatch(r"(\w+)\((.*)\)", line):
                self._function(called[1], called[2], names)
            elif not re.fullmatch(r"(number|image) [\w, ]+", line):
                return -999.0
        return 0.0

    def _function(self, name: str, inside: str, names: dict[str, float]) -> float:
        arguments = [part.strip() for part in inside.split(",")] if inside else []
        if name in self.unknown:
            raise AssertionError(f"{name} was called though it does not exist")
        if name in self.script_values:
            return self.script_values[name]
        match name, arguments:
            case "DSCountSignals", []:
                return 3.0
            case "DSGetMinPixelTime", ["2", "3"]:
                return 0.5
            case "DSGetMaxPixelTime", []:
                return 419430.0
            case "DSSetFlybackTime", [_]:
                return 0.0
            case "EMSetBeamBlanked", [on]:
                self.blanked = on == "1"
            case "EMGetBeamBlanked", []:
                return float(self.blanked)
            case "EMSetMagnification", [value]:
                self.magnification = float(value)
            case "EMGetMagnification", []:
                return self.magnification
            case "EMSetCalibratedBeamShift", [x, y]:
                self.shift = [float(x), float(y)]
            case "EMGetCalibratedBeamShift", ["x", "y"]:
                names["x"], names["y"] = self.shift
            case "DSSetScanControl", ["1"]:
                pass
            case "DSSetBeamToSafePosition", []:
                self.at_rest = True
            case "DSSetBeamDSPosition", [x, y]:
                self.position, self.at_rest = (float(x), float(y)), False
            case "DSFinishAcquisition", []:
                self.ends_s = self.began_s + self.frame_s
            case "DSIsAcquisitionActive", []:
                return float(self.scanning)
            case "GetNamedImage", [_, _]:
                return 1.0
            case "DSCalcDSCoordFromImage", ["im", column, row, "x", "y"]:
                names["x"] = 11000 - 22000 * float(column) / 64
                names["y"] = -9000 + 18000 * float(row) / 64
            case "IFSetEnergyLoss", [value]:
                step = self.loss_step
                self.loss = round(float(value) / step) * step if step else float(value)
            case "IFGetEnergyLoss", ["0"]:
                return self.loss
            case "IFWaitForFilter", []:
                pass
            case "IFIsInEELSMode", []:
                return float(self.eels)
            case "IFGetSlitIn", []:
                return float(self.slit)
            case "IFSetSlitIn", [inside]:
                self.slit = int(inside)
            case "IFCSetActiveDispersions", [index]:
                self.dispersion = int(index)
            case "IFCGetActiveDispersion", []:
                return float(self.dispersion)
            case _:
                raise AssertionError(f"script function {name}({inside}) is not known here")
        return 0.0


def picture(channel: int, shape: tuple[int, int]) -> np.ndarray:
    """An image by which channel and place can be told; the camera's (channel -1) shows channel numbers."""
    rows, columns = shape
    if channel < 0:
        return np.tile(np.arange(columns) - 10, (rows, 1))
    pixels = np.arange(rows * columns, dtype=np.int64).reshape(shape)
    return ((pixels + 1000 * channel) % 65536).astype("<u2")


def _exactly(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = client.recv(count - len(got))
        if not more:
            raise ConnectionError
        got += more
    return got
