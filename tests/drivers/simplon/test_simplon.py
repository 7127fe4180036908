"""The SIMPLON driver against a stand-in of a DECTRIS detector."""

from __future__ import annotations

import math
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Spectrometer, SpectrumExposure
from acquire.station import DriverContext
from drivers.conformance import check_spectrometer
from drivers.spectrometers import simplon_stream
from drivers.spectrometers.simplon import open_simplon
from tests.drivers.emccd_double import EmccdDouble
from tests.drivers.simplon.conftest import SETTING, Opener, spectra
from tests.drivers.simplon_double import SHAPE, SimplonDouble, cbor_image, until

VERSIONS = ("cbor", "legacy")


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_a_spectrometer_and_conforms(opened: Opener, clock: WallClock, version: str) -> None:
    driver = opened(version=version)
    assert isinstance(driver, Spectrometer)
    check_spectrometer(driver, clock, SETTING)


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_are_summed_and_pixels_without_data_left_out(
    double: SimplonDouble, opened: Opener, clock: WallClock, version: str
) -> None:
    def image(number: int) -> Any:
        pixels = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE)
        pixels[1, 7] = 0xFFFF
        return pixels

    double.image = image
    (frame,) = spectra(opened(version=version, rows=[1, 3]), clock, 0.01, 1)
    expected = image(0)[1:3].astype(np.int64)
    expected[0, 7] = 0
    np.testing.assert_array_equal(frame.data["core_loss"], expected.sum(axis=0)[:100])
    assert frame.data["core_loss"].dtype == np.int32
    assert frame.meta.scalars["no_data"] == 1.0


