"""The packets of the SerialEMCCD socket: functions with their numbers of arguments, reading, writing, codes.

Everything is little-endian. A packet is an int32 with the number of all its bytes, the int32 function
code (in replies: the return value), further int32s, int32 booleans, float64s, and for some functions
an array of int32s whose length is the last of the int32s; strings are packed into such arrays with a
NUL at their end. Source: mastcu/SerialEMCCD, ``SocketPathway.cpp`` (``sFuncTable``) and
``SEMCCDDefines.h``, plugin version 120.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

T = TypeVar("T")

PLUGIN_VERSION = 120
LONGEST_CHUNK = 33_554_432
"""An image is sent in chunks of at most so many bytes, with a handshake before each but the first."""
LONGEST_PACKET = 1 << 20
"""More than any request needs; the plugin itself takes what it finds memory for."""


class Function(IntEnum):
    """Codes of the functions that the far end answers or at least knows."""

    EXECUTE_SCRIPT = 1
    SET_DEBUG_MODE = 2
    SET_DM_VERSION = 3
    SET_CURRENT_CAMERA = 4
    QUEUE_SCRIPT = 5
    GET_ACQUIRED_IMAGE = 6
    GET_DARK_REFERENCE = 7
    GET_GAIN_REFERENCE = 8
    SELECT_CAMERA = 9
    SET_READ_MODE = 10
    GET_NUMBER_OF_CAMERAS = 11
    IS_CAMERA_INSERTED = 12
    INSERT_CAMERA = 13
    GET_DM_VERSION = 14
    GET_DM_CAPABILITIES = 15
    SET_SHUTTER_NORMALLY_CLOSED = 16
    SET_NO_DM_SETTLING = 17
    GET_DS_PROPERTIES = 18
    ACQUIRE_DS_IMAGE = 19
    RETURN_DS_CHANNEL = 20
    STOP_DS_ACQUISITION = 21
    CHECK_REFERENCE_TIME = 22
    SET_K2_PARAMETERS = 23
    CHUNK_HANDSHAKE = 24
    SETUP_FILE_SAVING = 25
    GET_FILE_SAVE_RESULT = 26
    SETUP_FILE_SAVING_2 = 27
    GET_DEFECT_LIST = 28
    SET_K2_PARAMETERS_2 = 29
    STOP_CONTINUOUS_CAMERA = 30
    GET_PLUGIN_VERSION = 31
    GET_LAST_ERROR = 32
    FREE_K2_GAIN_REFERENCE = 33
    IS_GPU_AVAILABLE = 34
    SETUP_FRAME_ALIGNING = 35
    FRAME_ALIGN_RESULTS = 36
    RETURN_DEFERRED_SUM = 37
    MAKE_ALIGN_COM_FILE = 38
    WAIT_UNTIL_READY = 39
    GET_LAST_DOSE_RATE = 40
    SAVE_FRAME_MDOC = 41
    GET_DM_VERSION_AND_BUILD = 42
    GET_TILT_SUM_PROPERTIES = 43


class Refusal(IntEnum):
    """Negative return values: the packet itself was wrong; nothing else is sent with them."""

    UNKNOWN_FUNCTION = -1
    EXCEPTION = -2
    REPLY_TOO_BIG = -3
    TOO_SHORT = -4
    TOO_LONG = -5
    WRONG_LENGTH = -6


class Failure(IntEnum):
    """Positive return values: the function was called and failed."""

    SCRIPT = 1
    """Of ExecuteScript and of questions, which have no other code."""
    DM_CALL_EXCEPTION = 3
    CONTINUOUS_ENDED = 22
    GENERAL_SCRIPT_ERROR = 26
    DS_CHANNEL_NOT_ACQUIRED = 28
    NO_DEFERRED_SUM = 29
    NO_GPU_AVAILABLE = 30


@dataclass(frozen=True, slots=True)
class Arity:
    """How many longs, booleans and doubles come in and go out, function code and return value aside."""

    longs_in: int = 0
    bools_in: int = 0
    doubles_in: int = 0
    longs_out: int = 0
    bools_out: int = 0
    doubles_out: int = 0
    array_in: bool = False


ARITIES: dict[Function, Arity] = {
    Function.EXECUTE_SCRIPT: Arity(1, 1, 0, 0, 0, 1, True),
    Function.SET_DEBUG_MODE: Arity(1),
    Function.SET_DM_VERSION: Arity(1),
    Function.SET_CURRENT_CAMERA: Arity(1),
    Function.QUEUE_SCRIPT: Arity(1, array_in=True),
    Function.GET_ACQUIRED_IMAGE: Arity(13, 0, 2, 4),
    Function.GET_DARK_REFERENCE: Arity(11, 0, 2, 4),
    Function.GET_GAIN_REFERENCE: Arity(4, 0, 0, 4),
    Function.SELECT_CAMERA: Arity(1),
    Function.SET_READ_MODE: Arity(1, 0, 1),
    Function.GET_NUMBER_OF_CAMERAS: Arity(longs_out=1),
    Function.IS_CAMERA_INSERTED: Arity(1, bools_out=1),
    Function.INSERT_CAMERA: Arity(1, 1),
    Function.GET_DM_VERSION: Arity(longs_out=1),
    Function.GET_DM_CAPABILITIES: Arity(bools_out=3),
    Function.SET_SHUTTER_NORMALLY_CLOSED: Arity(2),
    Function.SET_NO_DM_SETTLING: Arity(1),
    Function.GET_DS_PROPERTIES: Arity(1, 0, 2, 1, 0, 3),
    Function.ACQUIRE_DS_IMAGE: Arity(7, 0, 2, 4, array_in=True),
    Function.RETURN_DS_CHANNEL: Arity(5, 0, 0, 4),
    Function.STOP_DS_ACQUISITION: Arity(),
    Function.CHECK_REFERENCE_TIME: Arity(1, 0, 0, 2, array_in=True),
    Function.SET_K2_PARAMETERS: Arity(3, 3, 2, array_in=True),
    Function.SETUP_FILE_SAVING: Arity(2, 1, 1, 1, array_in=True),
    Function.GET_FILE_SAVE_RESULT: Arity(longs_out=2),
    Function.SETUP_FILE_SAVING_2: Arity(3, 1, 5, 1, array_in=True),
    Function.GET_DEFECT_LIST: Arity(1, longs_out=4),
    Function.SET_K2_PARAMETERS_2: Arity(5, 3, 6, array_in=True),
    Function.STOP_CONTINUOUS_CAMERA: Arity(),
    Function.GET_PLUGIN_VERSION: Arity(longs_out=1),
    Function.GET_LAST_ERROR: Arity(longs_out=1),
    Function.FREE_K2_GAIN_REFERENCE: Arity(1),
    Function.IS_GPU_AVAILABLE: Arity(1, 0, 0, 1, 0, 1),
    Function.SETUP_FRAME_ALIGNING: Arity(12, 0, 8, 1, array_in=True),
    Function.FRAME_ALIGN_RESULTS: Arity(longs_out=5, doubles_out=8),
    Function.RETURN_DEFERRED_SUM: Arity(3, longs_out=4),
    Function.MAKE_ALIGN_COM_FILE: Arity(3, 0, 2, 1, array_in=True),
    Function.WAIT_UNTIL_READY: Arity(1),
    Function.GET_LAST_DOSE_RATE: Arity(doubles_out=1),
    Function.SAVE_FRAME_MDOC: Arity(2, array_in=True),
    Function.GET_DM_VERSION_AND_BUILD: Arity(longs_out=2),
    Function.GET_TILT_SUM_PROPERTIES: Arity(longs_out=5, doubles_out=3),
}
"""``sFuncTable``; a handshake is no function that can be called."""


class BadPacket(Exception):
    """A packet that is answered with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Request:
    """A call that was understood."""

    function: Function
    longs: tuple[int, ...]
    bools: tuple[bool, ...]
    doubles: tuple[float, ...]
    array: bytes
    """Of int32s or a string; empty if there is none."""

    @property
    def text(self) -> str:
        """The array as the string in it, up to its first NUL."""
        return self.array.split(b"\0", 1)[0].decode("latin-1")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The array as int32s."""
        return struct.unpack(f"<{len(self.array) // 4}i", self.array)


@dataclass(frozen=True, slots=True)
class Reply:
    """A return value and, unless it is negative, results; missing ones are 0."""

    value: int = 0
    longs: tuple[int, ...] = ()
    bools: tuple[bool, ...] = ()
    doubles: tuple[float, ...] = ()
    image: memoryview | None = None
    """Bytes of an image that follows the packet in chunks, if the value is 0."""


def unpack(packet: bytes) -> Request:
    """A request from the bytes of its packet, the leading count included; raises BadPacket."""
    if len(packet) < 8:
        raise BadPacket(Refusal.TOO_SHORT)
    code = struct.unpack_from("<i", packet, 4)[0]
    try:
        function = Function(code)
        arity = ARITIES[function]
    except (ValueError, KeyError):
        raise BadPacket(Refusal.UNKNOWN_FUNCTION) from None
    layout = f"<{arity.longs_in}i{arity.bools_in}i{arity.doubles_in}d"
    needed = 8 + struct.calcsize(layout)
    if len(packet) < needed:
        raise BadPacket(Refusal.TOO_SHORT)
    values = struct.unpack_from(layout, packet, 8)
    longs = values[: arity.longs_in]
    count = longs[-1] if arity.array_in else 0
    if len(packet) != needed + 4 * count:
        raise BadPacket(Refusal.WRONG_LENGTH)
    bools = values[arity.longs_in : arity.longs_in + arity.bools_in]
    doubles = values[arity.longs_in + arity.bools_in :]
    return Request(function, longs, tuple(bool(b) for b in bools), doubles, packet[needed:])


def pack(function: Function | None, reply: Reply) -> bytes:
    """The packet of a reply; of one with a negative value only the value."""
    if reply.value < 0 or function is None:
        return struct.pack("<ii", 8, reply.value)
    arity = ARITIES[function]
    body = struct.pack(
        f"<i{arity.longs_out}i{arity.bools_out}i{arity.doubles_out}d",
        reply.value,
        *_filled(reply.longs, arity.longs_out, 0),
        *_filled(reply.bools, arity.bools_out, False),
        *_filled(reply.doubles, arity.doubles_out, 0.0),
    )
    return struct.pack("<i", 4 + len(body)) + body


def chunk_lengths(size: int) -> list[int]:
    """Into what lengths the bytes of an image are cut: as few chunks as fit, all but the last alike."""
    number = -(-size // LONGEST_CHUNK)
    if number == 0:
        return []
    length = -(-size // number)
    return [min(length, size - begin) for begin in range(0, size, length)]


def is_handshake(packet: bytes) -> bool:
    """Whether 8 bytes acknowledge a chunk."""
    return packet == struct.pack("<ii", 8, Function.CHUNK_HANDSHAKE)


def _filled(values: tuple[T, ...], count: int, default: T) -> tuple[T, ...]:
    if len(values) > count:
        raise ValueError(f"{len(values)} results, the function has {count}")
    return values + (default,) * (count - len(values))
