"""Names the axes of a stream's arrays: dimensions, CF attributes, OME-NGFF metadata."""

from __future__ import annotations

from typing import Any

from acquire.instruments import Axis, ChannelSpec, StreamSpec
from acquire.store.cf import cf_units
from acquire.store.layout import FULL

_OME_UNITS = {"nm": "nanometer", "µm": "micrometer", "s": "second", "Å": "angstrom"}
_AXIS_NAMES = {
    "x": "distance along the scan lines, to the right",
    "y": "distance across the scan lines, downwards",
    "energy_loss": "energy loss, nominal",
    "energy_loss_low": "energy loss, nominal, of the low-loss range",
}


def stored_dims(spec: StreamSpec) -> dict[str, tuple[str, ...]]:
    """Dimension names by channel, made different where channels of a stream differ in an axis."""
    taken: dict[str, tuple[int, Axis | None]] = {}
    found: dict[str, tuple[str, ...]] = {}
    # core loss and images first: they keep the plain names
    for name in sorted(spec.channels, key=lambda n: n.startswith("low_loss")):
        channel = spec.channels[name]
        dims: list[str] = []
        for dim, size in zip(channel.dims, channel.shape, strict=True):
            axis = channel.axes.get(dim)
            stored = f"{dim}_low" if name == "low_loss" and dim == "energy_loss" else dim
            if taken.setdefault(stored, (size, axis)) != (size, axis):
                stored = f"{dim}_{name}"
                taken[stored] = (size, axis)
            dims.append(stored)
        found[name] = tuple(dims)
    return found


def ome_metadata(spec: StreamSpec, period_s: float, start_s: float) -> dict[str, Any]:
    """OME-NGFF 0.5 multiscales: one image per detector, at first of a single level.

    The scale of time is the mean spacing of the frames; their exact times are the coordinate.
    """
    stored = stored_dims(spec)  # readers want the names of the axes to be those of the dimensions
    multiscales = []
    for name, channel in spec.channels.items():
        if channel.dims != ("y", "x"):
            continue
        axes = [axis_of(channel, dim) for dim in channel.dims]
        multiscales.append(
            {
                "name": name,
                "axes": [
                    {"name": "time", "type": "time", "unit": "second"},
                    *(
                        {"name": dim, "type": "space", "unit": _OME_UNITS.get(axis.unit, axis.unit)}
                        for dim, axis in zip(stored[name], axes, strict=True)
                    ),
                ],
                "datasets": [
                    {
                        "path": f"{FULL}/{name}",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [period_s, *(a.step for a in axes)]},
                            {
                                "type": "translation",
                                "translation": [start_s, *(a.offset for a in axes)],
                            },
                        ],
                    }
                ],
            }
        )
    return {"version": "0.5", "multiscales": multiscales}


def axis_of(channel: ChannelSpec, dim: str) -> Axis:
    """The channel's axis, or pixels of 1 nm where it has none."""
    return channel.axes.get(dim, Axis(0.0, 1.0, "nm"))


def axis_attributes(dim: str, axis: Axis) -> dict[str, str]:
    """Unit and name of a coordinate, as CF has them."""
    return {"units": cf_units(axis.unit), "long_name": _AXIS_NAMES.get(dim, dim.replace("_", " "))}
