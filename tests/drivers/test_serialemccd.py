"""Packets, replies and images of the SerialEMCCD socket, and the link to it."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LinkError
from drivers.links import ExchangeCut, MalformedReply, Wire
from drivers.serialemccd import Emccd
from drivers.serialemccd_packets import (
    CHUNK_BYTES,
    Function,
    Refusal,
    pack,
    read_image,
    read_reply,
    text_words,
)
from tests.drivers.emccd_double import EmccdDouble, picture


class Canned:
    """A transport that has received all it ever will, in pieces; then its peer is gone."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self._data = memoryview(data)
        self._piece = piece
        self.sent = bytearray()

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        self.sent += data

    def receive(self, into: memoryview, deadline: float) -> int:
        count = min(len(into), self._piece, len(self._data))
        if not count:
            raise ConnectionError("the peer is gone")
        into[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def close(self) -> None:
        pass


def wire(data: bytes, piece: int = 1 << 20) -> Wire:
    return Wire(Canned(data, piece), time.monotonic() + 5.0)


# ----------------------------------------------------------------------- golden bytes


def test_a_packet_is_size_function_longs_booleans_doubles_and_words() -> None:
    packet = pack(19, (6, 3, 2, 18, 0, 0, 2), (), (0.5, 2.0), struct.pack("<2i", 0, 1))
    assert packet.hex(" ", 4) == (
        "3c000000 13000000 06000000 03000000 02000000 12000000 00000000 00000000 02000000 "
        "00000000 0000e03f 00000000 00000040 00000000 01000000"
    )


def test_a_handshake_has_eight_bytes() -> None:
    assert pack(Function.CHUNK_HANDSHAKE).hex() == "0800000018000000"


@pytest.mark.parametrize(("text", "size"), [("", 4), ("abc", 4), ("abcd", 8), ("abcde", 8)])
def test_a_text_ends_with_a_zero_and_fills_words(text: str, size: int) -> None:
    words = text_words(text)
    assert len(words) == size
    assert words.rstrip(b"\0").decode() == text
    assert words[-1] == 0


def test_the_value_of_a_script_is_a_double_after_the_return_value() -> None:
    reply = bytes.fromhex("10000000 00000000 0000000000004540")
    assert read_reply(wire(reply), Function.EXECUTE_SCRIPT).doubles == (42.0,)


def test_all_kinds_of_numbers_are_read_in_their_order() -> None:
    raw = struct.pack("<iiiddd", 36, 0, 1, 400.0, 50.0, -3.5)
    found = read_reply(wire(raw, piece=1), Function.GET_DS_PROPERTIES)
    assert (found.longs, found.bools, found.doubles) == ((1,), (), (400.0, 50.0, -3.5))
    inserted = read_reply(wire(struct.pack("<iii", 12, 0, 1)), Function.IS_CAMERA_INSERTED)
    assert inserted.bools == (True,)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (struct.pack("<ii", 8, -1), -1),
        (struct.pack("<ii", 8, -2), -2),
        (struct.pack("<iid", 16, 1, 0.0), 1),
    ],
)
def test_a_return_value_other_than_zero_is_a_refusal_that_names_it(raw: bytes, code: int) -> None:
    with pytest.raises(Refusal, match=rf"code {code}:") as refused:
        read_reply(wire(raw), Function.EXECUTE_SCRIPT)
    assert refused.value.code == code


@pytest.mark.parametrize("code", [-3, -4, -5, -6])
def test_after_a_wrong_length_the_stream_is_not_trusted(code: int) -> None:
    with pytest.raises(MalformedReply):
        read_reply(wire(struct.pack("<ii", 8, code)), Function.EXECUTE_SCRIPT)


@pytest.mark.parametrize("function", list(Function)[:-1])
@settings(deadline=None)
@given(raw=st.binary(max_size=64))
def test_whatever_comes_is_a_reply_or_an_error(function: Function, raw: bytes) -> None:
    try:
        read_reply(wire(raw), function)
    except (InstrumentError, OSError):
        return
    (size,) = struct.unpack_from("<i", raw)
    assert size <= len(raw)
    assert raw[4:8] == bytes(4)


@settings(deadline=None)
@given(
    size=st.integers(-(2**31), 2**31 - 1),
    code=st.sampled_from([0, 0, 1, -1]),
    numbers=st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4),
)
def test_an_announcement_that_cannot_be_right_allocates_nothing(
    size: int, code: int, numbers: tuple[int, int, int, int]
) -> None:
    raw = struct.pack("<ii4i", size, code, *numbers)
    with pytest.raises((InstrumentError, OSError)):
        read_image(wire(raw), Function.RETURN_DS_CHANNEL, (4, 4))


def test_an_image_in_two_chunks_is_acknowledged_once() -> None:
    shape = (4097, 4096)
    pixels = shape[0] * shape[1]
    image = np.arange(pixels, dtype="<u2").reshape(shape)
    assert image.nbytes > CHUNK_BYTES
    canned = Canned(struct.pack("<6i", 24, 0, pixels, 4096, 4097, 2) + image.tobytes())
    got = read_image(Wire(canned, time.monotonic() + 10), Function.RETURN_DS_CHANNEL, shape)
    assert np.array_equal(got, image)
    assert bytes(canned.sent) == pack(Function.CHUNK_HANDSHAKE)


