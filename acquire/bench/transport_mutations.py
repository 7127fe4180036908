"""Malformed messages out of valid ones: what a hostile, a broken or a mistaken client may send."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

LONGEST_NOISE = 1 << 14
LONGEST_RUN = 1 << 18
_NUMBER = re.compile(rb"[+-]?\d+\.?\d*(?:[eE][+-]?\d+)?")
_EXTREMES = (b"", b"-1", b"1e999", b"-1e308", b"NaN", b"Infinity", b"9" * 400, b"0x7f", b"null")
_RUNS = (b"\x00", b"\xff", b"A", b"9", b"[", b'{"a":', b";", b"\n", b" ")


def malformed(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """One message: noise, or a valid one spoilt in one to three ways.

    Args:
        chance: decides how.
        sample: a valid message.
        others: of the same protocol, to be mixed with it.
    """
    if not sample or chance.random() < 0.1:
        return noise(chance)
    spoilt = sample
    for _ in range(chance.randrange(1, 4)):
        spoilt = chance.choice(_WAYS)(chance, spoilt, others)
    return spoilt if spoilt != sample else spoilt + noise(chance)


def noise(chance: Random) -> bytes:
    """Random bytes, short ones as often as long ones."""
    exponent = chance.uniform(0, LONGEST_NOISE.bit_length() - 1)
    return chance.randbytes(int(2**exponent))


def _span(chance: Random, of: bytes) -> tuple[int, int]:
    begin = chance.randrange(len(of) + 1)
    return begin, min(len(of), begin + int(2 ** chance.uniform(0, 8)))


def _altered(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    altered = bytearray(sample)
    for _ in range(chance.randrange(1, 5) if altered else 0):
        altered[chance.randrange(len(altered))] = chance.randrange(256)
    return bytes(altered)


def _cut_off(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    return sample[: chance.randrange(len(sample) + 1)]


def _without(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = _span(chance, sample)
    return sample[:begin] + sample[end:]


def _with_noise(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    begin, _ = _span(chance, sample)
    return sample[:begin] + noise(chance) + sample[begin:]


def _repeated(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = _span(chance, sample)
    return sample[:end] + sample[begin:end] * chance.choice((1, 2, 64)) + sample[end:]


def _mixed(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else b""
    begin, _ = _span(chance, sample)
    _, end = _span(chance, other)
    return sample[:begin] + other[end:]


def _extreme_field(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """A binary number that is as large, as small or as negative as it can be."""
    size = chance.choice((1, 2, 4, 8))
    if len(sample) < size:
        return sample
    begin = chance.randrange(len(sample) - size + 1)
    most = (1 << 8 * size) - 1
    value = chance.choice((0, 1, most, most >> 1, (most >> 1) + 1, 1 << chance.randrange(8 * size)))
    field = value.to_bytes(size, chance.choice(("big", "little")))
    return sample[:begin] + field + sample[begin + size :]


def _extreme_text(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """The same for a number that is written in digits."""
    numbers = list(_NUMBER.finditer(sample))
    if not numbers:
        return sample
    found = chance.choice(numbers)
    return sample[: found.start()] + chance.choice(_EXTREMES) + sample[found.end() :]


def _with_run(chance: Random, sample: bytes, others: Sequence[bytes]) -> bytes:
    """A line without an end, or brackets in brackets in brackets."""
    run = chance.choice(_RUNS)
    begin, _ = _span(chance, sample)
    count = int(2 ** chance.uniform(6, LONGEST_RUN.bit_length() - 1)) // len(run)
    return sample[:begin] + run * count + sample[begin:]


_WAYS: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    _altered,
    _altered,
    _cut_off,
    _without,
    _with_noise,
    _repeated,
    _mixed,
    _extreme_field,
    _extreme_text,
    _with_run,
)
