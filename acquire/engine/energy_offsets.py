"""Spectra in a stream of which each has an energy axis of its own: where it begins, and what the stream says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from acquire.instruments import Frame, ScalarSpec, StreamSpec

OFFSET_SCALAR = {"energy_offset": ScalarSpec("eV", "energy loss at the first channel, nominal")}
"""Of spectra in a stream of which each has an energy axis of its own."""
CORE, ENERGY = "core_loss", "energy_loss"


def carrying(frame: Frame, scalars: Mapping[str, float]) -> Frame:
    """The same frame with more numbers of its own."""
    if not scalars:
        return frame
    meta = replace(frame.meta, scalars={**frame.meta.scalars, **scalars})
    return replace(frame, meta=meta)


def first_ev(spec: StreamSpec) -> dict[str, float]:
    """Where the core-loss axis of an armed acquisition begins."""
    return dict.fromkeys(OFFSET_SCALAR, spec.channels[CORE].axes[ENERGY].offset)


def beginning_at(first_ev: float, spec: StreamSpec) -> StreamSpec:
    """The same with a core-loss axis that begins elsewhere."""
    core = spec.channels[CORE]
    axes = {**core.axes, ENERGY: replace(core.axes[ENERGY], offset=first_ev)}
    return replace(spec, channels={**spec.channels, CORE: replace(core, axes=axes)})
