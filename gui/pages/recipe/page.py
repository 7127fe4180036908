"""The recipe page: tree and form, text, course and checks of one recipe, with one undo for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from acquire.engine.checked import Place
from acquire.engine.status import PlanView
from acquire.units import show, show_duration
from gui.beam import dose_before
from gui.pages.page import Page
from gui.pages.recipe.asking import ask
from gui.pages.recipe.bar import Bar
from gui.pages.recipe.changes import Changes
from gui.pages.recipe.course import CoursePanel, Objections
from gui.pages.recipe.document import Document
from gui.pages.recipe.editing import Editing
from gui.pages.recipe.form import Form
from gui.pages.recipe.keeping import Keeper, when
from gui.pages.recipe.textview import TextView
from gui.pages.recipe.tree import Tree
from gui.recipes import templates
from gui.recipes.files import Draft
from gui.recipes.script import as_script
from gui.session import Session, StatusSnapshot
from gui.settings import Settings
from gui.widgets.keys import ALONE, INSIDE, install
from gui.widgets.panel import Panel, set_text
from gui.widgets.splitter import split
from gui.words import tr

Qt = QtCore.Qt


class RecipePage(Page):
    """Edits a recipe; runs nothing itself: ``run_wanted`` hands a file to the window."""

    title = tr("Recipe")
    key = "Ctrl+2"
    run_wanted = QtCore.Signal(Path)
    unsaved_changed = QtCore.Signal(bool)

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__(session, settings)
        self.document = Document()
        self.editing = Editing(session, self.document)
        self.keeper = Keeper(self, self.document, settings, session.background)
        self.tree, self.form = Tree(), Form()
        self.changes = Changes(self.editing, self.tree)
        self.text = TextView(self.document)
        self.course, self.objections = CoursePanel(), Objections()
        self.bar = Bar(self.document)
        self._run_is_on = False
        self._station = ""
        self._compose()
        self._connect()
        self._shortcuts()
        self.document.open(templates.NEW, None)

    # ------------------------------------------------------------------ for the window

    def follow(self, path: Path) -> None:
        """Show the recipe that was opened to be run, if nothing else is being edited."""
        if (
            self.document.path is None
            and not self.document.unsaved
            and not self.document.undo.count()
        ):
            own = path not in templates.examples()
            (self.keeper.open if own else self.keeper.open_example)(path)

    def may_close(self, close: Callable[[], object]) -> bool:
        """Whether nothing would be lost; else the operator is asked, and ``close`` may follow."""
        self.form.flush()
        if self.document.unsaved:
            self.keeper.ask_before_leaving(close)
            return False
        return True

    def entered(self) -> None:
        """Read what is there, and put the keys into the tree."""
        self.editing.wake()
        self.tree.setFocus()

    def keep(self) -> None:
        """Remember the splitters."""
        self.keeper.close()
        for name, splitter in self.splitters.items():
            self.settings.put(f"recipe/{name}", splitter.saveState())

    def show_status(self, snapshot: StatusSnapshot, plan: PlanView) -> None:
        """Say if a run is on; ask the station again when it is back."""
        self._run_is_on = snapshot.status.state.active
        self._station = snapshot.status.station
        self.bar.show_run(self._run_is_on)
        if not snapshot.stale and self.isVisible():
            self.editing.check_again()

    # ------------------------------------------------------------------ undo, copy, run

    def undo(self) -> None:
        """Take the last change back, by whichever hand it was made."""
        self.form.flush()
        self.editing.when_settled(self.document.undo.undo)

    def redo(self) -> None:
        """Make it again."""
        self.editing.when_settled(self.document.undo.redo)

    def save(self) -> None:
        """Write the file."""
        self.form.flush()
        self.editing.when_settled(self.keeper.save)

    def copy_as_python(self) -> None:
        """Put a script that does the same steps on the clipboard."""
        self.form.flush()
        self.editing.when_settled(self._copy)

    def run_this(self) -> None:
        """Ask what will happen, then hand the recipe to the window."""
        self.form.flush()
        self.editing.when_settled(self._ask_to_run)

    def _copy(self) -> None:
        reading = self.editing.reading
        if reading.recipe is None:
            self.complained.emit(tr("Nothing was copied: {0}").format(reading.problems[0].words))
            return
        QtWidgets.QApplication.clipboard().setText(as_script(reading))
        self.told.emit(tr("Copied: a Python script that does the same steps"))

    def _ask_to_run(self) -> None:
        reading, report = self.editing.reading, self.editing.report
        if reading.recipe is None:
            self.complained.emit(tr("Not run: {0}").format(reading.problems[0].words))
            return
        stops = [f.text for f in report.findings if f.kind == "problem"] if report else []
        if stops:
            self.complained.emit(tr("Not run: {0}").format(stops[0]))
            return
        if self._run_is_on:
            self.complained.emit(
                tr("Not run: a run is on. This recipe can be run when it has ended; go on editing.")
            )
            return
        course = reading.course
        checked = report is not None and math.isfinite(report.duration_s)
        duration = report.duration_s if report is not None and checked else course.duration_s
        hottest = max(
            report.plan.profile_celsius
            if report is not None and checked
            else course.profile_celsius
        )
        more = tr("Station {station}: heats to {hottest} at most, takes about {time}.").format(
            station=self._station or "?", hottest=show(hottest, "°C"), time=show_duration(duration)
        )
        given = self.session.hand.view().manual.dose_e_per_nm2
        limit = reading.recipe.limits.dose
        foreseen = report.dose_e_per_nm2 if report is not None else math.nan
        dose = dose_before(given, math.nan if limit is None else limit, foreseen)
        if dose:
            more += f" {dose}."
        answers: list[tuple[str, Callable[[], None]]] = []
        if self.document.unsaved or self.document.path is None:
            answers.append((tr("Save and run"), lambda: self.keeper.save(self._run_file)))
            answers.append(
                (tr("Run unsaved text"), lambda: self.keeper.for_run(self.run_wanted.emit))
            )
        else:
            answers.append((tr("Run now"), self._run_file))
        ask(self, tr("Run {0!r} now?").format(reading.recipe.name), answers, more)

    def _run_file(self) -> None:
        self.keeper.if_unchanged(self.run_wanted.emit)

    # ------------------------------------------------------------------ what is shown

    def _show(self) -> None:
        editing = self.editing
        reading, report = editing.reading, editing.report
        word = editing.standing()
        readable = reading.plain is not None
        if readable:
            self.tree.show_reading(reading, report)
            self._show_place()
        else:
            self.form.forget_objections()
        self.form.setEnabled(readable)
        set_text(
            self.parts.info, "" if readable else tr("✕ the text is not YAML: mend it there first")
        )
        findings: dict[int, tuple[str, str]] = {}
        for finding in report.findings if report is not None else ():
            glyph = "✕" if finding.kind == "problem" else "⚠"
            for place in finding.places:
                if reading.layout is not None:
                    findings[reading.layout.line_of(place)] = (glyph, finding.text)
        self.text.show_problems(reading.problems, findings)
        self.course.show_reading(reading, report, word)
        self.objections.show_reading(reading, report, word)

    def _show_place(self) -> None:
        place, reading = self.tree.place, self.editing.reading
        report = self.editing.report
        said = [
            f"{'✕' if f.kind == 'problem' else '⚠'} {f.text}"
            for f in (report.findings if report is not None else ())
            if any(at[: len(place)] == place for at in f.places if place)
        ]
        self.form.show_reading(reading, place, "\n".join(said))
        self.course.show_step(self.tree.span(place))

    def _chosen(self, place: Place) -> None:
        self.form.flush()
        if self.editing.reading.plain is None:
            return
        self._show_place()
        layout = self.editing.reading.layout
        if layout is not None and place and not self.text.hasFocus() and self.editing.settled:
            self.text.show_line(layout.line_of(place))

    def _go_to(self, place: Place) -> None:
        self.tree.select(place)
        layout = self.editing.reading.layout
        if layout is not None:
            self.text.show_line(layout.line_of(place))

    def _cursor_at(self, position: int) -> None:
        layout = self.editing.reading.layout
        if layout is not None and self.editing.settled:
            self.tree.select(layout.at(position))

    def _show_unsaved(self) -> None:
        self.bar.show_document()
        self.unsaved_changed.emit(self.document.unsaved)

    def _offer(self, draft: Draft) -> None:
        name = draft.path.name if draft.path is not None else tr("a new recipe")
        words = tr("Unsaved text of {name}, from {when}, was kept when a window ended.").format(
            name=name, when=when(draft)
        )
        self.told.emit(words)
        self.bar.offer(
            words, partial(self.keeper.restore, draft), partial(self.keeper.give_up, draft)
        )

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        self.parts = Panel(tr("Parts"))
        self.parts.body.addWidget(self.tree, 1)
        settings = Panel(tr("Form"))
        settings.body.addWidget(self.form, 1)
        text = Panel(tr("Text"))
        text.body.addWidget(self.text, 1)
        top = split(Qt.Orientation.Horizontal, (self.parts, settings, text), (380, 400, 460))
        low = split(Qt.Orientation.Horizontal, (self.course, self.objections), (640, 600))
        whole = split(Qt.Orientation.Vertical, (top, low), (430, 180))
        whole.setStretchFactor(0, 3)
        whole.setStretchFactor(1, 1)
        self.splitters = {"top": top, "low": low, "whole": whole}
        for name, splitter in self.splitters.items():
            splitter.restoreState(self.settings.bytes(f"recipe/{name}"))
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.bar)
        column.addWidget(whole, 1)

    def _connect(self) -> None:
        self.editing.news.connect(self._show)
        self.editing.refused.connect(self.complained)
        self.editing.selected.connect(self.tree.select)
        self.changes.complained.connect(self.complained)
        self.keeper.complained.connect(self.complained)
        self.keeper.told.connect(self.told)
        self.keeper.draft_found.connect(self._offer)
        self.document.saved_changed.connect(self._show_unsaved)
        self.tree.chosen.connect(self._chosen)
        self.tree.dropped.connect(self.changes.move_step)
        self.text.line_entered.connect(self._cursor_at)
        self.objections.gone_to.connect(self._go_to)
        self.form.put.connect(self.changes.put)
        self.form.taken_out.connect(self.changes.take_out)
        self.form.renamed.connect(self.changes.rename)
        self.form.option_added.connect(self.changes.add_option)
        self.bar.connect_page(self)

    def _shortcuts(self) -> None:
        delete = (Qt.Key.Key_Delete, tr("delete the part that is chosen"), self.changes.delete)
        install(self.tree, delete, context=ALONE, auto_repeat=True)
        install(
            self,
            ("Ctrl+N", tr("new recipe"), self.keeper.new),
            ("Ctrl+S", tr("save"), self.save),
            ("Ctrl+Shift+S", tr("save as …"), self.keeper.save_as),
            ("Ctrl+Z", tr("undo"), self.undo),
            ("Ctrl+Shift+Z", tr("redo"), self.redo),
            ("Ctrl+Y", tr("redo"), self.redo),
            ("Ctrl+D", tr("duplicate the step"), self.changes.duplicate),
            ("Alt+Up", tr("move the step up"), partial(self.changes.move_by, -1)),
            ("Alt+Down", tr("move the step down"), partial(self.changes.move_by, 1)),
            ("Alt+Right", tr("move the step into the block before it"), self.changes.move_in),
            ("Alt+Left", tr("move the step out of its block"), self.changes.move_out),
            ("Ctrl+Shift+C", tr("copy as Python"), self.copy_as_python),
            ("Ctrl+R", tr("run this recipe, after a question"), self.run_this),
            context=INSIDE,
            auto_repeat=True,
        )
