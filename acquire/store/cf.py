"""How hotstage's units, words and flags are written in the attributes of arrays, after CF."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

# "s" and not "seconds": xarray would turn the latter into timedeltas
_TO_CF = {
    "": "1",
    "°C": "degC",
    "Δ°C": "degC",
    "°C/s": "degC s-1",
    "°C/min": "degC min-1",
    "e/nm²": "e nm-2",
    "counts": "count",
    "Ω": "ohm",
    "%": "percent",
    "seconds": "s",
    "nm²": "nm2",
    "nm³": "nm3",
    "µm": "um",
    "1/µm²": "um-2",
    "/µm²": "um-2",
    "per µm²": "um-2",
    "µm⁻²": "um-2",
    "1/nm²": "nm-2",
    "nm/min": "nm min-1",
    "nm/s": "nm s-1",
}
_FOR_PEOPLE = {
    "1": "",
    "degC": "°C",
    "degC s-1": "°C/s",
    "degC min-1": "°C/min",
    "e nm-2": "e/nm²",
    "nm-2": "1/nm²",
    "count": "counts",
    "ohm": "Ω",
    "percent": "%",
    "nm2": "nm²",
    "nm3": "nm³",
    "um": "µm",
    "um-2": "/µm²",
    "nm min-1": "nm/min",
    "nm s-1": "nm/s",
}
_NO_WORD = "none"


def cf_units(unit: str) -> str:
    """The UDUNITS spelling of a unit of hotstage; unknown ones are kept as they are."""
    return _TO_CF.get(unit, unit)


def unit_for_people(units: str) -> str:
    """The spelling of hotstage of a ``units`` attribute."""
    return _FOR_PEOPLE.get(units, units)


def word_attributes(words: Iterable[str]) -> dict[str, Any]:
    """Attributes of a column that holds words as the numbers 0, 1, 2 and so on.

    CF's ``flag_meanings`` cannot hold blanks, so ``flag_texts`` says the same words exactly.
    """
    texts = list(words)
    return {
        "flag_values": list(range(len(texts))),
        "flag_meanings": " ".join(_meaning(text) for text in texts),
        "flag_texts": texts,
    }


def mask_attributes(words: Iterable[str]) -> dict[str, Any]:
    """Attributes of a column that holds sets of words as bits 0, 1, 2 and so on."""
    texts = list(words)
    if not texts:
        return {}
    return {
        "flag_masks": [1 << bit for bit in range(len(texts))],
        "flag_meanings": " ".join(_meaning(text) for text in texts),
        "flag_texts": texts,
    }


def _meaning(text: str) -> str:
    kept = "".join(c if c.isalnum() or c in "_-.+@" else "_" for c in text.strip())
    return kept or _NO_WORD


def words_of(variable: xr.DataArray) -> NDArray[np.object_]:
    """The words of a column such as ``holder.state``: shape as the column's, objects are str."""
    texts = np.array([*_texts(variable.attrs), ""], dtype=object)
    numbers = np.asarray(variable.values, dtype=np.int64)
    return np.asarray(texts[np.where((numbers >= 0) & (numbers < len(texts) - 1), numbers, -1)])


def flags_of(variable: xr.DataArray) -> list[tuple[str, ...]]:
    """The words that each entry of a bit-mask column such as ``estimates.flags`` stands for."""
    texts = _texts(variable.attrs)
    return [
        tuple(text for bit, text in enumerate(texts) if number >> bit & 1)
        for number in np.atleast_1d(np.asarray(variable.values, dtype=np.int64)).tolist()
    ]


def _texts(attributes: Mapping[str, Any]) -> list[str]:
    # no array of them: it would take the longest text's room for each, and cut NULs
    texts = attributes.get("flag_texts", ())
    return [texts] if isinstance(texts, str) else [str(text) for text in texts]