def test_a_series_is_armed_and_triggered_once_for_all_its_spectra(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    frames = spectra(opened(), clock, 0.02, 5)
    assert [frame.data["core_loss"][0] for frame in frames] == [4, 8, 12, 16, 20]
    until(lambda: double.commands()[-1] == "disarm")
    assert double.commands() == ["arm", "trigger", "disarm"]
    assert double.config["nimages"] == 5
    assert double.config["trigger_mode"] == "ints"
    assert double.stream == {"mode": "enabled", "format": "cbor"}


def test_an_exposure_fits_its_frame_at_every_moment(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.config |= {"count_time": 0.05, "frame_time": 0.06}
    for dwell_s in (0.2, 0.01):
        spectra(opened(), clock, dwell_s, 1)
    sent = [(path.rsplit("/", 1)[1], value) for method, path, value in double.requests if value]
    count_s, frame_s = 0.05, 0.06
    for name, value in sent:
        count_s = value if name == "count_time" else count_s
        frame_s = value if name == "frame_time" else frame_s
        assert frame_s > count_s


def test_times_are_those_of_the_station_and_follow_the_detectors_pace(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    before = clock.now_s()
    frames = spectra(opened(gap="10 ms"), clock, 0.05, 4)
    starts = [frame.t_start_s for frame in frames]
    assert before < starts[0] < before + 1
    assert np.diff(starts) == pytest.approx(0.06, abs=1e-6)
    for frame in frames:
        assert frame.t_end_s - frame.t_start_s == pytest.approx(0.05, abs=1e-6)
        assert 0 <= frame.meta.scalars["late"] < 0.2
        assert frame.meta.spans["core_loss"] == (frame.t_start_s, frame.t_end_s)
    assert frames[0].meta.scalars["device_start"] == pytest.approx(3.0)


def test_endless_acquisitions_go_on_with_a_new_series(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened(series_length=3)
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(0.005), None)
    frames = driver.frames(clock.signal())
    taken = [next(frames) for _ in range(7)]
    frames.close()  # type: ignore[attr-defined]
    driver.disarm()
    assert [frame.index for frame in taken] == list(range(7))
    assert double.commands().count("arm") == 3
    until(lambda: double.commands()[-1] == "abort")


def test_a_cut_aborts_the_series_and_the_next_one_is_not_disturbed(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened()
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(30.0), 1)
    stop = clock.signal()
    threading.Timer(0.2, stop.set).start()
    begun = time.monotonic()
    assert list(driver.frames(stop)) == []
    assert time.monotonic() - begun < 0.2 + 0.25
    driver.disarm()
    # what the old series has left in the stream must not be taken for the new one's
    double.push([cbor_image(double.series, 0, np.full(SHAPE, 999, np.uint16), 0.0, 30.0)])
    (frame,) = spectra(driver, clock, 0.01, 1)
    assert frame.data["core_loss"][0] == SHAPE[0]


# ------------------------------------------------------------------------- what goes wrong


def test_a_missing_image_is_an_error(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.mangle = lambda number, parts: [] if number == 1 else [parts]
    with pytest.raises(InstrumentError, match=r"image 1 of series 7 .* was lost: 2 came"):
        spectra(opened(), clock, 0.01, 4)


def test_a_doubled_image_is_taken_once(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.mangle = lambda number, parts: [parts, parts]
    frames = spectra(opened(), clock, 0.01, 3)
    assert [frame.data["core_loss"][0] for frame in frames] == [4, 8, 12]


def test_a_series_that_ends_early_is_an_error(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.mangle = lambda number, parts: []
    with pytest.raises(InstrumentError, match="ended its series after 0 of 2"):
        spectra(opened(), clock, 0.01, 2)


@pytest.mark.parametrize(
    ("mangled", "words"),
    [
        (b"\xff\xff", "cannot be read"),
        (cbor2.dumps([1, 2]), "no map"),
        (cbor2.dumps({"type": "movie"}), "unknown type"),
        (cbor_image(7, 0, np.zeros((3, 128), np.uint16), 0, 1), r"\(3, 128\) pixels instead"),
    ],
)
def test_a_message_that_is_none_is_an_error_and_the_next_series_is_right(
    double: SimplonDouble, opened: Opener, clock: WallClock, mangled: bytes, words: str
) -> None:
    driver = opened()
    double.mangle = lambda number, parts: [[mangled]]
    with pytest.raises(InstrumentError, match=words):
        spectra(driver, clock, 0.01, 2)
    double.mangle = lambda number, parts: [parts]
    assert len(spectra(driver, clock, 0.01, 2)) == 2


def test_a_refused_command_says_what_and_why(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened()
    double.answer = lambda method, path: (400, b"too long") if "count_time" in path else None
    with pytest.raises(InstrumentError, match=r"refused PUT .*count_time: 400 .*too long"):
        spectra(driver, clock, 0.01, 1)
    double.answer = lambda method, path: None
    assert len(spectra(driver, clock, 0.01, 1)) == 1


def test_another_exposure_than_was_asked_for_is_an_error(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened()
    double.answer = lambda method, path: (
        (200, b"[]") if method == "PUT" and path.endswith("count_time") else None
    )
    with pytest.raises(InstrumentError, match=r"exposes for 0\.5 s"):
        spectra(driver, clock, 0.01, 1)


def test_a_trigger_that_fails_ends_the_wait(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.answer = lambda method, path: (
        (500, b"high voltage") if "command/trigger" in path else None
    )
    begun = time.monotonic()
    with pytest.raises(InstrumentError, match="high voltage"):
        spectra(opened(), clock, 5.0, 1)
    assert time.monotonic() - begun < 2


def test_a_detector_that_is_busy_is_aborted_first(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened()
    double.state = "acquire"
    assert len(spectra(driver, clock, 0.01, 1)) == 1
    assert double.commands()[0] == "abort"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"description": "Merlin 4R"}, "not a 'dectris'"),
        ({"state": "na"}, "not initialized"),
    ],
)
def test_a_wrong_detector_is_refused(
    double: SimplonDouble, opened: Opener, change: dict[str, str], words: str
) -> None:
    double.state = change.get("state", "idle")
    double.config |= {"description": change.get("description", "Dectris ELA")}
    with pytest.raises(InstrumentError, match=words):
        opened()


def test_another_version_of_the_interface_is_refused(double: SimplonDouble, opened: Opener) -> None:
    with pytest.raises(InstrumentError, match="option api"):
        opened(api="1.6.0")


def test_silence_and_nobody_are_clear_errors(clock: WallClock) -> None:
    context = DriverContext("spectrometer", clock, "station.toml")
    axis = {"energy_offset": "400 eV", "dispersion": "0.1 eV"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(LinkError, match="no complete answer within 3 s"):
            open_simplon(context, rest=address, stream=address, **axis)
        assert time.monotonic() - begun < 4
    with pytest.raises(LinkError, match="connection refused"):
        open_simplon(context, rest=address, stream=address, **axis)


def test_a_stream_that_nobody_sends_is_a_clear_error(
    double: SimplonDouble, opened: Opener, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplon_stream, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        driver = opened(stream=f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(LinkError, match="31001 for cbor"):
            spectra(driver, clock, 0.01, 1)
    assert "arm" not in double.commands()


# ---------------------------------------------------------------------- limits and options


def test_a_fixed_axis_takes_only_itself(opened: Opener) -> None:
    driver = opened()
    assert driver.tune(SETTING) == SETTING
    with pytest.raises(LimitError, match="set by hand"):
        driver.tune(replace(SETTING, energy_offset_ev=500.0))
    with pytest.raises(LimitError, match="dual spectrum refused"):
        driver.check(replace(SETTING, dual=True))
    with pytest.raises(LimitError, match="channels"):
        driver.check(replace(SETTING, channels=SHAPE[1] + 1))
    with pytest.raises(LimitError, match="dwell time"):
        driver.arm(SpectrumExposure(math.nan))
    with pytest.raises(LimitError, match="dwell time"):
        driver.arm(SpectrumExposure(2000.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": "v3"},
        {"gap": "10"},
        {"rows": [3, 3]},
        {"rows": 3},
        {"series_length": 0},
        {"energy_offset": None},
        {"rest": "nowhere"},
        {"stream": "nowhere"},
        {"filter": "127.0.0.1:1", "dispersions": None},
    ],
)
def test_options_that_cannot_be_are_refused(opened: Opener, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        opened(**wrong)


def test_dual_spectra_go_through_a_filter_that_obeys(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    with EmccdDouble() as gatan:
        losses: list[float] = []

        def image(number: int) -> Any:
            losses.append(gatan.loss)
            return np.full(SHAPE, len(losses), np.uint16)

        double.image = image
        driver = opened(
            filter=gatan.address,
            dispersions=["0.05 eV", "0.1 eV", "0.5 eV"],
            zero_loss_channel=20.0,
        )
        taken = driver.tune(replace(SETTING, dual=True))
        assert taken == replace(SETTING, dual=True)
        spec = driver.arm(SpectrumExposure(0.05, 0.01), 2)
        frames = list(driver.frames(clock.signal()))
        driver.disarm()
    assert losses == pytest.approx([0.0, 402.0, 0.0, 402.0])
    assert spec.channels["low_loss"].axes["energy_loss"].offset == pytest.approx(-2.0)
    for number, frame in enumerate(frames):
        assert frame.data["low_loss"][0] == SHAPE[0] * (2 * number + 1)
        assert frame.data["core_loss"][0] == SHAPE[0] * (2 * number + 2)
        low, core = (frame.meta.spans[name] for name in ("low_loss", "core_loss"))
        assert low[1] - low[0] == pytest.approx(0.01, abs=1e-6)
        assert core[1] - core[0] == pytest.approx(0.05, abs=1e-6)
        assert low[1] <= core[0]
