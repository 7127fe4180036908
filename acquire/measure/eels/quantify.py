"""Turns edge integrals into atoms per nm² and into ratios of elements, by tabulated cross-sections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from acquire.errors import MeasureError

BARN_NM2 = 1e-10
_SAME = 0.02
"""Relative difference of conditions that passes: cross-sections change by less than as much."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a cross-section holds for."""

    beam_kev: float
    collection_mrad: float
    """Semi-angle of the entrance aperture."""
    window_ev: float
    """Width of the integration window, from the edge on."""

    def __str__(self) -> str:
        return f"{self.beam_kev:g} kV, {self.collection_mrad:g} mrad, {self.window_ev:g} eV"


@dataclass(frozen=True, slots=True)
class CrossSection:
    """Of one edge; ``sigma_barn`` is how well it is known (0: not told)."""

    barn: float
    sigma_barn: float = 0.0


@dataclass(frozen=True, slots=True)
class CrossSections:
    """A table of cross-sections at one set of conditions."""

    table: Mapping[str, CrossSection]
    conditions: Conditions
    source: str = ""

    def of(self, edge: str, conditions: Conditions) -> CrossSection:
        """The cross-section of an edge at the conditions of a measurement.

        Raises:
            MeasureError: the table has no such edge, or was made for other conditions.
        """
        ours = self.conditions
        for what, own, asked, unit in (
            ("beam energy", ours.beam_kev, conditions.beam_kev, "kV"),
            ("collection angle", ours.collection_mrad, conditions.collection_mrad, "mrad"),
            ("integration window", ours.window_ev, conditions.window_ev, "eV"),
        ):
            if not math.isclose(own, asked, rel_tol=_SAME):
                raise MeasureError(
                    f"{edge!r} was measured with a {what} of {asked:g} {unit}, the cross-sections "
                    f"({self.source or 'of the table'}) hold for {own:g} {unit}. Give a table for "
                    f"{conditions}."
                )
        if edge not in self.table:
            raise MeasureError(
                f"there is no cross-section of {edge!r} at {ours}; there are "
                f"{', '.join(self.table) or 'none'}. Give a table that holds it."
            )
        return self.table[edge]


SHEET = CrossSections(
    MappingProxyType(
        {
            "o_k": CrossSection(1166.0),
            "ti_l": CrossSection(4038.0),
            "ni_l": CrossSection(624.0),
            "sr_l": CrossSection(120.0),
        }
    ),
    Conditions(200.0, 33.0, 50.0),
    "the project's sheet of figures",
)
"""Cross-sections at 200 kV, 33 mrad and 50 eV; L is L3 with what of L2 the window holds."""

_KEYS = ("beam_kev", "collection_mrad", "window_ev")


def cross_sections(given: Mapping[str, Any]) -> CrossSections:
    """A table of a person's own, as a mapping that a TOML file gives.

    ``{"beam_kev": 300, "collection_mrad": 33, "window_ev": 50, "source": "…", "barn": {"o_k": 1100,
    "ti_l": {"barn": 3700, "sigma": 400}}}``; the source may be left out.

    Raises:
        MeasureError: a key too few or too many, a number that is not positive.
    """
    unknown = set(given) - {*_KEYS, "barn", "source"}
    missing = [key for key in (*_KEYS, "barn") if key not in given]
    if unknown or missing:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(sorted(unknown))}"
        raise MeasureError(
            f"a table of cross-sections {wrong}: it needs {', '.join(_KEYS)} and barn (by edge), and "
            "may have source."
        )
    if not isinstance(given["barn"], Mapping) or not given["barn"]:
        raise MeasureError(
            "a table of cross-sections gives no barn by edge: {'o_k': 1166.0} is needed."
        )
    table = {}
    for edge, entry in given["barn"].items():
        parts = entry if isinstance(entry, Mapping) else {"barn": entry}
        if set(parts) - {"barn", "sigma"} or "barn" not in parts:
            raise MeasureError(
                f"the cross-section of {edge!r} is {entry!r}: write a number, or barn and sigma."
            )
        sigma = parts.get("sigma", 0.0)
        value = _positive(parts["barn"], f"the cross-section of {edge!r}")
        table[str(edge)] = CrossSection(
            value,
            0.0 if sigma == 0 else _positive(sigma, f"the σ of the cross-section of {edge!r}"),
        )
    numbers = [_positive(given[key], f"{key} of the cross-sections") for key in _KEYS]
    return CrossSections(
        MappingProxyType(table), Conditions(*numbers), str(given.get("source", ""))
    )


