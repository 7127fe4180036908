"""Composes the pages, pulls what the session holds on timers, and turns keys and buttons into commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.commanding import Commanding
from gui.control import Control
from gui.emergency import EmergencyReport
from gui.hand import ContinuationPlan
from gui.help import Help
from gui.moving import Moving
from gui.orders import CommandResult, RecipeText
from gui.pages import InstrumentsPage, LivePage, Page, RecipePage, RunsPage
from gui.panels.facts import FactsLine
from gui.panels.notices import Notices
from gui.panels.topbar import TopBar
from gui.session import Session, StatusSnapshot
from gui.settings import Settings, settings_path
from gui.starting import Starting
from gui.telling import Telling
from gui.widgets import keys
from gui.widgets.buttons import sign_button
from gui.widgets.choice import Tabs
from gui.widgets.walked import WalkedWindow
from gui.words import tr

IMAGE_TICK_MS = 32
REST_TICK_MS = 100
Qt = QtCore.Qt


class OperatorWindow(WalkedWindow):
    """The window; it owns its session and nothing of the run.

    ``new_folder`` names the folder of the next run for a recipe's path; ``settings`` are by default
    the operator's own.
    """

    def __init__(
        self,
        session: Session,
        new_folder: Callable[[Path], Path],
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self.session = session
        self.settings = settings if settings is not None else Settings(settings_path())
        theme.use(self.settings.choice("theme", tuple(theme.THEMES)))
        self.commanding = Commanding(self, new_folder)
        self._starting = Starting(self.commanding.start, self.complain)
        self.setWindowTitle("hotstage")
        self.topbar = TopBar()
        self.notices = Notices()
        self.facts = FactsLine()
        self.live = LivePage(session, self.settings)
        self.recipe, self.log, self.image = self.live.recipe, self.live.log, self.live.image
        self.editor = RecipePage(session, self.settings)
        self.runs = RunsPage(session, self.settings)
        self.instruments = InstrumentsPage(session, self.settings)
        self.pages: tuple[Page, ...] = (self.live, self.editor, self.instruments, self.runs)
        self.telling = Telling(self.notices, self.log, self.topbar)
        self.stack = QtWidgets.QStackedWidget()
        self.tabs = Tabs()
        self.control = Control(self, session, self.notices, self.facts, self.telling)
        self.moving = Moving(self)
        self.help = Help(self)
        self._compose()
        theme.dress(self)
        self._connect_controls()
        self._image_timer = self._every(IMAGE_TICK_MS, self._take_image)
        self._rest_timer = self._every(REST_TICK_MS, self._take_rest)
        abort = self.topbar.abort
        self._over_all = keys.OverAll(
            self,
            keys.HeldKey(Qt.Key.Key_F12, tr("Heater off, at once"), self.heater_off),
            keys.HeldKey(Qt.Key.Key_F9, tr("Hold for 0.6 s: abort"), abort.begin, abort.cancel),
        )
        self._over_all.turned.connect(self.ring.turn)
        self._take_rest()

    # ------------------------------------------------------------------ for whoever opens it

    def open_recipe(self, path: Path, start: bool = False) -> None:
        """Load a recipe; ``start`` runs it as soon as it is read and the engine answers."""
        self._starting.want(path if start else None)
        self.session.read_recipe(path)

    def open_run(self, path: Path) -> None:
        """Look at a stored run."""
        self.show_page(self.runs)
        self.runs.open_run(path)

    @property
    def looking_back(self) -> bool:
        """Whether a stored run is in front: nothing may be taken for the present, or steer it unseen."""
        return self.stack.currentWidget() is self.runs and self.runs.replaying

    def complain(self, words: str) -> None:
        """Show and log an error without stopping anybody."""
        self.telling.complain(words)

    # ------------------------------------------------------------------ Qt's hooks

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Leave the run alone: stop looking, and go."""
        if not all(page.may_close(self.close) for page in self.pages):
            event.ignore()
            return
        self._image_timer.stop()
        self._rest_timer.stop()
        for page in self.pages:
            page.keep()
        self.settings.put("window/geometry", self.saveGeometry())
        self.settings.save()
        self._over_all.end()
        self.moving.close()
        self.session.close()
        super().closeEvent(event)

    # ------------------------------------------------------------------ pages and looks

    def show_page(self, page: Page) -> None:
        """Bring a page to the front."""
        self.tabs.setCurrentIndex(self.pages.index(page))

    def change_theme(self) -> None:
        """Night to day, or day to night; remembered."""
        theme.use(theme.other())
        self.settings.put("theme", theme.now().name)

    def _turn_to(self, index: int) -> None:
        before = self.stack.currentIndex()
        self.stack.setCurrentIndex(index)
        if before != index:
            self.commanding.asking.forget()
            self.pages[before].left()
            self.pages[index].entered()
            self.take_status()

    def _choose(self) -> None:
        front = self.stack.currentWidget()
        (self.editor.keeper if front is self.editor else self.recipe).choose()

    def _run_edited(self, path: Path) -> None:
        self.show_page(self.live)
        self.open_recipe(path, start=True)

    def _mark_unsaved(self, unsaved: bool) -> None:
        mark = "● " if unsaved else ""
        self.tabs.setTabText(self.pages.index(self.editor), f"{mark}{self.editor.title}")
        self.setWindowTitle(f"{mark}{self.windowTitle().removeprefix('● ')}")

    # ------------------------------------------------------------------ commands

    def heater_off(self) -> None:
        """Send heater off both ways, now."""
        self.session.heater_off("heater off pressed by the operator")
        self.topbar.show_heater_off(tr("sending …"))

    def _write_note(self) -> None:
        if self.stack.currentWidget() is self.live:
            self.log.field.setFocus()

    # ------------------------------------------------------------------ what comes

    def _take_image(self) -> None:
        self.session.hand.tick()
        for event in self.session.take_events():  # an answer to heater off waits for no slower tick
            self._show_event(event)
        self.pages[self.stack.currentIndex()].take_image()

    def _take_rest(self) -> None:
        self.take_status()
        self.live.take_rest()

    def take_status(self) -> None:
        """Draw the newest status everywhere."""
        snapshot, sent = self.session.snapshot(), self.session.in_flight()
        plan = self.session.plan()
        back = self.looking_back
        if not self.commanding.asking.asked:
            self.telling.answered()
        self.topbar.asks_run = self.commanding.asking.asked
        held = self.control.show(snapshot)
        self.moving.show(snapshot)
        self.topbar.show_status(snapshot, self.recipe.recipe is not None, sent, back, held)
        self.notices.show_status(snapshot, sent, back, held)
        for page in self.pages:
            page.show_status(snapshot, plan)
        shown = (self.image.stream_shown, self.image.shown, self.image.not_shown)
        by_hand = self.session.hand.view().manual.dose_e_per_nm2
        self.facts.show_status(snapshot, *shown, back, self.session.who, by_hand)
        self._say_changes(snapshot)
        self.telling.tick()
        self._starting.look(snapshot, self.topbar.run.isEnabled(), back, held)

    def _say_changes(self, snapshot: StatusSnapshot) -> None:
        if self.telling.changes(snapshot):
            name, state = snapshot.status.run_name, tr(snapshot.status.state.value)
            self.setWindowTitle(f"{name} – {state} – hotstage" if name else "hotstage")
            self._mark_unsaved(self.editor.document.unsaved)

    def _show_event(self, event: object) -> None:
        if isinstance(event, RecipeText):
            self._show_recipe(event)
        elif isinstance(event, EmergencyReport):
            self._show_emergency(event)
        elif isinstance(event, ContinuationPlan):
            self.notices.ask_continuation(event)
        elif isinstance(event, CommandResult):
            self.telling.result(event)

    def _show_recipe(self, recipe: RecipeText) -> None:
        self._starting.read(recipe)
        if recipe.error:
            self.complain(recipe.error)
            return
        self.recipe.show_recipe(recipe)
        self.editor.follow(recipe.path)
        self.take_status()  # Run is offered at once

    def _show_emergency(self, report: EmergencyReport) -> None:
        self.telling.emergency(report)

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        self.tabs.setDrawBase(False)
        self.tabs.setExpanding(False)
        self.tabs.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.tabs.setAccessibleName(tr("Pages"))
        self.theme_button = sign_button("◐", tr("Day or night colours (Ctrl+T)"))
        for page in self.pages:
            self.stack.addWidget(page)
            index = self.tabs.addTab(page.title)
            self.tabs.setTabToolTip(index, page.key)
            page.complained.connect(self.complain)
            page.told.connect(self.telling.tell)
        line = QtWidgets.QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(self.tabs, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.notices, 1)
        line.addWidget(self.theme_button, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(self.help.button, 0, Qt.AlignmentFlag.AlignTop)
        centre = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(centre)
        column.setContentsMargins(8, 8, 8, 6)
        column.setSpacing(6)
        column.addWidget(self.topbar)
        column.addLayout(line)
        column.addWidget(self.stack, 1)
        column.addWidget(self.facts)
        centre.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setCentralWidget(centre)
        centre.setFocus()
        self.setMinimumSize(1180, 640)
        self.resize(1600, 900)
        self.restoreGeometry(self.settings.bytes("window/geometry"))

    def _connect_controls(self) -> None:
        self.topbar.run.clicked.connect(self.commanding.run)
        self.topbar.pause.clicked.connect(self.commanding.pause_or_resume)
        self.topbar.hold.clicked.connect(self.commanding.hold)
        self.topbar.abort.confirmed.connect(self.commanding.abort)
        self.topbar.abort.released_early.connect(self.telling.not_aborted)
        self.topbar.heater_off.pressed.connect(self.heater_off)
        self.notices.confirm.connect(self.session.confirm)
        self.notices.clear_fault.connect(self.session.clear_fault)
        self.notices.blank.connect(self.session.hand.blank)
        self.notices.look_at_run.connect(self.session.hand.ask_continuation)
        self.notices.continue_run.connect(self.session.hand.continue_run)
        self.log.noted.connect(self.session.hand.note)
        self.recipe.opened.connect(self.open_recipe)
        self.editor.run_wanted.connect(self._run_edited)
        self.editor.unsaved_changed.connect(self._mark_unsaved)
        self.live.looked.connect(self.open_run)
        self.runs.replay_changed.connect(self.take_status)
        self.runs.continue_wanted.connect(self.session.hand.ask_continuation)
        self.tabs.currentChanged.connect(self._turn_to)
        self.theme_button.clicked.connect(self.change_theme)
        keys.install(
            self,
            ("F5", tr("Run the recipe that is in front; again to start"), self.commanding.run),
            ("Space", tr("Pause; go on"), self.commanding.pause_or_resume),
            ("H", tr("Hold the temperature"), self.commanding.hold),
            ("M", tr("A note for the run's journal"), self._write_note),
            ("Ctrl+M", tr("A longer note"), self.log.write_note),
            ("Ctrl+O", tr("Open a recipe"), self._choose),
            ("Ctrl+T", tr("Day or night colours"), self.change_theme),
            *(
                (
                    page.key,
                    tr("Page {title}").format(title=page.title),
                    partial(self.show_page, page),
                )
                for page in self.pages
            ),
            *self.help.keys,
        )
        self.install_walking()

    def _every(self, period_ms: int, act: Callable[[], None]) -> QtCore.QTimer:
        timer = QtCore.QTimer(self)
        timer.setTimerType(Qt.TimerType.PreciseTimer)
        timer.timeout.connect(act)
        timer.start(period_ms)
        return timer
