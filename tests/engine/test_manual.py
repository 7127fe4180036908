"""Control by hand: what it allows, what it refuses and why, and how it always ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.engine import helm, manual
from acquire.engine.by_hand import ByHand
from acquire.engine.client import HostClient
from acquire.engine.dose import DoseMeter
from acquire.engine.host import EngineHost
from acquire.engine.sharpness import sharpness
from acquire.engine.station_view import LIVE_VIEW, InstrumentView, LinkState
from acquire.errors import (
    HotstageError,
    InstrumentError,
    LeaseError,
    LimitError,
    LinkError,
    RecipeError,
)
from acquire.instruments import ScanExposure
from acquire.measure.dose import Area
from acquire.remote import InstrumentServer, attach, emergency_off
from acquire.station import Station
from acquire.store.journal import read_journal

ME, OTHER = "window A", "window B"
FIELD = ScanExposure(("haadf",), (64, 64), 100.0, 5e-6)
RECIPE = """
hotstage: 1
name: after hands
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 100 nm, dwell_time: 5 µs}, every: 1 s}
steps:
  - mark: begin
  - ramp: {to: 60 °C, rate: 100 °C/s}
  - wait_for_operator: look
"""


class Bench:
    """A station behind a server in this process, and an engine host on it."""

    def __init__(self) -> None:
        opened = Station.load("simulated").open(WallClock(20.0), draft=True)
        self.server = InstrumentServer(opened)
        self.server.start()
        self.real = opened
        self.host = EngineHost(attach(self.server.address))
        self.client = HostClient(self.host.address)
        self._stop = threading.Event()
        self.alive = threading.Event()
        self.alive.set()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def _beat(self) -> None:
        own = HostClient(self.host.address)
        while not self._stop.wait(0.3):
            if self.alive.is_set():
                own.attend(ME)
        own.close()

    def instrument(self, role: str) -> InstrumentView:
        return next(one for one in self.client.instruments().instruments if one.role == role)

    def close(self) -> None:
        self._stop.set()
        self._beats.join()
        self.client.close()
        self.host.close()
        self.server.close()
        self.real.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def _until(reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if reached():
            return
        pause.wait(0.02)
    pytest.fail("not reached in time")


def _notes(client: HostClient) -> str:
    return "\n".join(note.text for note in client.series().notes if note.kind == "by hand")


def test_every_instrument_is_told_with_its_limits_and_readings(bench: Bench) -> None:
    _until(
        lambda: all(
            one.link is LinkState.CONNECTED for one in bench.client.instruments().instruments
        )
    )
    view = bench.client.instruments()
    assert [one.role for one in view.instruments][:3] == ["server", "holder", "scan"]
    assert view.name == "simulated"
    holder = bench.instrument("holder")
    assert {limit.quantity for limit in holder.limits} >= {"temperature", "ramp_rate"}
    assert any("holder.limits" in limit.source for limit in holder.limits)
    readings = {reading.name: reading for reading in holder.readings}
    assert readings["heater"].word == "off"
    assert readings["measured"].value == pytest.approx(25.0, abs=2.0)
    assert bench.instrument("server").facts["address"] == bench.server.address


def test_heat_by_hand_is_ramped_held_cooled_and_off_and_told(bench: Bench) -> None:
    client = bench.client
    for target, rate, why in (
        (1450.0, 10.0, "station allows 1300 °C"),
        (700.0, -1.0, "above 0"),
        (float("nan"), 1.0, "finite"),
    ):
        with pytest.raises(LimitError, match=why):
            client.manual_heat(ME, target, rate)
    with pytest.raises(InstrumentError, match="nothing to hold"):
        client.manual_hold(ME)
    assert client.status().by_hand_of == ""  # a refusal takes nothing in hand

    client.manual_heat(ME, 700.0, 10.0)
    _until(lambda: client.status().holder_state == "ramping")
    status = client.status()
    assert (status.by_hand_of, status.by_hand) == (ME, "to 700 °C at 10 °C/s")
    _until(lambda: client.status().commander == "hotstage by hand")
    with pytest.raises(LeaseError, match="window A is in control"):
        client.manual_heat(OTHER, 100.0, 1.0)
    client.manual_hold(ME)
    _until(lambda: client.status().holder_state == "holding")
    held = client.status().setpoint_celsius
    assert 25.0 < held < 700.0
    client.manual_cool(ME, 100.0)
    _until(lambda: client.status().holder_state == "off")
    _until(lambda: client.status().by_hand_of == "")
    _until(lambda: client.status().commander == "")
    with pytest.raises(InstrumentError, match="off already"):
        client.manual_cool(ME, 10.0)
    told = _notes(client)
    for words in (ME, "from 25 °C to 700 °C", "held at", "cools to 25 °C", "nothing is on"):
        assert words in told


def test_the_beam_is_on_only_while_looked_at_and_its_dose_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, scan = bench.client, bench.real.scan
    assert scan.blanked() is False or client.manual_blank(ME) is None
    with pytest.raises(RecipeError, match="no detector 'nix'"):
        client.manual_view(ME, ScanExposure(("nix",), (64, 64), 100.0, 5e-6), 1, 10.0)
    with pytest.raises(LimitError, match="at most 10 min"):
        client.manual_view(ME, FIELD, 0, 3600.0)
    with pytest.raises(LimitError, match="field of view"):
        client.manual_view(ME, ScanExposure(("haadf",), (64, 64), 1e7, 5e-6), 1, 10.0)

    client.manual_view(ME, FIELD, 1, 10.0)
    image = client.image(LIVE_VIEW, -1, 1.0)
    assert image is not None
    assert (image.stream, image.detectors["haadf"].shape) == (LIVE_VIEW, (64, 64))
    _until(lambda: not client.status().by_hand)
    assert scan.blanked()
    first = client.instruments().manual
    assert first.view_frames == 1
    per_image = first.dose_e_per_nm2
    assert per_image > 0

    client.manual_view(ME, FIELD, 0, 60.0)
    _until(lambda: client.instruments().manual.view_frames >= 3)
    assert not scan.blanked()
    assert "live view" in client.status().by_hand
    client.manual_blank(ME)
    assert scan.blanked()
    seen = client.instruments().manual
    assert seen.dose_e_per_nm2 >= (1 + seen.view_frames) * per_image * 0.999

    client.manual_beam(ME, 0.3, 10.0, 5.0)
    assert not scan.blanked()
    _until(lambda: scan.blanked())  # by itself, when its time is up
    assert client.instruments().manual.dose_e_per_nm2 > seen.dose_e_per_nm2
    # a command to blank that gets lost is given again, and what is wrong is told meanwhile
    bench_scan, lost = bench.host.station.scan, []
    blank = bench_scan.blank

    def lossy(blanked: bool) -> None:
        if blanked and len(lost) < 3:
            lost.append(client.instruments().manual)
            raise LinkError("the scan does not answer")
        blank(blanked)

    # by whoever has it in hand, also when nobody has any more
    with monkeypatch.context() as patch:
        patch.setattr(bench_scan, "blank", lossy)
        client.manual_beam(ME, 60.0, 10.0, 5.0)
        client.manual_end(ME)
        assert client.status().by_hand_of == ""
        _until(lambda: len(lost) == 3 and scan.blanked())
        _until(lambda: client.status().blanked and not client.status().by_hand)
    lost.clear()
    client.manual_heat(ME, 100.0, 100.0)  # so that control is not given back
    with monkeypatch.context() as patch:
        patch.setattr(bench_scan, "blank", lossy)
        client.manual_beam(ME, 0.2, 10.0, 5.0)
        _until(lambda: len(lost) == 3)
        assert lost[-1].beam_left_s == 0.0
        assert "may be on, which is tried again: the scan does not" in lost[-1].trouble
        _until(lambda: scan.blanked())
        patch.setattr(bench_scan, "blank", blank)
        # heater off that is pressed while a command is under way is not undone by it
        patch.setattr(bench_scan, "park", lambda *at: bench.host.service._manual.switched_off())
        with pytest.raises(InstrumentError, match="heater off was pressed meanwhile"):
            client.manual_beam(ME, 60.0, 0.0, 0.0)
    assert scan.blanked()
    assert client.status().by_hand_of == ""
    client.manual_shift(ME, 20.0, -10.0)
    with pytest.raises(LimitError, match="scan shift"):
        client.manual_shift(ME, 1e9, 0.0)
    assert "its time is up" in _notes(client)


def test_whoever_falls_silent_leaves_all_safe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manual, "TTL_S", 0.8)
    client, real = bench.client, bench.real
    client.manual_heat(ME, 400.0, 100.0)
    client.manual_view(ME, FIELD, 0, 60.0)
    _until(lambda: client.status().holder_state == "holding")
    bench.alive.clear()
    _until(lambda: client.status().by_hand_of == "")
    bench.alive.set()
    assert real.holder.read().state == "off"
    assert real.scan.blanked()
    assert "no sign of life" in client.instruments().manual.trouble


def test_heater_off_by_either_way_ends_what_is_in_hand(bench: Bench) -> None:
    client, real = bench.client, bench.real
    for off in (
        lambda: client.heater_off("test"),
        lambda: emergency_off(bench.server.address, "test"),
    ):
        client.manual_heat(ME, 400.0, 100.0)
        client.manual_view(ME, FIELD, 0, 60.0)
        _until(lambda: client.instruments().manual.view_frames > 0)
        _until(lambda: client.status().holder_state == "holding")
        off()
        assert real.holder.read().state == "off"
        assert real.scan.blanked()
        _until(lambda: client.status().by_hand_of == "")
        assert real.scan.blanked()


def test_a_run_ends_what_is_in_hand_and_nothing_is_done_by_hand_during_it(
    bench: Bench, tmp_path: Path
) -> None:
    client = bench.client
    client.manual_heat(ME, 400.0, 100.0)
    client.manual_view(ME, FIELD, 0, 60.0)
    _until(lambda: client.status().holder_state == "holding")
    _until(lambda: client.instruments().manual.view_frames > 0)
    by_hand = client.instruments().manual.dose_e_per_nm2
    client.start(RECIPE, str(tmp_path / "run"), ME)
    assert client.status().by_hand_of == ""
    for refused in (
        lambda: client.manual_heat(ME, 100.0, 1.0),
        lambda: client.manual_view(ME, FIELD, 1, 1.0),
        lambda: client.manual_blank(ME),
        lambda: client.manual_shift(ME, 1.0, 1.0),
    ):
        with pytest.raises(HotstageError, match="a run is going on: abort it"):
            refused()
    _until(lambda: client.status().prompt == "look")
    assert client.status().dose_e_per_nm2 > by_hand  # the specimen does not forget
    assert client.instruments().manual.dose_e_per_nm2 == 0.0  # and counts nothing twice
    text = "first line\nsecond line, with ü"
    client.note(text)
    client.abort("seen")
    _until(lambda: not client.status().state.active)
    notes = [(note.kind, note.text) for note in client.series().notes]
    assert ("note", text) in notes
    before = [words for kind, words in notes if kind == "by hand"]
    assert any("up to 400 °C" in words for words in before)
    assert any("run's dose and limits.dose begin with" in words for words in before)

    folder = str(tmp_path / "run")
    plan = client.continuation(folder)
    assert plan.done[0].startswith("mark: begin")
    assert plan.remaining[0].startswith("wait")
    client.continue_run(folder, ME)
    _until(lambda: client.status().prompt == "look")
    client.confirm(ME)
    _until(lambda: not client.status().state.active)
    assert client.status().state == "completed", client.status().cause
    _until(lambda: not bench.host.service.busy, 60.0)
    with pytest.raises(HotstageError, match="nothing is left to do"):
        client.continuation(folder)


def test_one_of_two_windows_drives_and_what_is_safe_is_everybody_s(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, real = bench.client, bench.real
    client.manual_heat(ME, 400.0, 100.0)
    client.manual_view(ME, FIELD, 0, 60.0)
    assert client.status().driven_by == client.instruments().driven_by == ME
    client.attend(OTHER)
    assert client.status().attended == (ME, OTHER)
    for refused in (
        lambda: client.start(RECIPE, str(tmp_path / "never"), OTHER),
        lambda: client.manual_cool(OTHER, 1.0),
        lambda: client.manual_shift(OTHER, 1.0, 1.0),
        lambda: client.clear_fault(OTHER),
    ):
        with pytest.raises(LeaseError, match="window A is in control"):
            refused()
    client.manual_hold(OTHER)
    client.manual_blank(OTHER)
    assert real.scan.blanked()
    assert client.status().by_hand.startswith("held at")
    assert client.status().by_hand_of == ME

    client.take_control(OTHER)  # what the other has in hand ends first
    assert real.holder.read().state == "off"
    assert (client.status().driven_by, client.status().by_hand_of) == (OTHER, "")
    assert not client.attend(ME)
    with pytest.raises(LeaseError, match="window B is in control"):
        client.manual_heat(ME, 400.0, 100.0)
    assert client.attend(OTHER)
    client.start(RECIPE, str(tmp_path / "run"), OTHER)
    _until(lambda: client.status().prompt == "look")
    with pytest.raises(LeaseError, match="window B is in control"):
        client.confirm(ME)
    client.hold(ME)
    _until(lambda: client.status().state == "paused")
    assert client.status().cause == "temperature held by window A"
    client.take_control(ME)  # the run goes on, whoever drives
    client.resume(ME)
    client.note("seen", OTHER)
    client.abort("seen", OTHER)
    _until(lambda: not client.status().state.active)
    assert client.status().cause == "seen (window B)"
    entries = read_journal(tmp_path / "run" / "journal.jsonl")
    told = [(e.kind, e.text, e.details.get("by")) for e in entries]
    for entry in (
        ("command", "hold: temperature held by window A", ME),
        ("control", "window A took control from window B", None),
        ("command", "resume, by window A", ME),
        ("note", "seen", OTHER),
        ("command", "abort: seen (window B)", OTHER),
    ):
        assert entry in told
    assert any(kind == "run" and text.endswith("started by window B") for kind, text, _ in told)

    # who is gone has no control any more, nor who is silent
    bench.alive.clear()
    client.take_control(OTHER)
    gone = HostClient(bench.host.address)
    assert gone.attend(OTHER)
    gone.close()
    _until(lambda: client.status().driven_by == "", 2.0)
    assert OTHER not in client.status().attended
    monkeypatch.setattr(helm, "TTL_S", 0.3)
    client.take_control(OTHER)
    _until(lambda: client.status().driven_by == "")
    monkeypatch.undo()
    bench.alive.set()
    # a script has control from its first command to its end
    script = HostClient(bench.host.address)
    with pytest.raises(HotstageError, match="no run is on"):
        script.resume()
    pause = threading.Event()
    for _ in range(10):
        pause.wait(0.1)
        assert client.status().driven_by == script.who
    script.close()
    _until(lambda: client.status().driven_by == "", 2.0)


def test_a_server_that_is_gone_is_said_so_within_a_second(bench: Bench) -> None:
    """The last test of the module: nothing works after it."""
    client = bench.client
    client.manual_heat(ME, 300.0, 100.0)
    bench.server.close()
    _until(lambda: bool(client.status().server), 1.5)
    _until(lambda: bench.instrument("holder").link is LinkState.LOST)
    assert bench.instrument("server").mend
    with pytest.raises(InstrumentError, match="not known"):
        client.heater_off("test")
    _until(lambda: client.status().by_hand_of == "")


def test_what_was_exposed_by_hand_lies_where_the_next_run_finds_it() -> None:
    hand, run = ByHand(), DoseMeter()
    field = Area(0.0, 0.0, 100.0, 100.0)
    hand.image(5.0, field)
    hand.shifted(300.0, 0.0)
    hand.image(2.0, field)
    hand.rested(1000.0, (10.0, 0.0), 1.0)
    assert hand.dose_e_per_nm2 == 1002.0
    hand.hand_on(run)  # the run's field is the one that the shift has led to
    assert run.highest_in(field) == 1002.0
    assert run.highest_in(Area(-300.0, 0.0, 100.0, 100.0)) == 5.0
    assert run.highest_in(Area(300.0, 0.0, 100.0, 100.0)) == 0.0
    assert len(run.take_new()) == 3  # rows of the run's own map
    unsure, all_over = ByHand(), DoseMeter()
    unsure.image(5.0, field)
    unsure.lost_place()
    unsure.image(float("nan"), field)
    unsure.hand_on(all_over)
    assert all_over.highest_in(Area(900.0, 0.0, 1.0, 1.0)) == 5.0
    assert "not known: the scan tells no probe current" in unsure.words()[-1]


def test_sharpness_is_highest_in_focus_and_knows_no_noise() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 40, 256)
    sharp = 200 + 150 * np.sign(np.sin(x))[None, :] * np.ones((256, 1))
    blurred = 200 + 150 * np.sin(x)[None, :] * np.ones((256, 1))
    values = [sharpness(rng.poisson(image).astype(np.uint16)) for image in (sharp, blurred)]
    assert values[0] > 2 * values[1] > 0
    flat = sharpness(rng.poisson(200, (256, 256)).astype(np.uint16))
    assert abs(flat) < 0.1 * values[1]
    assert np.isnan(sharpness(np.zeros((64, 64), np.uint16)))
