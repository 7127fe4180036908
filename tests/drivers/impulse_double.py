"""A hand-written Impulse that speaks ZMQ and JSON as the facts have it, and helpers of its tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import HolderReading, HolderState
from acquire.station import DriverContext
from drivers.holders.impulse import ImpulseHolder, open_impulse

PERIOD_S = 0.02
UNITS = {
    "temperatureSetpoint": "°C",
    "temperatureMeasured": "°C",
    "powerMeasured": "mW",
    "currentMeasured": "A",
    "voltageMeasured": "V",
}


class Double:
    """Impulse as the facts describe it, in wall time, with faults on request."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], list[bytes] | None] | None = None
        self.status = "control"
        self.channels = ["heat", "events"]
        self.units = dict(UNITS)
        self.stop_holds = True
        self.publishing = True
        self.number = 0
        self.power_mw: float | None = None
        self._ramp = (0.0, 25.0, 0.0, 25.0)
        self._finish_due = False
        self._context = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._data = self._context.socket(zmq.PUB)
        for socket in (self._control, self._data):
            socket.linger = 0
        self.control = f"127.0.0.1:{self._control.bind_to_random_port('tcp://127.0.0.1')}"
        self.data = f"127.0.0.1:{self._data.bind_to_random_port('tcp://127.0.0.1')}"
        self._lock = threading.Lock()
        self._late: list[tuple[float, list[bytes]]] = []
        self._to_publish: list[list[bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def commands(self) -> list[dict[str, Any]]:
        """The requests that move something."""
        return [r for r in self.requests if r["$type"].startswith("control.heat")]

    def setpoint(self) -> float:
        begin, start, end, target = self._ramp
        now = time.monotonic()
        return target if now >= end else start + (target - start) * (now - begin) / (end - begin)

    def heat_to(self, celsius: float) -> None:
        now = time.monotonic()
        self._ramp = (now, celsius, now, celsius)

    def publish(self, *parts: bytes) -> None:
        with self._lock:
            self._to_publish.append(list(parts))

    def enter(self, status: str) -> None:
        self.status = status
        self.event(newState=status)

    def event(self, **fields: Any) -> None:
        self.publish(b"events", json.dumps(fields).encode())

    def close(self) -> None:
        self._ended.set()
        self._thread.join(2)
        for socket in (self._control, self._data):
            socket.close(linger=0)
        self._context.term()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            if self._control.poll(5):
                frames = self._control.recv_multipart()
                self._serve(frames[0], frames[-1])
            now = time.monotonic()
            for at, parts in [late for late in self._late if late[0] <= now]:
                self._control.send_multipart(parts)
                self._late.remove((at, parts))
            with self._lock:
                waiting, self._to_publish = self._to_publish, []
            for parts in waiting:
                self._data.send_multipart(parts)
            if now >= due and self.publishing:
                due = now + PERIOD_S
                self._publish_heat()

    def _serve(self, who: bytes, raw: bytes) -> None:
        request = json.loads(raw)
        self.requests.append(request)
        reply = self.answer(request) if self.answer is not None else None
        if reply is None:
            reply = [json.dumps(self.reply(request)).encode()]
        if reply == [b"never"]:
            return
        if reply[0].startswith(b"late "):
            body = json.dumps(self.reply(request)).encode()
            self._late.append((time.monotonic() + float(reply[0][5:]), [who, b"", body]))
            return
        self._control.send_multipart([who, b"", *reply])

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        kind = request["$type"]
        if kind == "control.impulse.getStatus":
            return {"resultCode": "ok", "data": {"status": self.status}}
        if kind == "control.impulse.getAvailableDataChannels":
            return {"resultCode": "ok", "data": {"activeChannels": self.channels}}
        if kind == "control.impulse.getAvailableProperties":
            names = ["sequenceNumber", "timeStamp", "experimentDuration", *self.units]
            return {"resultCode": "ok", "data": {"properties": names}}
        if kind == "control.impulse.getPropertyInformation":
            name = request["propertyName"]
            info = {"propertyName": name, "unit": self.units.get(name, ""), "precision": 3}
            return {"resultCode": "ok", "data": info}
        if self.status != "control":
            return {"resultCode": "invalidOperation", "message": "not in control"}
        now = time.monotonic()
        if kind == "control.heat.startRamp":
            self._ramp = (now, self.setpoint(), now + request["rampTime"], request["temperature"])
            self._finish_due = True
            return {"resultCode": "ok"}
        if kind == "control.heat.stopRamp":
            if self.stop_holds:
                self.heat_to(self.setpoint())
            return {"resultCode": "ok"}
        return {"resultCode": "badRequest"}

    def _publish_heat(self) -> None:
        setpoint = self.setpoint()
        power = 0.01 * (setpoint - 25) if self.power_mw is None else self.power_mw
        current = 1e-3
        message = {
            "sequenceNumber": self.number,
            "timeStamp": "2026-01-01T00:00:00",
            "temperatureSetpoint": setpoint,
            "temperatureMeasured": setpoint + 0.1,
            "powerMeasured": power,
            "currentMeasured": current,
            "voltageMeasured": current * 200.0,
        }
        self.number += 1
        self._data.send_multipart([b"heat", json.dumps(message).encode()])
        if self._finish_due and time.monotonic() >= self._ramp[2]:
            self._finish_due = False
            event = {"$type": "data.event.stimulusActionFinished", "stimulusType": "heat"}
            self._data.send_multipart([b"events", json.dumps(event).encode()])


def opened(double: Double, **options: str) -> ImpulseHolder:
    settings = {"timeout": "0.3 s", "silence": "0.4 s", **options}
    context = DriverContext("holder", WallClock(), "station.toml")
    return open_impulse(context, control=double.control, data=double.data, **settings)


def until(
    holder: ImpulseHolder, wanted: Callable[[HolderReading], bool], within_s: float = 15.0
) -> HolderReading:
    """The first reading as wanted; a busy machine may hold the double's data up until it counts as silent."""
    end = time.monotonic() + within_s
    while True:
        found: HolderReading | LinkError
        try:
            found = holder.read()
            if wanted(found):
                return found
        except LinkError as silent:
            found = silent
        assert time.monotonic() < end, f"still {found}"
        time.sleep(0.005)


def wait(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def is_off(reading: HolderReading) -> bool:
    return reading.state is HolderState.OFF


def raises(call: Callable[[], object], error: type[Exception]) -> bool:
    try:
        call()
    except error:
        return True
    return False


def wait_readable(holder: ImpulseHolder) -> bool:
    wait(lambda: not raises(holder.read, InstrumentError))
    return True


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except LinkError as error:
        return error
    return None
