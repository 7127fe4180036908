"""The bench's malformed messages are malformed, and what they do to a bad server is seen."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquire.bench import transport, transport_far_ends, transport_hostility, transport_mutations
from acquire.bench.transport_shower import Endured, Port, endure
from acquire.bench.transport_tap import Step, Tap, ask, place_of, probe_of
from acquire.errors import HotstageError


class Answering:
    """A server that answers lines, each connection in a thread of its own, and what it did with them."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                self._ends.append(end)
                self._threads.append(threading.Thread(target=self._serve, args=(end,)))
                self._threads[-1].start()

    def _serve(self, end: socket.socket) -> None:
        held = b""
        with suppress(OSError):
            while piece := end.recv(1 << 16):
                held += piece
                while b"\n" in held:
                    line, _, held = held.partition(b"\n")
                    end.sendall(self._reply(line))
            end.shutdown(socket.SHUT_WR)


@contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[Answering]:
    server = Answering(reply)
    try:
        yield server
    finally:
        server.close()


def valid(line: bytes) -> bool:
    return line in (b"hello", b"again")


def port_of(server: Answering) -> Port:
    """As if a client had been heard there."""
    with_tap = Tap(server.address)
    try:
        with socket.create_connection(place_of(with_tap.address), timeout=5) as client:
            for line in (b"hello\n", b"again\n"):
                client.sendall(line)
                assert client.recv(100) == b"well\n"
    finally:
        with_tap.close()
    port = Port("lines", place_of(server.address), with_tap.conversations)
    port.prepare()
    return port


@given(st.binary(max_size=200), st.integers(0, 2**31))
def test_a_malformed_message_is_never_the_valid_one_and_the_same_for_the_same_seed(
    sample: bytes, seed: int
) -> None:
    once, again = (
        transport_mutations.malformed(Random(seed), sample, [sample, b"other 12.5\n"])
        for _ in range(2)
    )
    assert once == again
    assert once != sample
    assert len(once) < 2**21


def test_all_that_was_heard_can_be_said_again_and_a_dead_server_is_told_from_one_that_answers() -> (
    None
):
    with answering(lambda line: b"well\n" if valid(line) else b"no\n") as server:
        port = port_of(server)
        assert [step.sent for step in port.probe] == [b"hello\n", b"again\n"]
        assert port.samples == [b"hello\n", b"again\n"]
        assert not port.alone
        ask(port.place, port.probe)
        with pytest.raises(OSError, match="timed out"):
            ask(port.place, [Step(b"nothing that ends", 5)], answer_s=0.1)
    with pytest.raises(OSError):
        ask(port.place, port.probe, answer_s=0.1)
    assert probe_of(port.place, port.conversations) == []


def test_a_good_server_endures_it() -> None:
    with answering(lambda line: b"well\n" if valid(line) else b"no\n") as server:
        found = endure([port_of(server)], os.getpid(), 60, Random(1))
    assert found.messages == 60
    assert found.questions > 0
    assert math.isfinite(found.worst_delay_s)
    assert not found.problem


def test_a_server_that_holds_others_up_for_nonsense_is_found() -> None:
    one_at_a_time, bad = threading.Lock(), itertools.count(1)

    def reply(line: bytes) -> bytes:
        with one_at_a_time:
            if not valid(line) and next(bad) % 10 == 0:
                threading.Event().wait(0.7)
        return b"well\n"

    with answering(reply) as server:
        found = endure([port_of(server)], os.getpid(), 80, Random(2))
    assert next(bad) > 20
    assert found.worst_delay_s > transport_hostility.MOST_DELAY_S


def test_a_server_that_keeps_what_it_was_sent_is_found() -> None:
    kept: list[bytes] = []

    def reply(line: bytes) -> bytes:
        if not valid(line):
            kept.append(b"kept" * (1 << 20))
        return b"well\n"

    with answering(reply) as server:
        found = endure([port_of(server)], os.getpid(), 100, Random(3))
    assert len(kept) > 20
    assert found.grown_bytes > 20e6


