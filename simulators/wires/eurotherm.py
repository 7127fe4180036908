"""The far end of a Eurotherm 3200: Modbus RTU (as behind a terminal server) and Modbus TCP (as of a gateway)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from acquire.farends import FarEndContext
from simulators import options
from simulators.faults import from_options
from simulators.wires.behind import simulation
from simulators.wires.eurotherm_controller import Eurotherm
from simulators.wires.eurotherm_registers import Units
from simulators.wires.listening import SLICE_S, Listener
from simulators.wires.modbus import serve_rtu, serve_tcp

RTU, TCP = "rtu", "tcp"


def serve(
    context: FarEndContext,
    *,
    unit: int = 1,
    decimals: int = 1,
    highest: str = "1300 °C",
    lowest: str = "0 °C",
    type_code: int = 0x3216,
    units: str = "°C",
    faults: Mapping[str, Any] | None = None,
    fault_seed: int = 0,
) -> EurothermEnd:
    """Listen on the ports ``rtu`` and ``tcp``; both lead to the same controller of the chip.

    Args:
        context: name, clock, simulation.
        unit: address of the device, 1 to 247.
        decimals: of 16 bit values, 0 to 2.
        highest: limit of setpoints (register 111).
        lowest: limit of setpoints (register 112).
        type_code: what register 122 says; the real one is not known here.
        units: °C, °F or K: what the display shows and the registers give and take.
        faults: shares of replies that suffer, by name (:class:`~simulators.faults.Fault`).
        fault_seed: which replies those are.

    Raises:
        ValueError: an option that cannot be used.
        OSError: a port cannot be had.
    """
    context.expect(RTU, TCP)
    number = int(options.number("unit", unit, 1, 247))
    places = int(options.number("decimals", decimals, 0, 2))
    world = simulation(context).world
    controller = Eurotherm(
        context.clock,
        world.chip,
        world.history,
        world.seed,
        decimals=places,
        type_code=int(options.number("type_code", type_code, 0, 0xFFFF)),
        highest_celsius=options.quantity("highest", highest, "°C", 100, 1372),
        lowest_celsius=options.quantity("lowest", lowest, "°C", -200, 50),
        address=number,
        units=Units.of(units),
    )
    return EurothermEnd(context, controller, number, faults, fault_seed)


class EurothermEnd:
    """The controller, listening; made by :func:`serve`."""

    def __init__(
        self,
        context: FarEndContext,
        controller: Eurotherm,
        unit: int,
        faults: Mapping[str, Any] | None,
        fault_seed: int,
    ) -> None:
        self.faults = from_options(faults, fault_seed)
        """What happens to replies."""
        self.instrument = controller
        """The controller, to look at in tests."""
        self._closing = threading.Event()
        self._listeners: dict[str, Listener] = {}
        try:
            for port, serving in ((RTU, serve_rtu), (TCP, serve_tcp)):
                self._listeners[port] = Listener(
                    context.where(port),
                    partial(serving, unit=unit, registers=controller),
                    name=f"{context.name} {port}",
                    faults=self.faults,
                )
        except BaseException:
            self.close()
            raise
        self._watching = threading.Thread(
            target=self._watch, name=f"{context.name} controls", daemon=True
        )
        self._watching.start()

    @property
    def addresses(self) -> Mapping[str, str]:
        """``rtu``: a pyserial URL; ``tcp``: ``tcp://HOST:PORT`` for Modbus TCP."""
        return {
            RTU: f"socket://{self._listeners[RTU].address}",
            TCP: f"tcp://{self._listeners[TCP].address}",
        }

    def close(self) -> None:
        """Stop listening; the controller goes to standby. Idempotent."""
        self._closing.set()
        for listener in self._listeners.values():
            listener.close()
        if self._listeners.keys() == {RTU, TCP}:
            self._watching.join(2.0)
        self.instrument.write(199, [1])

    def _watch(self) -> None:
        """The controller's own cycle: a remote setpoint lapses although nobody asks."""
        while not self._closing.wait(SLICE_S):
            self.instrument.step()
