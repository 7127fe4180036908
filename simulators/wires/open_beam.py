"""The far end of the Open Beam Interface: a scan generator on an FPGA, behind a TCP byte stream.

Commands are carried out strictly in order, each when the one before has ended: an abort or a blank waits
behind the pixels that were sent before it. Every pixel gives one number. They come in packets: a part of
one waits until it is full, or until a flush, an abort or a synchronization. Dwell times and delays are
seconds of the simulation's clock.

Source: nanographs/Open-Beam-Interface (0BSD or Apache-2.0), the gateware in ``applet/open_beam_interface``. Its
traps are kept: a dwell field of n lasts n + 1 cycles; a pixel beyond the end of its region waits for a
region, which never comes if it is queued behind it; after a free run nothing is in step until a
synchronization. Differences: the newest client has the device; when a client goes, what it has
queued is dropped, while beam and blanker stay as they are; codes do not wrap at the DAC's edge.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, Signal
from acquire.farends import FarEnd, FarEndContext
from simulators import faults as fault_options
from simulators import options
from simulators.faults import Faults
from simulators.scan import SimulatedScan
from simulators.wires.behind import simulation
from simulators.wires.listening import Connection, ConnectionEnded, Listener
from simulators.wires.obi_commands import Command, Type, commands
from simulators.wires.obi_device import HIGHEST, ObiDevice, Region, counted, dwell_s

logger = logging.getLogger(__name__)

PORT = "stream"
PACKET = 512
"""Bytes of a packet of the USB link behind the stream."""
SWITCH_S = 20e-3
"""The relays of external control take so long."""
DELAY_S = 1 / 48e6
SIXTEEN_BIT, EIGHT_BIT = 0, 1
SLICE_WALL_S = 0.02
"""Pixels are made for about so long at once, in wall time."""
MOST_AT_ONCE = 1 << 18
PREPARE_S = 15.0
"""Wall seconds that opening waits for what draws images; it takes one, and ten once on a machine."""


def serve(
    context: FarEndContext,
    *,
    detector: str = "haadf",
    full_scale: str = "400 nm",
    codes_per_count: float = 16.0,
    dark_codes: int = 20,
    faults: Mapping[str, float] | None = None,
) -> FarEnd:
    """Listen on port ``stream``: the entry point ``open_beam_interface`` of ``hotstage.wires``.

    Args:
        context: the station's simulation and clock.
        detector: of the simulation, that the only ADC is connected to.
        full_scale: width of the field that the whole range of the DAC scans.
        codes_per_count: of the ADC, for a count of the detector in a microsecond.
        dark_codes: of the ADC without any beam.
        faults: shares of replies that go wrong, by fault.

    Raises:
        TypeError, ValueError: an option cannot be used.
        OSError: the port cannot be had.
    """
    context.expect(PORT)
    behind = simulation(context)
    scan = behind.instruments["scan"]
    if not isinstance(scan, SimulatedScan):
        raise ValueError("the simulation has no scan.")
    if detector not in scan.describe().detectors:
        known = ", ".join(scan.describe().detectors)
        raise ValueError(f"detector = {detector!r} refused: there are {known}.")
    if behind.world.prepared is not None:
        # a client waits for a pixel as long as a pixel takes, not until what draws it was compiled
        behind.world.prepared.wait(PREPARE_S)
    device = ObiDevice(
        behind.world,
        scan,
        detector,
        options.quantity("full_scale", full_scale, "nm", 20, 1600),
        options.number("codes_per_count", codes_per_count, 1e-3, 1e4),
        round(options.number("dark_codes", dark_codes, 0, HIGHEST)),
    )
    made = fault_options.from_options(faults, behind.world.seed)
    return OpenBeamEnd(context, device, made)


class OpenBeamEnd:
    """The listening far end."""

    def __init__(self, context: FarEndContext, device: ObiDevice, faults: Faults) -> None:
        self.faults = faults
        self.device = device
        self._clock = context.clock
        self._closing = context.clock.signal()
        self._one_at_a_time = threading.Lock()
        self._listener = Listener(
            context.where(PORT), self._serve, name=context.name, faults=faults, at_most=1
        )

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of the port ``stream``."""
        return {PORT: self._listener.address}

    def close(self) -> None:
        """End everything; idempotent."""
        self._closing.set()
        self._listener.close()

    def _serve(self, connection: Connection) -> None:
        # the client before may still be on its way out
        with self._one_at_a_time:
            self.device.end()
            _Executor(self.device, connection, self._clock, self._closing).run()


