"""The far end of the example oven: answers its line protocol on the simulated heater of a station.

It is written from the protocol, not from the driver, and imports nothing of it: a misreading then
shows up when the two meet.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

from acquire.errors import HotstageError
from acquire.farends import FarEndContext
from acquire.instruments import HeatingHolder, HolderState, SafeState
from simulators.wires.listening import Connection, Listener

PORT = "lines"
FASTEST_CELSIUS_PER_S = 1000.0
"""Of the simulated heater, which follows setpoints as fast as it can."""
_ON = (HolderState.RAMPING, HolderState.HOLDING)


def serve(context: FarEndContext) -> OvenEnd:
    """Listen on the port ``lines``: the entry point ``example_oven`` of ``hotstage.wires``.

    Raises:
        ValueError: the simulation has no heater.
        OSError: the port cannot be had.
    """
    context.expect(PORT)
    heater = context.simulation.instruments.get("holder")
    if not isinstance(heater, HeatingHolder):
        raise ValueError("the simulation has no heater.")
    return OvenEnd(context, heater)


class OvenEnd:
    """The oven, listening; made by :func:`serve`."""

    def __init__(self, context: FarEndContext, heater: HeatingHolder) -> None:
        self.heater = heater
        """What is heated, to look at in tests."""
        self._setpoint = 25.0
        self._lock = threading.Lock()
        heater.arm_safe_state(SafeState())
        self._listener = Listener(context.where(PORT), self._serve, name=context.name)

    @property
    def addresses(self) -> Mapping[str, str]:
        """``lines``: where it listens."""
        return {PORT: self._listener.address}

    def close(self) -> None:
        """Stop listening; the output goes off. Idempotent."""
        self._listener.close()
        self.heater.make_safe("the far end is closed")

    def _serve(self, connection: Connection) -> None:
        while True:
            request = connection.receive_line().decode("ascii", "replace")
            with self._lock:
                try:
                    reply = self._answer(request)
                except HotstageError as error:
                    reply = f"ERROR {' '.join(str(error).split())}"
            connection.send(reply.encode("ascii", "replace") + b"\n")

    def _answer(self, request: str) -> str:
        match request.split():
            case ["ID?"]:
                return "ID EXAMPLE OVEN 1"
            case ["ON"]:
                self.heater.ramp(self._setpoint, FASTEST_CELSIUS_PER_S)
                return "ON"
            case ["OFF"]:
                self.heater.make_safe("OFF")
                return "OFF"
            case ["SET", number]:
                return self._set(number)
            case ["READ?"]:
                reading = self.heater.read()
                on = int(reading.state in _ON)
                return f"READ {on} {reading.measured_celsius:.2f} {reading.power_mw:.3f}"
        return "ERROR UNKNOWN"

    def _set(self, number: str) -> str:
        try:
            celsius = float(number)
        except ValueError:
            return "ERROR NO NUMBER"
        if not (math.isfinite(celsius) and 0 <= celsius <= 1300):
            return "ERROR OUT OF RANGE"
        self._setpoint = round(celsius, 2)
        if self.heater.read().state in _ON:
            self.heater.ramp(self._setpoint, FASTEST_CELSIUS_PER_S)
        return f"SET {self._setpoint:.2f}"
