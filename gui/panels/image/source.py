"""Which stream and which detector is shown."""

from __future__ import annotations

from PySide6 import QtCore

from acquire.engine.status import LiveImage
from acquire.instruments import AnyArray
from gui.widgets.choice import Choice
from gui.words import tr

NEWEST = ""


class Source(QtCore.QObject):
    """The two choices, kept in step with what comes.

    Emits ``stream_chosen`` with a stream's name, or with ``""`` for whichever is newest, and
    ``detector_chosen``.
    """

    stream_chosen = QtCore.Signal(str)
    detector_chosen = QtCore.Signal()

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self.stream = Choice(tr("Which image stream is shown"))
        self.stream.addItem(tr("newest"), NEWEST)
        self.detector = Choice(tr("Which detector is shown"))
        self.detector.hide()
        self._detectors: list[str] = []
        self.stream.currentIndexChanged.connect(
            lambda: self.stream_chosen.emit(str(self.stream.currentData()))
        )
        self.detector.currentIndexChanged.connect(lambda: self.detector_chosen.emit())

    @property
    def waits_for(self) -> str:
        """The stream that is asked for; empty for any."""
        return str(self.stream.currentData())

    @property
    def detector_name(self) -> str:
        """The detector that is asked for."""
        return self.detector.currentText()

    def offer(self, image: LiveImage) -> None:
        """Offer the streams and detectors that there are; what is chosen stays chosen."""
        for name in (image.stream, *image.streams):
            if self.stream.findData(name) < 0:
                self.stream.addItem(name, name)
        detectors = list(image.detectors)
        if detectors != self._detectors:
            kept = self.detector.currentText()
            self._detectors = detectors
            self.detector.blockSignals(True)
            self.detector.clear()
            self.detector.addItems(detectors)
            self.detector.setCurrentIndex(max(0, self.detector.findText(kept)))
            self.detector.blockSignals(False)
            self.detector.show()

    def array(self, image: LiveImage) -> AnyArray | None:
        """The (y, x) image of the chosen detector; None if it is not there or has no pixels."""
        found = image.detectors.get(self.detector.currentText())
        return found if found is not None and found.size else None
