"""The newest spectrum: core loss or low loss, linear or logarithmic."""

from __future__ import annotations

import numpy as np
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import LiveSpectrum
from gui import text
from gui.widgets.choice import Choice
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, make_plot

_WORDS = {"core_loss": "core loss", "low_loss": "low loss"}


class SpectrumPanel(Panel):
    """Axes are nominal, as the instrument gave them; the label says so."""

    def __init__(self) -> None:
        super().__init__("Spectrum")
        self.channel = Choice("Which spectrum of the pair is shown")
        self.log = QtWidgets.QPushButton("log")
        self.log.setCheckable(True)
        self.log.setToolTip("Logarithmic counts; channels without counts are left out")
        for widget in (self.channel, self.log):
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            self.head.addWidget(widget)
        self.plot = make_plot("nominal energy loss (eV)", "counts")
        self.curve = draw_in(self.plot.plot(), "spectrum")
        self.stage = Stage(self.plot, "No spectrum yet")
        self.body.addWidget(self.stage, 1)
        self._offer(False)
        self._spectrum: LiveSpectrum | None = None
        self.channel.currentIndexChanged.connect(self._draw)
        self.log.toggled.connect(self._set_log)

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._spectrum = None
        self._offer(False)
        self.curve.setData([], [])
        set_text(self.info, "")

    def show_spectrum(self, spectrum: LiveSpectrum) -> None:
        """Draw a spectrum."""
        self._spectrum = spectrum
        self._offer(True)
        offered = [self.channel.itemData(i) for i in range(self.channel.count())]
        if offered != sorted(spectrum.counts):
            kept = self.channel.currentData()
            self.channel.blockSignals(True)
            self.channel.clear()
            for name in sorted(spectrum.counts):
                self.channel.addItem(_WORDS.get(name, name), name)
            self.channel.setCurrentIndex(max(0, self.channel.findData(kept)))
            self.channel.blockSignals(False)
        self._draw()

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curve too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)

    def _offer(self, filled: bool) -> None:
        self.stage.show_plot(filled)
        self.channel.setVisible(filled)
        self.log.setVisible(filled)

    def _set_log(self, log: bool) -> None:
        self.plot.setLogMode(x=False, y=log)
        self._draw()

    def _draw(self) -> None:
        spectrum, name = self._spectrum, self.channel.currentData()
        if spectrum is None or name not in spectrum.counts:
            return
        counts = np.asarray(spectrum.counts[name], dtype=np.float64)
        if self.log.isChecked():
            counts = np.where(counts > 0, counts, np.nan)
        if np.isfinite(counts).any():
            self.curve.setData(spectrum.energy_ev[name], counts, connect="finite")
        else:
            self.curve.setData([], [])
        set_text(
            self.info,
            f"{spectrum.stream} {spectrum.index} · {text.clock(spectrum.t_s)}",
        )
