"""The reading of the document and its check by the station, kept up to date off the UI thread; edits by the form."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6 import QtCore

from acquire.engine.checked import SUPERSEDED, CheckReport, Place
from acquire.errors import LinkError
from gui.orders import text_of
from gui.pages.recipe.document import Document
from gui.recipes import reading
from gui.recipes.reading import Reading
from gui.session import Session
from gui.words import tr

READ_AFTER_MS = 300
"""Of rest after the last key."""
DELIVER_MS = 40
CHECK_AGAIN_S = 5.0
"""A check that found no host is tried again so often."""

Edit = Callable[[str], str]


class Editing(QtCore.QObject):
    """What is known of the present text; emits ``news`` whenever that changes.

    Edits of the form are made in a worker on the text as it is then; if somebody has typed
    meanwhile, they are made again on the new text.
    """

    news = QtCore.Signal()
    refused = QtCore.Signal(str)
    selected = QtCore.Signal(tuple)
    """Where an edit has put something, once it is read."""

    def __init__(self, session: Session, document: Document) -> None:
        super().__init__()
        self._session, self._document = session, document
        self.reading = Reading("")
        self.report: CheckReport | None = None
        """Of the present text; None while it is not known."""
        self.checking = False
        self.unchecked = ""
        """Why the station has not checked the text."""
        self._unreached = False
        self._asked = ""
        self._asked_at_s = 0.0
        self._awake = False
        self._edits = 0
        self._place: Place | None = None
        self._then: list[Callable[[], None]] = []
        self._rest = QtCore.QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._read)
        self._delivery = QtCore.QTimer(self)
        self._delivery.timeout.connect(session.background.deliver)
        self._delivery.start(DELIVER_MS)
        document.changed.connect(self._changed)

    def wake(self) -> None:
        """Begin to read: not before somebody looks, a window has other things to do when it opens."""
        if not self._awake:
            self._awake = True
            self._read()

    @property
    def settled(self) -> bool:
        """Whether all that was typed is read, and every edit made."""
        return not self._edits and self.reading.text == self._document.text

    def when_settled(self, act: Callable[[], None]) -> None:
        """Do something once what was typed is read; at once if it is."""
        if self.settled:
            act()
        else:
            self._then.append(act)
            self._read()

    def edit(self, change: Edit, what: str, place: Callable[[], Place] | None = None) -> None:
        """Change the text by a function; ``place`` then says what shall be chosen."""
        text = self._document.text
        self._edits += 1

        def done(new: str | None, error: Exception | None) -> None:
            self._edits -= 1
            if new is None:
                self.refused.emit(text_of(error) if error is not None else "")
                self.news.emit()  # the form shows again what is so
            elif text != self._document.text:
                self.edit(change, what, place)
                return
            else:
                self._place = place() if place is not None else self._place
                self._document.replace(new, what)
                self._read()
            self._go_on()

        self._session.background.submit("editing", lambda: change(text), done)

    def check_again(self) -> None:
        """Ask the station again if it could not answer before."""
        waited_s = time.monotonic() - self._asked_at_s
        if self._unreached and not self.checking and waited_s > CHECK_AGAIN_S:
            self._check()

    # ------------------------------------------------------------------ reading and checking

    def _changed(self) -> None:
        if self.report is not None or self.unchecked:
            self.report, self.unchecked, self._unreached = None, "", False
        if self._awake:
            self._rest.start(READ_AFTER_MS)

    def _read(self) -> None:
        self._rest.stop()
        text = self._document.text

        def done(found: Reading | None, error: Exception | None) -> None:
            if found is None:
                self.refused.emit(text_of(error) if error is not None else "")
                return
            if found.text != self._document.text:
                return  # another reading is on its way
            if found.text != self.reading.text:
                self.reading = found
                self.news.emit()
                self._check()
            if self._place is not None:
                place, self._place = self._place, None
                self.selected.emit(place)
            self._go_on()

        self._session.background.submit("reading", lambda: reading.read(text), done, newest=True)

    def _check(self) -> None:
        text = self.reading.text
        if self.reading.recipe is None:
            return
        self._asked, self._asked_at_s, self.checking = text, time.monotonic(), True
        self.unchecked = ""

        def done(report: CheckReport | None, error: Exception | None) -> None:
            if text != self._asked:
                return
            self.checking = False
            if text == self._document.text:
                self.report = report
                self.unchecked = text_of(error) if error is not None else ""
                # another window's check may have taken its place: that one is done sooner or later
                self._unreached = isinstance(error, LinkError | OSError) or SUPERSEDED in str(error)
                self.news.emit()

        self._session.check(text, done)
        self.news.emit()

    def _go_on(self) -> None:
        if self.settled:
            acts, self._then = self._then, []
            for act in acts:
                act()

    def standing(self) -> str:
        """How the check of the text stands, in words."""
        if self.reading.text != self._document.text:
            return tr("reading …")
        if self.reading.recipe is None:
            return tr("not checked: mend the text first")
        if self.checking:
            return tr("◔ the station is looking ahead …")
        if self.report is not None:
            return tr("✓ checked for station {0}").format(self.report.station)
        return (
            tr("? not checked by a station: {0}").format(self.unchecked) if self.unchecked else ""
        )
