"""Modbus for far ends: Modbus TCP and RTU framing on byte streams, and the functions of a small device.

Sources: Modbus application protocol V1.1b3 (functions 3, 4, 6, 8, 16, exceptions), Modbus over serial
line V1.02 (RTU frames, CRC, broadcast), Modbus messaging on TCP/IP V1.0b (header). Written without
a Modbus library, so that a driver that uses one is tested against something else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from simulators.wires.listening import Connection, ConnectionEnded

READ_HOLDING, READ_INPUT, WRITE_ONE, DIAGNOSTICS, WRITE_MANY = 3, 4, 6, 8, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
MOST_REGISTERS = 125
BROADCAST = 0
LONGEST_FRAME = 256
SILENCE_S = 0.05
"""Wall seconds without a byte that end an RTU frame; on a real line 3.5 characters."""
_HEADER = struct.Struct(">HHHB")


class ModbusError(Exception):
    """Answered by an exception reply; ``code`` is its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class Registers(Protocol):
    """What a device holds; raises ModbusError."""

    def read(self, address: int, count: int) -> list[int]:
        """Registers as unsigned 16 bit."""

    def write(self, address: int, values: list[int]) -> None:
        """All of them, or none."""


def answer(pdu: bytes, registers: Registers) -> bytes:
    """The reply to a request (both without address and checksum); never raises."""
    function = pdu[0] if pdu else 0
    try:
        return bytes([function]) + _carry_out(function, pdu[1:], registers)
    except ModbusError as error:
        return bytes([function | 0x80, error.code])


def _carry_out(function: int, body: bytes, registers: Registers) -> bytes:
    if function in (READ_HOLDING, READ_INPUT):
        address, count = _words(body, 2)
        if not 1 <= count <= MOST_REGISTERS:
            raise ModbusError(ILLEGAL_VALUE)
        values = registers.read(address, count)
        return struct.pack(f">B{count}H", 2 * count, *values)
    if function == WRITE_ONE:
        address, value = _words(body, 2)
        registers.write(address, [value])
        return body
    if function == WRITE_MANY:
        if len(body) < 5:
            raise ModbusError(ILLEGAL_VALUE)
        address, count, size = struct.unpack(">HHB", body[:5])
        if not 1 <= count <= MOST_REGISTERS - 2 or size != 2 * count or len(body) != 5 + size:
            raise ModbusError(ILLEGAL_VALUE)
        registers.write(address, _words(body[5:], count))
        return body[:4]
    if function == DIAGNOSTICS:
        if _words(body, 2)[0] != 0:
            raise ModbusError(ILLEGAL_VALUE)
        return body  # loopback
    raise ModbusError(ILLEGAL_FUNCTION)


def _words(body: bytes, count: int) -> list[int]:
    if len(body) != 2 * count:
        raise ModbusError(ILLEGAL_VALUE)
    return list(struct.unpack(f">{count}H", body))


# ----------------------------------------------------------------------- Modbus TCP


def serve_tcp(connection: Connection, unit: int, registers: Registers) -> None:
    """Answer one client of Modbus TCP until it leaves; a header that is none ends the connection."""
    while True:
        transaction, protocol, length, to = _HEADER.unpack(connection.receive_exactly(_HEADER.size))
        if protocol != 0 or not 2 <= length <= LONGEST_FRAME:
            raise ConnectionEnded("not Modbus TCP")
        pdu = connection.receive_exactly(length - 1, within_s=2.0)
        if to not in (unit, 0, 0xFF):  # the last two address the device itself
            continue
        reply = answer(pdu, registers)
        connection.send(_HEADER.pack(transaction, 0, len(reply) + 1, to) + reply)


# ------------------------------------------------------------------------------ RTU


def crc(data: bytes) -> bytes:
    """The checksum of an RTU frame, as it is sent: low byte first."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return struct.pack("<H", value)


def serve_rtu(connection: Connection, unit: int, registers: Registers) -> None:
    """Answer one client of RTU on a byte stream; frames that are none are passed over in silence."""
    while True:
        frame = receive_frame(connection.peek, connection.drop)
        if frame is None or frame[0] not in (unit, BROADCAST):
            continue
        reply = answer(frame[1:-2], registers)
        if frame[0] != BROADCAST:
            reply = bytes([unit]) + reply
            connection.send(reply + crc(reply))


def receive_frame(peek: Callable[[float], bytes], drop: Callable[[int], None]) -> bytes | None:
    """The next request with its checksum; None when what came was none.

    A frame ends at its length or, if its function is not known, with silence. After a wrong checksum
    everything up to the next silence is lost, as on a serial line.
    """
    held = peek(0.0) or peek(SILENCE_S)
    if not held:
        return None
    while True:
        length = _length(held)
        if length is not None and len(held) >= length:
            frame = held[:length]
            if crc(frame[:-2]) == frame[-2:]:
                drop(length)
                return frame
            length = None  # wait for silence, and forget
        known = len(held)
        if known <= LONGEST_FRAME:
            held = peek(SILENCE_S)
            if len(held) > known:
                continue
        drop(len(held))
        if 4 <= known <= LONGEST_FRAME and crc(held[:-2]) == held[-2:]:
            return held
        return None


def _length(held: bytes) -> int | None:
    """Length of a request by its first bytes; None if it cannot be told (yet)."""
    if len(held) < 2:
        return None
    if held[1] in (READ_HOLDING, READ_INPUT, WRITE_ONE, DIAGNOSTICS):
        return 8
    if held[1] == WRITE_MANY and len(held) >= 7:
        return 9 + held[6]
    return None