def test_an_image_of_another_size_is_received_and_refused() -> None:
    canned = Canned(struct.pack("<6i", 24, 0, 6, 3, 2, 1) + bytes(12) + b"next")
    got = Wire(canned, time.monotonic() + 1)
    with pytest.raises(InstrumentError, match="3 × 2 pixels instead of 4 × 4"):
        read_image(got, Function.ACQUIRE_DS_IMAGE, (4, 4))
    assert got.receive(4) == b"next"


def test_an_image_that_stops_half_way_is_an_error() -> None:
    raw = struct.pack("<6i", 24, 0, 16, 4, 4, 1) + bytes(31)
    with pytest.raises(OSError, match="gone"):
        read_image(wire(raw), Function.ACQUIRE_DS_IMAGE, (4, 4))


# ------------------------------------------------------------------------------- link


@pytest.fixture
def double() -> Iterator[EmccdDouble]:
    with EmccdDouble() as made:
        yield made


@pytest.fixture
def emccd(double: EmccdDouble) -> Iterator[Emccd]:
    made = Emccd(double.address, WallClock())
    yield made
    made.close()


def take(emccd: Emccd, channel: int, **options: Any) -> np.ndarray:
    rows, columns = 5, 7
    return emccd.image(
        Function.ACQUIRE_DS_IMAGE,
        longs=(columns, rows, 0, 0, 0, 1),
        doubles=(0.0, options.pop("pixel_us", 1.0)),
        array=struct.pack("<i", channel),
        shape=(rows, columns),
        within_s=1.0,
        doing="a frame",
        **options,
    ).data


def test_a_new_connection_stops_the_scan_and_asks_who_is_there(
    double: EmccdDouble, emccd: Emccd
) -> None:
    emccd.open()
    assert [function for function, *_ in double.requests] == [21, 14]
    assert emccd.dm_version == 50500


def test_an_image_comes_as_it_is(emccd: Emccd) -> None:
    assert np.array_equal(take(emccd, 2), picture(2, (5, 7)))


def test_nobody_there_is_said_with_a_mend() -> None:
    with EmccdDouble() as double:
        address = double.address
    emccd = Emccd(address, WallClock())
    with pytest.raises(LinkError, match=r"SERIALEMCCD_PORT"):
        emccd.call(Function.GET_DM_VERSION, within_s=0.3, doing="a test")
    emccd.close()


def test_something_else_that_listens_there_is_refused(double: EmccdDouble, emccd: Emccd) -> None:
    double.answers[14] = [struct.pack("<iii", 12, 0, 0)]
    with pytest.raises(LinkError, match="not what was expected"):
        emccd.open()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Emccd("gatan", WallClock())


def test_a_reply_to_a_lost_question_is_never_taken_for_the_next(
    double: EmccdDouble, emccd: Emccd
) -> None:
    emccd.open()
    double.silent = True
    with pytest.raises(LinkError):
        emccd.call(Function.GET_NUMBER_OF_CAMERAS, within_s=0.2, doing="a test")
    double.silent = False
    assert emccd.value("DSCountSignals()", doing="a test") == 3
    assert double.connections == 2


@pytest.mark.parametrize(
    "reply",
    [
        struct.pack("<iid", 16, 0, 1.0) * 2,
        struct.pack("<iid", 16, 0, 1.0)[:-1],
        b"\xff" * 16,
        struct.pack("<iid", 20, 0, 1.0),
    ],
)
def test_a_doubled_short_or_senseless_reply_never_shifts_the_next(
    double: EmccdDouble, emccd: Emccd, reply: bytes
) -> None:
    emccd.open()
    double.answers[1] = [reply]
    try:
        first = emccd.script("Exit(1)\n", doing="a test", within_s=0.3)
    except LinkError:
        first = 1.0
    assert first == 1.0
    assert emccd.value("DSCountSignals()", doing="a test") == 3
    assert np.array_equal(take(emccd, 1), picture(1, (5, 7)))


def test_a_script_error_is_a_refusal_and_keeps_the_connection(
    double: EmccdDouble, emccd: Emccd
) -> None:
    with pytest.raises(Refusal):
        emccd.script("this is no script\n", doing="a test")
    assert emccd.value("DSCountSignals()", doing="a test") == 3
    assert double.connections == 1


def test_a_cut_ends_the_wait_and_the_next_command_waits_for_the_exposure(
    double: EmccdDouble, emccd: Emccd
) -> None:
    emccd.open()
    cut = threading.Event()
    begin = time.monotonic()
    threading.Timer(0.1, cut.set).start()
    with pytest.raises(ExchangeCut):
        take(emccd, 0, pixel_us=20_000.0, cut=cut.is_set)
    assert time.monotonic() - begin < 0.35
    assert emccd.value("DSCountSignals()", doing="a test") == 3
    assert time.monotonic() - begin > 0.7
    assert [function for function, *_ in double.requests] == [21, 14, 19, 21, 14, 1]


def test_a_closed_link_stays_closed(emccd: Emccd) -> None:
    emccd.open()
    emccd.close()
    emccd.close()
    with pytest.raises(LinkError, match="closed here"):
        emccd.open()
