"""The GMS driver's link to the server: leases, lost answers, answers that cannot be, other servers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.errors import ConfigError, InstrumentError, LeaseError, LinkError
from acquire.remote import HardDaemon
from drivers.spectrometers.gms import Gms
from tests.drivers.gms.conftest import CHANNELS, METHODS, SETTING, ServerDouble, spectra


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


def test_closing_gives_the_lease_back(double: ServerDouble, gms: Gms) -> None:
    gms.tune(SETTING)
    gms.close()
    gms.close()
    assert double.calls.count("release") == 1
    with pytest.raises(LinkError):
        gms.tune(SETTING)
