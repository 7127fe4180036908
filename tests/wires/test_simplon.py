"""The far end of the SIMPLON API as any client sees it: urllib3, ZeroMQ, CBOR, DECTRIS's own decompressor."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import numpy as np
import pytest
import tifffile
import urllib3
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from acquire.clock import WallClock
from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from drivers.spectrometers.simplon_codecs import unpack
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.simplon import Simplon, serve

ROWS, COLUMNS = 64, 256
ZERO_LOSS = 100
RATE = 5.0
SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""What every message of version 2 begins with: DECTRIS's stream2.c looks for it."""

try:  # DECTRIS's own decompressor where it is installed: it has no binary wheels
    from dectris.compression import decompress  # type: ignore[import-untyped]
except ImportError:

    def decompress(data: bytes, algorithm: str, elem_size: int = 4) -> bytes:
        return unpack(data, algorithm, elem_size, int.from_bytes(data[:8], "big"))


class Client:
    """What a detector's user has: REST and a PULL socket."""

    def __init__(self, far_end: Simplon, port: str) -> None:
        self._http = urllib3.PoolManager(timeout=5.0, retries=False, maxsize=4)
        self._root = f"http://{far_end.addresses['api']}"
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"tcp://{far_end.addresses[port]}")

    def close(self) -> None:
        self.socket.close()
        self._context.term()
        self._http.clear()

    def get(self, path: str) -> Any:
        reply = self._http.request("GET", f"{self._root}/{path}")
        assert reply.status == 200, (path, reply.status, reply.data)
        return json.loads(reply.data)

    def value(self, path: str) -> Any:
        return self.get(path)["value"]

    def put(self, path: str, value: Any = None) -> tuple[int, Any]:
        body = None if value is None else json.dumps({"value": value}).encode()
        reply = self._http.request("PUT", f"{self._root}/{path}", body=body)
        return reply.status, json.loads(reply.data) if reply.data else None

    def config(self, **values: Any) -> None:
        for name, value in values.items():
            assert self.put(f"detector/api/1.8.0/config/{name}", value)[0] == 200

    def stream(self, **values: Any) -> None:
        for name, value in values.items():
            assert self.put(f"stream/api/1.8.0/config/{name}", value)[0] == 200

    def command(self, name: str, value: Any = None) -> tuple[int, Any]:
        return self.put(f"detector/api/1.8.0/command/{name}", value)

    @property
    def state(self) -> str:
        return str(self.value("detector/api/1.8.0/status/state"))

    def parts(self, within_s: float = 3.0) -> list[bytes]:
        assert self.socket.poll(int(within_s * 1000)), "no message came"
        return self.socket.recv_multipart()

    def message(self) -> dict[str, Any]:
        (part,) = self.parts()
        assert part.startswith(SELF_DESCRIBED)
        found = cbor2.loads(part[len(SELF_DESCRIBED) :], tag_hook=_unpack)
        assert isinstance(found, dict)
        return found


def _unpack(*given: Any) -> Any:
    # the order of its arguments differs between versions of cbor2
    tag = next(one for one in given if isinstance(one, cbor2.CBORTag))
    if tag.tag == 56500:
        algorithm, size, data = tag.value
        return decompress(data, algorithm, elem_size=size)
    if tag.tag in (64, 69, 70):
        return np.frombuffer(tag.value, {64: "u1", 69: "<u2", 70: "<u4"}[tag.tag])
    if tag.tag == 40:
        shape, data = tag.value
        return data.reshape(shape)
    return tag


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=5, drift=False)


Maker = Callable[..., Simplon]


@pytest.fixture
def make(simulation: ExsolutionSimulation) -> Iterator[Maker]:
    made: list[Simplon] = []

    def one(**options: Any) -> Simplon:
        simulation.world.column.blank(False)
        simulation.world.energy_filter = None
        context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
        far_end = serve(context, **{"rows": ROWS, "columns": COLUMNS, **options})
        assert isinstance(far_end, Simplon)
        made.append(far_end)
        return far_end

    yield one
    for far_end in made:
        far_end.close()
        far_end.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def one(far_end: Simplon, port: str = "stream2") -> Client:
        made.append(Client(far_end, port))
        return made[-1]

    yield one
    for client in made:
        client.close()


