"""Beyond loopback only those get in who are on the list, with a certificate of the own authority and TLS 1.3."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acquire.engine import Engine
from acquire.engine.clients import is_client
from acquire.engine.host import METHODS, OBSERVERS, HostService
from acquire.engine.status import HOST_OBJECT_ID
from acquire.errors import ConfigError, LeaseError, LinkError
from acquire.instruments import HolderState
from acquire.remote import (
    AllowList,
    HardDaemon,
    Identity,
    InstrumentServer,
    Link,
    Role,
    ServerTls,
    attach,
    emergency_off,
    keys,
)
from acquire.remote.tls import ALLOWED
from acquire.station import OpenStation


@pytest.fixture
def laboratory(tmp_path: Path) -> Path:
    """An authority with a server, an operator and an observer."""
    folder = tmp_path / "keys"
    keys.new_authority(folder)
    keys.issue(folder, "microscope", Role.SERVER, hosts=["127.0.0.1", "localhost"])
    keys.issue(folder, "alice", Role.OPERATOR)
    keys.issue(folder, "bob", Role.OBSERVER)
    return folder


@pytest.fixture
def secured(inside: OpenStation, laboratory: Path) -> Iterator[InstrumentServer]:
    tls = ServerTls(identity(laboratory, "microscope"), AllowList(laboratory / ALLOWED))
    server = InstrumentServer(inside, "tls://127.0.0.1:0", tls=tls)
    server.start()
    yield server
    server.close()


def identity(laboratory: Path, name: str) -> Identity:
    return Identity(laboratory / "issued" / name)


def test_an_operator_commands_through_tls(
    secured: InstrumentServer, inside: OpenStation, laboratory: Path
) -> None:
    alice = identity(laboratory, "alice")
    with attach(secured.address, identity=alice) as station:
        assert station.address.startswith("tls://127.0.0.1:")
        station.control.take("a recipe")
        station.holder.ramp(200.0, 50.0)
        assert inside.holder.read().state is HolderState.RAMPING
        link = Link(secured.address, "station", identity=alice)
        assert link.call("about")["commander"] == "a recipe (alice)"
        link.close()
    assert inside.holder.read().state is HolderState.OFF


def test_an_observer_looks_but_neither_commands_nor_switches_off(
    secured: InstrumentServer, inside: OpenStation, laboratory: Path
) -> None:
    bob = identity(laboratory, "bob")
    with attach(secured.address, identity=bob) as station:
        assert station.holder.read().state is HolderState.OFF
        assert station.scan.describe().role == "scan"
        with pytest.raises(LeaseError, match="bob may look, not command"):
            station.control.take("mischief")
        with pytest.raises(LeaseError, match="operator's certificate"):
            station.holder.ramp(200.0, 50.0)
    with pytest.raises(LeaseError, match="bob may look"):
        emergency_off(secured.address, identity=bob)
    assert not inside.holder.made_safe  # type: ignore[attr-defined]


def test_an_observer_never_takes_control_of_an_engine_and_who_has_it_is_called_by_certificate(
    inside: OpenStation, laboratory: Path
) -> None:
    tls = ServerTls(identity(laboratory, "microscope"), AllowList(laboratory / ALLOWED))
    service = HostService(Engine(inside))
    daemon = HardDaemon("tls://127.0.0.1:0", on_disconnect=service.disconnected, tls=tls)
    daemon.register(HOST_OBJECT_ID, service, METHODS, OBSERVERS)
    daemon.start()
    alice, bob = (
        Link(daemon.address, HOST_OBJECT_ID, identity=identity(laboratory, name))
        for name in ("alice", "bob")
    )
    try:
        for method in ("take_control", "manual_end", "attend"):
            with pytest.raises(LeaseError, match="bob may look, not command"):
                bob.call(method, "window 2")
        alice.call("take_control", "window 1")
        told = bob.call("status")["driven_by"]
        assert told == "window 1 (alice)"
        assert is_client(told, "window 1")
        assert not is_client(told, "window 11")
        assert alice.call("attend", "window 1")
        alice.close()
        wait_for(lambda: bob.call("status")["driven_by"] == "")
    finally:
        bob.close()
        daemon.close()
        service.end("the test ends")


def foreign(laboratory: Path) -> Identity:
    other = laboratory.parent / "other"
    keys.new_authority(other)
    keys.issue(other, "mallory", Role.OPERATOR)
    stranger = other / "issued" / "mallory"
    # it trusts the server, but the server has not heard of its authority
    (stranger / "authority.crt").write_bytes((laboratory / "authority.crt").read_bytes())
    return Identity(stranger)


def expired(laboratory: Path) -> Identity:
    then = datetime(2020, 1, 1, tzinfo=UTC)
    return Identity(keys.issue(laboratory, "old", Role.OPERATOR, now=then))


def revoked(laboratory: Path) -> Identity:
    copied = laboratory.parent / "copy of eve's"
    keys.issue(laboratory, "eve", Role.OPERATOR).rename(copied)
    keys.revoke(laboratory, "eve")
    return Identity(copied)


def a_servers(laboratory: Path) -> Identity:
    return Identity(keys.issue(laboratory, "camera", Role.SERVER, hosts=["localhost"]))


def unlisted(laboratory: Path) -> Identity:
    before = (laboratory / ALLOWED).read_bytes()
    made = keys.issue(laboratory, "ghost", Role.OPERATOR)
    (laboratory / ALLOWED).write_bytes(before)
    return Identity(made)


@pytest.mark.parametrize("intruder", [foreign, expired, revoked, a_servers, unlisted])
def test_a_certificate_that_is_not_allowed_opens_nothing(
    secured: InstrumentServer,
    laboratory: Path,
    intruder: Callable[[Path], Identity],
    caplog: pytest.LogCaptureFixture,
) -> None:
    who = intruder(laboratory)
    with pytest.raises(LinkError, match="is our certificate valid and allowed"):
        attach(secured.address, identity=who)
    wait_for(lambda: "was refused" in caplog.text)


def test_no_certificate_plain_tcp_and_old_tls_open_nothing(
    secured: InstrumentServer, laboratory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = int(secured.address.rpartition(":")[2])
    with pytest.raises(LinkError):
        Link(f"127.0.0.1:{port}", "station").call("about")
    wait_for(lambda: caplog.text.count("was refused") == 1)
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(laboratory / "authority.crt")
    assert talks(port, anonymous) == b""
    wait_for(lambda: caplog.text.count("was refused") == 2)
    old = identity(laboratory, "alice").client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert talks(port, old) == b""
    wait_for(lambda: caplog.text.count("was refused") == 3)


def talks(port: int, context: ssl.SSLContext) -> bytes:
    """What a server says to a client of this context; nothing, if it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                secured.sendall(b"PYRO")
                return secured.recv(1)
        except OSError:
            return b""


