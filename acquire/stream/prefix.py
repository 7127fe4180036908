"""Names of quantities with the prefix that a recipe's entry gives an estimator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from acquire.stream.records import Estimate, Quantity


def prefixed(quantities: Iterable[Quantity], prefix: str) -> tuple[Quantity, ...]:
    """The same quantities, under the names that a recipe's entry with a ``prefix`` gives them."""
    return tuple(replace(quantity, name=prefix + quantity.name) for quantity in quantities)


def prefixed_estimate(estimate: Estimate, prefix: str) -> Estimate:
    """The same estimate, with its values under these names."""
    values = {prefix + name: value for name, value in estimate.values.items()}
    return replace(estimate, values=values)
