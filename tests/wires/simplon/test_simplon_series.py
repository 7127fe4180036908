"""Series of images that the far end sends, as ZeroMQ, CBOR and DECTRIS's own decompressor read them."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from simulators.instruments import ExsolutionSimulation
from tests.wires.simplon.conftest import COLUMNS, RATE, ROWS, ZERO_LOSS, Connect, Maker, decompress


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
