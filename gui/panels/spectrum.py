"""The newest spectrum: core loss or low loss, with edges, their background, and what it tells."""

from __future__ import annotations

import math
import time

import numpy as np
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineStatus, EstimateView, LiveSpectrum
from gui import text
from gui.aside import Aside, Failed
from gui.aside.work import FoundEdge, SpectrumFacts
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.edge_shades import EdgeShades
from gui.widgets.export import Exporter, Figure
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.widgets.plot import Stage, dim, draw_in, label_x, make_plot
from gui.widgets.ranges import Following
from gui.widgets.trace import Floats
from gui.words import tr

LOOK_S = 0.2
"""Wall seconds between spectra that are looked at for edges."""
OLD_S = 30.0
"""What was estimated so many run seconds before the spectrum is told with its age."""
LOW = "low_loss"
_KIND = "spectrum"
_WORDS = {"core_loss": tr("core loss"), LOW: tr("low loss")}
_SHIFTS = {LOW: "zero_loss_position"}
"""What is taken off an axis, by channel; off any other ``energy_shift``."""
_NOMINAL = "nominal energy loss (eV)"
_ALIGNED = "energy loss (eV) from the zero loss, found at {shift:+.2f} eV"
_NUMBERS = (
    ("zero_loss_position", tr("ZLP")),
    ("ti3_fraction", "Ti³⁺"),
    ("o_k_ratio", "O-K a/b"),
    ("relative_thickness", "t/λ"),
)
_COUNTS = "_counts"
_NOT_EDGES = ("zero_loss",)


