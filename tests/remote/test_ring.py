"""Memory shared between two processes: nothing torn, nothing overwritten, nothing left behind, for nobody else."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.errors import LinkError
from acquire.remote import ring as ring_module
from acquire.remote.buffers import Buffers
from acquire.remote.ring import RingReader, RingWriter

unix = pytest.mark.skipif(os.name == "nt", reason="files of Unix")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rings of these tests are nobody else's."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(ring_module, "_MEMORY", folder)
    return folder


@pytest.fixture
def pair() -> Iterator[tuple[RingWriter, RingReader]]:
    writer = RingWriter(4, 1000)
    reader = RingReader(str(writer.path), 4, 1000)
    assert writer.attach(reader.proof)
    yield writer, reader
    reader.close()
    writer.close()


def files(place: Path) -> list[Path]:
    return list(place.rglob("ring-*"))


def test_what_is_put_comes_out_and_stays_when_its_slot_is_used_again(
    pair: tuple[RingWriter, RingReader],
) -> None:
    writer, reader = pair
    kept = []
    for n in range(50):
        number = writer.put([bytes([n]) * 600, bytes([n + 1]) * 400])
        kept.append(reader.take(number, 1000))
        writer.copied(reader.copied)
    for n, found in enumerate(kept):
        assert (found[:600] == n).all()
        assert (found[600:] == n + 1).all()


def test_a_slot_is_not_written_again_before_it_was_copied(
    pair: tuple[RingWriter, RingReader],
) -> None:
    writer, reader = pair
    assert [writer.put([b"x"]) for _ in range(6)] == [1, 2, 3, 4, 0, 0]
    assert writer.free == 0
    reader.take(1, 1)
    writer.copied(1)
    assert writer.put([b"y"]) == 5
    assert bytes(reader.take(2, 1)) == b"x"


def test_what_is_larger_than_a_slot_goes_another_way(pair: tuple[RingWriter, RingReader]) -> None:
    assert pair[0].put([bytes(600), bytes(401)]) == 0


def test_a_slot_that_is_written_while_it_is_read_is_noticed(
    pair: tuple[RingWriter, RingReader],
) -> None:
    writer, reader = pair
    number = writer.put([b"abc"])
    writer._slots[0][0][0] = number + 4  # the next round has begun to write
    with pytest.raises(LinkError, match="torn"):
        reader.take(number, 3)
    writer._slots[0][0][1] = number + 4
    with pytest.raises(LinkError, match="torn"):
        reader.take(number, 3)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**64), st.integers(-10, 2**40))
def test_numbers_and_sizes_that_cannot_be_are_refused(number: int, size: int) -> None:
    writer = RingWriter(4, 100)
    reader = RingReader(str(writer.path), 4, 100)
    writer.attach(reader.proof)
    writer.put([b"abc"])
    with pytest.raises(LinkError):
        writer.copied(number if number not in (0, 1) else -1)
    if number != 1 or not 0 <= size <= 100:
        with pytest.raises(LinkError):
            reader.take(number, size)
    reader.close()
    writer.close()


@pytest.mark.parametrize(("slots", "size"), [(3, 10), (65, 10), (4, 0), (4, -5), (4, 2**40)])
def test_rings_that_are_too_small_or_too_large_are_refused(slots: int, size: int) -> None:
    with pytest.raises(LinkError, match="refused"):
        RingWriter(slots, size)


def test_without_proof_that_the_memory_is_the_same_nothing_is_put_there() -> None:
    writer = RingWriter(4, 100)
    assert not writer.attach(bytes(32))
    assert writer.put([b"abc"]) == 0
    writer.close()


@unix
def test_only_its_own_user_can_open_it_and_its_name_goes_when_it_is_in_use(place: Path) -> None:
    writer = RingWriter(4, 100)
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(writer.path.parent.stat().st_mode) == 0o700
    reader = RingReader(str(writer.path), 4, 100)
    writer.attach(reader.proof)
    assert files(place) == []
    number = writer.put([b"still there"])
    assert bytes(reader.take(number, 11)) == b"still there"
    reader.close()
    writer.close()


@unix
def test_a_folder_that_others_may_enter_is_not_used(place: Path) -> None:
    folder = place / f"hotstage-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LinkError, match="of this user alone"):
        RingWriter(4, 100)


@unix
def test_a_file_that_others_may_read_is_not_opened(place: Path) -> None:
    writer = RingWriter(4, 100)
    writer.path.chmod(0o644)
    with pytest.raises(LinkError, match="not what the server says"):
        RingReader(str(writer.path), 4, 100)
    writer.close()
    with pytest.raises(LinkError, match="cannot be opened"):
        RingReader(str(place / "nothing"), 4, 100)


CHILD = """
import sys
from pathlib import Path
from acquire.remote import ring
ring._MEMORY = Path(sys.argv[1])
if sys.argv[2] == "write":
    held = ring.RingWriter(4, 100)
    print(held.path, flush=True)
else:
    held = ring.RingReader(sys.argv[2], 4, 100)
    print(held.proof.hex(), flush=True)
sys.stdin.read()
"""


def child(place: Path, what: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str], *, kill: bool) -> None:
    if kill:
        process.send_signal(signal.SIGKILL)
    process.communicate()


@unix
@pytest.mark.process
def test_what_a_killed_server_left_goes_with_the_next_ring_and_what_lives_stays(
    place: Path,
) -> None:
    killed, left = child(place, "write")
    alive, kept = child(place, "write")
    end(killed, kill=True)
    assert Path(left).exists()
    writer = RingWriter(4, 100)
    assert sorted(files(place)) == sorted([Path(kept), writer.path])
    writer.close()
    end(alive, kill=False)


@unix
@pytest.mark.process
@pytest.mark.parametrize("kill", [True, False])
def test_a_reader_that_ends_in_whatever_way_takes_nothing_away(place: Path, kill: bool) -> None:
    writer = RingWriter(4, 100)
    first, proof = child(place, str(writer.path))
    end(first, kill=kill)
    assert writer.path.exists(), "the exit of a process that attached must not remove it"
    second, proof = child(place, str(writer.path))
    assert writer.attach(bytes.fromhex(proof))
    assert writer.put([b"abc"]) == 1
    end(second, kill=kill)
    assert writer.put([b"abc"]) == 2
    writer.close()
    assert files(place) == []


def test_a_buffer_is_used_again_only_when_nobody_looks_at_it() -> None:
    buffers = Buffers()
    first = buffers.take(1000)
    place_of_first = first.ctypes.data
    view = first[10:20].view(np.uint16)
    del first
    assert buffers.take(1000).ctypes.data != place_of_first
    memory = view.data
    del view
    taken = [buffers.take(1000) for _ in range(3)]
    assert place_of_first not in [one.ctypes.data for one in taken]
    del memory
    assert buffers.take(1000).ctypes.data == place_of_first


def test_buffers_do_not_pile_up() -> None:
    buffers = Buffers(most_bytes=10_000)
    held = [buffers.take(1000) for _ in range(50)]
    assert sum(buffer.nbytes for buffer in buffers._kept) <= 10_000
    assert len({one.ctypes.data for one in held}) == 50
    assert buffers.take(20_000).nbytes == 20_000
    assert all(buffer.nbytes < 20_000 for buffer in buffers._kept)