@pytest.mark.parametrize(
    "endured",
    [
        Endured(2000, 0, 0.1, questions=5, alive=False, problem="it is gone"),
        Endured(2000, 101_000_000, 0.1, questions=5),
        Endured(2000, 0, 0.6, questions=5),
        Endured(2000, 0, float("inf"), questions=5),
        Endured(2000, 0, 0.0, questions=0),
    ],
)
def test_what_a_far_end_does_not_endure_is_a_missed_goal(
    endured: Endured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "found.json"
    monkeypatch.setattr(transport_far_ends, "try_far_end", lambda *given: endured)
    assert transport.main("far-ends", json=path, check=True, seed=5, quick=True) == 1
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["good"] is False
    assert found["seed"] == 5
    endured_well = Endured(2000, 1_000_000, 0.1, questions=5)
    monkeypatch.setattr(transport_far_ends, "try_far_end", lambda *given: endured_well)
    assert transport.main("far-ends", check=True, quick=True) == 0


def test_a_far_end_that_does_not_start_is_a_missed_goal_and_the_next_one_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(trial: transport_far_ends.FarEndOnTrial, messages: int, seed: int) -> Endured:
        tried.append(trial.wire)
        raise HotstageError("it does not start.")

    monkeypatch.setattr(transport_far_ends, "try_far_end", refuse)
    path = tmp_path / "found.json"
    assert transport.main("far-ends", json=path, check=True) == 1
    assert len(tried) >= 8
    assert "does not start" in path.read_text(encoding="utf-8")


def test_every_kind_of_far_end_that_a_station_has_is_tried_with_the_drivers_that_use_it() -> None:
    found = transport_far_ends.far_ends()
    assert {"impulse", "source_meter", "eurotherm", "serialemccd"} <= set(found)
    assert {"temscript", "open_beam_interface", "simplon", "gms"} <= set(found)
    assert {"scan", "spectrometer"} <= set(found["serialemccd"].roles)
    assert found["impulse"].roles == ("holder",)


@pytest.mark.process
def test_a_far_end_in_a_process_of_its_own_endures_a_little(tmp_path: Path) -> None:
    trial = transport_far_ends.far_ends()["source_meter"]
    found = transport_far_ends.try_far_end(trial, 60, seed=1)
    assert found.alive
    assert not found.problem
    assert not found.notes, "all its ports were heard"
    assert found.questions > 0


class Simulated:
    """What stands for the process of a far end."""

    pid = os.getpid()
    status: int | None = None
    said = ""

    def log(self) -> str:
        return self.said


@pytest.mark.parametrize(
    ("status", "said", "uses", "words"),
    [
        (1, "killed", 2, "it ended with status 1: killed"),
        (None, "Traceback (most recent call last): KeyError", 2, "not prepared .* KeyError"),
        (None, "", 2, "its drivers cannot use it any more: it does not answer"),
        (None, "", 3, ""),
    ],
)
def test_a_far_end_that_ended_or_failed_or_is_of_no_use_any_more_is_found(
    status: int | None, said: str, uses: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, used = Simulated(), itertools.count(1)
    process.status, process.said = status, said

    def use(trial: object, addresses: dict[str, str]) -> None:
        if next(used) > uses:
            raise HotstageError("it does not answer.")
        with socket.create_connection(place_of(addresses["heater.scpi"]), timeout=5) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"well\n"

    with answering(lambda line: b"well\n" if valid(line) else b"no\n") as server:
        started = contextlib.nullcontext((process, {"heater.scpi": server.address}))
        monkeypatch.setattr(transport_far_ends, "_started", lambda station: started)
        monkeypatch.setattr(transport_far_ends, "_use", use)
        monkeypatch.setattr(transport_far_ends, "AGAIN_S", 0.0)
        trial = transport_far_ends.far_ends()["source_meter"]
        found = transport_far_ends.try_far_end(trial, 20, seed=1)
    assert found.messages == 20
    assert bool(found.problem) == bool(words)
    assert re.search(words, found.problem)
