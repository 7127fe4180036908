"""States beside the way of a run: what is asked, refused, seen by another window, or left behind."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtWidgets

from gui.pictures.stage import Stage


def asked(stage: Stage) -> None:
    """Run was pressed once: it says what it would do."""
    stage.window.commanding.run()
    stage.wait(0.1)
    stage.take("asked")
    stage.window.commanding.asking.forget()


def note(stage: Stage) -> None:
    """A longer note is being written, while the run goes on."""
    sheet = stage.window.log.sheet
    sheet.text.setPlainText("Drift is larger than yesterday.\nThe clip was tightened twice.")
    stage.take("note", stage.window.log.write_note)
    sheet.hide()


def recipe_broken(stage: Stage) -> None:
    """The text is not YAML: parts and form wait for it to be mended."""
    page = stage.window.editor
    stage.window.show_page(page)
    stage.until(lambda: page.editing.settled and page.editing.report is not None, "it is checked")
    page.document.replace(page.document.text.replace("steps:", "steps: ]", 1), "a slip")
    stage.until(lambda: bool(page.editing.reading.problems), "the mistake is found")
    stage.wait(0.5)
    stage.take("recipe-broken")
    page.document.undo.undo()
    page.document.undo.setClean()
    stage.window.show_page(stage.window.live)


def other_station(stage: Stage) -> None:
    """Which station the next window shall open on."""
    page = stage.window.instruments
    stage.window.show_page(page)
    page.other.click()
    stage.wait(0.5)
    stage.take("other-station")
    for sheet in stage.window.findChildren(QtWidgets.QDialog):
        sheet.close()
    stage.window.show_page(stage.window.live)


def other_window(stage: Stage, address: str, out: Path) -> None:
    """The run as a second window sees it, which is not in control of it."""
    first = stage.window
    first.hide()
    second = Stage(address, out, Path("second.ini").absolute(), who="second window")
    second.until(lambda: second.window.image.shown > 0, "the newest image is shown")
    second.until(lambda: len(second.window.live.curves.temperature.x) > 10, "curves are shown")
    second.take("other-window")
    stage.taken += second.taken
    second.close()
    first.show()
    first.stack.setFocus()


def cut_off(stage: Stage, folder: Path) -> None:
    """A run that did not come to its end, opened again."""
    window = stage.window
    window.open_run(folder)
    replay = window.runs.replay
    stage.until(lambda: replay.story is not None, "the run is open")
    assert replay.story is not None
    replay.go(replay.story.t_end_s)
    stage.until(lambda: replay.scene is not None and replay.scene.image is not None, "it is read")
    stage.wait(1.0)
    stage.take("replay-cut-off")
