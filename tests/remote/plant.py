"""Drivers of a small device that is a process of its own, for tests of what happens when a server dies."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from remote_rig import Holder, Scan  # type: ignore[import-not-found]  # installed by a fixture

from acquire.errors import LinkError
from acquire.station import DriverContext


class Wire:
    """One word there, one word back."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._lock = threading.Lock()
        self._socket = socket.create_connection((host, int(port)), timeout=2.0)

    def ask(self, word: str) -> str:
        with self._lock:
            try:
                self._socket.sendall(word.encode() + b"\n")
                said = self._socket.recv(64)
            except OSError as error:
                raise LinkError(f"the device does not answer: {error}") from error
        if not said:
            raise LinkError("the device is gone.")
        return said.decode().strip()

    def close(self) -> None:
        self._socket.close()


class DeviceHolder(Holder):  # type: ignore[misc]
    """The rig's holder, whose heater is switched in the device."""

    def __init__(self, context: DriverContext, address: str) -> None:
        super().__init__(context.clock)
        self._wire = Wire(address)
        said = self._wire.ask("hello")
        if said == "refuse":
            self._wire.close()
            raise LinkError("the device refuses.")
        if said == "print":  # as a vendor's library that greets, from C, too
            os.write(1, b"Vendor's Library 1.0 ")
            sys.stdout.write("(c) Vendor\n")
            sys.stdout.flush()
        if said == "helper":  # as a vendor's library that starts a program of its own
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        self._wire.ask("heat")
        super().ramp(target_celsius, rate_celsius_per_s)

    def make_safe(self, reason: str) -> None:
        with contextlib.suppress(LinkError):  # it never raises; a reading tells
            self._wire.ask("off")
        super().make_safe(reason)

    def read(self) -> Any:
        self._wire.ask("how are you")
        return super().read()

    def close(self) -> None:
        with contextlib.suppress(LinkError):  # what cannot be reached is let go
            self._wire.ask("off")
        self._wire.close()


def holder(context: DriverContext, *, address: str) -> DeviceHolder:
    return DeviceHolder(context, address)


def scan(context: DriverContext) -> Any:
    return Scan(context.clock)


class Device:
    """The heater itself, as everybody who connects to it sees it."""

    def __init__(self) -> None:
        self.heating = threading.Event()
        self.greeting: Callable[[], str] = lambda: "welcome"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            self._threads.append(threading.Thread(target=self._answer, args=(sock,), daemon=True))
            self._threads[-1].start()

    def _answer(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            try:
                for line in lines:
                    sock.sendall(self._do(line.decode().strip()).encode() + b"\n")
            except OSError:
                return

    def _do(self, word: str) -> str:
        if word == "heat":
            self.heating.set()
        if word == "off":
            self.heating.clear()
        return self.greeting() if word == "hello" else "done"

    def cut(self) -> None:
        """End all connections; new ones are welcome."""
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5.0)
