"""What the live estimator ``eels`` tells: its quantities, and the flags under which none may steer."""

from __future__ import annotations

from acquire.measure.eels.elements import EDGE_TABLE
from acquire.stream.records import Quantity

UNREADABLE = "unreadable"
MOVED = "axis_moved"
_CORE = (
    UNREADABLE, "saturated", "spikes", "dead_row", "no_counts", "negative_counts", "nonfinite",
)  # fmt: skip
_AXIS = ("no_low_loss", "no_zero_loss", "poor_zero_loss", MOVED)
_LOW = (UNREADABLE, "no_zero_loss", "poor_zero_loss", "low_loss_saturated", "low_loss_faulty")
_TI3 = tuple(
    f"ti3_{flag}"
    for flag in (
        "few_counts", "poor_fit", "no_fit", "out_of_range", "no_background", "wrong_references",
        "noisy_reference",
    )
)  # fmt: skip

ZERO_LOSS: tuple[Quantity, ...] = (
    Quantity("zero_loss_position", "eV", "zero-loss peak on the axis as given", _LOW),
    Quantity("energy_shift", "eV", "shift taken off the core-loss axis, filtered", _LOW),
    Quantity("zero_loss_counts", "1", "electrons in the zero-loss peak", _LOW),
    Quantity(
        "relative_thickness",
        "1",
        "thickness over inelastic mean free path",
        (*_LOW, "low_loss_spikes", "truncated_range", "too_thick"),
    ),
)
"""Of the low losses."""

VALENCE = Quantity("ti3_fraction", "1", "share of Ti3+ in titanium", (*_CORE, *_AXIS, *_TI3))
OXYGEN = Quantity(
    "o_k_ratio",
    "1",
    "O-K pre-peak over post-peak",
    (*_CORE, *_AXIS, "o_k_ratio_few_counts", "o_k_ratio_poor_fit", "o_k_ratio_out_of_range"),
)


def edge_quantity(name: str) -> Quantity:
    """Electrons of an edge of the table above its background."""
    label = EDGE_TABLE[name].label
    own = tuple(f"{name}_{flag}" for flag in ("poor_fit", "out_of_range", "overlapped"))
    spoiled = (*_CORE, "no_zero_loss", *own)
    return Quantity(f"{name}_counts", "1", f"electrons of {label} above background", spoiled)


LIVE_QUANTITIES: tuple[Quantity, ...] = (
    *ZERO_LOSS,
    VALENCE,
    OXYGEN,
    *(edge_quantity(name) for name in EDGE_TABLE),
)
"""All that can be told; of them an estimator tells those that its stream's axis holds."""
