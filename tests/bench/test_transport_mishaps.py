"""The bench kills, freezes and cuts what it says, and looks where it says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from acquire.bench import (
    transport,
    transport_lease,
    transport_loop,
    transport_namespace,
    transport_supervised,
)
from acquire.bench.transport_loop import Followed
from acquire.bench.transport_supervised import Deaths


def verdicts(path: Path) -> dict[str, bool | None]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return {one["what"]: one["good"] for one in found["verdicts"]}


@pytest.mark.process
@pytest.mark.timeout(120)
def test_a_killed_server_is_seen_at_the_far_end_to_return_and_in_the_end_to_stay_down() -> None:
    (found,) = transport_supervised.deaths(transport_supervised.KILL, 1, seed=1)
    assert found.problems == []
    assert len(found.safe_s) == 3
    assert all(math.isfinite(one) for one in found.safe_s)
    assert len(found.returned_s) == 2
    assert found.latched is True


def test_every_holder_on_a_wire_has_its_server_killed() -> None:
    drivers = {station.file.holder.driver for station in transport_supervised.stations()}
    assert {"impulse", "source_meter_heater", "eurotherm"} <= drivers


GOOD = {"safe_s": [0.2, 0.3, 1.8], "returned_s": [3.0, 4.0], "latched": True}


@pytest.mark.parametrize(
    "changed",
    [
        {"safe_s": [0.2, 0.3, 3.1]},
        {"safe_s": [0.2, math.inf, 0.2]},
        {"safe_s": []},
        {"returned_s": [3.0]},
        {"latched": False},
        {"latched": None},
        {"problems": ["the supervisor did not start"]},
    ],
)
def test_a_supervisor_that_is_late_or_gives_up_is_a_missed_goal(
    changed: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaths(facts: dict[str, object]) -> None:
        made = Deaths("founding", **{**GOOD, **facts})  # type: ignore[arg-type]
        monkeypatch.setattr(transport_supervised, "deaths", lambda *given: [made])

    deaths({})
    assert transport.main("supervisor", check=True, quick=True) == 0
    deaths(changed)
    path = tmp_path / "found.json"
    assert transport.main("supervisor", json=path, check=True, quick=True) == 1
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.process
def test_a_network_of_its_own_is_cut_and_the_heater_is_off_when_its_time_is_over(
    tmp_path: Path,
) -> None:
    if reason := transport_namespace.why_not():
        pytest.skip(reason)
    took = transport_namespace.cut(2, 1, tmp_path / "keys")
    assert len(took) == 2
    # not at once, as if the connection had been closed
    assert all(1.0 < one < math.inf for one in took)


def test_the_row_tells_how_the_network_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_lease, "WAYS", (transport_lease.CUT,))
    monkeypatch.setattr(transport_lease, "safe_after", lambda *given: [2.0])
    monkeypatch.setattr(transport_namespace, "cut", lambda *given: [1.9])
    path = tmp_path / "found.json"
    for reason, words in (("", "a network namespace, TLS"), ("forbidden", "a proxy that goes")):
        monkeypatch.setattr(transport_namespace, "why_not", lambda reason=reason: reason)
        assert transport.main("lease", json=path, check=True, quick=True) == 0
        assert [what for what in verdicts(path) if words in what]


@pytest.mark.parametrize(
    ("followed", "status"),
    [
        (Followed([0.5, 1.9], [1.0], 802.0, [0.02, 0.021]), 0),
        (Followed([0.5, 2.1], [1.0], 802.0, [0.02, 0.021]), 1),
        (Followed([0.5, 1.9], [2.1], 802.0, [0.02, 0.021]), 1),
        (Followed([0.5, 1.9], [1.0], 803.1, [0.02, 0.021]), 1),
        (Followed([0.5, 1.9], [1.0], 802.0, [0.04, 0.041]), 1),
    ],
)
def test_a_loop_that_does_not_follow_is_a_missed_goal(
    followed: Followed, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_loop, "follow", lambda quick: followed)
    assert transport.main("loop", check=True, quick=True) == status


def test_what_was_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transport, "PARTS", {})
    path = tmp_path / "found.json"
    assert transport.main(json=path, check=True) == 0
    assert verdicts(path) == {"false trips": None}
    assert "--soak 600" in capsys.readouterr().out
