"""A stand-in of an Open Beam Interface board, byte by byte after its documentation."""

from __future__ import annotations

import socket
import struct
import threading
import time
from types import TracebackType

CYCLE_S = 125e-9
LENGTHS = {0: 3, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 3, 10: 13, 11: 3, 12: 5, 13: 3, 14: 7, 15: 5}
BURST_S = 0.002


def value(x: int, y: int) -> int:
    """What the ADC reads at a place of a lit field."""
    return 16 + ((x >> 4) + 3 * (y >> 4)) % 8192


class ObiDouble:
    """One board; its state outlives connections. ``speed``: seconds of it per wall second."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.control = False
        self.beam = 0
        self.blank = True
        self.at = (0, 0)
        self.log: list[str] = []
        self.lose_byte_after: int | None = None
        self.extra_byte_after: int | None = None
        self.hang_after: int | None = None
        self.garbage = False
        self.sent_pixels = 0
        self.connections = 0
        self._inline: bool | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.02)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._end = threading.Event()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> ObiDouble:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self.cut()
        self._thread.join(5.0)
        self._socket.close()

    def lit(self) -> bool:
        """Whether there is beam on the specimen, as far as the board decides."""
        return not self.control or (self.beam == 1 and not self.blank)

    def cut(self) -> None:
        """End the connection."""
        connection = self._connection
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # ended already

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.connections += 1
            with self._connection:
                self._connection.settimeout(10.0)
                try:
                    self._serve(self._connection)
                except OSError:
                    continue

    def _serve(self, stream: socket.socket) -> None:
        held = b""
        self._raster = [0] * 6
        self._pixel = 0
        if self.garbage:
            stream.sendall(b"\x12\x34" * 500 + b"\xff")
        while not self._end.is_set():
            while held and len(held) >= LENGTHS[held[0] >> 4]:
                length = LENGTHS[held[0] >> 4]
                self._execute(stream, held[:length])
                held = held[length:]
            came = stream.recv(1 << 16)
            if not came:
                return
            held += came

    def _execute(self, stream: socket.socket, command: bytes) -> None:
        kind, flags = command[0] >> 4, command[0] & 15
        fields = struct.unpack(f">{len(command) // 2}H", command[1:])
        if kind == 0:
            stream.sendall(b"\xff\xff" + command[1:3])
        elif kind == 1:
            self.log.append("abort")
        elif kind == 3:
            time.sleep(0.02 / self.speed)
            self.control = bool(flags & 1)
            self.log.append(f"control {flags & 1}")
        elif kind == 4:
            self.beam = flags & 3
        elif kind == 5:
            if flags & 2:
                self._inline = bool(flags & 1)
            else:
                self.blank = bool(flags & 1)
                self.log.append(f"blank {flags & 1}")
        elif kind == 10:
            self._raster, self._pixel = list(fields), 0
            self.log.append(f"region {fields}")
        elif kind == 12:
            self._scan(stream, fields[0] + 1, fields[1] + 1)
        elif kind == 14:
            self._light()
            self.at = (fields[0], fields[1])
            self.log.append(f"point {fields[:2]}")
            self._pixels(stream, [self._read()])

    def _scan(self, stream: socket.socket, count: int, cycles: int) -> None:
        x_start, x_count, x_step, y_start, _, y_step = self._raster
        self._light()
        pixel_s = cycles * CYCLE_S / self.speed
        burst = max(1, int(BURST_S / pixel_s))
        began, done = time.monotonic(), 0
        while done < count and not self._end.is_set():
            words = []
            for _ in range(min(burst, count - done)):
                row, column = divmod(self._pixel, x_count)
                self.at = (
                    (x_start * 256 + column * x_step) >> 8,
                    (y_start * 256 + row * y_step) >> 8,
                )
                words.append(self._read())
                self._pixel += 1
            done += len(words)
            time.sleep(max(0.0, began + done * pixel_s - time.monotonic()))
            self._pixels(stream, words)

    def _light(self) -> None:
        if self._inline is not None:
            self.blank, self._inline = self._inline, None

    def _read(self) -> int:
        return value(*self.at) if self.lit() and self.control else 5

    def _pixels(self, stream: socket.socket, words: list[int]) -> None:
        data = b"".join(struct.pack(">H", word << 2) for word in words)
        before, self.sent_pixels = self.sent_pixels, self.sent_pixels + len(words)
        if self.lose_byte_after is not None and before >= self.lose_byte_after:
            data, self.lose_byte_after = data[:-1], None
        if self.extra_byte_after is not None and before >= self.extra_byte_after:
            data, self.extra_byte_after = data + data[:1], None
        if self.hang_after is not None and before >= self.hang_after:
            while self.hang_after is not None and not self._end.is_set():
                time.sleep(0.01)
                stream.settimeout(0.001)
                try:
                    if not stream.recv(1 << 16, socket.MSG_PEEK):
                        raise ConnectionError
                except TimeoutError:
                    continue
            return
        stream.sendall(data)
