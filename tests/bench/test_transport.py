"""The transport's bench says what it sees: it fails when a goal is missed, and measures what it claims to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from acquire.bench import transport, transport_frames, transport_lease
from acquire.bench.transport_child import served
from acquire.bench.transport_source import BenchScan, exposure, value_of
from acquire.clock import WallClock
from acquire.errors import ConfigError, HotstageError


def test_unknown_parts_and_senseless_times_are_refused() -> None:
    with pytest.raises(ConfigError, match="take some of frames, torn"):
        transport.main("frames,nonsense")
    for soak in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match="--soak"):
            transport.main(None, soak)


@pytest.mark.process
def test_a_missed_goal_is_an_exit_status_of_1_only_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    assert transport.main("intruders", json=path, check=True, quick=True) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["good"] is True
    assert {"no certificate", "revoked", "TLS 1.2"} <= {one["what"] for one in found["verdicts"]}

    def open_door(folder: Path) -> dict[str, tuple[bool, bool]]:
        return {"revoked": (False, False)}

    monkeypatch.setattr("acquire.bench.transport_hostile.intruders", open_door)
    assert transport.main("intruders", quick=True) == 0
    assert transport.main("intruders", check=True, quick=True) == 1
    assert "LET IN, NOT LOGGED" in capsys.readouterr().out


def test_what_cannot_be_measured_is_not_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bench: transport.Bench) -> None:
        raise HotstageError("the server of the bench did not start.")

    monkeypatch.setitem(transport.PARTS, "torn", broken)
    assert transport.main("torn", check=True, quick=True, json=tmp_path / "j") == 1
    assert json.loads((tmp_path / "j").read_text(encoding="utf-8"))["failures"]


def test_frames_of_the_source_can_be_told_apart() -> None:
    scan = BenchScan(WallClock())
    scan.arm(exposure(8), 20)
    for frame in scan.frames(WallClock().signal()):
        assert (frame.data["full"] == value_of(frame.index)).all()
    assert len({value_of(n) for n in range(7)}) == 7


@pytest.mark.process
def test_a_pixel_of_another_frame_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as plain:
        assert transport_frames.count_torn(plain, 50, side=128) == 0
        # as if frame 63 (the counting goes on) had come with one pixel of its neighbour
        monkeypatch.setattr(transport_frames, "value_of", lambda n: value_of(n) + (n == 63))
        assert transport_frames.count_torn(plain, 50, side=128) == 1


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_heater_is_safe_within_the_time_to_live_of_a_cut_network() -> None:
    took = transport_lease.safe_after(transport_lease.CUT, 2, seed=1)
    assert len(took) == 2
    assert all(1.0 < one < 2.3 for one in took)


def test_ratios_pair_what_was_measured_in_one_round() -> None:
    speeds = transport_frames.Speeds()
    for peer_s, own_s in ((1.0, 2.0), (3.0, 4.0)):
        speeds.add("raw", 256, peer_s)
        speeds.add("plain", 256, own_s)
    assert np.allclose(speeds.ratios("raw", "plain", 256), [0.5, 0.75])
