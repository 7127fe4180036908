"""The states that are photographed, in the order in which one run after the other comes through them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from acquire.engine.status import EngineState, EngineStatus
from gui.keys_sheet import KeysSheet
from gui.pictures import asides, recipes
from gui.pictures.stage import Stage

_RUN = (
    "ramp",
    "hold",
    "histogram",
    "note",
    "paused",
    "other-window",
    "prompt",
    "line",
    "map",
    "completed",
    "profile",
)
_STORED = ("runs", "replay", "compare")
AT_SCALE = "hold-at-scale-2"
NAMES = (
    "idle",
    "asked",
    "tour",
    "keys",
    "recipe",
    "recipe-broken",
    "instruments",
    "other-station",
    *_RUN,
    AT_SCALE,
    *_STORED,
    "no-contact",
    "fault",
    "failed",
    "replay-cut-off",
)


def all_but_faults(stage: Stage, host: subprocess.Popen[str], address: str, out: Path) -> None:
    """Everything on a station that is well; at the end its host is stopped for a while, and goes on."""
    _idle(stage)
    if stage.wants("recipe"):
        _recipe(stage)
    if stage.wants("recipe-broken"):
        asides.recipe_broken(stage)
    if stage.wants("instruments"):
        _instruments(stage)
    if stage.wants("other-station"):
        asides.other_station(stage)
    if stage.wants(*_RUN, *_STORED, AT_SCALE):
        _run(stage, address, out)
    if stage.wants(*_STORED):
        _stored(stage)
    if stage.wants("no-contact"):
        _no_contact(stage, host)


def faults(stage: Stage, host: subprocess.Popen[str]) -> None:
    """On a station whose heater trips on a fast way; at the end its instrument server is killed in a run."""
    window, page = stage.window, stage.window.instruments

    def status() -> EngineStatus:
        return window.session.snapshot().status

    window.show_page(page)
    stage.until(page.heat.go.isEnabled, "the heater can be commanded by hand")
    page.heat.target.setText("800 °C")
    page.heat.rate.setText("190 °C/s")
    page.heat.go.confirmed.emit()
    stage.until(lambda: bool(status().fault), "the heater trips")
    stage.wait(1.0)
    stage.take("fault")
    if not stage.wants("failed", "replay-cut-off"):
        return
    window.session.clear_fault()
    page.end.click()
    stage.until(lambda: not status().fault and not status().by_hand_of, "the fault is cleared")
    window.show_page(window.live)
    _start(stage, "cut_off", recipes.AGAIN)
    stage.until(lambda: status().measured_celsius > 300, "it is warm")
    for child in psutil.Process(host.pid).children(recursive=True):
        child.kill()
    stage.until(lambda: status().state is EngineState.FAILED, "the run fails")
    stage.wait(2.0)
    stage.take("failed")
    if stage.wants("replay-cut-off"):
        asides.cut_off(stage, Path(status().folder))


def one_at_scale(stage: Stage) -> None:
    """The run that is on, by a window of its own under another scale of the screen."""
    window = stage.window
    stage.until(lambda: window.image.shown > 2, "images are shown")
    stage.until(lambda: len(window.live.curves.temperature.x) > 10, "curves are shown")
    stage.take(AT_SCALE)


# ---------------------------------------------------------------------- scenes


def _idle(stage: Stage) -> None:
    window = stage.window
    window.open_recipe(_file("line_and_map", recipes.STORY))
    stage.until(lambda: window.recipe.recipe is not None, "the recipe is read")
    stage.wait(0.5)
    stage.take("idle")
    if stage.wants("asked"):
        asides.asked(stage)
    window.help.begin_tour()
    tour = window.help.tour
    assert tour is not None
    tour.go(2)
    stage.wait(0.3)
    stage.take("tour")
    tour.end()
    if stage.wants("keys"):
        stage.take("keys", lambda: _open_keys(stage))
        _close_keys(stage)


def _open_keys(stage: Stage) -> None:
    _close_keys(stage)
    stage.window.help.show_keys()


def _close_keys(stage: Stage) -> None:
    for sheet in stage.window.findChildren(KeysSheet):
        sheet.close()
    stage.wait(0.05)


def _recipe(stage: Stage) -> None:
    page = stage.window.editor
    stage.window.show_page(page)
    page.document.replace(recipes.TOO_HOT, "hotter")
    stage.until(
        lambda: page.editing.report is not None and bool(page.editing.report.findings),
        "the station objects to the recipe",
    )
    page.tree.select(("steps", 1))
    stage.wait(1.0)
    stage.take("recipe")
    page.document.undo.undo()
    page.document.undo.setClean()
    stage.window.show_page(stage.window.live)


def _instruments(stage: Stage) -> None:
    page = stage.window.instruments
    stage.window.show_page(page)
    stage.until(page.heat.go.isEnabled, "the heater can be commanded by hand")
    page.heat.target.setText("400 °C")

    def status() -> EngineStatus:
        return page.session.snapshot().status

    for _ in range(3):  # on a busy machine the window may stand still for so long that all goes off
        page.heat.go.confirmed.emit()
        page.view.live.confirmed.emit()
        stage.until(lambda: page.session.hand.view().manual.view_frames > 5, "the live view is on")
        stage.until(
            lambda: status().measured_celsius > 300 or not status().by_hand_of, "it is warm"
        )
        if status().by_hand_of:
            break
    stage.take("instruments")
    page.end.click()
    stage.until(lambda: not page.session.snapshot().status.by_hand_of, "nothing is in hand")
    stage.window.show_page(stage.window.live)


def _run(stage: Stage, address: str, out: Path) -> None:
    window = stage.window

    def status_is(state: EngineState) -> bool:
        return window.session.snapshot().status.state is state

    _start(stage, "line_and_map", recipes.STORY)
    stage.until(lambda: window.session.snapshot().status.measured_celsius > 300, "it is warm")
    stage.take("ramp")
    stage.until(lambda: _step(stage) == 2, "the hold begins")
    estimates = window.live.curves.estimates
    stage.until(lambda: len(estimates.get("mean_diameter", ())) > 60, "particles were measured")
    stage.take("hold")
    sizes = window.live.decks["sizes"]
    sizes.turn(1)
    stage.wait(1.0)
    stage.take("histogram")
    sizes.turn(0)
    if stage.wants("note"):
        asides.note(stage)
    window.session.pause()
    stage.until(lambda: status_is(EngineState.PAUSED), "the run is paused")
    stage.take("paused")
    if stage.wants("other-window"):
        asides.other_window(stage, address, out)
    window.session.resume()
    if stage.wants(AT_SCALE):
        _other_window(address, out)
    stage.until(lambda: bool(window.session.snapshot().status.prompt), "the run asks")
    stage.take("prompt")
    window.session.confirm()
    spectra = window.live.decks["spectra"]
    stage.until(lambda: _step(stage) == 4, "the line scan begins")
    if stage.wants("line"):
        facts = window.live.spectrum
        stage.until(lambda: facts.facts is not None and bool(facts.facts.edges), "edges are found")
        stage.take("line")
    stage.until(lambda: _step(stage) == 5, "the map begins")
    spectra.turn(2)
    stage.until(lambda: window.live.map.choice.findData("ti3_fraction") >= 0, "Ti3+ is measured")
    window.live.map.choice.setCurrentIndex(window.live.map.choice.findData("ti3_fraction"))
    window.live.map.choice.activated.emit(window.live.map.choice.currentIndex())
    stage.until(lambda: window.session.snapshot().status.step_progress > 0.5, "half a map is there")
    stage.take("map")
    stage.until(lambda: status_is(EngineState.COMPLETED), "the run is completed")
    stage.wait(0.5)
    stage.take("completed")
    spectra.turn(1)
    stage.wait(0.5)
    stage.take("profile")
    spectra.turn(0)


def _stored(stage: Stage) -> None:
    window = stage.window
    first = Path(window.session.snapshot().status.folder)
    _start(stage, "hotter", recipes.AGAIN)
    stage.until(lambda: not _status(stage).active, "the second run ends")
    page = window.runs
    page.browser.look_into(first.parent)
    window.show_page(page)
    stage.until(lambda: page.browser.listed is not None, "the runs are listed")
    stage.take("runs")
    window.open_run(first)
    replay = page.replay
    stage.until(lambda: replay.story is not None, "the run is open")
    assert replay.story is not None
    replay.go(0.35 * replay.story.t_end_s)
    stage.until(lambda: replay.scene is not None and replay.scene.image is not None, "it is read")
    stage.wait(1.0)
    stage.take("replay")
    replay.left.emit()
    stage.until(lambda: page.browser.listed is not None, "the runs are listed")
    page.browser.table.selectAll()
    stage.wait(0.2)
    page.browser.compare_button.click()
    stage.until(lambda: len(page.compare.runs) == 2, "both runs are read")
    found = page.compare.quantity.findData("mean_diameter")
    if found >= 0:
        page.compare.quantity.setCurrentIndex(found)
        page.compare.quantity.activated.emit(found)
    stage.wait(1.0)
    stage.take("compare")
    page.compare.left.emit()
    window.show_page(window.live)


def _no_contact(stage: Stage, host: subprocess.Popen[str]) -> None:
    _start(stage, "cut_off", recipes.AGAIN)
    stage.until(lambda: stage.window.session.snapshot().status.measured_celsius > 200, "it is warm")
    with _frozen(host):
        stage.until(lambda: stage.window.session.snapshot().stale, "the contact is lost")
        stage.wait(2.0)
        stage.take("no-contact")
    stage.until(lambda: not stage.window.session.snapshot().stale, "the contact is back")


# ---------------------------------------------------------------------- helpers


def _status(stage: Stage) -> EngineState:
    return stage.window.session.snapshot().status.state


def _step(stage: Stage) -> int:
    return stage.window.session.snapshot().status.step_index


def _file(name: str, text: str) -> Path:
    path = Path.cwd() / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _start(stage: Stage, name: str, text: str) -> None:
    before = stage.window.session.snapshot().status.folder
    stage.window.open_recipe(_file(name, text), start=True)
    stage.until(
        lambda: stage.window.session.snapshot().status.folder not in ("", before), "a run begins"
    )
    stage.until(lambda: _step(stage) >= 0, "its first step begins")


def _other_window(address: str, out: Path) -> None:
    """A second window, on a screen with two device pixels for each that is counted."""
    subprocess.run(
        [sys.executable, "-m", "gui.pictures", str(out), "--attach", address],
        env={**os.environ, "QT_SCALE_FACTOR": "2"},
        check=True,
        timeout=120,
    )


@contextmanager
def _frozen(process: subprocess.Popen[str]) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