class SpectrumPanel(Panel):
    """The axis is aligned on the zero loss where its place is known; the label says which it is."""

    def __init__(
        self,
        aside: Aside | None = None,
        settings: Settings | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        super().__init__(tr("Spectrum"))
        self._aside = aside
        self._settings = settings
        self.channel = Choice(tr("Which spectrum of the pair is shown"))
        self.log = QtWidgets.QPushButton(tr("log"))
        self.log.setCheckable(True)
        self.log.setToolTip(tr("Logarithmic counts; channels without counts are left out"))
        self.log.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.numbers = ElidedLabel()
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.channel)
        row.addWidget(self.log)
        row.addWidget(self.numbers, 1)
        self.body.addLayout(row)
        self.plot = make_plot(tr(_NOMINAL), tr("counts"))
        self.plot.setAccessibleName(tr("Newest spectrum"))
        self.curve = draw_in(self.plot.plot(), "spectrum")
        self.background = draw_in(self.plot.plot(), "sky", dashed=True)
        self.shades = EdgeShades(self.plot.getPlotItem().getViewBox())
        self.following = Following(self.plot)
        self.following.returned.connect(self._draw)
        self.stage = Stage(self.plot, tr("No spectrum yet"))
        self.body.addWidget(self.stage, 1)
        if exporter is not None:
            self.head.addWidget(exporter.button(self.plot, self.figure))
        self._offer(False)
        self._spectrum: LiveSpectrum | None = None
        self._status = EngineStatus()
        self.facts: SpectrumFacts | None = None
        self._looked_at: object = None
        self._asked_of: object = None
        self._looked_s = -math.inf
        self._drawn: object = None
        if settings is not None:
            self.log.setChecked(settings.flag("plots/log", False))
            self.plot.setLogMode(x=False, y=self.log.isChecked())
        self.channel.currentIndexChanged.connect(self._turn)
        self.log.toggled.connect(self._set_log)

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._spectrum = self.facts = self._drawn = None
        self._looked_at = self._asked_of = None
        self._offer(False)
        self.curve.setData([], [])
        self._draw_facts()
        for label in (self.info, self.numbers):
            set_text(label, "")

    def show_spectrum(self, spectrum: LiveSpectrum) -> None:
        """Draw a spectrum."""
        if self._spectrum is not None and spectrum.stream != self._spectrum.stream:
            self.facts = None
        self._spectrum = spectrum
        self._offer(True)
        offered = [self.channel.itemData(i) for i in range(self.channel.count())]
        if offered != sorted(spectrum.counts):
            kept = self.channel.currentData()
            if kept is None and self._settings is not None:
                kept = self._settings.text("plots/channel")
            self.channel.blockSignals(True)
            self.channel.clear()
            for name in sorted(spectrum.counts):
                self.channel.addItem(_WORDS.get(name, name), name)
            self.channel.setCurrentIndex(max(0, self.channel.findData(kept)))
            self.channel.blockSignals(False)
        self._draw()

    def show_status(self, status: EngineStatus) -> None:
        """Write the newest numbers, and take what was found in the spectrum."""
        self._status = status
        if not self.isVisible() or self._aside is None:
            return
        answer = self._aside.take(_KIND)
        if isinstance(answer, SpectrumFacts):
            # what was found in another stream, channel or run says nothing of what is shown
            shown = self._spectrum.stream if self._spectrum is not None else ""
            known = self._asked_of == (shown, self.channel.currentData())
            self.facts = answer if known else None
        elif isinstance(answer, Failed):
            self.facts = None
            self.numbers.setToolTip(answer.why)
        self._draw()
        self._ask()

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the curve too."""
        super().set_stale(stale, age_s)
        dim(self.plot.getPlotItem(), stale)

    @property
    def shift_ev(self) -> float:
        """What is taken off the nominal axis; NaN where the zero loss is not known."""
        name = self.channel.currentData()
        wanted = _SHIFTS.get(name, "energy_shift")
        told = self._estimate(wanted)
        if math.isfinite(told[0]):
            return told[0]
        return self.facts.zero_loss_ev if self.facts is not None else math.nan

    def figure(self) -> Figure:
        """What is drawn, for a file."""
        spectrum, name = self._spectrum, str(self.channel.currentData() or "")
        caption = [
            f"{self._status.run_name} · {_WORDS.get(name, name)} · {self.info.text()}",
            f"{self.plot.getPlotItem().getAxis('bottom').labelText} · {self.numbers.text()}",
            self._status.folder,
        ]
        if spectrum is None or name not in spectrum.counts:
            return Figure("spectrum", caption)
        energy = np.asarray(spectrum.energy_ev[name], np.float64)
        shift = self.shift_ev
        columns = {"nominal_ev": energy, "aligned_ev": energy - shift}
        columns["counts"] = np.asarray(spectrum.counts[name], np.float64)
        if not math.isfinite(shift):
            del columns["aligned_ev"]
        tables: dict[str, dict[str, Floats]] = {"spectrum": columns}
        for edge in self._edges():
            if len(edge.background):
                tables[f"background of {edge.label}"] = {
                    "energy_ev": edge.energy_ev,
                    "counts": edge.background,
                }
        return Figure("spectrum", caption, tables)

    # ------------------------------------------------------------------------------ drawing

    def _offer(self, filled: bool) -> None:
        self.stage.show_plot(filled)
        self.channel.setVisible(filled)
        self.log.setVisible(filled)

    def _set_log(self, log: bool) -> None:
        if self._settings is not None:
            self._settings.put("plots/log", log)
        self.plot.setLogMode(x=False, y=log)
        self._drawn = None
        self._draw()

    def _turn(self, *_: object) -> None:
        if self._settings is not None:
            self._settings.put("plots/channel", str(self.channel.currentData()))
        self.facts = None
        self.following.on = True
        self._draw()

    def _draw(self) -> None:
        spectrum, name = self._spectrum, self.channel.currentData()
        if spectrum is None or name not in spectrum.counts:
            return
        shift = self.shift_ev
        now = spectrum.stream, spectrum.serial
        state = (now, name, self.log.isChecked(), shift, self.facts, self.following.on)
        if self.isVisible() and state != self._drawn:
            self._drawn = state
            known = math.isfinite(shift)
            energy = np.asarray(spectrum.energy_ev[name], np.float64) - (shift if known else 0.0)
            counts = np.asarray(spectrum.counts[name], dtype=np.float64)
            if self.log.isChecked():
                counts = np.where(counts > 0, counts, np.nan)
            if np.isfinite(counts).any():
                self.curve.setData(energy, counts, connect="finite")
                shown = np.log10(counts) if self.log.isChecked() else counts
                self.following.fit([energy], [shown])
            else:
                self.curve.setData([], [])
            self._draw_facts()
            label_x(self.plot, tr(_ALIGNED if known else _NOMINAL).format(shift=shift))
        set_text(self.info, f"{spectrum.stream} {spectrum.index} · {text.clock(spectrum.t_s)}")
        set_text(self.numbers, self._number_words())

    def _draw_facts(self) -> None:
        edges = self._edges()
        self.shades.show_edges([(edge.label, edge.fit_ev, edge.window_ev) for edge in edges])
        gap = np.array([np.nan])
        x = [part for edge in edges for part in (edge.energy_ev, gap)]
        y = [part for edge in edges for part in (edge.background, gap)]
        if any(len(edge.background) for edge in edges):
            counts = np.concatenate(y)
            if self.log.isChecked():
                counts = np.where(counts > 0, counts, np.nan)
            self.background.setData(np.concatenate(x), counts, connect="finite")
        else:
            self.background.setData([], [])

    # --------------------------------------------------------------------------- what it tells

    def _edges(self) -> tuple[FoundEdge, ...]:
        facts = self.facts
        if facts is None or facts.channel != self.channel.currentData():
            return ()
        return facts.edges

    def _ask(self) -> None:
        """Have the newest spectrum looked at, if the last one is done with."""
        spectrum, name = self._spectrum, self.channel.currentData()
        if self._aside is None or spectrum is None or name not in spectrum.counts:
            return
        now_s = time.monotonic()
        looked_at = spectrum.stream, spectrum.serial, name
        if self._looked_at == looked_at or now_s - self._looked_s < LOOK_S:
            return
        if self._aside.busy(_KIND):
            return
        self._looked_at, self._looked_s = looked_at, now_s
        self._asked_of = spectrum.stream, name
        told = (key for key in self._status.estimates if key.endswith(_COUNTS))
        wanted = [key.removesuffix(_COUNTS) for key in told]
        shift = self.shift_ev if math.isfinite(self.shift_ev) else 0.0
        axis = _axis(spectrum.energy_ev[name])
        low = spectrum.counts.get(LOW)
        self._aside.ask(
            _KIND,
            "look_at_spectrum",
            spectrum.serial,
            name,
            np.asarray(spectrum.counts[name], np.float64),
            (axis[0] - shift, axis[1]),
            [key for key in wanted if key not in _NOT_EDGES],
            None if low is None else np.asarray(low, np.float64),
            _axis(spectrum.energy_ev[LOW]) if low is not None else (0.0, 1.0),
        )

    def _view(self, name: str) -> EstimateView | None:
        """The newest estimate of a name, also with the prefix of its recipe."""
        estimates = self._status.estimates
        longer = (key for key in estimates if key.endswith(f"_{name}"))
        return estimates.get(name) or estimates.get(next(longer, ""))

    def _estimate(self, name: str) -> tuple[float, float, str]:
        """Value, σ and unit of it; NaN where there is none."""
        found = self._view(name)
        if found is None:
            return math.nan, math.nan, ""
        return found.value, found.sigma, "" if found.unit == "1" else found.unit

    def _before(self, name: str) -> str:
        """How long before the spectrum an estimate was made, if it is old; else empty."""
        found = self._view(name)
        if self._spectrum is None or found is None:
            return ""
        old_s = self._spectrum.t_s - found.t_s
        return tr(" ({age} before)").format(age=text.age(old_s)) if old_s > OLD_S else ""

    def _number_words(self) -> str:
        parts = []
        facts = self.facts
        for name, words in _NUMBERS:
            value, sigma, unit = self._estimate(name)
            if not math.isfinite(value) and name == "zero_loss_position" and facts is not None:
                value = facts.zero_loss_ev
            if math.isfinite(value):
                zero = name == "zero_loss_position"
                told = f"{value:+.3f} eV" if zero else text.with_sigma(value, sigma, unit)
                parts.append(f"{words} {told}{self._before(name)}")
            if name == "zero_loss_position" and facts is not None and math.isfinite(facts.fwhm_ev):
                parts.append(tr("FWHM {ev:.2f} eV").format(ev=facts.fwhm_ev))
        parts += [
            f"{e.label} {text.short(e.net_counts)}"
            for e in self._edges()
            if e.net_counts == e.net_counts
        ]
        return " · ".join(parts)


def _axis(energy_ev: Floats) -> tuple[float, float]:
    """Energy of the first channel, and step."""
    return float(energy_ev[0]), float(energy_ev[-1] - energy_ev[0]) / max(1, len(energy_ev) - 1)