class _Executor:
    """Carries out the commands of one client."""

    def __init__(
        self, device: ObiDevice, connection: Connection, clock: Clock, closing: Signal
    ) -> None:
        self._device = device
        self._connection = connection
        self._clock = clock
        self._closing = closing
        self._mode = SIXTEEN_BIT
        self._out = bytearray()
        self._busy_until_s = clock.now_s()

    def run(self) -> None:
        for command in commands(self._receive):
            self._carry_out(command)

    def _receive(self, count: int) -> bytes:
        """The next bytes; what comes after a pause begins when it comes."""
        starved = not self._connection.peek()
        came = self._connection.receive_exactly(count)
        if starved:
            self._busy_until_s = max(self._busy_until_s, self._clock.now_s())
        return came

    def _carry_out(self, command: Command) -> None:
        fields, device = command.fields, self._device
        match command.type:
            case Type.SYNCHRONIZE:
                self._out += b"\xff\xff" + fields[0].to_bytes(2, "big")
                self._flush()
                self._mode = command.flags >> 1 & 0b11
            case Type.ABORT:
                device.end()
                self._flush()
            case Type.FLUSH:
                self._flush()
            case Type.EXTERNAL_CONTROL:
                self._external(bool(command.flags & 1))
            case Type.BEAM_SELECT:
                self._settle()
                device.select(command.flags & 0b11)
            case Type.BLANK:
                inline = bool(command.flags & 0b10)
                if not inline:
                    self._settle()
                device.blank(bool(command.flags & 1), inline)
            case Type.DELAY:
                self._busy_until_s += fields[0] * DELAY_S
                self._settle()
            case Type.RASTER_REGION:
                x_start, x_count, x_step, y_start, y_count, y_step = fields
                device.begin(
                    Region(
                        x_start & HIGHEST,
                        counted(x_count),
                        x_step,
                        y_start & HIGHEST,
                        counted(y_count),
                        y_step,
                    )
                )
            case Type.RASTER_PIXEL:
                self._raster(1, fields[0])
            case Type.RASTER_PIXEL_RUN:
                self._raster(fields[0] + 1, fields[1])
            case Type.RASTER_PIXEL_FILL:
                self._raster(max(1, device.left), fields[0])
            case Type.RASTER_PIXEL_FREE_RUN:
                self._free_run(fields[0])
            case Type.VECTOR_PIXEL:
                self._vector(fields[0], fields[1], fields[2])
            case Type.VECTOR_PIXEL_MIN_DWELL:
                self._vector(fields[0], fields[1], 0)

    def _external(self, enable: bool) -> None:
        self._settle()
        if enable:
            self._device.control(True)
        self._busy_until_s = self._clock.now_s() + SWITCH_S
        self._settle()
        if not enable:
            self._device.control(False)

    # -------------------------------------------------------------------------- pixels

    def _raster(self, count: int, field: int) -> None:
        lasts_s = dwell_s(field)
        piece = self._at_once(lasts_s)
        while count:
            if not self._device.left:
                self._wait_for_ever()
            taken = min(count, piece, self._device.left)
            codes = self._device.raster(taken, lasts_s, self._keep_going)
            self._give(codes, taken * lasts_s)
            count -= taken

    def _free_run(self, field: int) -> None:
        """Repeat the raster until another command comes."""
        lasts_s = dwell_s(field)
        piece = self._at_once(lasts_s)
        if not self._device.left:
            self._wait_for_ever()
        region = self._device.region
        while not self._connection.peek():
            if not self._device.left and region is not None:
                self._device.begin(region)
            taken = min(piece, self._device.left)
            codes = self._device.raster(taken, lasts_s, self._keep_going)
            self._give(codes, taken * lasts_s)
        self._device.end()

    def _vector(self, x: int, y: int, field: int) -> None:
        lasts_s = dwell_s(field)
        codes = self._device.vector(x & HIGHEST, y & HIGHEST, lasts_s, self._keep_going)
        self._give(codes, lasts_s)

    def _at_once(self, lasts_s: float) -> int:
        return max(1, min(MOST_AT_ONCE, int(SLICE_WALL_S * self._clock.rate / lasts_s)))

    def _give(self, codes: NDArray[np.uint16], lasted_s: float) -> None:
        self._busy_until_s += lasted_s
        if self._mode == SIXTEEN_BIT:
            self._out += (codes << 2).astype(">u2").tobytes()
        elif self._mode == EIGHT_BIT:
            self._out += (codes >> 6).astype(np.uint8).tobytes()
        whole = len(self._out) // PACKET * PACKET
        if whole:
            self._settle()
            self._connection.send(bytes(self._out[:whole]))
            del self._out[:whole]
        elif self._busy_until_s - self._clock.now_s() > SLICE_WALL_S * self._clock.rate:
            self._settle()

    def _flush(self) -> None:
        self._settle()
        if self._out:
            self._connection.send(bytes(self._out))
            self._out.clear()
        # whatever held up the reply: what comes after it comes later
        self._busy_until_s = max(self._busy_until_s, self._clock.now_s())

    # -------------------------------------------------------------------------- waiting

    def _settle(self) -> None:
        """Wait until what was begun has ended; raises ConnectionEnded."""
        while (left_s := self._busy_until_s - self._clock.now_s()) > 0:
            if not self._keep_going():
                raise ConnectionEnded("the client or the far end is gone")
            self._closing.wait(min(left_s, SLICE_WALL_S * self._clock.rate))

    def _wait_for_ever(self) -> None:
        self._flush()
        logger.info("%s: a pixel waits for a region that does not come", self._connection.peer)
        while self._keep_going():
            self._closing.wait(SLICE_WALL_S * self._clock.rate)
        raise ConnectionEnded("the client or the far end is gone")

    def _keep_going(self) -> bool:
        if self._closing.is_set():
            return False
        try:
            self._connection.peek()
        except OSError:
            return False
        return True
