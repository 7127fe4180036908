"""The live estimator ``eels``: edges, valence, thickness and the energy axis of every DualEELS pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from acquire.bursts import SpectrumBlock
from acquire.config import explain
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import AnyArray, Axis, ChannelSpec, Frame, FrameMeta, StreamSpec
from acquire.measure.eels.blocks import SummedCamera, summed
from acquire.measure.eels.camera import Camera
from acquire.measure.eels.live_options import EelsOptions
from acquire.measure.eels.live_quantities import (
    LIVE_QUANTITIES,
    MOVED,
    OXYGEN,
    UNREADABLE,
    VALENCE,
    ZERO_LOSS,
    edge_quantity,
)
from acquire.measure.eels.live_shift import LiveShift
from acquire.measure.eels.pair_groups import PlacedShapes
from acquire.measure.eels.pairs import PairShapes, measure_pairs, measure_shapes
from acquire.measure.eels.true_axis import CORE, true_axis
from acquire.measure.eels.warm import ready
from acquire.stream.records import Estimate, Quantity, Value

Array = NDArray[np.float64]

LOW = "low_loss"
READ_TIMES = "low_loss_time"
_ENERGY = "energy_loss"
_SHAPE_ELECTRONS = 1e5
"""In zero-loss peaks, from which their shape is held: its width is known to 0.3 % then."""
_SHAPE_PAIRS = 8
_NAN = Value(math.nan, math.nan)


class EelsEstimator:
    """Measures every pair of a stream of spectra; the same frames give the same estimates.

    The shape of the zero-loss peak is measured on the first pairs, up to 8 of them until they hold
    1e5 electrons, and held. The core loss's axis is corrected by a causal filter of the positions
    (:class:`~acquire.measure.eels.live_shift.LiveShift`), whose σ is in that of ``ti3_fraction``.

    Flags are those of :func:`~acquire.measure.eels.pairs.measure_pairs`, and ``unreadable`` (not of
    the declared shape and type), ``dead_row`` also for a core loss that repeats the one before, and
    ``axis_moved`` (a jump of the zero-loss peak: the filter begins anew). What cannot be told is NaN,
    and the run goes on.
    """

    quantities: tuple[Quantity, ...] = LIVE_QUANTITIES
    columns: Mapping[str, str] = {}

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            self.options = EelsOptions.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", EelsOptions)) from error
        self.name = name
        self.stream = spec.name
        self.channel = channel
        self._core = _spectrum(name, spec, channel)
        self._core_axis = self._core.axes[_ENERGY]
        self._low = spec.channels.get(LOW) if channel != LOW else None
        if channel == LOW:
            raise ConfigError(
                f"estimate.{name}: the channel {LOW!r} of {spec.name!r} is looked at beside the "
                f"core loss. Name that one in 'from', such as {spec.name}.core_loss."
            )
        self._low_axis = self._low.axes.get(_ENERGY) if self._low is not None else None
        self._set(self.options)
        self._shift = LiveShift()
        self._shapes: PairShapes | None = None
        self._shape_rows: list[AnyArray] = []
        self._shapes_seen = 0
        self._shape_camera: Camera | None = None
        self._last: AnyArray | None = None

    def inform(self, details: Mapping[str, Any]) -> None:
        """Take from the spectrometer's details what the options leave open of its camera."""
        self._set(self.options.informed(details))

    def _set(self, options: EelsOptions) -> None:
        self._camera = options.camera()
        self._full_scale = options.full_scale_counts
        try:
            settings = options.settings()
            self._settings = settings.on(self._core_axis, self._core.shape[-1])
        except MeasureError as error:
            raise ConfigError(f"estimate.{self.name}: {error}") from error
        self._placed = PlacedShapes(self._settings.groups)
        low, step = self._core_axis.offset, self._core_axis.step
        high = low + step * (self._core.shape[-1] - 1)
        for name in options.edges or ():
            edge = self._settings.edges[name]
            if edge.fit_ev[0] < low - 1.0 or edge.window_ev[1] > high + 1.0:
                raise ConfigError(
                    f"estimate.{self.name}: edges = {name} needs {edge.fit_ev[0]:g} to "
                    f"{edge.window_ev[1]:g} eV, and {self.stream!r} holds {low:g} to {high:g} eV. "
                    "Move the range of the spectra, or leave the edge out."
                )
        found = list(ZERO_LOSS) if self._low_axis is not None else []
        found += [VALENCE] if self._settings.valence else []
        found += [OXYGEN] if self._settings.oxygen else []
        found += [edge_quantity(name) for name in self._settings.edges]
        self.quantities = tuple(found)
        if not self._settings.edges and not self._settings.valence and self._low_axis is None:
            raise ConfigError(
                f"estimate.{self.name}: {self.stream!r} holds {low:g} to {high:g} eV and no low "
                "loss: there is nothing on it that is measured. Move its range."
            )

    def prepare(self) -> None:
        """Wait until all is compiled, which takes about a minute the first time on a machine."""
        ready()

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one pair; None if the frame lacks the channel."""
        core = frame.data.get(self.channel)
        if core is None:
            return None
        self.prepare()
        low = frame.data.get(LOW) if self._low is not None else None
        if not (_as_declared(core, self._core) and (low is None or _as_declared(low, self._low))):
            return self._told(frame, {}, [UNREADABLE])
        camera = SummedCamera(self._camera, self._full_scale)
        return self._measured(frame, core, low, camera)

    def update_block(self, block: SpectrumBlock) -> Estimate | None:
        """Measure the sum of a block's spectra; None if it lacks the channel."""
        core = block.data.get(self.channel)
        if core is None:
            return None
        self.prepare()
        low = block.data.get(LOW) if self._low is not None else None
        last = block.frame(-1)
        if not (
            _as_declared(core[0], self._core) and (low is None or _as_declared(low[0], self._low))
        ):
            return self._told(last, {}, [UNREADABLE])
        # all of it was exposed throughout, by and large: reads are not told apart
        meta = FrameMeta(last.meta.scalars)
        whole = Frame(block.stream, last.index, {}, float(block.t_start_s[0]), last.t_end_s, meta)
        return self._measured(
            whole,
            summed(block, self.channel, self._full_scale),
            None if low is None else summed(block, LOW, self._full_scale),
            SummedCamera.of(self._camera, self._full_scale, len(block)),
        )

    def _measured(
        self, frame: Frame, core: AnyArray, low: AnyArray | None, by: SummedCamera
    ) -> Estimate:
        flags: list[str] = []
        if self._last is not None and np.array_equal(core, self._last) and core.any():
            flags.append("dead_row")
        self._last = core
        if low is not None:
            low = low[None]
            self._learn_shapes(low, by.camera)

        def follow(position: Array, sigma: Array) -> tuple[Array, Array]:
            reads, exposed = _spans(frame, self.channel, position.shape[1])
            shift, spread = self._shift.follow(position[0], sigma[0], reads, exposed)
            if self._shift.moved:
                flags.append(MOVED)
            return np.array([shift]), np.array([spread])

        core_axis, low_axis = self._axes(frame.meta.scalars)
        pairs = measure_pairs(
            core[None],
            core_axis,
            low if self._shapes is not None else None,
            low_axis,
            camera=by.camera,
            settings=self._settings,
            shapes=self._shapes,
            follow=follow,
            full_scale_counts=by.full_scale_counts,
            placed=self._placed,
        )
        values = {
            name: Value(float(value[0]), float(sigma[0]))
            for name, (value, sigma) in pairs.values.items()
        }
        found = pairs.flagged[0]
        if low is not None and self._shapes is None:  # there is one, but nothing to be seen on it
            found = ("no_zero_loss", *(flag for flag in found if flag != "no_low_loss"))
        return self._told(frame, values, [*found, *flags])

    def _axes(self, scalars: Mapping[str, float]) -> tuple[Axis, Axis | None]:
        """Of a frame, as it was tuned and as its run calibrated it."""
        core, low = self._core_axis, self._low_axis
        return (
            true_axis(core, CORE, scalars),
            None if low is None else true_axis(low, LOW, scalars),
        )

    def _told(self, frame: Frame, values: Mapping[str, Value], flags: list[str]) -> Estimate:
        return Estimate(
            self.name,
            frame.stream,
            frame.index,
            frame.t_end_s,
            {q.name: values.get(q.name, _NAN) for q in self.quantities},
            tuple(dict.fromkeys(flags)),
        )

    def _learn_shapes(self, low: AnyArray, camera: Camera) -> None:
        """Measure the zero-loss shape on what came so far, until that is enough."""
        if self._shapes_seen >= _SHAPE_PAIRS:
            return
        if camera != self._shape_camera:  # of another number of spectra: not to be taken together
            self._shape_camera = camera
            self._shape_rows.clear()
        self._shape_rows.append(low)
        rows, axis = np.concatenate(self._shape_rows), self._low_axis
        assert axis is not None
        try:
            found = measure_shapes(rows, axis, camera=camera, fwhm_ev=self.options.fwhm)
        except MeasureError:
            self._shape_rows.pop()  # a dark or empty one tells nothing
            return
        self._shapes_seen += 1
        if self._shapes is None or found.electrons >= self._shapes.electrons:
            self._shapes = found
        if found.electrons > _SHAPE_ELECTRONS:
            self._shapes_seen = _SHAPE_PAIRS
        if self._shapes_seen >= _SHAPE_PAIRS:
            self._shape_rows.clear()


