"""Compressed images come out as they went in, and what is no image is refused before any is made."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from drivers.links import MalformedReply
from drivers.spectrometers.simplon_codecs import unpack
from simulators.wires import simplon_codecs


@pytest.mark.parametrize("algorithm", ["lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
@given(
    count=some.integers(1, 20_000), highest=some.sampled_from([1, 40, 250]), seed=some.integers(0)
)
def test_what_a_detector_packs_is_unpacked(
    algorithm: str, dtype: str, count: int, highest: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, highest, count).astype(dtype)
    packed = getattr(simplon_codecs, algorithm)(image)
    assert unpack(packed, algorithm, image.itemsize, image.nbytes) == image.tobytes()


def test_a_block_that_is_worked_out_by_hand_is_straightened() -> None:
    # eight pixels of 16 bits, all 0x0102: of the 16 planes only the second (0x02) and ninth (0x01) are set
    planes = bytes([0, 255, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0])
    block = simplon_codecs.lz4_block(planes)
    packed = struct.pack(">QII", 16, 8192, len(block)) + block
    assert unpack(packed, "bslz4", 2, 16) == np.full(8, 0x0102, "<u2").tobytes()


@given(
    junk=some.binary(max_size=60),
    algorithm=some.sampled_from(["lz4", "bslz4", "zip"]),
    said=some.sampled_from([64, 1 << 40]),
)
def test_garbage_is_refused(junk: bytes, algorithm: str, said: int) -> None:
    for packed in (junk, struct.pack(">QI", said, 8192) + junk):
        try:
            assert len(unpack(packed, algorithm, 4, 64)) == 64
        except MalformedReply:
            continue