Connect = Callable[..., Client]

# -------------------------------------------------------------------------- parameters


def test_parameters_tell_value_type_range_and_access(make: Maker, connect: Connect) -> None:
    client = connect(make())
    assert client.value("detector/api/version/") == "1.8.0"
    assert client.get("detector/api/1.8.0/config/trigger_mode") == {
        "value": "ints",
        "value_type": "string",
        "access_mode": "rw",
        "allowed_values": ["ints", "inte", "exts", "exte"],
    }
    count = client.get("detector/api/1.8.0/config/count_time")
    assert (count["unit"], count["value_type"], count["max"]) == ("s", "float", 3600.0)
    assert client.get("detector/api/1.8.0/config/x_pixels_in_detector")["access_mode"] == "r"
    assert "threshold/1/energy" in client.get("detector/api/1.8.0/config/keys")
    assert client.value("detector/api/1.8.0/config/threshold/1/energy") > 0
    assert client.get("stream/api/1.8.0/config")["format"]["value"] == "legacy"
    assert client.state == "idle"


def test_frame_time_stays_longer_than_count_time_and_what_changed_is_told(
    make: Maker, connect: Connect
) -> None:
    client = connect(make())
    status, changed = client.put("detector/api/1.8.0/config/count_time", 0.5)
    assert (status, set(changed)) == (200, {"count_time", "frame_time"})
    assert client.value("detector/api/1.8.0/config/frame_time") == pytest.approx(0.5, abs=1e-6)
    status, changed = client.put("detector/api/1.8.0/config/frame_time", 0.5)
    assert set(changed) == {"count_time", "frame_time"}
    assert client.value("detector/api/1.8.0/config/count_time") < 0.5
    status, changed = client.put("detector/api/1.8.0/config/frame_time", 0.75)
    assert changed == ["frame_time"]


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("detector/api/1.8.0/config/count_time", "long", 400),
        ("detector/api/1.8.0/config/count_time", -1.0, 400),
        ("detector/api/1.8.0/config/count_time", True, 400),
        ("detector/api/1.8.0/config/nimages", 1.5, 400),
        ("detector/api/1.8.0/config/trigger_mode", "intz", 400),
        ("detector/api/1.8.0/config/description", "mine", 403),
        ("detector/api/1.8.0/config/no_such", 1, 404),
        ("detector/api/1.6.0/config/count_time", 1, 404),
        ("detector/api/1.8.0/status/state", 1, 405),
        ("detector/api/1.8.0/command/explode", None, 404),
        ("detector/api/1.8.0/command/trigger", None, 403),
        ("filewriter/api/1.8.0/config/mode", "enabled", 400),
        ("nothing/api/1.8.0/config/x", 1, 404),
    ],
)
def test_what_cannot_be_set_is_refused(
    make: Maker, connect: Connect, path: str, value: Any, status: int
) -> None:
    client = connect(make())
    found, reply = client.put(path, value)
    assert (found, set(reply)) == (status, {"error"})
    assert client.state == "idle"


def test_configuration_is_read_only_while_armed(make: Maker, connect: Connect) -> None:
    client = connect(make())
    assert client.command("arm") == (200, {"sequence id": 1})
    assert client.state == "ready"
    assert client.put("detector/api/1.8.0/config/count_time", 0.2)[0] == 403
    assert client.put("stream/api/1.8.0/config/mode", "enabled")[0] == 403
    assert client.command("arm")[0] == 403
    assert client.command("disarm") == (200, {"sequence id": 1})
    assert client.put("detector/api/1.8.0/config/count_time", 0.2)[0] == 200


def test_a_detector_that_is_not_initialized_cannot_be_armed(make: Maker, connect: Connect) -> None:
    client = connect(make(initialized=False))
    assert client.state == "na"
    assert client.command("arm")[0] == 403
    assert client.command("initialize")[0] == 200
    assert client.command("arm")[0] == 200