def _spectrum(name: str, spec: StreamSpec, channel: str) -> ChannelSpec:
    """The channel, which must be one spectrum per frame."""
    declared = spec.channels.get(channel)
    axis = declared.axes.get(_ENERGY) if declared is not None else None
    if declared is None or not isinstance(axis, Axis) or len(declared.shape) != 1:
        spectra = [key for key, value in spec.channels.items() if tuple(value.dims) == (_ENERGY,)]
        raise ConfigError(
            f"estimate.{name}: {channel!r} of {spec.name!r} is not a spectrum; spectra are: "
            f"{', '.join(spectra) or 'none'}. Name one of a line scan or of spectra in 'from'."
        )
    return declared


def _as_declared(data: AnyArray, declared: ChannelSpec | None) -> bool:
    return (
        declared is not None
        and data.shape == tuple(declared.shape)
        and data.dtype == np.dtype(declared.dtype)
    )


def _spans(frame: Frame, channel: str, reads: int) -> tuple[Array, Array]:
    """Begin and end of every low-loss read (reads, 2), and of the core loss (2,)."""
    whole = frame.t_start_s, frame.t_end_s
    core = np.array(frame.meta.spans.get(channel, whole), np.float64)
    times = frame.data.get(READ_TIMES)
    if times is not None and np.shape(times) == (reads, 2):
        return frame.t_start_s + np.asarray(times, np.float64), core
    low = np.array(frame.meta.spans.get(LOW, whole), np.float64)
    return np.tile(low, (reads, 1)), core
