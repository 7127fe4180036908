"""The private pipe between the simulation and the process that plays GMS: lines of JSON, and bytes after them."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable
from typing import IO, Any

Answer = Callable[[str, list[Any]], tuple[Any, bytes]]
"""Answers a call with a plain value and bytes; raises for an error."""


class Asking:
    """The side that asks; its process ends when the other side is gone. Any thread may ask."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = threading.Lock()
        self._replies: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def ask(self, call: str, *arguments: Any) -> tuple[Any, bytes]:
        """The value and the bytes that a call gives; raises RuntimeError."""
        with self._lock:
            line = json.dumps({"call": call, "arguments": arguments})
            self._writer.write(line.encode() + b"\n")
            self._writer.flush()
            head, data = self._replies.get()
        if head["error"]:
            raise RuntimeError(head["error"])
        return head["value"], data

    def _read(self) -> None:
        while line := self._reader.readline():
            head = json.loads(line)
            self._replies.put((head, self._reader.read(head["bytes"])))
        os._exit(0)  # nothing can be asked any more, whatever else this process does


def answer(reader: IO[bytes], writer: IO[bytes], by: Answer) -> None:
    """Answer calls until the other side is gone."""
    while line := reader.readline():
        request = json.loads(line)
        value: Any = None
        data, error = b"", ""
        try:
            value, data = by(request["call"], request["arguments"])
        except Exception as raised:  # noqa: BLE001  told to the one who asked
            error = f"{type(raised).__name__}: {raised}"
        head = {"value": value, "bytes": len(data), "error": error}
        writer.write(json.dumps(head).encode() + b"\n" + data)
        writer.flush()
