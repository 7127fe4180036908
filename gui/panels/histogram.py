"""How many particles there are of each size, with a fitted distribution, of the newest table."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6 import QtGui, QtWidgets

from acquire.engine.status import EngineStatus, LiveImage
from gui import text, theme
from gui.aside import Aside, Failed
from gui.aside.work import SizeFit
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.export import Exporter, Figure
from gui.widgets.panel import Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, make_plot
from gui.widgets.ranges import Following
from gui.widgets.trace import Floats
from gui.words import tr

REDRAW_S = 0.2
PATIENCE_S = 0.5
"""So long bars wait for their fit."""
MOST_BINS = 400
_FITS = ("lognormal", "normal", "none")
_FIT_WORDS = (tr("lognormal fit"), tr("normal fit"), tr("no fit"))
_WIDTHS_NM = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_FIT, _WIDTH = "plots/fit", "plots/bins"
_KIND = "sizes"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The sizes of one frame."""

    index: int
    sizes: Floats
    """Of whole particles, nm."""
    all_of_them: int
    """Particles, also those that the edge of the image cuts."""
    stream: str = ""


_NOTHING = Table(-1, np.empty(0), 0)


class HistogramPanel(Panel):
    """Whole particles only: one that the edge of the image cuts has no size."""

    def __init__(
        self,
        aside: Aside,
        settings: Settings | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        super().__init__(tr("Histogram"))
        self._aside = aside
        self._settings = settings
        self.plot = make_plot(tr("equivalent diameter (nm)"), "")
        self.plot.setAccessibleName(tr("Histogram of particle sizes"))
        self.stage = Stage(self.plot, tr("No particles measured yet"))
        self.bins = Choice(tr("Width of the bins; by Freedman and Diaconis' rule, rounded"))
        for width in _WIDTHS_NM:
            words = tr("bins {nm:g} nm").format(nm=width) if width else tr("bins by rule")
            self.bins.addItem(words, width)
        self.fit = Choice(tr("Distribution that is fitted by maximum likelihood"))
        for words, kind in zip(_FIT_WORDS, _FITS, strict=True):
            self.fit.addItem(words, kind)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.bins)
        row.addWidget(self.fit)
        row.addStretch(1)
        self.body.addLayout(row)
        self.body.addWidget(self.stage, 1)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self.bars = pg.PlotCurveItem(np.zeros(2), np.zeros(1), stepMode="center", fillLevel=0)
        draw_in(self.bars, "diameter")
        theme.follow(self.plot, lambda: self.bars.setBrush(_shade()))
        self.plot.addItem(self.bars)
        self.curve = draw_in(pg.PlotCurveItem(), "text")
        self.plot.addItem(self.curve)
        self.following = Following(self.plot)
        self._newest = _NOTHING
        self.drawn = _NOTHING
        """The table whose bars, fit and words are shown: always of the same one."""
        self._asked = _NOTHING
        self._status = EngineStatus()
        self._asked_at_s = -math.inf
        self.found: SizeFit | None = None
        self.width_nm = math.nan
        if settings is not None:
            self.fit.setCurrentIndex(_FITS.index(settings.choice(_FIT, _FITS)))
            kept = settings.number(_WIDTH, 0.0, 0.0, max(_WIDTHS_NM))
            self.bins.setCurrentIndex(max(0, self.bins.findData(kept)))
        for choice in (self.bins, self.fit):
            choice.currentIndexChanged.connect(self._chosen)

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._newest = self.drawn = self._asked = _NOTHING
        self.found = None
        self.stage.show_plot(False)
        set_text(self.info, "")

    def show_image(self, image: LiveImage) -> None:
        """Take the table that came with an image."""
        diameters = image.particles.get("diameter_nm")
        if diameters is None:
            if image.stream == self._newest.stream:  # nothing was measured of it by then
                self._newest = Table(-1, np.empty(0), 0, image.stream)
            return
        sizes = np.asarray(diameters, np.float64)
        border = np.asarray(image.particles.get("border", np.zeros(len(sizes))))
        whole = sizes[np.isfinite(sizes) & (sizes > 0) & (border == 0)]
        last = self._newest
        same = (image.stream, image.estimate_index, len(sizes)) == (
            last.stream,
            last.index,
            last.all_of_them,
        )
        if not (same and np.array_equal(whole, last.sizes)):  # segments count from 0 again
            self._newest = Table(image.estimate_index, whole, len(sizes), image.stream)

    def show_status(self, status: EngineStatus) -> None:
        """Draw what is new, at most five times a second, as soon as it is fitted."""
        self._status = status
        if not self.isVisible():
            return
        now_s = time.monotonic()
        answer = self._aside.take(_KIND)
        if isinstance(answer, SizeFit | Failed) and self._asked is not _NOTHING:
            self.found = answer if isinstance(answer, SizeFit) else None
            self._draw(self._asked)
        waited_s = now_s - self._asked_at_s
        if self._aside.busy(_KIND):
            if waited_s > PATIENCE_S and self.drawn is not self._asked:
                self.found = None
                self._draw(self._asked)
        elif self._newest is not self._asked and waited_s >= REDRAW_S:
            self._begin()

    def _begin(self) -> None:
        """Have the newest table fitted, and drawn then; at once where nothing is fitted."""
        self._asked, self._asked_at_s = self._newest, time.monotonic()
        kind = str(self.fit.currentData())
        if kind == "none" or not len(self._asked.sizes):
            self.found = None
            self._draw(self._asked)
        else:
            self._aside.ask(_KIND, "fit_sizes", self._asked.sizes, kind)

    def _draw(self, table: Table) -> None:
        self.drawn = table
        sizes, found = table.sizes, self.found
        self.stage.show_plot(len(sizes) > 0)
        if not len(sizes):
            set_text(self.info, tr("no whole particle") if table.all_of_them else "")
            return
        edges = bin_edges(sizes, float(self.bins.currentData()))
        self.width_nm = float(edges[1] - edges[0])
        counts = np.histogram(sizes, edges)[0].astype(np.float64)
        self.bars.setData(edges, counts)
        self.following.fit([edges, edges[:1] - self.width_nm], [counts, np.zeros(1)])
        if found is None:
            self.curve.setData([], [])
        else:
            self.curve.setData(found.x_nm, found.per_nm * found.count * self.width_nm)
        set_text(self.info, self.words())

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the bars too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)

    def words(self) -> str:
        """Number, mean and spread, and where they are from."""
        sizes, found = self.drawn.sizes, self.found
        n = len(sizes)
        count = tr("n {n} of {all}").format(n=n, all=self.drawn.all_of_them)
        bins = tr("bins {nm:.3g} nm").format(nm=self.width_nm)
        if found is not None:
            mean = text.with_sigma(found.mean_nm, found.mean_sigma_nm, "nm")
            kind = dict(zip(_FITS, _FIT_WORDS, strict=True))[found.kind]
            words = tr("{count} · {kind}: mean {mean}, σ {spread:.3g} nm · {bins}")
            return words.format(
                count=count, kind=kind, mean=mean, spread=found.spread_nm, bins=bins
            )
        spread = float(sizes.std(ddof=1)) if n > 1 else math.nan
        mean = text.with_sigma(float(sizes.mean()), spread / math.sqrt(n), "nm")
        words = tr("{count} · sample: mean {mean}, σ {spread:.3g} nm · {bins}")
        return words.format(count=count, mean=mean, spread=spread, bins=bins)

    def figure(self) -> Figure:
        """What is drawn, for a file."""
        caption = [
            tr("{run} · particle sizes of frame {index}").format(
                run=self._status.run_name, index=self.drawn.index
            ),
            self.words() if len(self.drawn.sizes) else "",
            self._status.folder,
        ]
        edges, counts = self.bars.getData()
        if edges is None or not len(self.drawn.sizes):
            return Figure("histogram", caption)
        tables = {
            "histogram": {"from_nm": edges[:-1], "to_nm": edges[1:], "particles": counts},
            "diameters": {"diameter_nm": self.drawn.sizes},
        }
        x, y = self.curve.getData()
        if x is not None and len(x):
            tables["fit"] = {"diameter_nm": x, "particles_per_bin": y}
        return Figure("histogram", caption, tables)

    def _chosen(self, *_: object) -> None:
        if self._settings is not None:
            self._settings.put(_FIT, str(self.fit.currentData()))
            self._settings.put(_WIDTH, float(self.bins.currentData()))
        self._asked, self._asked_at_s = _NOTHING, -math.inf


def bin_edges(sizes: Floats, width_nm: float = 0.0) -> Floats:
    """Edges of bins at multiples of their width, so that they stay where they are as sizes change.

    Args:
        sizes: (n,) nm.
        width_nm: 0 takes Freedman and Diaconis' rule (2 quartile ranges / ∛n), rounded to 1, 2 or 5.
    """
    if width_nm <= 0:
        low, high = np.percentile(sizes, (25, 75))
        rule = 2.0 * float(high - low) / np.cbrt(len(sizes))
        width_nm = text.nice_length(max(rule, 0.02 * float(sizes.mean())))
    first, last = math.floor(sizes.min() / width_nm), math.floor(sizes.max() / width_nm) + 1
    while last - first > MOST_BINS:
        width_nm, first, last = 2 * width_nm, first // 2, -(-last // 2)
    return np.arange(first, last + 1) * width_nm


def _shade() -> QtGui.QColor:
    shade = QtGui.QColor(theme.now().diameter)
    shade.setAlpha(70)
    return shade
