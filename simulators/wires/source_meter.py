"""The far end of a source-meter: Keithley 2400 SCPI over TCP, on the heater of the chip or on the film.

A serial line behind a terminal server (``socket://HOST:PORT``) looks the same. Messages end with CR
or LF; replies with the chosen terminator. ^C and ^X clear what is pending (2400S-900-01, p. 14-14).
A reading lasts as long as its integration on the simulation's clock. One instrument answers however
many clients there are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from acquire.clock import Clock, finite_rate
from acquire.farends import FarEndContext
from simulators.chip_electrical import HeaterCircuit
from simulators.circuit import Load
from simulators.faults import Faults, from_options
from simulators.film_resistance import FilmCircuit
from simulators.instruments import ExsolutionSimulation
from simulators.wires.behind import simulation
from simulators.wires.listening import SLICE_S, Connection, Listener
from simulators.wires.scpi import ScpiError, Tree, Unit
from simulators.wires.smu import SourceMeter
from simulators.wires.smu_commands import IDENTITY, build
from simulators.wires.smu_handlers import Acquire, Result
from simulators.wires.smu_measuring import tell
from simulators.wires.smu_settings import Reading

logger = logging.getLogger(__name__)

PORT = "scpi"
TERMINATORS = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n", "LFCR": b"\n\r"}
CLEAR = b"\x03\x18"
BETWEEN = b"\r\n \t;"
"""Between messages, where it means nothing."""
LONGEST_MESSAGE = 4096
PAUSE_AFTER_ERRORS_S = 0.002
"""Wall seconds; a client that sends nothing but nonsense leaves time for the others."""


class _Cleared(Exception):
    """A device clear came while something was going on."""


def serve(
    context: FarEndContext,
    *,
    measures: Literal["heater", "film"] = "heater",
    model: str = "2400",
    serial: str = "0000000",
    terminator: str = "LF",
    faults: Mapping[str, Any] | None = None,
    fault_seed: int = 0,
) -> SourceMeterEnd:
    """Listen on the port ``scpi``.

    Args:
        context: name, clock, simulation.
        measures: ``heater`` takes the chip away from its own controller; ``film`` sits on four points
            in a line on the film.
        model: what ``*IDN?`` says.
        serial: serial number.
        terminator: of replies: LF, CR, CRLF or LFCR.
        faults: shares of replies that suffer, by name (:class:`~simulators.faults.Fault`).
        fault_seed: which replies those are.

    Raises:
        ValueError: an option that cannot be used.
        OSError: the port cannot be had.
    """
    context.expect(PORT)
    if measures not in ("heater", "film"):
        raise ValueError(f'measures = {measures!r} refused: it must be "heater" or "film".')
    if terminator not in TERMINATORS:
        raise ValueError(
            f"terminator = {terminator!r} refused: there are {', '.join(TERMINATORS)}."
        )
    for name, said in (("model", model), ("serial", serial)):
        if not (isinstance(said, str) and said.isascii() and said.isalnum()):
            raise ValueError(f"{name} = {said!r} refused: letters and digits are needed.")
    return SourceMeterEnd(
        context,
        simulation(context),
        film=measures == "film",
        identity=IDENTITY.format(model=model, serial=serial),
        terminator=TERMINATORS[terminator],
        faults=from_options(faults, fault_seed),
    )


class SourceMeterEnd:
    """The instrument, listening; made by :func:`serve`."""

    def __init__(
        self,
        context: FarEndContext,
        behind: ExsolutionSimulation,
        *,
        film: bool,
        identity: str,
        terminator: bytes,
        faults: Faults,
    ) -> None:
        self.faults = faults
        """What happens to replies."""
        world = behind.world
        self._clock = context.clock
        self._terminator = terminator
        self._heater: HeaterCircuit | None = None
        # the port first: a chip that was taken for a far end that cannot listen would be lost
        self._listener = Listener(
            context.where(PORT), self._serve, name=context.name, faults=faults
        )
        try:
            load: Load
            if film:
                load = FilmCircuit(world.specimen)
            else:
                load = self._heater = HeaterCircuit(world.chip, world.history, self._clock.now_s())
        except BaseException:
            self._listener.close()
            raise
        self.instrument = SourceMeter(self._clock, load, world.seed)
        """The source-meter, to break it in tests."""
        self._tree = build(self.instrument, identity)

    @property
    def addresses(self) -> Mapping[str, str]:
        """``scpi``: a pyserial URL."""
        return {PORT: f"socket://{self._listener.address}"}

    def close(self) -> None:
        """Stop listening; the output goes off and the chip back to its controller. Idempotent."""
        self._listener.close()
        if self._heater is not None:
            self._heater.release(self._clock.now_s())

    def _serve(self, connection: Connection) -> None:
        Session(self._clock, self.instrument, self._tree, connection, self._terminator).run()


class Session:
    """Reads the messages of one client and answers them."""

    def __init__(
        self,
        clock: Clock,
        smu: SourceMeter,
        tree: Tree[Result],
        connection: Connection,
        terminator: bytes,
    ) -> None:
        self._clock = clock
        self._smu = smu
        self._tree = tree
        self._connection = connection
        self._terminator = terminator

    def run(self) -> None:
        """Until the connection ends."""
        while True:
            try:
                line, end = self._connection.receive_until(b"\r\n" + CLEAR, at_most=LONGEST_MESSAGE)
            except ValueError:
                self._fail(ScpiError(-363))
                continue
            if end in CLEAR or not line.strip(BETWEEN):
                self._connection.skip(BETWEEN)  # at once: thousands one by one hold others up
                continue
            try:
                self._answer(line)
            except _Cleared:
                continue

    def _answer(self, line: bytes) -> None:
        try:
            message = line.decode("ascii")
        except UnicodeDecodeError:
            self._fail(ScpiError(-101))
            return
        replies: list[str] = []
        for unit in self._tree.parse(message):
            if isinstance(unit, ScpiError):
                self._fail(unit)
                break
            try:
                result = self._execute(unit)
            except ScpiError as error:
                self._fail(error)
                continue
            if isinstance(result, str):
                replies.append(result)
        if replies:
            self._connection.send(";".join(replies).encode("ascii") + self._terminator)

    def _execute(self, unit: Unit[Result]) -> str | None:
        with self._smu.lock:
            result = unit.handle(unit.parameters)
        if not isinstance(result, Acquire):
            return result
        if result.prepare is not None:
            result.prepare()
        readings = [self._acquire() for _ in range(result.count)]
        if not result.tell:
            return None
        return ",".join(tell(reading, self._smu.settings.elements) for reading in readings)

    def _acquire(self) -> Reading:
        begin_s = self._clock.now_s()
        self._wait(begin_s, self._smu.begin())
        reading = self._smu.finish(begin_s, self._clock.now_s())
        self._smu.store(reading)
        return reading

    def _wait(self, begin_s: float, duration_s: float) -> None:
        """Let a reading take its time; a device clear ends it, and what was to be answered."""
        rate = finite_rate(self._clock)
        while (left_s := begin_s + duration_s - self._clock.now_s()) > 0:
            if left_s / rate <= SLICE_S:
                self._clock.sleep(left_s)
                self._look(0.0)
            else:
                before = self._clock.now_s()
                self._look(SLICE_S)
                # what lies there already ends no wait
                if self._clock.now_s() - before < SLICE_S * rate / 2:
                    self._clock.sleep(SLICE_S * rate)
        self._look(0.0)

    def _look(self, wait_s: float) -> None:
        came = self._connection.peek(wait_s)
        last = max(came.rfind(clear) for clear in CLEAR)
        if last >= 0:
            self._connection.drop(last + 1)
            raise _Cleared

    def _fail(self, error: ScpiError) -> None:
        with self._smu.lock:
            self._smu.errors.put(error.code)
        self._clock.sleep(PAUSE_AFTER_ERRORS_S * finite_rate(self._clock))
