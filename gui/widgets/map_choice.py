"""Which quantity of a map is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6 import QtCore

from acquire.engine.status import EngineStatus
from gui.quantities import called
from gui.settings import Settings
from gui.widgets.choice import Choice
from gui.widgets.trace import Floats
from gui.words import tr

if TYPE_CHECKING:
    from acquire.engine.live_maps import LiveMap

TAKEN = "spectra_taken"
"""Stands for how many spectra there are of each point, which is known before anything is estimated."""
SIGMA = "_sigma"


class MapChoice(Choice):
    """Offers what a map has; what was chosen last is chosen again as soon as it is there."""

    chosen = QtCore.Signal()

    def __init__(self, key: str, settings: Settings | None) -> None:
        super().__init__(tr("Quantity that is shown"))
        self._key = f"plots/{key}"
        self._settings = settings
        self._wanted = settings.text(self._key) if settings is not None else ""
        self._units: dict[str, str] = {}
        self.addItem(self.label(TAKEN), TAKEN)
        self.currentIndexChanged.connect(lambda: self.chosen.emit())
        self.activated.connect(self._by_hand)

    @property
    def quantity(self) -> str:
        """Name of what is chosen."""
        return str(self.currentData() or TAKEN)

    def offer(self, found: LiveMap) -> None:
        """Offer what this map has; the first that is estimated, unless the hand has chosen."""
        there = [TAKEN, *sorted(name for name in found.values if not name.endswith(SIGMA))]
        if [self.itemData(i) for i in range(self.count())] == there:
            return
        kept = self._wanted if self._wanted in there else there[min(1, len(there) - 1)]
        self.blockSignals(True)
        self.clear()
        for name in there:
            self.addItem(self.label(name), name)
        self.setCurrentIndex(self.findData(kept))
        self.blockSignals(False)
        self.chosen.emit()

    def values(self, found: LiveMap) -> Floats:
        """What is chosen (rows, columns), NaN where it is not known."""
        if self.quantity in found.values:
            return np.asarray(found.values[self.quantity], np.float64)
        return np.where(found.taken > 0, found.taken.astype(np.float64), np.nan)

    def know_units(self, status: EngineStatus) -> None:
        """Take units from the newest estimates."""
        for name, view in status.estimates.items():
            self._units[name] = "" if view.unit == "1" else view.unit
        for index in range(self.count()):
            words = self.label(str(self.itemData(index)))
            if words != self.itemText(index):
                self.setItemText(index, words)

    def unit(self, name: str) -> str:
        """Its unit; empty for a pure number."""
        return self._units.get(name, "")

    def label(self, name: str) -> str:
        """For people."""
        unit = self.unit(name)
        return f"{called(name)} ({unit})" if unit else called(name)

    def _by_hand(self) -> None:
        self._wanted = self.quantity
        if self._settings is not None:
            self._settings.put(self._key, self.quantity)


def of_rows(found: LiveMap, name: str) -> tuple[Floats, Floats]:
    """Mean over the rows of a map, and its σ from theirs, both (columns,); NaN where nothing is known."""
    values = found.values.get(name)
    if values is None:
        taken = np.where(found.taken > 0, found.taken.astype(np.float64), np.nan)
        values, sigmas = taken, np.zeros(taken.shape)
    else:
        sigmas = np.asarray(found.values.get(f"{name}{SIGMA}", np.full(values.shape, np.nan)))
    known = np.isfinite(values)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, np.square(sigmas), 0.0).sum(axis=0)) / count
    return mean, spread
