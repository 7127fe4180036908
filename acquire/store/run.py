"""Reads a run, finished, killed or still being written, as lazy xarray objects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from acquire.errors import StoreError
from acquire.measure.dose import DOSE_COLUMNS, DOSE_TABLE, Area, DoseMap
from acquire.store.documents import read_header, read_report
from acquire.store.journal import JournalEntry, read_journal
from acquire.store.layout import (
    CHANNELS,
    ESTIMATES,
    FORMAT_KEY,
    FORMAT_VERSION,
    FULL,
    GAPS,
    IMAGES,
    JOURNAL_NAME,
    PARTICLES,
    RESERVED,
    SPECTRA,
    ZARR_NAME,
)
from acquire.store.maps import as_map
from acquire.store.patience import PatientStore, patiently
from acquire.stream.sink import RunHeader, RunReport

HOLDER = "holder"


@dataclass(frozen=True, slots=True)
class Moment:
    """What was known at one run time; what had not come by then is left out."""

    time_s: float
    frames: Mapping[str, xr.Dataset]
    """By stream: the newest frame whose exposure had ended, without the time dimension."""
    holder: xr.Dataset | None
    """The newest reading."""
    channels: Mapping[str, xr.Dataset]
    """By record: the newest reading of its channel."""
    estimates: Mapping[str, xr.Dataset]
    """By estimator: its newest estimate."""
    state: str
    """``preparing``, ``running``, ``paused``, or the outcome; empty if the journal is lost."""
    step: str
    """The step under way; empty between steps."""


class Run:
    """A run as it was when opened or last refreshed; made by :func:`open_run`.

    Datasets load their coordinates along dimensions at once and everything else when it is used.
    All of them stem from the same moment.
    """

    def __init__(self, path: Path) -> None:
        self.zarr_path = path
        self.path = path.parent
        """The run folder."""
        self._group: zarr.Group
        self._attributes: dict[str, Any]
        self._groups: tuple[str, ...]
        self._open: dict[str, xr.Dataset] = {}
        self._entries: list[JournalEntry] | None = None
        self.header: RunHeader
        """What was known before the first record."""
        self.report: RunReport | None
        """How the run ended; None while it runs, or when it was killed."""
        self.refresh()

    def refresh(self) -> None:
        """See what has been written since; raises StoreError."""
        try:
            # one read of one file: attributes and shapes of everything from the same moment
            # (where that file cannot be opened at the very moment when it is replaced: once more)
            group = patiently(
                lambda: zarr.open_group(self.zarr_path, mode="r", use_consolidated=True),
                (PermissionError, json.JSONDecodeError),
            )
            attributes = group.attrs.asdict()
            version = attributes[FORMAT_KEY]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.zarr_path} is not a run of hotstage ({type(error).__name__}: {error}). "
                f"Name the folder that holds {ZARR_NAME}."
            ) from error
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{self.zarr_path} has format {version}, this hotstage reads {FORMAT_VERSION}. "
                "Update hotstage."
            )
        self._attributes = attributes
        self._group = group
        self._groups = tuple(
            path for path, member in group.members(None) if isinstance(member, zarr.Group)
        )
        self.header = read_header(attributes, self.zarr_path)
        self.report = read_report(attributes, self.zarr_path)
        self._open = {}
        self._entries = None

    # ----------------------------------------------------------------------- what there is

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes of the root group."""
        return self._attributes

    @property
    def state(self) -> str:
        """``running`` until the run was closed (also if it was killed), then its outcome."""
        return str(self._attributes["state"])

    @property
    def streams(self) -> Mapping[str, str]:
        """Kind (``images`` or ``spectra``) of every stream of frames."""
        return {name: kind for kind in (IMAGES, SPECTRA) for name in self._names(kind)}

    @property
    def estimators(self) -> tuple[str, ...]:
        """Names of estimators that wrote to the run."""
        return self._names(ESTIMATES)

    @property
    def particle_tables(self) -> tuple[str, ...]:
        """Names of estimators that wrote a particle table."""
        return self._names(PARTICLES)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of tables such as ``holder``."""
        return tuple(p for p in self._groups if "/" not in p and p not in RESERVED)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the records of channels."""
        return self._names(CHANNELS)

    # ------------------------------------------------------------------------ what it holds

    def images(self, stream: str) -> xr.Dataset:
        """Images of a stream: one (time, y, x) variable per detector, with coordinates."""
        return self._dataset(f"{IMAGES}/{stream}/{FULL}", self._names(IMAGES))

    def spectra(self, stream: str) -> xr.Dataset:
        """Spectra of a stream: ``core_loss`` (time, energy_loss), ``low_loss``, coordinates."""
        return self._dataset(f"{SPECTRA}/{stream}", self._names(SPECTRA))

    def map(self, stream: str, *, summed: bool = False, taking: int = -1) -> xr.Dataset:
        """A spectrum image by place, (pass, y, x, energy_loss): :func:`~acquire.store.maps.as_map`."""
        return as_map(self, stream, summed=summed, taking=taking)

    @property
    def holder(self) -> xr.Dataset:
        """Readings of the heating holder over time; see :func:`~acquire.store.cf.words_of`."""
        return self.table(HOLDER)

    def table(self, name: str) -> xr.Dataset:
        """A table over time."""
        return self._dataset(name, self.tables)

    def channel(self, name: str) -> xr.Dataset:
        """Readings of a channel over time: its values, ``time_bound`` (s) and ``fault``, in words.

        A reading was made within ``time`` ± ``time_bound``. Where ``fault`` says why there is none,
        the values are NaN; see :func:`~acquire.store.cf.words_of`.
        """
        return self._dataset(f"{CHANNELS}/{name}", self.channels)

    def channel_values(self, name: str) -> tuple[str, ...]:
        """Names of what a channel gave: first what its recipe decides by, then in its driver's order."""
        data = self.channel(name)
        values = {str(v) for v in data.data_vars if data[v].dtype.kind == "f"} - {"time_bound"}
        drivers = (i.details for i in self.header.instruments.values())
        order = [*next((d for d in drivers if values <= set(d)), ()), *sorted(values)]
        decisive = re.findall(rf"\b{re.escape(name)}\.(\w+)\s*[<>]", self.header.recipe_yaml)
        return tuple(sorted(values, key=lambda v: (v not in decisive, order.index(v))))

    def estimates(self, name: str) -> xr.Dataset:
        """What an estimator said over time: quantities, their ``_sigma``, ``flags``."""
        return self._dataset(f"{ESTIMATES}/{name}", self.estimators)

    def particles(self, name: str) -> xr.Dataset:
        """All particles that an estimator found, one row each, with ``frame_index``."""
        return self._dataset(f"{PARTICLES}/{name}", self.particle_tables)

    def particle_table(self, name: str) -> pd.DataFrame:
        """The same as a pandas table, in memory; ``attrs["units"]`` gives the unit of each column."""
        found = self.particles(name)
        table = found.to_dataframe()
        table.attrs["units"] = {
            str(column): found[column].attrs.get("units", "") for column in table.columns
        }
        return table

    @property
    def dose_map(self) -> xr.DataArray:
        """Dose per area of the specimen as an image (y, x), about a minute behind a run under way.

        ``attrs["highest"]`` is the highest dose of any place, which a small spot may exceed the
        pixels with. Places are those of the scan's frame, see :mod:`acquire.measure.dose`; what
        the segments before have given is not in it.

        Raises:
            StoreError: nothing was exposed, the scan stated no probe current, or the run is older.
        """
        if DOSE_TABLE not in self.tables or not self.table(DOSE_TABLE).sizes["time"]:
            raise StoreError(
                f"{self.path} has no dose map: nothing was exposed, its scan states no probe "
                "current, or an older hotstage wrote it."
            )
        table = self.table(DOSE_TABLE)
        doses = DoseMap()
        columns = (table[name].values.tolist() for name in DOSE_COLUMNS)
        for x, y, width, height, kind, added in zip(*columns, strict=True):
            doses.add(int(kind), Area(x, y, width, height), added)
        picture = doses.picture()
        return xr.DataArray(
            picture.dose,
            {"y": ("y", picture.y_nm, {"units": "nm"}), "x": ("x", picture.x_nm, {"units": "nm"})},
            name="dose",
            attrs={"units": "e nm-2", "highest": doses.highest_e_per_nm2},
        )

    @property
    def gaps(self) -> xr.Dataset:
        """Frames that are missing, one row for those that follow each other; empty if none is.

        ``stream`` and ``reason`` are words, see :func:`~acquire.store.cf.words_of`; ``frames`` are
        missing from ``frame_index`` on, between run times ``t_start`` and ``t_end``.
        """
        return self._dataset(GAPS, ()) if GAPS in self._groups else xr.Dataset()

    def at(self, time_s: float) -> Moment:
        """What was known at a run time: frames, reading, estimates, state and step.

        A frame is known from the end of its exposure on. Images and spectra are read when used.
        """
        frames = {
            name: self.images(name) if kind == IMAGES else self.spectra(name)
            for name, kind in self.streams.items()
        }
        newest = {name: _newest(data, "t_end", time_s) for name, data in frames.items()}
        channels = {name: _newest(self.channel(name), "time", time_s) for name in self.channels}
        estimates = {
            name: _newest(self.estimates(name), "time", time_s) for name in self.estimators
        }
        state, step = _state(self._journal_as_opened(), time_s)
        return Moment(
            time_s,
            {name: data for name, data in newest.items() if data is not None},
            _newest(self.holder, "time", time_s) if HOLDER in self.tables else None,
            {name: data for name, data in channels.items() if data is not None},
            {name: data for name, data in estimates.items() if data is not None},
            state,
            step,
        )

    def tree(self) -> xr.DataTree:
        """Everything, as xarray's tree."""
        datasets = {"/": xr.Dataset(attrs=self._attributes)}
        datasets |= {path: self._dataset(path, ()) for path in self._groups}
        return xr.DataTree.from_dict(datasets)

    def journal(self) -> list[JournalEntry]:
        """Every line of the journal; raises StoreError if it is lost."""
        return read_journal(self.path / JOURNAL_NAME)

    def _journal_as_opened(self) -> list[JournalEntry]:
        if self._entries is None:
            try:
                self._entries = self.journal()
            except StoreError:
                self._entries = []  # a run whose journal was lost still has its data
        return self._entries

    def _names(self, kind: str) -> tuple[str, ...]:
        """Groups directly below ``kind``."""
        below = (p.removeprefix(f"{kind}/") for p in self._groups if p.startswith(f"{kind}/"))
        return tuple(name for name in below if "/" not in name)

    def _dataset(self, path: str, known: tuple[str, ...]) -> xr.Dataset:
        if path not in self._groups:
            there = ", ".join(known) or "nothing of this kind"
            raise StoreError(f"{self.path} has no {path!r}; there is: {there}.")
        if path not in self._open:
            group = self._group[path]
            assert isinstance(group, zarr.Group)
            try:
                self._open[path] = xr.open_dataset(PatientStore(group, self.zarr_path / path))
            except ValueError as error:
                raise StoreError(
                    f"{self.zarr_path / path} cannot be opened: {error}. Its metadata contradict "
                    "each other: let `hotstage recover` mend them."
                ) from error
        return self._open[path]


