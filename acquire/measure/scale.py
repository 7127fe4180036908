"""Reads the scale of a stream's images, with a refusal where there is none."""

from __future__ import annotations

import math

from acquire.errors import ConfigError, UnitError
from acquire.instruments import StreamSpec
from acquire.units import convert


def pixel_size_of(name: str, spec: StreamSpec, channel: str) -> float:
    """Side of a channel's square pixels in nm; ConfigError where there is none."""
    if channel not in spec.channels:
        known = ", ".join(sorted(spec.channels)) or "none"
        raise ConfigError(
            f"estimate.{name}: the stream {spec.name!r} has no channel {channel!r}; it has: {known}. "
            f"Write from: {spec.name}.CHANNEL with one of these."
        )
    shown = spec.channels[channel]
    if shown.dims != ("y", "x"):
        raise ConfigError(
            f"estimate.{name}: {spec.name}.{channel} has dimensions {shown.dims}; images are "
            "measured with dimensions (y, x). Choose a detector image."
        )
    steps = []
    for dim in ("y", "x"):
        axis = shown.axes.get(dim)
        if axis is None:
            raise ConfigError(
                f"estimate.{name}: {spec.name}.{channel} has no axis {dim!r}, so its pixel size is "
                "unknown. The scan's driver must give it."
            )
        try:
            steps.append(convert(axis.step, axis.unit, "nm"))
        except UnitError as error:
            raise ConfigError(
                f"estimate.{name}: the pixel size of {spec.name}.{channel} is in {axis.unit!r}, "
                "not a length. Calibrate the scan."
            ) from error
    y_nm, x_nm = steps
    if not (math.isfinite(x_nm) and x_nm > 0) or not math.isclose(y_nm, x_nm, rel_tol=1e-3):
        raise ConfigError(
            f"estimate.{name}: pixels of {y_nm:g} × {x_nm:g} nm in {spec.name}.{channel}; "
            "square pixels of a positive size are needed. Calibrate the scan."
        )
    return x_nm