# ----------------------------------------------------------------------------- streams


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
@pytest.mark.parametrize("bits", [16, 32])
def test_a_series_in_cbor(make: Maker, connect: Connect, compression: str, bits: int) -> None:
    client = connect(make(bit_depth=bits, energy_loss="400 eV"))
    client.stream(format="cbor", mode="enabled")
    client.config(compression=compression, count_time=0.05, frame_time=0.2, nimages=3)
    assert client.command("arm")[0] == 200
    start = client.message()
    assert (start["type"], start["series_id"], start["number_of_images"]) == ("start", 1, 3)
    assert (start["image_size_x"], start["image_size_y"]) == (COLUMNS, ROWS)
    assert (start["image_dtype"], start["channels"]) == (f"uint{bits}", ["threshold_1"])
    began = time.monotonic()
    assert client.command("trigger")[0] == 200
    assert time.monotonic() - began >= 0.45 / RATE
    images = [client.message() for _ in range(3)]
    for number, image in enumerate(images):
        assert (image["type"], image["image_id"], image["series_id"]) == ("image", number, 1)
        assert image["real_time"][0] / image["real_time"][1] == pytest.approx(0.05)
        pixels = image["data"]["threshold_1"]
        assert (pixels.shape, pixels.dtype) == ((ROWS, COLUMNS), np.dtype(f"<u{bits // 8}"))
        assert pixels.sum() > 0
    first, second = (image["start_time"] for image in images[:2])
    assert (second[0] - first[0]) / second[1] == pytest.approx(0.2, rel=1e-6)
    assert client.message() == {
        "type": "end",
        "series_id": 1,
        "series_unique_id": start["series_unique_id"],
    }
    assert client.state == "idle"
    assert client.value("stream/api/1.8.0/status/dropped") == 0


def _legacy_pixels(info: dict[str, Any], blob: bytes) -> NDArray[Any]:
    size = np.dtype(info["type"]).itemsize
    if info["encoding"] == "lz4<":
        # decompress() wants the head of HDF5's filter, which a bare block does not have
        whole = info["shape"][0] * info["shape"][1] * size
        blob = decompress(struct.pack(">QII", whole, whole, len(blob)) + blob, "lz4")
    elif info["encoding"].startswith("bs"):
        assert info["encoding"] == f"bs{8 * size}-lz4<"
        blob = decompress(blob, "bslz4", elem_size=size)
    return np.frombuffer(blob, info["type"]).reshape(info["shape"][::-1])


@pytest.mark.parametrize("compression", ["none", "lz4", "bslz4"])
def test_a_series_in_parts(make: Maker, connect: Connect, compression: str) -> None:
    client = connect(make(energy_loss="400 eV"), "stream")
    client.stream(mode="enabled", image_appendix={"by": "me"})
    client.config(compression=compression, count_time=0.02, nimages=2)
    client.command("arm")
    head, config = map(json.loads, client.parts())
    assert head == {"htype": "dheader-1.0", "series": 1, "header_detail": "basic"}
    assert (config["nimages"], config["trigger_mode"]) == (2, "ints")
    client.command("trigger")
    for number in range(2):
        one, two, blob, four, appendix = client.parts()
        image, info, times = json.loads(one), json.loads(two), json.loads(four)
        assert (image["htype"], image["frame"], image["series"]) == ("dimage-1.0", number, 1)
        assert (info["htype"], info["shape"]) == ("dimage_d-1.0", [COLUMNS, ROWS])
        assert info["size"] == len(blob)
        assert times["htype"] == "dconfig-1.0"
        assert times["real_time"] == times["stop_time"] - times["start_time"] == 20_000_000
        assert json.loads(appendix) == {"by": "me"}
        assert _legacy_pixels(info, blob).sum() > 0
    (end,) = client.parts()
    assert json.loads(end) == {"htype": "dseries_end-1.0", "series": 1}


def test_columns_are_energies_and_counts_are_electrons(make: Maker, connect: Connect) -> None:
    client = connect(make(dispersion="0.25 eV"))
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=1e-3)
    client.command("arm")
    client.command("trigger")
    client.message()
    spectrum = client.message()["data"]["threshold_1"].sum(axis=0)
    assert abs(int(spectrum.argmax()) - ZERO_LOSS) <= 2
    electrons = 50e-12 / 1.602e-19 * 1e-3
    assert 0.5 * electrons < spectrum.sum() < electrons


