"""Turns the dataclasses, errors and arrays that cross a wire into plain msgpack values and back, strictly.

No pickle and no class names from the wire: the receiver says which type it expects, and anything
that does not fit it exactly is refused.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from acquire.errors import HotstageError, InstrumentError, LinkError, error_types
from acquire.instruments import AnyArray
from acquire.remote.messages import Buffer, Bytes

T = TypeVar("T")
ALIGN = 64
"""Bytes; every array begins at a multiple of it."""
_DTYPE = re.compile(r"[<>|=]?([biufc]\d{1,2}|[SU][1-9]\d{0,5})")
_BUILTIN_ERRORS: dict[str, type[Exception]] = {"KeyError": KeyError}
_PLAIN = (bool, int, float, str, bytes)


# --------------------------------------------------------------------------- plain values


def pack(value: Any) -> Any:
    """A value of None, numbers, strings, bytes, enums, sequences, mappings and dataclasses, as plain.

    Raises:
        LinkError: it holds something else (arrays travel as blobs, see :func:`pack_arrays`).
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return pack(value.item())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: pack(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name_of(key): pack(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [pack(item) for item in value]
    if isinstance(value, str):  # a subclass, which msgpack would refuse
        return str(value)
    raise LinkError(f"a {type(value).__name__} cannot cross the wire as a plain value.")


def name_of(key: Any) -> str:
    """A name, as a string that msgpack knows; raises LinkError for anything else."""
    if not isinstance(key, str):
        raise LinkError(f"the mapping key {key!r} cannot cross the wire: keys must be strings.")
    return str(key)


def unpack(hint: Any, plain: Any) -> Any:
    """The value of type ``hint`` that ``plain`` stands for.

    Raises:
        LinkError: ``plain`` is not exactly that: a wrong type, an unknown or a missing field.
    """
    if hint is Any or hint is object:
        return plain
    if hint is None or hint is type(None):
        return exactly(plain, type(None), hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _unpack_union(args, plain)
    if origin is Literal:
        if plain not in args:
            raise LinkError(f"{short(plain)} came where one of {args} was expected.")
        return plain
    if origin is tuple:
        return _unpack_tuple(args, plain)
    if origin is list:
        return [unpack(args[0], item) for item in exactly(plain, list, hint)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {
            unpack(args[0], key): unpack(args[1], item)
            for key, item in exactly(plain, dict, hint).items()
        }
    if not isinstance(hint, type):
        raise LinkError(f"values of type {hint!r} do not cross the wire.")
    return _unpack_class(hint, plain)


def _unpack_class(hint: type[Any], plain: Any) -> Any:
    if issubclass(hint, Enum):
        try:
            return hint(plain)
        except ValueError as error:
            raise LinkError(f"{short(plain)} is not a {hint.__name__}.") from error
    if is_dataclass(hint):
        return _unpack_dataclass(hint, plain)
    if hint is float and type(plain) is int:
        return float(plain)
    if hint in (bool, int, float, str, bytes, dict, list):
        return exactly(plain, hint, hint)
    raise LinkError(f"values of type {hint.__name__} do not cross the wire.")


def _unpack_union(options: tuple[Any, ...], plain: Any) -> Any:
    for option in options:
        if option is type(plain) or (option is float and type(plain) is int):
            return plain
    for option in options:
        try:
            return unpack(option, plain)
        except LinkError:
            continue
    raise LinkError(f"{short(plain)} came where one of {options} was expected.")


def _unpack_tuple(args: tuple[Any, ...], plain: Any) -> tuple[Any, ...]:
    items = exactly(plain, list, tuple)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(unpack(args[0], item) for item in items)
    if len(items) != len(args):
        raise LinkError(f"{len(items)} values came where {len(args)} were expected.")
    return tuple(unpack(arg, item) for arg, item in zip(args, items, strict=True))


def _unpack_dataclass(cls: type[Any], plain: Any) -> Any:
    given = exactly(plain, dict, cls)
    hints = _hints(cast(Hashable, cls))
    names = [field.name for field in fields(cls)]
    if set(given) != set(names):
        odd = sorted(set(given) ^ set(names), key=str)
        raise LinkError(f"a {cls.__name__} came with missing or unknown fields: {odd}.")
    return cls(**{name: unpack(hints[name], given[name]) for name in names})


def exactly(plain: Any, kind: type[T], hint: Any) -> T:
    """``plain``, if it is of just this type, and of none derived from it; raises LinkError."""
    if type(plain) is not kind:
        wanted = getattr(hint, "__name__", str(hint))
        raise LinkError(f"{short(plain)} came where a {wanted} was expected.")
    return plain


def short(plain: Any) -> str:
    """How something is written, the beginning of it if it is long."""
    text = repr(plain)
    return text if len(text) <= 60 else text[:57] + "…"


@cache
def _hints(thing: Hashable) -> dict[str, Any]:
    return get_type_hints(thing)


@cache
def _parameters(function: Callable[..., Any]) -> tuple[int, tuple[Any, ...]]:
    """How many arguments a method needs, and the types of all that it takes."""
    parameters, hints = list(inspect.signature(function).parameters.values())[1:], _hints(function)
    needed = sum(parameter.default is inspect.Parameter.empty for parameter in parameters)
    return needed, tuple(hints[parameter.name] for parameter in parameters)


def unpack_arguments(function: Callable[..., Any], plain: Sequence[Any]) -> list[Any]:
    """Arguments for a method, by the types that ``function`` (of a protocol class) declares."""
    needed, hints = _parameters(function)
    if not needed <= len(plain) <= len(hints):
        raise LinkError(
            f"{function.__name__} takes {needed} to {len(hints)} arguments, {len(plain)} came."
        )
    return [unpack(hint, item) for hint, item in zip(hints, plain, strict=False)]


def unpack_result(function: Callable[..., Any], plain: Any) -> Any:
    """What a method of a protocol class returned."""
    return unpack(_hints(function)["return"], plain)


# --------------------------------------------------------------------------------- errors


def pack_error(error: BaseException) -> dict[str, Any]:
    """An error in the form in which Pyro5 carries exceptions; foreign ones become InstrumentError."""
    if isinstance(error, HotstageError):
        kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, HotstageError)]
        text = str(error)
    elif type(error).__name__ in _BUILTIN_ERRORS:
        kinds, text = [type(error).__name__], str(error.args[0] if error.args else "")
    else:
        kinds, text = ["InstrumentError"], f"the server failed: {type(error).__name__}: {error}"
    return {
        "__class__": f"acquire.errors.{kinds[0]}",
        "__exception__": True,
        "args": [text],
        "attributes": {"kinds": kinds},
    }


def unpack_error(plain: Any) -> Exception:
    """The error again, as the most derived class that is known here."""
    try:
        text, kinds = str(plain["args"][0]), list(plain["attributes"]["kinds"])
    except (KeyError, IndexError, TypeError):
        return LinkError(f"the server answered with an error that cannot be read: {short(plain)}.")
    known: dict[str, type[Exception]] = {**error_types(), **_BUILTIN_ERRORS}
    for kind in kinds:
        if isinstance(kind, str) and kind in known:
            return known[kind](text)
    return InstrumentError(text)


# --------------------------------------------------------------------------------- arrays


def pack_arrays(arrays: Mapping[str, AnyArray]) -> tuple[list[Any], list[Buffer]]:
    """Named arrays, of numbers or fixed-size strings, as a table (name, dtype, shape, offset) and its blobs."""
    table: list[Any] = []
    blobs: list[Buffer] = []
    offset = 0
    for name, array in arrays.items():
        table.append(array_row(name, array, offset))
        if array.nbytes:
            blobs.append(memory_of(array))
        pad = -array.nbytes % ALIGN
        if pad:
            blobs.append(bytes(pad))
        offset += array.nbytes + pad
    return table, blobs


def unpack_arrays(table: Any, buffer: Bytes) -> dict[str, AnyArray]:
    """The arrays of :func:`pack_arrays` as read-only views of ``buffer``."""
    found: dict[str, AnyArray] = {}
    for row in map(ArrayRow.read, exactly(table, list, list)):
        if row.end > buffer.nbytes:
            raise LinkError(
                f"array {row.name!r} needs bytes {row.start} to {row.end}, {buffer.nbytes} came."
            )
        array = row.of(buffer[row.start : row.end])
        array.setflags(write=False)
        found[row.name] = array
    return found


def array_row(name: Any, array: AnyArray, offset: int) -> list[Any]:
    """The line of a table for an array whose bytes begin at ``offset``."""
    if not _DTYPE.fullmatch(array.dtype.str):
        raise LinkError(f"array {name!r} of dtype {array.dtype} cannot cross the wire.")
    return [name_of(name), array.dtype.str, list(array.shape), offset]


def memory_of(array: AnyArray) -> memoryview:
    """The bytes of an array that has some, copied only if they do not lie in one piece."""
    try:
        return array.data.cast("B")
    except (TypeError, ValueError):  # in pieces, strings, or numbers that are not the machine's
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class ArrayRow(NamedTuple):
    """A line of a table of arrays, looked at."""

    name: str
    dtype: np.dtype[Any]
    shape: list[int]
    start: int
    end: int

    @classmethod
    def read(cls, plain: Any) -> ArrayRow:
        """A line as it came; raises LinkError."""
        if type(plain) is list and len(plain) == 4:
            name, text, shape, offset = plain
            if (type(name), type(text), type(shape)) == (str, str, list) and all(
                type(n) is int and n >= 0 for n in (*shape, offset)
            ):
                dtype = _dtype(text)
                return cls(name, dtype, shape, offset, offset + math.prod(shape) * dtype.itemsize)
        raise LinkError(
            f"{short(plain)} came where an array's name, dtype, shape and place should be."
        )

    def of(self, memory: Bytes) -> AnyArray:
        """The array that ``memory``, shape (…, end - start), is, without a copy; shape (…, *shape)."""
        try:
            return memory.view(self.dtype).reshape(*memory.shape[:-1], *self.shape)
        except (ValueError, OverflowError) as error:  # too many dimensions, or too long ones
            raise LinkError(f"array {self.name!r} came with a shape that cannot be.") from error


@lru_cache(maxsize=64)
def _dtype(text: str) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(text):
        raise LinkError(f"an array came with dtype {text!r}.")
    try:
        return np.dtype(text)
    except TypeError as error:
        raise LinkError(f"an array came with dtype {text!r}.") from error
