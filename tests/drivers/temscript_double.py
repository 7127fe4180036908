"""Stand-ins of a temscript server: the package's own server on a made-up microscope, and one of raw bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from temscript.null_microscope import NullMicroscope
from temscript.server import MicroscopeHandler, MicroscopeServer

FULL = 256


class Column(NullMicroscope):  # type: ignore[misc]
    """A microscope with STEM: images tell row, column, binning, blank and shift."""

    def __init__(self, detectors: tuple[str, ...] = ("HAADF", "BF")) -> None:
        super().__init__()
        self.detectors = detectors
        self.mode = "STEM"
        self.version = "2.1.0"
        self.dtype: Any = np.int16
        self.step: Callable[[float], float] = float
        self.told: list[tuple[str, Any]] = []
        self.fails = False
        self.frames = 0
        self.dwell: Callable[[float], float] = float
        self.base = 100

    def get_version(self) -> str:
        return self.version

    def get_family(self) -> str:
        return "TITAN"

    def is_stem_available(self) -> bool:
        return True

    def get_instrument_mode(self) -> str:
        return self.mode

    def get_stem_detectors(self) -> dict[str, Any]:
        info = {"type": "STEM_DETECTOR", "binnings": [1, 2, 4, 8]}
        return {name: dict(info) for name in self.detectors}

    def set_stem_acquisition_param(
        self, values: dict[str, Any], ignore_errors: bool = False
    ) -> None:
        self.told.append(("param", values))
        self._stem_acq_param = {**values, "dwell_time(s)": self.dwell(values["dwell_time(s)"])}

    def get_stem_acquisition_param(self) -> dict[str, Any]:
        return dict(self._stem_acq_param)

    def set_stem_magnification(self, value: float) -> None:
        self._stem_magnification = self.step(value)

    def set_beam_blanked(self, mode: bool) -> None:
        self.told.append(("blank", mode))
        super().set_beam_blanked(mode)

    def set_beam_shift(self, pos: Any) -> None:
        self.told.append(("shift", tuple(pos)))
        super().set_beam_shift(pos)

    def acquire(self, *names: str) -> dict[str, NDArray[Any]]:
        if self.fails:
            raise ValueError("the detector\nis retracted")
        self.told.append(("acquire", names))
        param = self._stem_acq_param
        part = {"FULL": 1, "HALF": 2, "QUARTER": 4}[param["image_size"]]
        size = FULL // (part * param["binning"])
        time.sleep(size * size * param["dwell_time(s)"])
        self.frames += 1
        rows, columns = np.indices((size, size))
        light = 0 if self._beam_blanked else self.base
        return {
            name: (light + number * 1000 * bool(light) + rows * 2 + columns % 2).astype(self.dtype)
            for number, name in enumerate(self.detectors)
            if name in names
        }


class _Quiet(MicroscopeHandler):  # type: ignore[misc]
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server:
    """The package's server in a thread; its column can be looked at and changed."""

    def __init__(self, column: Column | None = None) -> None:
        self.column = column or Column()
        self._server = MicroscopeServer(("127.0.0.1", 0), lambda: self.column)
        self._server.RequestHandlerClass = _Quiet
        self._server.handle_error = lambda request, address: None  # a client that went away
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join(5.0)
        self._server.server_close()


class RawServer:
    """Answers every connection with the same bytes, then ends it."""

    def __init__(self, reply: bytes, *, pause_s: float = 0.0) -> None:
        self.reply = reply
        self.pause_s = pause_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(5.0)
        self._socket.close()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.settimeout(1.0)
                    connection.recv(1 << 16)
                    for byte in (self.reply[i : i + 1] for i in range(len(self.reply))):
                        if not self.pause_s:
                            connection.sendall(self.reply)
                            break
                        connection.sendall(byte)
                        if self._end.wait(self.pause_s):
                            break
                except OSError:
                    continue  # the client has gone