def test_a_blanked_beam_leaves_the_detector_dark(
    make: Maker, connect: Connect, simulation: ExsolutionSimulation
) -> None:
    client = connect(make())
    simulation.world.column.blank(True)
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=0.01)
    client.command("arm")
    client.command("trigger")
    client.message()
    assert client.message()["data"]["threshold_1"].max() == 0


def test_inte_takes_one_image_for_each_trigger_with_its_own_time(
    make: Maker, connect: Connect
) -> None:
    client = connect(make())
    client.stream(format="cbor", mode="enabled")
    client.config(trigger_mode="inte", ntrigger=3)
    client.command("arm")
    client.message()
    for number, seconds in enumerate((0.01, 0.03)):
        assert client.command("trigger", seconds)[0] == 200
        image = client.message()
        assert image["image_id"] == number
        assert image["real_time"][0] / image["real_time"][1] == pytest.approx(seconds)
    assert client.command("trigger", -1.0)[0] == 400
    assert client.state == "ready"
    client.command("disarm")
    assert client.message()["type"] == "end"


@pytest.mark.parametrize(("mode", "images"), [("exts", 2), ("exte", 1)])
def test_external_modes_wait_for_a_pulse(
    make: Maker, connect: Connect, mode: str, images: int
) -> None:
    far_end = make()
    client = connect(far_end)
    client.stream(format="cbor", mode="enabled")
    client.config(trigger_mode=mode, nimages=images, count_time=0.02)
    client.command("arm")
    client.message()
    assert client.command("trigger")[0] == 403
    far_end.pulse(0.05)
    for _ in range(images):
        image = client.message()
        expected = 0.05 if mode == "exte" else 0.02
        assert image["real_time"][0] / image["real_time"][1] == pytest.approx(expected)
    assert client.message()["type"] == "end"


@pytest.mark.parametrize(("command", "images"), [("abort", 0), ("cancel", 1), ("disarm", 1)])
def test_a_series_can_be_ended_while_it_exposes(
    make: Maker, connect: Connect, command: str, images: int
) -> None:
    client = connect(make())
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=2.0, nimages=50)
    client.command("arm")
    client.message()
    replies: list[int] = []
    trigger = threading.Thread(target=lambda: replies.append(client.command("trigger")[0]))
    trigger.start()
    while client.state != "acquire":
        time.sleep(0.01)
    began = time.monotonic()
    assert client.command(command) == (200, {"sequence id": 1})
    assert time.monotonic() - began < (0.2 if command == "abort" else 1.0)
    trigger.join(2.0)
    assert replies == [200]
    for _ in range(images):
        assert client.message()["type"] == "image"
    assert client.message()["type"] == "end"
    assert client.state == "idle"


def test_what_nobody_reads_is_lost_and_counted(make: Maker, connect: Connect) -> None:
    far_end = make(buffer=3)
    client = connect(far_end, "stream")  # the wrong port for this format
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=1e-3, frame_time=2e-3, nimages=20)
    client.command("arm")
    client.command("trigger")
    assert client.value("stream/api/1.8.0/status/dropped") == 1 + 20 + 1 - 3
    late = connect(far_end)
    assert [late.message()["type"] for _ in range(3)] == ["start", "image", "image"]
    assert not late.socket.poll(100)
    client.command("arm")
    assert client.value("stream/api/1.8.0/status/dropped") == 0


def test_each_message_goes_to_one_client_only(make: Maker, connect: Connect) -> None:
    far_end = make()
    one, two = connect(far_end), connect(far_end)
    time.sleep(0.2)  # both must be connected, which nothing tells
    one.stream(format="cbor", mode="enabled")
    one.config(count_time=1e-3, nimages=6)
    one.command("arm")
    one.command("trigger")
    got = []
    for client in (one, two):
        while client.socket.poll(200):
            got.append(client.message()["type"])
    assert sorted(got) == ["end", *["image"] * 6, "start"]


def test_nothing_is_sent_while_the_stream_is_disabled(make: Maker, connect: Connect) -> None:
    client = connect(make())
    client.config(count_time=1e-3)
    client.command("arm")
    client.command("trigger")
    assert not client.socket.poll(100)


