"""Reads a run, finished, killed or still being written, as lazy xarray objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr
import zarr

from acquire.errors import StoreError
from acquire.store.documents import read_header, read_report
from acquire.store.journal import JournalEntry, read_journal
from acquire.store.layout import (
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
from acquire.stream.sink import RunHeader, RunReport

HOLDER = "holder"


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
        self.header: RunHeader
        """What was known before the first record."""
        self.report: RunReport | None
        """How the run ended; None while it runs, or when it was killed."""
        self.refresh()

    def refresh(self) -> None:
        """See what has been written since; raises StoreError."""
        try:
            # one read of one file: attributes and shapes of everything from the same moment
            group = zarr.open_group(self.zarr_path, mode="r", use_consolidated=True)
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

    # ------------------------------------------------------------------------ what it holds

    def images(self, stream: str) -> xr.Dataset:
        """Images of a stream: one (time, y, x) variable per detector, with coordinates."""
        return self._dataset(f"{IMAGES}/{stream}/{FULL}", self._names(IMAGES))

    def spectra(self, stream: str) -> xr.Dataset:
        """Spectra of a stream: ``core_loss`` (time, energy_loss), ``low_loss``, coordinates."""
        return self._dataset(f"{SPECTRA}/{stream}", self._names(SPECTRA))

    @property
    def holder(self) -> xr.Dataset:
        """Readings of the heating holder over time; see :func:`~acquire.store.cf.words_of`."""
        return self.table(HOLDER)

    def table(self, name: str) -> xr.Dataset:
        """A table over time."""
        return self._dataset(name, self.tables)

    def estimates(self, name: str) -> xr.Dataset:
        """What an estimator said over time: quantities, their ``_sigma``, ``flags``."""
        return self._dataset(f"{ESTIMATES}/{name}", self.estimators)

    def particles(self, name: str) -> xr.Dataset:
        """All particles that an estimator found, one row each, with ``frame_index``."""
        return self._dataset(f"{PARTICLES}/{name}", self.particle_tables)

    @property
    def gaps(self) -> xr.Dataset:
        """Frames that are missing, one row each; empty if none is."""
        return self._dataset(GAPS, ()) if GAPS in self._groups else xr.Dataset()

    def tree(self) -> xr.DataTree:
        """Everything, as xarray's tree."""
        datasets = {"/": xr.Dataset(attrs=self._attributes)}
        datasets |= {path: self._dataset(path, ()) for path in self._groups}
        return xr.DataTree.from_dict(datasets)

    def journal(self) -> list[JournalEntry]:
        """Every line of the journal; raises StoreError if it is lost."""
        return read_journal(self.path / JOURNAL_NAME)

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
            self._open[path] = xr.open_dataset(xr.backends.ZarrStore(group, mode="r"))
        return self._open[path]


def open_run(path: Path | str) -> Run:
    """Open a run by its folder, or by the ``run.zarr`` in it.

    Raises:
        StoreError: there is no run.
    """
    place = Path(path)
    if not place.exists():
        raise StoreError(f"{place} does not exist; name the folder of a run.")
    return Run(place if place.name == ZARR_NAME else (place / ZARR_NAME).absolute())
