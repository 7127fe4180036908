"""`hotstage bench wires` tells what every driver went through, and which of them failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acquire.errors import ConfigError
from drivers.conformance import report
from drivers.conformance.proxy import Disturbance
from drivers.conformance.suite import ChannelSuite


def test_the_table_has_a_row_for_every_trial_and_tells_who_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: ChannelSuite) -> None:
        raise AssertionError("it is broken on purpose.")

    def quick(self: ChannelSuite) -> None:
        assert len(self.disturbances) == 1

    monkeypatch.setattr(ChannelSuite, "test_link_lost", broken)
    monkeypatch.setattr(ChannelSuite, report.DISTURBED, quick)
    for slow in ("test_closing", "test_opening_on_a_dead_wire"):
        monkeypatch.setattr(ChannelSuite, slow, lambda self: None)
    document = tmp_path / "wires.json"
    assert report.main("source_meter_resistance", document, check=True) == 1
    trials = json.loads(document.read_text(encoding="utf-8"))["trials"]
    assert {trial["driver"] for trial in trials} == {"source_meter_resistance"}
    assert {f"a reply {each}" for each in Disturbance} < {trial["what"] for trial in trials}
    assert [trial["what"] for trial in trials if not trial["good"]] == ["link lost"]
    assert "it is broken on purpose" in capsys.readouterr().out


def test_a_driver_without_a_wire_is_refused() -> None:
    with pytest.raises(ConfigError, match="no station has this driver"):
        report.main("nobody's")
