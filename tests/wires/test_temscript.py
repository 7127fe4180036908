"""The temscript far end, as its own client and as a bare HTTP client see it."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from temscript import RemoteMicroscope

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.temscript import TemscriptEnd, serve

RATE = 20.0


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, specimen="reference_domes", dome_diameters=["8 nm"])


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[TemscriptEnd]:
    made = serve(FarEndContext("tem", simulation.world.clock, simulation), full_size=512)
    assert isinstance(made, TemscriptEnd)
    yield made
    made.close()
    simulation.world.column.blank(False)
    x, y = simulation.world.column.shift()
    simulation.world.column.shift_by(-x, -y)


@pytest.fixture
def microscope(end: TemscriptEnd) -> Iterator[RemoteMicroscope]:
    host, port = end.addresses["http"].split(":")
    made = RemoteMicroscope((host, int(port)), timeout=10.0)
    yield made
    made._conn.close()


def ask(
    end: TemscriptEnd,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(end.addresses["http"], timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def test_its_own_client_finds_the_microscope(microscope: RemoteMicroscope) -> None:
    assert int(microscope.get_version().split(".")[0]) >= 2
    assert microscope.get_family() == "TITAN"
    assert microscope.get_voltage() == 300.0
    assert microscope.is_stem_available()
    assert set(microscope.get_stem_detectors()) == {"HAADF", "ABF"}
    assert microscope.get_stage_position() == {"x": 0, "y": 0, "z": 0, "a": 0, "b": 0}


def test_its_own_client_acquires_images_of_the_simulation(
    microscope: RemoteMicroscope, simulation: ExsolutionSimulation
) -> None:
    microscope.set_stem_acquisition_param(
        {"image_size": "FULL", "binning": 8, "dwell_time(s)": 2e-6}
    )
    images = microscope.acquire("HAADF", "ABF", "nothing of that name")
    assert set(images) == {"HAADF", "ABF"}
    for image in images.values():
        assert image.shape == (64, 64)
        assert image.dtype == np.uint16
        assert image.mean() > 0
    # bright domes are dark in bright field
    assert np.corrcoef(images["HAADF"].ravel(), images["ABF"].ravel())[0, 1] < 0
    assert simulation.world.field_of_view is not None
    assert simulation.world.field_of_view.shape == (64, 64)
    assert simulation.world.field_of_view.dwell_time_s == 2e-6


def test_a_blanked_beam_gives_dark_images(microscope: RemoteMicroscope) -> None:
    microscope.set_stem_acquisition_param({"binning": 8})
    microscope.set_beam_blanked(True)
    assert microscope.get_beam_blanked() is True
    dark = microscope.acquire("HAADF")["HAADF"].mean()
    microscope.set_beam_blanked(False)
    assert dark < microscope.acquire("HAADF")["HAADF"].mean()


def test_part_of_the_field_has_the_same_pixels(
    microscope: RemoteMicroscope, simulation: ExsolutionSimulation
) -> None:
    pixels = []
    for size in ("FULL", "HALF", "QUARTER"):
        microscope.set_stem_acquisition_param({"image_size": size, "binning": 4})
        microscope.acquire("HAADF")
        assert simulation.world.field_of_view is not None
        pixels.append(simulation.world.field_of_view.pixel_size_nm)
    assert pixels == pytest.approx([pixels[0]] * 3)


def test_magnifications_are_those_that_there_are(
    microscope: RemoteMicroscope, simulation: ExsolutionSimulation
) -> None:
    microscope.set_stem_magnification(1e6)
    taken = microscope.get_stem_magnification()
    assert taken != 1e6
    assert taken == pytest.approx(1e6, rel=0.2)
    microscope.set_stem_acquisition_param({"binning": 16, "image_size": "FULL"})
    microscope.acquire("HAADF")
    assert simulation.world.field_of_view is not None
    assert simulation.world.field_of_view.field_of_view_nm == pytest.approx(1e8 / taken)


def test_beam_shift_and_stage_move_the_view_the_other_way_round(
    microscope: RemoteMicroscope, simulation: ExsolutionSimulation
) -> None:
    microscope.set_beam_shift((3e-9, -2e-9))
    assert simulation.world.column.shift() == pytest.approx((3.0, -2.0))
    microscope.set_stage_position(x=1e-9)
    assert microscope.get_beam_shift() == pytest.approx([3e-9, -2e-9])
    assert simulation.world.column.shift() == pytest.approx((2.0, -2.0))
    assert microscope.get_stage_position()["x"] == pytest.approx(1e-9)


def test_what_cannot_be_is_refused_and_changes_nothing(microscope: RemoteMicroscope) -> None:
    before = microscope.get_stem_acquisition_param()
    for wrong in (
        {"binning": 3},
        {"dwell_time(s)": 10.0},
        {"image_size": "DOUBLE"},
        {"binning": 2, "speed": 1},
    ):
        with pytest.raises(RuntimeError, match="500"):
            microscope.set_stem_acquisition_param(wrong)
    assert microscope.get_stem_acquisition_param() == before
    microscope.set_stem_acquisition_param({"speed": 1}, ignore_errors=True)
    with pytest.raises(RuntimeError, match="500"):
        microscope.set_stage_position(x=1.0)
    with pytest.raises(KeyError):
        microscope.get_stem_detector_param("BF")


def test_detector_gains_are_kept(microscope: RemoteMicroscope) -> None:
    microscope.set_stem_detector_param("HAADF", {"brightness": 0.3, "contrast": 0.7})
    assert microscope.get_stem_detector_param("HAADF") == {"brightness": 0.3, "contrast": 0.7}


def test_stem_images_need_the_mode_stem(microscope: RemoteMicroscope) -> None:
    microscope.set_instrument_mode("TEM")
    with pytest.raises(RuntimeError, match="mode STEM"):
        microscope.acquire("HAADF")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/beam_blanked", None, 200),
        ("PUT", "/v1/beam_blanked", "false", 204),
        ("GET", "/v1/no_such_thing", None, 404),
        ("GET", "/v2/family", None, 404),
        ("GET", "/", None, 404),
        ("PUT", "/v1/family", '"TITAN"', 404),
        ("PUT", "/v1/beam_shift", '"left"', 500),
        ("PUT", "/v1/beam_shift", "[1, NaN]", 500),
        ("PUT", "/v1/beam_blanked", "{", 500),
        ("PUT", "/v1/beam_blanked", "0" * 4097, 500),
        ("POST", "/v1/beam_blanked", "true", 501),
        ("GET", "/v1/acquire?detectors=nothing", None, 200),
    ],
)
def test_statuses(end: TemscriptEnd, method: str, path: str, body: str | None, status: int) -> None:
    assert ask(end, method, path, body)[0] == status


def test_long_answers_are_compressed_for_those_who_can(end: TemscriptEnd) -> None:
    path = "/v1/stem_detectors"
    _, plain_headers, plain = ask(end, "GET", path)
    assert "Content-Encoding" not in plain_headers
    ask(end, "PUT", "/v1/stem_acquisition_param", '{"binning": 16}')
    _, headers, packed = ask(
        end, "GET", "/v1/acquire?detectors=HAADF", headers={"Accept-Encoding": "gzip"}
    )
    assert headers["Content-Encoding"] == "gzip"
    image: dict[str, Any] = json.loads(gzip.decompress(packed))["HAADF"]
    assert (image["width"], image["height"], image["encoding"]) == (32, 32, "BASE64")
    assert json.loads(plain)["ABF"]["type"] == "STEM_DETECTOR"


def test_senseless_bytes_end_only_their_own_connection(end: TemscriptEnd) -> None:
    rng = random.Random(3)
    host, port = end.addresses["http"].split(":")
    for _ in range(150):
        noise = rng.randbytes(rng.randrange(1, 400)) + b"\n\n"
        with socket.create_connection((host, int(port)), timeout=5) as peer:
            peer.sendall(noise)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
    begun = time.monotonic()
    assert ask(end, "GET", "/v1/family")[0] == 200
    assert time.monotonic() - begun < 0.5


def raw(end: TemscriptEnd) -> bytes:
    host, port = end.addresses["http"].split(":")
    with socket.create_connection((host, int(port)), timeout=5) as peer:
        peer.sendall(b"GET /v1/family HTTP/1.0\r\n\r\n")
        came = b""
        while piece := peer.recv(4096):
            came += piece
        return came


def test_faults_happen_to_replies(end: TemscriptEnd) -> None:
    whole = raw(end)
    assert whole.startswith(b"HTTP/1.0 200 ")
    end.faults.next("disconnect")
    part = raw(end)
    assert len(part) < len(whole)
    assert whole.startswith(part)
    assert raw(end) == whole