def _newest(data: xr.Dataset, column: str, time_s: float) -> xr.Dataset | None:
    """The last row that was there at a time; None if none was."""
    rows = np.flatnonzero(data[column].values <= time_s)
    return data.isel(time=int(rows[-1])) if rows.size else None


def _state(journal: Sequence[JournalEntry], time_s: float) -> tuple[str, str]:
    """State and step at a time."""
    state = step = ""
    for entry in journal:
        if not entry.t_s <= time_s:
            continue
        head, _, text = entry.text.partition(": ")
        if entry.kind == "run":
            begins = entry.text.startswith(("preparing ", "run ")) and not entry.details.get(
                "outcome"
            )
            state = "preparing" if begins else str(entry.details.get("outcome", head))
            step = ""
        elif entry.kind == "state":
            state = "paused" if head == "pausing" else "running"
        elif entry.kind == "action" and head.startswith("begin step"):
            state, step = "running", text
        elif entry.kind == "action" and head.startswith("end step"):
            step = ""
    return state, step


def open_run(path: Path | str) -> Run:
    """Open a run by its folder, or by the ``run.zarr`` in it.

    Raises:
        StoreError: there is no run.
    """
    place = Path(path)
    if not place.exists():
        raise StoreError(f"{place} does not exist; name the folder of a run.")
    return Run(place if place.name == ZARR_NAME else (place / ZARR_NAME).absolute())
