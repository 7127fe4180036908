"""An engine host answers windows quickly and in full, and refuses what cannot be, over its real wire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from acquire.cli.app import main
from acquire.engine.client import HostClient
from acquire.engine.host import EngineHost
from acquire.engine.status import EngineState
from acquire.errors import HotstageError, LinkError, RecipeError, StoreError
from acquire.remote import connect
from acquire.station import Station
from acquire.store import read_journal

RECIPE = """
hotstage: 1
name: hosted
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf, abf], size: 128, field_of_view: 160 nm, dwell_time: 5 µs}, every: 1 s}
steps:
  - ramp: {to: 60 °C, rate: 10 °C/s}
  - spectrum: {at: [80 nm, 80 nm], spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 0.5 s}}
  - spectrum_image: {from: [80 nm, 80 nm], to: [82 nm, 81 nm], shape: [1, 2], name: map, spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 0.5 s}}
  - wait_for_operator: look
"""


@pytest.fixture(scope="module")
def host() -> Iterator[EngineHost]:
    made = EngineHost(connect(Station.load("simulated")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(host: EngineHost) -> Iterator[HostClient]:
    made = HostClient(host.address)
    yield made
    made.close()


def _until(reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.05)):
        if reached():
            return
        pause.wait(0.05)
    pytest.fail("not reached in time")


def test_a_run_is_started_watched_and_answered_over_the_wire(
    client: HostClient, tmp_path: Path
) -> None:
    client.start(RECIPE, str(tmp_path / "run"))
    with pytest.raises(HotstageError, match="going on"):
        client.start(RECIPE, str(tmp_path / "other"))
    _until(
        lambda: client.image("", -1, 1.0) is not None
    )  # it is prepared first, which takes a while
    first = client.image("", -1, 1.0)
    assert first is not None
    assert set(first.detectors) == {"haadf", "abf"}
    assert first.detectors["haadf"].shape == (128, 128)
    assert first.detectors["haadf"].mean() > 1
    newer = client.image("overview", first.serial, 1.0)
    assert newer is None or newer.serial > first.serial
    assert [step.text.split()[0] for step in client.plan().steps] == [
        "ramp",
        "1",
        "spectrum",
        "wait",
    ]

    _until(lambda: client.status().prompt == "look")
    status = client.status()
    assert status.state is EngineState.RUNNING
    assert status.frames["spectrum"] == 1
    assert status.measured_celsius == pytest.approx(60.0, abs=2.0)
    spectrum = client.spectrum(-1)
    assert spectrum is not None
    assert spectrum.energy_ev["core_loss"][0] == pytest.approx(400.0)
    assert spectrum.counts["core_loss"].shape == (2000,)

    grown = client.map("map")
    assert grown is not None
    assert (grown.taken.tolist(), grown.first_nm, grown.streams) == (
        [[1, 1]],
        (80.5, 80.5),
        ("map",),
    )
    assert client.map("map", grown.serial) is None

    series = client.series()
    assert np.all(np.diff(series.t_s) >= 0)
    assert len(series.t_s) == len(series.measured_celsius) > 3
    assert any(note.kind == "action" for note in series.notes)
    more = client.series(series.cursor)
    assert len(more.t_s) < len(series.t_s)

    client.mark("seen")
    client.confirm()
    _until(lambda: not client.status().state.active)
    assert client.status().state is EngineState.COMPLETED, client.status().cause


def test_a_terminal_runs_on_a_host_only_when_nobody_else_is_in_control_there(
    client: HostClient, host: EngineHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = tmp_path / "short.yaml", tmp_path / "run"
    recipe.write_text(
        "hotstage: 1\nname: short\nsteps:\n  - ramp: {to: 40 °C, rate: 10 °C/s}\n"
        "  - wait_for_operator: look\n",
        encoding="utf-8",
    )
    arguments = ["run", str(recipe), "--host", host.address, "--yes", "-o", str(run)]
    client.take_control("window 1, anna@scope")
    assert main(arguments) == 1
    assert "window 1, anna@scope is in control" in capsys.readouterr().err
    client.give_control("window 1, anna@scope")
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"Runs on the engine host at {host.address}" in said
    assert "Completed in" in said
    texts = [entry.text for entry in read_journal(run / "journal.jsonl")]
    assert any("started by terminal " in text for text in texts)
    assert any(text.startswith("confirmed by terminal ") for text in texts)
    _until(lambda: client.status().driven_by == "")
    assert main([*arguments, "--virtual"]) == 2


def test_refusals_arrive_as_what_they_are(client: HostClient, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown key"):
        client.start(RECIPE.replace("rate:", "rte:"), str(tmp_path / "a"))
    with pytest.raises(RecipeError, match="station allows 1300"):
        client.start(
            RECIPE.replace("60 °C", "1450 °C").replace("{temperature: 900 °C}", "{}"),
            str(tmp_path / "b"),
        )
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        client.start(RECIPE, str(tmp_path / "taken"))
    with pytest.raises(HotstageError, match="no run is on"):
        client.pause()
    assert not (tmp_path / "a").exists()


def test_a_run_that_cannot_begin_after_all_is_said_to_have_failed(
    client: HostClient, host: EngineHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe() -> None:
        raise LinkError("the scan does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(host.station.scan, "describe", describe)
        client.start(RECIPE, str(tmp_path / "run"))
        _until(lambda: client.status().state is EngineState.FAILED)
    assert "the scan does not answer" in client.status().cause
    client.start(RECIPE, str(tmp_path / "again"))
    _until(lambda: client.status().state is EngineState.RUNNING)
    client.abort("seen")
    _until(lambda: not client.status().state.active)
    assert client.status().state is EngineState.ABORTED


def test_a_host_that_is_not_there_is_said_so() -> None:
    nowhere = HostClient("127.0.0.1:9", timeout_s=1.0)
    with pytest.raises(LinkError, match="hotstage host"):
        nowhere.status()
    nowhere.close()