def test_the_monitor_has_the_last_image_as_a_tiff(make: Maker, connect: Connect) -> None:
    client = connect(make())
    assert client.put("monitor/api/1.8.0/config/mode", "enabled")[0] == 200
    client.config(count_time=0.01)
    client.command("arm")
    client.command("trigger")
    assert client.get("monitor/api/1.8.0/images") == [[1, 0]]
    reply = client._http.request("GET", f"{client._root}/monitor/api/1.8.0/images/monitor")
    picture = tifffile.imread(io.BytesIO(reply.data))
    assert picture.shape == (ROWS, COLUMNS)
    assert picture.dtype == np.dtype("<u4")
    assert picture.sum() > 0


# ---------------------------------------------------------------------------- mishaps


@pytest.mark.parametrize("fault", ["lose", "duplicate", "garbage", "drop", "slow"])
def test_faults_happen_to_messages(make: Maker, connect: Connect, fault: str) -> None:
    far_end = make()
    client = connect(far_end)
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=1e-3, compression="none")
    client.command("arm")
    good = client.message()
    far_end.faults.next(fault, after=1)  # the reply to the command is good
    client.command("disarm")
    if fault == "lose":
        assert not client.socket.poll(100)
        return
    came = client.parts()[0]
    end = {"type": "end", **{k: good[k] for k in ("series_id", "series_unique_id")}}
    whole = SELF_DESCRIBED + cbor2.dumps(end)
    assert (came == whole) == (fault in ("duplicate", "slow"))
    assert bool(client.socket.poll(100)) == (fault == "duplicate")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    some.sampled_from(
        [
            b"",
            b"PUT /detector/api/1.8.0/config/count_time HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            b"GET /detector/api/1.8.0/",
            b"PUT /stream/api/1.8.0/config HTTP/1.1\r\nContent-Length: ",
            b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]
    ),
    some.binary(max_size=80),
)
def test_whatever_bytes_come_it_goes_on(
    fuzzed: tuple[Simplon, Client], head: bytes, tail: bytes
) -> None:
    far_end, client = fuzzed
    host, _, port = far_end.addresses["api"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=2.0) as stream:
        stream.sendall(head + tail)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(1 << 16):
            pass
    assert client.state == "idle"


@pytest.fixture(scope="module")
def fuzzed(simulation: ExsolutionSimulation) -> Iterator[tuple[Simplon, Client]]:
    context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
    far_end = serve(context, rows=16, columns=64, zero_loss_channel=10)
    assert isinstance(far_end, Simplon)
    client = Client(far_end, "stream2")
    yield far_end, client
    client.close()
    far_end.close()


def test_a_body_that_is_too_large_or_without_length_is_refused(make: Maker) -> None:
    far_end = make()
    host, _, port = far_end.addresses["api"].rpartition(":")
    for headers, status in (
        (b"Content-Length: 99999999999\r\n", b"413"),
        (b"A: b\r\n" * 200, b"431"),
    ):
        with socket.create_connection((host, int(port)), timeout=2.0) as stream:
            stream.sendall(
                b"PUT /detector/api/1.8.0/config/count_time HTTP/1.1\r\n" + headers + b"\r\n"
            )
            assert stream.recv(1 << 16).split(b" ")[1] == status


def test_options_that_cannot_be_are_refused(simulation: ExsolutionSimulation) -> None:
    context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
    bad: list[dict[str, Any]] = [
        {"bit_depth": 12},
        {"rows": 2},
        {"columns": 3.5},
        {"dispersion": "1 nm"},
        {"buffer": 0},
        {"initialized": 1},
        {"faults": {"fire": 1.0}},
    ]
    for options in bad:
        with pytest.raises((TypeError, ValueError)):
            serve(context, **options)
    with pytest.raises(ConfigError):
        serve(FarEndContext("ela", simulation.world.clock, simulation, {"rest": "127.0.0.1:0"}))


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(
    make: Maker, simulation: ExsolutionSimulation
) -> None:
    taken = make().addresses["stream"]
    before = threading.active_count()
    listen = {"stream2": taken}
    context = FarEndContext("ela", simulation.world.clock, simulation, listen, "here")
    with pytest.raises(OSError, match="in use"):
        serve(context)
    assert threading.active_count() == before
