"""Modbus on a link: RTU over a serial line or over TCP, and Modbus TCP; frames are made and checked by pymodbus.

pymodbus's own clients repeat requests and may take a late reply of the right length for the present
one, since RTU has no message numbers. So only its frames and messages are used, and
:class:`drivers.links.Link` carries them: one request, one reply, and a new connection after anything
else.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pymodbus.exceptions import ModbusException
from pymodbus.framer.base import FramerBase
from pymodbus.framer.rtu import FramerRTU
from pymodbus.framer.socket import FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    WriteMultipleRegistersRequest,
)

from acquire.errors import InstrumentError
from drivers.links import (
    Link,
    MalformedReply,
    TcpTransport,
    Transport,
    Wire,
    check_line,
    open_line,
    parse_address,
)

T = TypeVar("T")
REPLY_S = 1.0
"""Wall seconds for one exchange, which may be several requests."""
CONNECT_S = 2.0
MODBUS_TCP = "tcp://"
_NETWORK = (MODBUS_TCP, "socket://", "rfc2217://")
QUIET_S = 0.03
_BITS_PER_BYTE = 11
_FRAME_GAP_BYTES = 3.5
_MEANINGS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    6: "device busy",
}


class ModbusRefusal(InstrumentError):
    """The device answered a request by an exception; nothing was changed."""


class ModbusDevice:
    """One device on a Modbus line.

    Args:
        port: ``COM3``, ``/dev/ttyUSB0``, ``rfc2217://…`` (RTU), ``HOST:PORT`` or
            ``socket://HOST:PORT`` (RTU framing over TCP), ``tcp://HOST:PORT`` (Modbus TCP).
        unit: the device's address, 1 to 247.
        what: the device's part, for messages.
        baud_rate: of a serial line, 8 data bits, no parity, one stop bit.
        greet: the first exchange of every connection.

    Raises:
        ValueError: an option cannot be used.
    """

    def __init__(
        self, port: str, unit: int, what: str, baud_rate: int, greet: Callable[[Wire], None]
    ) -> None:
        tcp = port.startswith(MODBUS_TCP)
        if tcp:
            parse_address(port.removeprefix(MODBUS_TCP))
        else:
            check_line(port)
        if isinstance(unit, bool) or not isinstance(unit, int) or not 1 <= unit <= 247:
            raise ValueError(f"unit {unit!r} refused: choose the device's address, 1 to 247.")
        if isinstance(baud_rate, bool) or not 300 <= baud_rate <= 115200:
            raise ValueError(f"baud_rate {baud_rate!r} refused: choose 300 to 115200.")
        decoder = DecodePDU(False)
        self._framer: FramerBase = FramerSocket(decoder) if tcp else FramerRTU(decoder)
        self._tcp = tcp
        self._unit = unit
        self._numbers = itertools.cycle(range(1, 1 << 16))
        serial = not port.startswith(_NETWORK) and ":" not in port
        self._gap_s = _FRAME_GAP_BYTES * _BITS_PER_BYTE / baud_rate if serial else 0.0
        self.what = f"{what} at {port}, unit {unit}"

        def connect(deadline: float) -> Transport:
            if tcp:
                return TcpTransport(port.removeprefix(MODBUS_TCP), deadline)
            return open_line(port, deadline, baudrate=baud_rate)

        def greeting(wire: Wire) -> None:
            wire.quiet(QUIET_S)  # what an older connection asked for
            greet(wire)

        self.link = Link(
            connect,
            what=self.what,
            mend="Is the device switched on, its cable plugged, its address and baud rate as in the "
            "station file?",
            greet=greeting,
            connect_s=CONNECT_S,
        )

    def talk(self, exchange: Callable[[Wire], T], doing: str) -> T:
        """Carry out an exchange; raises LinkError, InstrumentError."""
        return self.link.talk(exchange, within_s=REPLY_S, doing=doing)

    # ------------------------------------------------------------------ within an exchange

    def read(self, wire: Wire, address: int, count: int = 1) -> list[int]:
        """Holding registers; raises ModbusRefusal."""
        reply = self._ask(wire, ReadHoldingRegistersRequest(address=address, count=count))
        if len(reply.registers) != count:
            raise MalformedReply(
                f"{count} registers from {address} were asked for; {len(reply.registers)} came."
            )
        return [int(register) for register in reply.registers]

    def write(self, wire: Wire, address: int, registers: Sequence[int]) -> None:
        """Set holding registers; raises ModbusRefusal."""
        reply = self._ask(
            wire, WriteMultipleRegistersRequest(address=address, registers=list(registers))
        )
        if (reply.address, reply.count) != (address, len(registers)):
            raise MalformedReply(
                f"{len(registers)} registers from {address} were written; the reply is about "
                f"{reply.count} from {reply.address}."
            )

    def _ask(self, wire: Wire, request: ModbusPDU) -> ModbusPDU:
        request.dev_id = self._unit
        request.transaction_id = next(self._numbers) if self._tcp else 0
        if self._gap_s:
            time.sleep(self._gap_s)
        wire.send(self._framer.buildFrame(request))
        frame = self._receive_tcp(wire) if self._tcp else self._receive_rtu(wire)
        try:
            _, reply = self._framer.handleFrame(frame, self._unit, request.transaction_id)
        except (ModbusException, ValueError, IndexError, struct.error) as error:
            raise MalformedReply(f"{frame.hex(' ')} came: {error}.") from error
        if reply is None:
            raise MalformedReply(
                f"{frame.hex(' ')} came: a wrong check sum, device or message number."
            )
        if isinstance(reply, ExceptionResponse):
            if reply.function_code & 0x7F != request.function_code:
                raise MalformedReply(f"an exception to another function came: {frame.hex(' ')}.")
            meaning = _MEANINGS.get(reply.exception_code, "unknown exception")
            raise ModbusRefusal(
                f"{self.what} refused function {request.function_code} at register {request.address}: "
                f"{meaning} ({reply.exception_code})."
            )
        if reply.function_code != request.function_code:
            raise MalformedReply(
                f"function {request.function_code} was asked for; {reply.function_code} was answered."
            )
        return reply

    def _receive_rtu(self, wire: Wire) -> bytes:
        head = wire.receive(3)
        function = head[1]
        if function & 0x80:
            return head + wire.receive(2)
        if function == ReadHoldingRegistersRequest.function_code:
            return head + wire.receive(head[2] + 2)
        if function == WriteMultipleRegistersRequest.function_code:
            return head + wire.receive(5)
        raise MalformedReply(f"{head.hex(' ')} came: no function that was asked for.")

    def _receive_tcp(self, wire: Wire) -> bytes:
        head = wire.receive(6)
        protocol, length = struct.unpack(">HH", head[2:])
        if protocol != 0 or not 3 <= length <= 254:
            raise MalformedReply(f"{head.hex(' ')} came: no Modbus TCP header.")
        return head + wire.receive(length)
