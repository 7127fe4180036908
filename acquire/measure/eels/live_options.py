"""What a recipe may choose of the live estimator ``eels``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acquire.errors import ConfigError
from acquire.measure.eels.camera import Camera
from acquire.measure.eels.elements import EDGE_TABLE
from acquire.measure.eels.pairs import PairSettings
from acquire.measure.eels.reference_files import load_reference
from acquire.measure.eels.references import Reference
from acquire.measure.eels.valence import PER_ATOM_EV, TI_WINDOWS_EV
from acquire.units import ElectronVolts

_Number = Annotated[float, Field(allow_inf_nan=False)]
_DETAILS = {
    "counts_per_electron": "gain_counts_per_electron",
    "readout_noise": "readout_noise_electrons",
    "dark_counts": "offset_counts",
    "full_scale_counts": "full_scale_counts",
}
"""Names of the options in the details that a spectrometer gives of itself."""


class ReferenceFiles(BaseModel):
    """Spectra of known specimens: msa, dm3, dm4 or hspy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ti4: Path
    ti3: Path
    background: tuple[ElectronVolts, ElectronVolts] | None = None
    """Where a power law is fitted and then subtracted; None: it is subtracted already."""

    def load(self) -> tuple[Reference, Reference]:
        """Both; raises MeasureError if a file cannot be read, or does not cover the windows."""
        four, three = (
            load_reference(
                path,
                name=name,
                windows_ev=(TI_WINDOWS_EV[-1], (TI_WINDOWS_EV[-1][0], PER_ATOM_EV[1])),
                background_ev=self.background,
                onset_ev=None if self.background else TI_WINDOWS_EV[-1][0] - 2.0,
            )
            for name, path in (("ti4", self.ti4), ("ti3", self.ti3))
        )
        return four, three


class EelsOptions(BaseModel):
    """What a recipe may write under ``estimate: eels``, beside ``from``.

    What it leaves out of the camera is taken from the spectrometer's own details, or else one count
    is one electron.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    edges: tuple[str, ...] | None = None
    """Of the table; None: Ti-L, O-K and Ni-L where they lie on the axis."""
    elements: tuple[str, ...] | None = None
    """Symbols of what else the specimen holds: edges that these disturb are fitted together with theirs,
    or flagged. None: lanthanum is taken to be there where Ni-L can be fitted together with it."""
    references: ReferenceFiles | None = None
    fwhm: Annotated[ElectronVolts, Field(gt=0)] | None = None
    """Of the zero-loss peak; None: it is measured on the first pairs and held."""
    counts_per_electron: Annotated[_Number, Field(gt=0)] | None = None
    readout_noise: Annotated[_Number, Field(ge=0)] | None = None
    """Standard deviation per channel, in electrons."""
    dark_counts: _Number | None = None
    full_scale_counts: Annotated[_Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _known_edges(self) -> EelsOptions:
        unknown = [name for name in self.edges or () if name not in EDGE_TABLE]
        if unknown:
            raise ValueError(
                f"edges: there is no {', '.join(unknown)}; there are {', '.join(EDGE_TABLE)}"
            )
        return self

    def informed(self, details: Mapping[str, Any]) -> EelsOptions:
        """The same, with what an instrument tells of its camera in place of what is left open.

        Raises:
            ConfigError: it tells something that cannot be.
        """
        found = {}
        for name, key in _DETAILS.items():
            if getattr(self, name) is None and key in details:
                found[name] = details[key]
        try:
            return EelsOptions.model_validate({**self.model_dump(exclude_none=True), **found})
        except ValueError as error:
            raise ConfigError(f"the spectrometer's details cannot be used: {error}") from error

    def camera(self) -> Camera:
        """What lies between counts and electrons."""
        return Camera(
            self.counts_per_electron or 1.0, self.readout_noise or 0.0, self.dark_counts or 0.0
        )

    def settings(self) -> PairSettings:
        """What is measured; raises MeasureError if a reference cannot be read."""
        return PairSettings(
            self.edges,
            None if self.elements is None else frozenset(self.elements),
            self.references.load() if self.references is not None else None,
            self.fwhm,
            self.full_scale_counts,
        )
