"""How estimates become the rows of Zarr groups: quantities over time, and a table of particles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from acquire.errors import StoreError
from acquire.store.columns import Cell, ColumnSpec, Kind
from acquire.store.groups import GrowingGroup
from acquire.store.layout import ESTIMATES, PARTICLES, check_name
from acquire.stream.records import Estimate, Quantity


class EstimateStream:
    """The groups of one estimator: its quantities over time, and its table of particles."""

    def __init__(
        self,
        root: Path,
        name: str,
        quantities: tuple[Quantity, ...],
        columns: Mapping[str, str],
    ) -> None:
        check_name(name, "an estimator")
        specs = [
            ColumnSpec("time", unit="s", long_name="end of the exposure of the frame"),
            ColumnSpec("frame_index", Kind.COUNT, long_name="number of the frame in its stream"),
            ColumnSpec("flags", Kind.FLAGS, long_name="reasons to distrust the estimate"),
        ]
        for quantity in quantities:
            specs += [
                ColumnSpec(quantity.name, unit=quantity.unit, long_name=quantity.long_name),
                ColumnSpec(
                    f"{quantity.name}_sigma",
                    unit=quantity.unit,
                    long_name=f"standard uncertainty of {quantity.long_name}",
                ),
            ]
        coordinates = {"coordinates": "frame_index"}
        self.name = name
        self.estimates = GrowingGroup(root, f"{ESTIMATES}/{name}", "time", specs, coordinates)
        self.particles: GrowingGroup | None = None
        if columns:
            specs = [
                ColumnSpec(
                    "frame_index", Kind.COUNT, long_name="number of the frame in its stream"
                ),
                ColumnSpec("time", unit="s", long_name="end of the exposure of the frame"),
                *(ColumnSpec(c, unit=u, long_name=c.replace("_", " ")) for c, u in columns.items()),
            ]
            coordinates = {"coordinates": "frame_index time"}
            self.particles = GrowingGroup(root, f"{PARTICLES}/{name}", "row", specs, coordinates)

    @property
    def groups(self) -> tuple[GrowingGroup, ...]:
        """What there is to publish."""
        return (self.estimates,) if self.particles is None else (self.estimates, self.particles)

    def append(self, estimate: Estimate) -> None:
        """Buffer an estimate and its table; raises StoreError for a table that is not one."""
        self._append_table(estimate)
        cells: dict[str, Cell] = {
            "time": estimate.t_s,
            "frame_index": estimate.frame_index,
            "flags": estimate.flags,
        }
        for name, value in estimate.values.items():
            cells[name] = value.value
            cells[f"{name}_sigma"] = value.sigma
        choice = estimate.choice.attributes if estimate.choice is not None else {}
        self.estimates.append(cells, stream=estimate.stream, **choice)

    def _append_table(self, estimate: Estimate) -> None:
        if not estimate.table:
            return
        lengths = {name: np.shape(column) for name, column in estimate.table.items()}
        shapes = set(lengths.values())
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise StoreError(
                f"the table of estimator {self.name!r} for frame {estimate.frame_index} is not one: "
                f"its columns have the shapes {lengths}; all must be 1-D and equally long."
            )
        if self.particles is None:
            raise StoreError(
                f"estimator {self.name!r} gives a table but declared no columns of one."
            )
        rows = next(iter(shapes))[0]
        self.particles.extend(
            {
                **{name: np.asarray(column) for name, column in estimate.table.items()},
                "frame_index": np.full(rows, estimate.frame_index),
                "time": np.full(rows, estimate.t_s),
            },
            rows,
        )
