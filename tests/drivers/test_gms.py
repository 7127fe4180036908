"""The GMS driver against a stand-in of our server, served by the hardened daemon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import ConfigError, InstrumentError, LeaseError, LimitError, LinkError
from acquire.instruments import (
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.remote import HardDaemon
from acquire.station import DriverContext
from drivers.conformance import check_spectrometer
from drivers.spectrometers.gms import Gms, open_gms

ROWS, CHANNELS = 8, 128
SETTING = SpectrometerSetting(400.0, 0.1, 100)
METHODS = ("hello", "status", "take", "release", "begin", "wait", "fetch", "abort")


class ServerDouble:
    """Keeps jobs in one thread; what it answers can be changed."""

    def __init__(self) -> None:
        self.server = "hotstage.gms"
        self.owner = ""
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[str] = []
        self.aborted = threading.Event()
        self.state: dict[str, Any] = {}
        self.energy_ev = 0.0
        self.disobeys_ev = 0.0
        self.shortens = 1.0
        self.busy = False
        self.lapsed = False
        self.step_ev = 0.0
        """Energy losses that the filter can take are this far apart; 0: all."""
        self.drifts_ev = 0.0
        """How far the filter has moved when spectra are taken."""
        self.token = ""
        self.deaf = threading.Event()
        """While it is set, calls wait for longer than anybody has patience."""
        self.protocol = 2
        self.spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda state: state
        self._due = 0.0
        self.slow_s = 0.0
        """How long the answer to ``begin`` is on its way."""

    def hello(self) -> dict[str, Any]:
        return {"server": self.server, "protocol": self.protocol, "python": "3.7.4"}

    def status(self) -> dict[str, Any]:
        self.calls.append("status")
        running = time.monotonic() < self._due and not self.aborted.is_set()
        busy = self.busy or running
        return {"busy": busy, "doing": "scan", "owner": "Maria", "now_s": time.monotonic()}

    def take(self, owner: str, token: str) -> str:
        self.calls.append("take")
        if self.owner and not self.lapsed and token != self.token:
            raise LeaseError(f"the microscope is in the hands of {self.owner}.")
        self.owner, self.token, self.lapsed = owner, token, False
        self.hear()
        return token

    def hear(self) -> None:
        if self.deaf.is_set():
            self.deaf.clear()
            time.sleep(1.0)

    def release(self, token: str) -> None:
        self.calls.append("release")
        self.owner = ""

    def begin(self, token: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("begin")
        if self.lapsed or token != self.token:
            raise LeaseError("the lease has lapsed.")
        self.jobs.append((kind, settings))
        self.aborted.clear()
        now = time.monotonic()
        parts, arrays = [], {}
        if kind == "tune":
            self.energy_ev = settings["energy_loss_ev"] + self.disobeys_ev
            if self.step_ev:
                self.energy_ev = round(self.energy_ev / self.step_ev) * self.step_ev
            taken = float(np.float32(self.energy_ev))
            parts.append(
                {"name": "tuned", "dispersion": settings["dispersion"], "energy_loss_ev": taken}
            )
            self._due = now
        else:
            self._due = now + 0.001
            for item in settings["exposures"]:
                end = self._due + item["exposure_s"] * self.shortens
                found = {
                    "energy_loss_ev": float(np.float32(item["energy_loss_ev"] + self.drifts_ev))
                }
                about = {"name": item["name"], "full": settings["full_counts"] and 3, **found}
                parts.append({**about, "start_s": self._due, "end_s": end})
                self._due = end
                arrays[item["name"]] = {"dtype": "<f8", "shape": [1, CHANNELS]}
        self.state = {"state": "done", "parts": parts, "arrays": arrays, "now_s": now}
        time.sleep(self.slow_s)
        return {"job": str(len(self.jobs)), "now_s": now}

    def wait(self, token: str, job_id: str, wait_s: float) -> dict[str, Any]:
        self.hear()
        if self.aborted.wait(min(wait_s, max(0.0, self._due - time.monotonic()))):
            return {**self.state, "state": "cut"}
        if time.monotonic() < self._due:
            return {"state": "running"}
        return self.spoil(self.state)

    def fetch(self, token: str, job_id: str, name: str, offset: int) -> bytes:
        value = 1000.0 if name == "low_loss" else 10.0
        data = (value + np.arange(CHANNELS)).astype("<f8").tobytes()
        return data[offset : offset + 300]

    def abort(self, token: str, job_id: str | None) -> None:
        self.calls.append("abort")
        if job_id in (None, str(len(self.jobs))):
            self.aborted.set()


@pytest.fixture
def double() -> ServerDouble:
    return ServerDouble()


@pytest.fixture
def daemon(double: ServerDouble) -> Iterator[HardDaemon]:
    made = HardDaemon()
    made.register("hotstage.gms", double, METHODS)
    made.start()
    yield made
    made.close()


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(daemon: HardDaemon, clock: WallClock) -> Iterator[Callable[..., Gms]]:
    made: list[Gms] = []

    def make(**options: Any) -> Gms:
        given = {
            "address": daemon.address,
            "dispersions": ["0.05 eV", "0.1 eV"],
            "zero_loss_channel": 20.0,
            "camera_size": [CHANNELS, ROWS],
        }
        driver = open_gms(
            DriverContext("spectrometer", clock, "station.toml"), **{**given, **options}
        )
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def gms(opened: Callable[..., Gms]) -> Gms:
    return opened()


def spectra(gms: Gms, clock: WallClock, number: int = 1, dwell_s: float = 0.02) -> list[Any]:
    gms.arm(SpectrumExposure(dwell_s, 0.01), number)
    try:
        return list(gms.frames(clock.signal()))
    finally:
        gms.disarm()


def test_it_is_a_spectrometer_and_conforms(gms: Gms, clock: WallClock) -> None:
    assert isinstance(gms, Spectrometer)
    check_spectrometer(gms, clock, SETTING)


def test_a_dual_spectrum_is_one_job_and_each_half_has_its_time(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    assert gms.tune(SETTING) == SETTING
    before = clock.now_s()
    (frame,) = spectra(gms, clock)
    assert double.jobs == [
        ("tune", {"dispersion": 1, "energy_loss_ev": 0.0}),
        ("tune", {"dispersion": 1, "energy_loss_ev": 402.0}),
        (
            "spectra",
            {
                "exposures": [
                    {"name": "low_loss", "energy_loss_ev": 0.0, "exposure_s": 0.01},
                    {"name": "core_loss", "energy_loss_ev": 402.0, "exposure_s": 0.02},
                ],
                "dispersion": 1,
                "processing": 3,
                "area": [0, 0, ROWS, CHANNELS],
                "points": None,
                "full_counts": None,
            },
        ),
    ]
    np.testing.assert_array_equal(frame.data["low_loss"], 1000 + np.arange(100))
    np.testing.assert_array_equal(frame.data["core_loss"], 10 + np.arange(100))
    low, core = frame.meta.spans["low_loss"], frame.meta.spans["core_loss"]
    assert low[1] - low[0] == pytest.approx(0.01)
    assert core[1] - core[0] == pytest.approx(0.02)
    assert before <= low[0] <= low[1] <= core[0] <= core[1] <= clock.now_s()
    assert 0 < frame.meta.scalars["time_bound"] < 0.1
    low_axis = gms.arm(SpectrumExposure(0.01), 1).channels["low_loss"].axes["energy_loss"]
    assert low_axis.offset == pytest.approx(-2.0)


def test_a_single_spectrum_asks_for_one_exposure(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(replace(SETTING, dual=False))
    (frame,) = spectra(gms, clock)
    assert set(frame.data) == {"core_loss"}
    assert [item["name"] for item in double.jobs[-1][1]["exposures"]] == ["core_loss"]


def test_a_cut_aborts_the_job_at_once(double: ServerDouble, gms: Gms, clock: WallClock) -> None:
    gms.tune(SETTING)
    gms.arm(SpectrumExposure(30.0), 1)
    stop = clock.signal()
    threading.Timer(0.1, stop.set).start()
    begun = time.monotonic()
    assert list(gms.frames(stop)) == []
    assert time.monotonic() - begun < 0.1 + 0.25
    gms.disarm()
    assert double.aborted.is_set()
    assert len(spectra(gms, clock)) == 1


def test_the_offset_that_the_filter_took_is_told(double: ServerDouble, gms: Gms) -> None:
    double.disobeys_ev = 0.25
    assert gms.tune(replace(SETTING, dual=False)).energy_offset_ev == pytest.approx(400.25)
    double.disobeys_ev = 3.0
    with pytest.raises(InstrumentError, match="instead of 402 eV"):
        gms.tune(replace(SETTING, dual=False))
    with pytest.raises(InstrumentError, match="not tuned"):
        gms.arm(SpectrumExposure(0.01))


def test_both_axes_are_those_that_the_filter_took(
    double: ServerDouble, opened: Callable[..., Gms], clock: WallClock
) -> None:
    gms = opened(low_loss_offset="5.1 eV")
    double.step_ev = 0.25
    assert gms.tune(SETTING).energy_offset_ev == pytest.approx(400.0)
    spec = gms.arm(SpectrumExposure(0.02, 0.01), 1)
    offsets = {name: channel.axes["energy_loss"].offset for name, channel in spec.channels.items()}
    assert offsets == {"core_loss": pytest.approx(400.0), "low_loss": pytest.approx(3.0)}
    assert len(list(gms.frames(clock.signal()))) == 1


def test_a_spectrum_at_another_energy_than_its_axis_says_is_an_error(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.drifts_ev = 0.3
    with pytest.raises(InstrumentError, match="nobody else"):
        spectra(gms, clock)


def test_a_dark_level_that_nobody_takes_away_is_refused(opened: Callable[..., Gms]) -> None:
    with pytest.raises(ValueError, match="dark_subtracted"):
        opened(processing="unprocessed")


def test_how_far_times_may_be_off_is_told_with_what_the_camera_took_longer(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.shortens = 3.0
    (frame,) = spectra(gms, clock)
    assert frame.meta.scalars["time_bound"] >= 2 * 0.02


def test_full_pixels_are_told_where_it_is_known_what_that_is(
    opened: Callable[..., Gms], clock: WallClock
) -> None:
    for options, full in (({}, np.nan), ({"saturation_counts": 60000}, 6.0)):
        gms = opened(**options)
        gms.tune(SETTING)
        (frame,) = spectra(gms, clock)
        assert frame.meta.scalars["saturated_pixels"] == pytest.approx(full, nan_ok=True)
        gms.close()


def test_a_job_that_an_unheard_answer_left_behind_is_ended(
    double: ServerDouble, gms: Gms, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.spectrometers.gms_client.BUSY_S", 2.0)
    monkeypatch.setattr("drivers.spectrometers.gms_client.CALL_S", 0.3)
    gms.tune(SETTING)
    double.deaf.set()
    with pytest.raises(LinkError):
        spectra(gms, clock, dwell_s=60.0)
    assert len(spectra(gms, clock)) == 1


def test_a_lease_whose_answer_was_not_heard_is_ours_all_the_same(
    double: ServerDouble, opened: Callable[..., Gms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.spectrometers.gms_client.CALL_S", 0.3)
    gms = opened()
    double.deaf.set()
    with pytest.raises(LinkError):
        gms.tune(SETTING)
    assert gms.tune(SETTING) == SETTING


def test_two_who_begin_at_once_share_one_lease(double: ServerDouble, gms: Gms) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def tune() -> None:
        together.wait()
        try:
            gms.tune(SETTING)
        except InstrumentError as error:
            errors.append(error)

    threads = [threading.Thread(target=tune) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert double.calls.count("take") == 1


def test_an_acquisition_that_is_armed_while_the_filter_is_tuned_has_the_axis_of_its_spectra(
    double: ServerDouble, gms: Gms, monkeypatch: pytest.MonkeyPatch
) -> None:
    gms.tune(SETTING)
    specs: list[StreamSpec] = []
    other = threading.Thread(target=lambda: specs.append(gms.arm(SpectrumExposure(0.01), 1)))
    armed = gms._acquisition.armed

    def somebody_arms_it_now() -> bool:
        found = armed()
        other.start()
        other.join(0.5)
        return found

    monkeypatch.setattr(gms._acquisition, "armed", somebody_arms_it_now)
    gms.tune(replace(SETTING, energy_offset_ev=500.0))
    other.join(10)
    assert double.energy_ev == pytest.approx(502.0)
    assert specs[0].channels["core_loss"].axes["energy_loss"].offset == 500.0


def test_a_lease_that_has_lapsed_is_taken_anew_and_nothing_is_sent_twice(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.lapsed = True
    assert len(spectra(gms, clock)) == 1
    assert double.calls.count("take") == 2
    assert [kind for kind, _ in double.jobs] == ["tune", "tune", "spectra"]


def test_somebody_elses_hands_are_a_clear_error(double: ServerDouble, gms: Gms) -> None:
    double.owner = "Maria"
    with pytest.raises(LeaseError, match="hands of Maria"):
        gms.tune(SETTING)
    assert double.jobs == []


def test_a_server_that_stays_busy_is_a_clear_error(
    double: ServerDouble, gms: Gms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.spectrometers.gms_client.BUSY_S", 0.3)
    double.busy = True
    with pytest.raises(InstrumentError, match="busy with 'scan' of Maria"):
        gms.tune(SETTING)
    assert double.jobs == []


def test_an_exposure_is_as_long_as_it_was_also_when_the_answer_comes_slowly(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.slow_s = 0.02  # the middle of the call lies 0.01 s after GMS began to expose
    [frame] = spectra(gms, clock)
    low, high = frame.meta.spans["core_loss"]
    assert high - low == pytest.approx(0.02, abs=1e-6)
    assert frame.t_end_s <= clock.now_s()


def test_a_shortened_exposure_is_an_error(double: ServerDouble, gms: Gms, clock: WallClock) -> None:
    gms.tune(SETTING)
    double.shortens = 0.5
    with pytest.raises(InstrumentError, match="has shortened it"):
        spectra(gms, clock)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: {**state, "arrays": {}},
        lambda state: {**state, "parts": []},
        lambda state: {**state, "parts": ["core_loss"]},
        lambda state: {
            **state,
            "arrays": {n: {"dtype": "<f8", "shape": [1, 1 << 40]} for n in state["arrays"]},
        },
        lambda state: {
            **state,
            "arrays": {n: {"dtype": "|O", "shape": [1, CHANNELS]} for n in state["arrays"]},
        },
        lambda state: {
            **state,
            "arrays": {n: {"dtype": "<f8", "shape": [1, 10]} for n in state["arrays"]},
        },
        lambda state: {"state": "done"},
    ],
)
def test_answers_that_cannot_be_are_link_errors(
    double: ServerDouble,
    gms: Gms,
    clock: WallClock,
    spoil: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    gms.tune(SETTING)
    double.spoil = spoil
    with pytest.raises(LinkError):
        spectra(gms, clock)
    double.spoil = lambda state: state
    assert len(spectra(gms, clock)) == 1


def test_a_lost_server_is_a_link_error_and_comes_back(
    double: ServerDouble, daemon: HardDaemon, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    daemon.close()
    with pytest.raises(LinkError, match=r"server\.py"):
        spectra(gms, clock)
    again = HardDaemon(daemon.address)
    again.register("hotstage.gms", double, METHODS)
    again.start()
    try:
        assert len(spectra(gms, clock)) == 1
    finally:
        again.close()


@pytest.mark.parametrize("wrong", [{"server": "array.server"}, {"protocol": 1}])
def test_another_server_is_refused(
    double: ServerDouble, opened: Callable[..., Gms], wrong: dict[str, Any]
) -> None:
    for name, value in wrong.items():
        setattr(double, name, value)
    with pytest.raises(InstrumentError, match="not ours"):
        opened()


def test_another_computer_is_refused(opened: Callable[..., Gms]) -> None:
    with pytest.raises(ConfigError, match="beyond this machine"):
        opened(address="10.0.0.79:9091")


def test_limits(gms: Gms) -> None:
    for wrong, words in (
        (replace(SETTING, dispersion_ev=0.07), r"0\.05 eV, 0\.1 eV"),
        (replace(SETTING, dispersion_ev=0.2), "dispersion 0"),
        (replace(SETTING, channels=CHANNELS + 1), "channels"),
        (replace(SETTING, energy_offset_ev=float("nan")), "energy offset"),
    ):
        with pytest.raises(LimitError, match=words):
            gms.tune(wrong)


def test_closing_gives_the_lease_back(double: ServerDouble, gms: Gms) -> None:
    gms.tune(SETTING)
    gms.close()
    gms.close()
    assert double.calls.count("release") == 1
    with pytest.raises(LinkError):
        gms.tune(SETTING)
