"""Packets of the SerialEMCCD plug-in: functions and their arity, return codes, texts, chunked images.

Sources and what is verified of them: :mod:`drivers.serialemccd`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import InstrumentError
from drivers.links import MalformedReply, Wire

CHUNK_BYTES = 33_554_432
"""Images come in equal chunks of at most so many bytes."""
CONTINUOUS_ENDED = 22
_WORD = struct.Struct("<i")


class Function(IntEnum):
    """Codes of the functions that are used here."""

    EXECUTE_SCRIPT = 1
    GET_ACQUIRED_IMAGE = 6
    GET_DARK_REFERENCE = 7
    SELECT_CAMERA = 9
    GET_NUMBER_OF_CAMERAS = 11
    IS_CAMERA_INSERTED = 12
    GET_DM_VERSION = 14
    GET_DS_PROPERTIES = 18
    ACQUIRE_DS_IMAGE = 19
    RETURN_DS_CHANNEL = 20
    STOP_DS_ACQUISITION = 21
    CHUNK_HANDSHAKE = 24


@dataclass(frozen=True, slots=True)
class Arity:
    """How many numbers of each kind a reply holds, its return value left out."""

    longs: int = 0
    bools: int = 0
    doubles: int = 0

    @property
    def size(self) -> int:
        """Bytes of the whole reply."""
        return 4 + 4 * (1 + self.longs + self.bools) + 8 * self.doubles


_IMAGE = Arity(longs=4)
REPLIES: Mapping[Function, Arity] = MappingProxyType(
    {
        Function.EXECUTE_SCRIPT: Arity(doubles=1),
        Function.GET_ACQUIRED_IMAGE: _IMAGE,
        Function.GET_DARK_REFERENCE: _IMAGE,
        Function.SELECT_CAMERA: Arity(),
        Function.GET_NUMBER_OF_CAMERAS: Arity(longs=1),
        Function.IS_CAMERA_INSERTED: Arity(bools=1),
        Function.GET_DM_VERSION: Arity(longs=1),
        Function.GET_DS_PROPERTIES: Arity(longs=1, doubles=3),
        Function.ACQUIRE_DS_IMAGE: _IMAGE,
        Function.RETURN_DS_CHANNEL: _IMAGE,
        Function.STOP_DS_ACQUISITION: Arity(),
    }
)
_ERRORS = MappingProxyType(
    {
        -2: "an exception in the plug-in, often not enough memory",
        -1: "the plug-in does not know this function; it may be too old",
        1: "the script failed, or no image was found",
        2: "wrong type of data",
        3: "DigitalMicrograph raised an exception",
        10: "not enough memory",
        CONTINUOUS_ENDED: "no continuous acquisition runs",
        25: "the script failed",
        26: "the script failed",
        28: "this channel was not acquired",
        51: "no image",
        53: "a view is active; stop it in DigitalMicrograph",
    }
)
# after these the plug-in may have read less or more than was sent
_OUT_OF_STEP = (-6, -5, -4, -3)


class Refusal(InstrumentError):
    """A complete reply that says no."""

    def __init__(self, function: Function, code: int) -> None:
        words = _ERRORS.get(code, "see SEMCCDDefines.h")
        super().__init__(
            f"DigitalMicrograph refused {function.name.lower()} with code {code}: {words}."
        )
        self.code = code


@dataclass(frozen=True, slots=True)
class Reply:
    """The numbers of a reply."""

    longs: tuple[int, ...]
    bools: tuple[bool, ...]
    doubles: tuple[float, ...]


def pack(
    function: int,
    longs: Sequence[int] = (),
    bools: Sequence[bool] = (),
    doubles: Sequence[float] = (),
    array: bytes = b"",
) -> bytes:
    """A packet: byte count, function, longs, booleans, doubles, array; all little-endian.

    ``array`` is a whole number of 4-byte words, whose number the last long must say.
    """
    body = struct.pack(
        f"<i{len(longs)}i{len(bools)}i{len(doubles)}d",
        function,
        *longs,
        *(int(value) for value in bools),
        *doubles,
    )
    return _WORD.pack(4 + len(body) + len(array)) + body + array


def text_words(text: str) -> bytes:
    """A text as the plug-in takes it: ended by a zero, filled with zeros to whole words."""
    raw = text.encode("ascii")
    return raw + bytes(4 - len(raw) % 4)


def read_reply(wire: Wire, function: Function) -> Reply:
    """Receive the reply to a function.

    Raises:
        Refusal: it is complete, and its return value is not 0.
        MalformedReply: it is none that this function has.
    """
    arity = REPLIES[function]
    (size,) = _WORD.unpack(wire.receive(4))
    if size not in (8, arity.size):
        raise MalformedReply(f"a reply of {size} bytes came instead of {arity.size}.")
    (code,) = _WORD.unpack(wire.receive(4))
    if code in _OUT_OF_STEP:
        raise MalformedReply(f"the plug-in says that the request had a wrong length (code {code}).")
    # an emergency code comes alone
    if (size != arity.size and code >= 0) or (size > 8 and code < 0):
        raise MalformedReply(f"return value {code} came in a reply of {size} bytes.")
    counts = (arity.longs, arity.bools, arity.doubles) if code >= 0 else (0, 0, 0)
    rest = struct.Struct("<{}i{}i{}d".format(*counts))
    values: tuple[Any, ...] = rest.unpack(wire.receive(rest.size))
    if code != 0:
        raise Refusal(function, code)
    longs, bools = counts[0], counts[0] + counts[1]
    return Reply(values[:longs], tuple(v != 0 for v in values[longs:bools]), values[bools:])


def read_image(
    wire: Wire,
    function: Function,
    shape: tuple[int, int],
    announced: Callable[[], None] = lambda: None,
) -> NDArray[np.uint16]:
    """Receive an image of (rows, columns), uint16, acknowledging every chunk but the last.

    Raises:
        Refusal: the device gives none.
        InstrumentError: it has another size; it was received all the same.
        MalformedReply: what was announced is no image.
    """
    pixels, columns, rows, chunks = read_reply(wire, function).longs
    announced()
    asked = shape[0] * shape[1]
    if pixels < 1 or pixels > asked or chunks != math.ceil(2 * pixels / CHUNK_BYTES):
        raise MalformedReply(
            f"an image of {pixels} pixels in {chunks} chunks was announced instead of one of "
            f"{asked} pixels."
        )
    image = np.empty(pixels, np.dtype("<u2"))
    view = image.data.cast("B")
    step = math.ceil(len(view) / chunks)
    for begin in range(0, len(view), step):
        wire.receive_into(view[begin : begin + step])
        if begin + step < len(view):
            wire.send(pack(Function.CHUNK_HANDSHAKE))
    if (rows, columns) != shape or pixels != asked:
        raise InstrumentError(
            f"DigitalMicrograph took an image of {columns} × {rows} pixels instead of "
            f"{shape[1]} × {shape[0]}. Ask for a size that the device has."
        )
    return image.reshape(shape)


def script_number(value: float) -> str:
    """A number as DM script reads it, without an exponent; small enough steps for nanometres in metres."""
    return f"{value:.15f}"