@dataclass(frozen=True, slots=True)
class Amount:
    """Numbers with their σ, any shape; ``scale_sigma`` is relative, common to all, and not in σ."""

    value: Array
    sigma: Array
    scale_sigma: float = 0.0
    """How well the cross-sections are known, as they tell it."""
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def areal_density(
    integral: ArrayLike,
    low_loss_integral: ArrayLike,
    cross_section: CrossSection,
    *,
    sigma: ArrayLike = 0.0,
    low_loss_sigma: ArrayLike = 0.0,
    exposure_ratio: float = 1.0,
) -> Amount:
    """Atoms per nm²: N = I(β, Δ) / (I_low(β, Δ) σ(β, Δ)).

    The edge's electrons over those of the low loss (zero-loss peak and all losses up to the same width
    Δ) and the cross-section, both within the collection angle β: the low loss stands for the plural
    scattering that takes electrons out of the edge's window. Source: R. F. Egerton, Electron
    Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. 2011, section 4.5.

    That is an approximation: an edge's later part loses more than its first. At t/λ = 0.5 densities come
    out some 15 % too small (Ti-L). With :func:`~acquire.measure.eels.losses.single_scattering` as
    ``integral`` and the zero-loss electrons as ``low_loss_integral`` the formula is exact.

    Args:
        integral: electrons of the edge above its background.
        low_loss_integral: electrons of the low loss from below the zero-loss peak up to the width of
            the edge's window; shapes broadcast.
        cross_section: at the conditions of the measurement (:meth:`CrossSections.of`).
        sigma: of ``integral``.
        low_loss_sigma: of ``low_loss_integral``; its own Poisson noise is what a caller may pass.
        exposure_ratio: beam time of the core loss over that of the low loss.

    Flags: ``no_low_loss`` where there are no electrons to compare with (NaN).

    Raises:
        MeasureError: an exposure ratio or a cross-section that is not positive and finite.
    """
    _positive(exposure_ratio, "the ratio of the exposures")
    _positive(cross_section.barn, "the cross-section")
    net, low = np.asarray(integral, np.float64), np.asarray(low_loss_integral, np.float64)
    none = ~(low > 0)
    safe = np.where(none, np.nan, low)
    per_nm2 = 1.0 / (safe * exposure_ratio * cross_section.barn * BARN_NM2)
    value = net * per_nm2
    by_low = value * np.asarray(low_loss_sigma, np.float64) / safe
    spread = np.hypot(np.asarray(sigma, np.float64) * per_nm2, by_low)
    shape = np.broadcast_shapes(value.shape, spread.shape)
    return Amount(
        np.broadcast_to(value, shape).copy(),
        np.broadcast_to(spread, shape).copy(),
        cross_section.sigma_barn / cross_section.barn,
        {"no_low_loss": np.broadcast_to(none, shape).copy()},
    )


def atomic_ratio(
    integral: ArrayLike,
    sigma: ArrayLike,
    cross_section: CrossSection,
    other_integral: ArrayLike,
    other_sigma: ArrayLike,
    other_cross_section: CrossSection,
) -> Amount:
    """Atoms of one element per atom of another: (I_a / I_b) (σ_b / σ_a), in which the low loss cancels.

    Both edges of the same spectrum and in windows of the same width (Egerton, as above). The noise of
    the two integrals is taken as independent. Where the other element is not told at 3 σ, a ratio
    means nothing: NaN, flagged ``too_little``.
    """
    a, b = np.asarray(integral, np.float64), np.asarray(other_integral, np.float64)
    sa, sb = np.asarray(sigma, np.float64), np.asarray(other_sigma, np.float64)
    for section in (cross_section, other_cross_section):
        _positive(section.barn, "the cross-section")
    little = ~(b > 3 * sb) | ~(b > 0)
    safe = np.where(little, np.nan, b)
    factor = other_cross_section.barn / cross_section.barn
    value = factor * a / safe
    spread = factor * np.hypot(sa / safe, a / safe * sb / safe)
    relative = math.hypot(
        cross_section.sigma_barn / cross_section.barn,
        other_cross_section.sigma_barn / other_cross_section.barn,
    )
    return Amount(
        np.asarray(value),
        np.asarray(spread),
        relative,
        {"too_little": np.broadcast_to(little, np.shape(value)).copy()},
    )


def _positive(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise MeasureError(f"{what} is {value!r}: a number is needed.")
    if not (math.isfinite(value) and value > 0):
        raise MeasureError(f"{what} is {value!r}: it must be positive and finite.")
    return float(value)