def wait_for(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    give_up = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < give_up, f"it did not happen within {within_s} s"
        pause.wait(0.002)


def test_a_client_refuses_a_server_of_another_name_or_authority(
    inside: OpenStation, laboratory: Path
) -> None:
    elsewhere = keys.issue(laboratory, "elsewhere", Role.SERVER, hosts=["microscope.example"])
    tls = ServerTls(Identity(elsewhere), AllowList(laboratory / ALLOWED))
    server = InstrumentServer(inside, "tls://127.0.0.1:0", tls=tls)
    server.start()
    try:
        with pytest.raises(LinkError, match="certificate verify failed"):
            attach(server.address, identity=identity(laboratory, "alice"))
    finally:
        server.close()


def test_the_system_authorities_are_not_trusted(laboratory: Path) -> None:
    context = identity(laboratory, "alice").client_context()
    names = [dict(part[0] for part in one["subject"]) for one in context.get_ca_certs()]
    assert names == [{"commonName": "hotstage authority"}]
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_who_is_revoked_loses_the_connection_that_is_open_and_all_is_made_safe(
    secured: InstrumentServer, inside: OpenStation, laboratory: Path
) -> None:
    with attach(secured.address, identity=identity(laboratory, "alice")) as station:
        station.control.take("a recipe")
        station.holder.ramp(200.0, 50.0)
        keys.revoke(laboratory, "alice")
        wait_for(lambda: inside.holder.read().state is HolderState.OFF)
        with pytest.raises(LinkError):
            station.holder.read()


def test_silent_connections_hold_up_nobody(secured: InstrumentServer, laboratory: Path) -> None:
    port = int(secured.address.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
    try:
        began = time.monotonic()
        with attach(secured.address, identity=identity(laboratory, "alice")) as station:
            station.holder.read()
        assert time.monotonic() - began < 2.0  # the time that a handshake may take
    finally:
        for one in silent:
            one.close()


def test_an_address_beyond_this_machine_needs_tls_and_an_identity(
    inside: OpenStation, laboratory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tls://192\.168\.1\.5:7746"):
        Link("192.168.1.5:7746", "station")
    with pytest.raises(ConfigError, match=r"server\.identity"):
        InstrumentServer(inside, "tls://127.0.0.1:0")
    monkeypatch.setenv("HOTSTAGE_IDENTITY", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="hotstage keys issue"):
        Link("tls://192.168.1.5:7746", "station")
    monkeypatch.setenv("HOTSTAGE_IDENTITY", str(identity(laboratory, "alice").folder))
    Link("tls://192.168.1.5:7746", "station").close()


@pytest.mark.skipif(os.name == "nt", reason="modes of Unix")
def test_keys_are_for_their_owner_only(laboratory: Path) -> None:
    for key in laboratory.rglob("*.key"):
        assert key.stat().st_mode & 0o077 == 0
    alice = identity(laboratory, "alice")
    (alice.folder / "private.key").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        alice.client_context()


def test_an_authority_is_never_overwritten_nor_a_name_given_twice(laboratory: Path) -> None:
    with pytest.raises(ConfigError, match="authority already"):
        keys.new_authority(laboratory)
    with pytest.raises(ConfigError, match="certificate already"):
        keys.issue(laboratory, "alice", Role.OPERATOR)
    with pytest.raises(ConfigError, match="only a server has one"):
        keys.issue(laboratory, "carol", Role.OPERATOR, hosts=["here"])
    with pytest.raises(ConfigError, match="refused: letters"):
        keys.issue(laboratory, "../carol", Role.OPERATOR)
    with pytest.raises(ConfigError, match="allowed are: microscope, alice, bob"):
        keys.revoke(laboratory, "carol")
    keys.revoke(laboratory, "alice")
    keys.issue(laboratory, "alice", Role.OPERATOR)
    assert [one.name for one in keys.listed(laboratory) if not one.revoked] == [
        "microscope",
        "bob",
        "alice",
    ]


def test_a_list_that_cannot_be_read_lets_nobody_in(
    secured: InstrumentServer, laboratory: Path
) -> None:
    (laboratory / ALLOWED).write_text("{", encoding="utf-8")
    with pytest.raises(LinkError):
        attach(secured.address, identity=identity(laboratory, "alice"))


def test_many_silent_connections_do_not_cost_a_thread_each(secured: InstrumentServer) -> None:
    before = threading.active_count()
    port = int(secured.address.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(150)]
    try:
        wait_for(lambda: threading.active_count() - before < 60, 1.0)
    finally:
        for one in silent:
            one.close()


def test_a_handshake_that_comes_byte_by_byte_ends_in_time(secured: InstrumentServer) -> None:
    port = int(secured.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(0.05)
        began = time.monotonic()
        slow.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # the head of a long hello
        said: bytes | None = None
        while said is None:
            try:
                slow.sendall(b"\x03")
                said = slow.recv(1)
            except TimeoutError:
                assert time.monotonic() - began < 4.0
            except OSError:
                said = b""
        assert said in (b"", b"\x15")  # the end, or an alert before it


def test_a_list_that_is_being_written_ends_no_connection_that_is_open(
    secured: InstrumentServer, inside: OpenStation, laboratory: Path
) -> None:
    whole = (laboratory / ALLOWED).read_bytes()
    with attach(secured.address, identity=identity(laboratory, "alice")) as station:
        station.control.take("a recipe")
        station.holder.ramp(200.0, 50.0)
        (laboratory / ALLOWED).write_bytes(whole[:40])  # as a copy over a network does
        for _ in range(20):
            station.holder.read()
        (laboratory / ALLOWED).write_bytes(whole)
        station.holder.read()
        assert station.control.problem() == ""
        (laboratory / ALLOWED).write_bytes(whole[:40])  # and never comes to its end
        wait_for(lambda: inside.holder.read().state is HolderState.OFF)


def test_a_role_that_was_taken_away_is_gone_on_a_connection_that_is_open(
    secured: InstrumentServer, laboratory: Path
) -> None:
    with attach(secured.address, identity=identity(laboratory, "alice")) as station:
        station.holder.read()
        path = laboratory / ALLOWED
        before = path.stat()
        text = path.read_text(encoding="utf-8")
        changed = path.with_name("changed.json")
        changed.write_text(text.replace('"operator"', '"observer"'), encoding="utf-8")
        # of the same size, and as old, as a copy that keeps times
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        changed.replace(path)
        with pytest.raises(LeaseError, match="alice may look, not command"):
            station.control.take("mischief")


def test_observers_crowd_out_one_another_and_never_who_commands(
    secured: InstrumentServer, inside: OpenStation, laboratory: Path
) -> None:
    with attach(secured.address, identity=identity(laboratory, "alice")) as station:
        station.control.take("a recipe")
        station.holder.ramp(200.0, 50.0)
        bob = identity(laboratory, "bob")
        crowd = [Link(secured.address, "station", identity=bob) for _ in range(70)]
        for one in crowd:
            one.call("now_s")
        for _ in range(3):
            for one in crowd[-30:]:
                one.call("now_s")
        assert station.holder.read().state is HolderState.RAMPING
        assert station.control.problem() == ""
        for one in crowd:
            one.close()


def test_what_others_may_write_to_is_refused_or_not_made(
    tmp_path: Path,
) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "shared folder"
        folder.mkdir()
        keys.new_authority(folder)
        keys.issue(folder, "alice", Role.OPERATOR)
        keys.revoke(folder, "alice")
    finally:
        os.umask(before)
    made = [path for path in folder.rglob("*") if path.is_file()]
    assert len(made) == 6
    for path in made:
        assert path.stat().st_mode & 0o022 == 0, path


def test_names_that_a_person_or_a_file_system_takes_for_one_are_refused(laboratory: Path) -> None:
    with pytest.raises(ConfigError, match="'alice' has a certificate already"):
        keys.issue(laboratory, "Alice", Role.OPERATOR)
    with pytest.raises(ConfigError, match="refused: letters"):
        keys.issue(laboratory, "carol.", Role.OPERATOR)


def test_what_an_interrupted_issue_left_can_be_put_away_by_what_the_message_says(
    laboratory: Path,
) -> None:
    left = laboratory / "issued" / "carol"
    left.mkdir()
    with pytest.raises(ConfigError, match="nothing lists") as refused:
        keys.issue(laboratory, "carol", Role.OPERATOR)
    assert str(left) in str(refused.value)
    left.rmdir()
    keys.issue(laboratory, "carol", Role.OPERATOR)


@pytest.mark.parametrize("address", ["tls://" + "a" * 70 + ":7746", "tls://.lab:7746"])
def test_a_name_that_is_none_is_told_as_any_server_that_is_not_there(
    laboratory: Path, address: str
) -> None:
    link = Link(address, "station", identity=identity(laboratory, "alice"))
    with pytest.raises(LinkError, match="no server answers"):
        link.call("about")


def test_who_is_revoked_and_says_nothing_loses_the_connection_too(
    secured: InstrumentServer, laboratory: Path
) -> None:
    link = Link(secured.address, "station", identity=identity(laboratory, "bob"))
    link.call("now_s")
    assert secured.clients == 1
    keys.revoke(laboratory, "bob")
    wait_for(lambda: secured.clients == 0)
    link.close()
