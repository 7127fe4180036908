"""The live estimator ``drift``: where the specimen lies, how fast it moves, and what shift keeps it in view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acquire.config import explain
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import ChannelSpec, Frame, StreamSpec
from acquire.measure.drift.follow import Followed, Follower
from acquire.measure.drift.prepared import prepare
from acquire.measure.drift.summing import CorrectedSum
from acquire.measure.scale import pixel_size_of
from acquire.stream.records import Estimate, Quantity, Value
from acquire.stream.shifting import AppliedShift, Steering, WantedShift
from acquire.units import Nanometres

_BLANK_SHARE = 0.02
"""An image this much darker than the last one that was followed was taken with the beam off."""
_SPOILED = ("origin_lost",)

QUANTITIES = (
    Quantity("drift_x", "nm", "drift of the specimen to the right", _SPOILED),
    Quantity("drift_y", "nm", "drift of the specimen downwards", _SPOILED),
    Quantity("drift_rate", "nm/s", "speed of the drift"),
    Quantity("drift_rate_x", "nm/s", "speed of the drift to the right"),
    Quantity("drift_rate_y", "nm/s", "speed of the drift downwards"),
)

_Positive = Annotated[Nanometres, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, le=1)]


class DriftOptions(BaseModel):
    """What a recipe may write under ``estimate: drift``, beside ``from``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correct: Literal["none", "scan_shift"] = "none"
    gain: _Share = 0.8
    """Share of the error that one correction takes away."""
    deadband: Annotated[Nanometres, Field(ge=0, allow_inf_nan=False)] | None = None
    """Errors up to here are left; default one pixel, or twice the uncertainty if that is more."""
    max_step: _Positive | None = None
    """Longest single shift; default a tenth of the field's width."""
    max_shift: _Positive = 500.0
    """Farthest from where the run found the field."""
    predict: bool = True
    """Aim at where the specimen will be in the middle of the next exposure."""
    reach: _Positive | None = None
    """How far from the expected place to look; default 0.3 of the field's shorter side."""
    particle_diameter: _Positive = 8.0
    """About the size of the particles, for voting."""
    sum: Annotated[int, Field(ge=0, le=10_000)] = 8
    """Frames that are added up, drift corrected; 0: none."""
    store_sum: bool = False
    """Whether the sums become a stream of the run."""


class DriftEstimator:
    """Registers every frame of one detector; the same frames and shifts give the same estimates.

    ``drift_x`` and ``drift_y`` are the displacement of the specimen in the scan's frame since the
    first good frame: what it moved in the image, plus the scan shift that was applied meanwhile.
    They hold for the middle of the exposure. A frame that cannot be placed gives NaN and a flag.
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
    columns: Mapping[str, str] = {}

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            chosen = DriftOptions.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", DriftOptions)) from error
        if chosen.store_sum and not chosen.sum:
            raise ConfigError(
                f"estimate.{name}: store_sum needs sums; write how many frames in 'sum', for "
                "example 8."
            )
        self.name = name
        self.stream = spec.name
        self.channel = channel
        self.options = chosen
        self.pixel_size_nm = pixel_size_of(name, spec, channel)
        self._spec = spec
        shape = spec.channels[channel].shape
        sides = [length * self.pixel_size_nm for length in shape]
        self._steering = self._make_steering(sides[1]) if chosen.correct == "scan_shift" else None
        reach = chosen.reach if chosen.reach is not None else 0.3 * min(sides)
        self._follower = Follower(self.pixel_size_nm, reach, chosen.particle_diameter)
        self._shift = AppliedShift()
        self._wanted: WantedShift | None = None
        self._level = math.nan
        self._adding: _Adding | None = None
        self._sum: Frame | None = None
        self._sums = 0

    def _make_steering(self, width_nm: float) -> Steering:
        chosen = self.options
        return Steering(
            gain=chosen.gain,
            deadband_nm=chosen.deadband,
            max_step_nm=chosen.max_step if chosen.max_step is not None else 0.1 * width_nm,
            max_shift_nm=chosen.max_shift,
            max_sigma_nm=0.02 * width_nm,
            pixel_size_nm=self.pixel_size_nm,
            predict=chosen.predict,
        )

    # ------------------------------------------------------------------------- scan shift

    @property
    def steering(self) -> Steering | None:
        """How the field is to be kept; None unless the recipe says ``correct: scan_shift``."""
        return self._steering

    def applied_shift(self, shift: AppliedShift) -> None:
        """Take the scan shift during the next frame; without it, none is applied."""
        self._shift = shift

    def wanted_shift(self) -> WantedShift | None:
        """The shift that would have put the last frame where the first one was; None if unknown."""
        return self._wanted

    # -------------------------------------------------------------------------- estimates

    def update(self, frame: Frame) -> Estimate | None:
        """Place one frame; None if it lacks the channel."""
        image = frame.data.get(self.channel)
        if image is None:
            return None
        self._wanted = None
        middle_s = (frame.t_start_s + frame.t_end_s) / 2
        followed, flags = self._place(image, middle_s)
        if followed is not None and followed.found:
            self._want(followed, middle_s)
            self._add(frame, image, followed)
        return Estimate(
            estimator=self.name,
            stream=frame.stream,
            frame_index=frame.index,
            t_s=frame.t_end_s,
            values=self._values(followed),
            flags=flags,
        )

    def _place(
        self, image: NDArray[Any], middle_s: float
    ) -> tuple[Followed | None, tuple[str, ...]]:
        try:
            prepared = prepare(image, self.pixel_size_nm)
        except MeasureError:
            return None, ("unreadable",)
        if prepared.shape != self._spec.channels[self.channel].shape:
            return None, ("unreadable",)
        if prepared.level < _BLANK_SHARE * self._level:
            return None, ("blank",)
        if not self._shift.steady:
            return None, ("shifted",)
        followed = self._follower.follow(prepared, middle_s, (self._shift.y_nm, self._shift.x_nm))
        if followed.found:
            self._level = prepared.level
        return followed, followed.flags

    def _values(self, followed: Followed | None) -> dict[str, Value]:
        if followed is None or not followed.found:
            return {quantity.name: Value(math.nan, math.nan) for quantity in QUANTITIES}
        motion = self._follower.motion
        rate, sigma = motion.rate, motion.rate_sigma
        return {
            "drift_x": Value(followed.x_nm, followed.sigma_x_nm),
            "drift_y": Value(followed.y_nm, followed.sigma_y_nm),
            "drift_rate": Value(float(np.hypot(*rate)), sigma),
            "drift_rate_x": Value(float(rate[1]), sigma),
            "drift_rate_y": Value(float(rate[0]), sigma),
        }

    def _want(self, followed: Followed, middle_s: float) -> None:
        rate = self._follower.motion.rate
        self._wanted = WantedShift(
            middle_s,
            followed.x_nm,
            followed.y_nm,
            float(rate[1]),
            float(rate[0]),
            max(followed.sigma_x_nm, followed.sigma_y_nm),
        )

    # ------------------------------------------------------------------------------- sums

    @property
    def store_sums(self) -> bool:
        """Whether the sums become a stream of the run."""
        return self.options.store_sum

    def sum_spec(self) -> StreamSpec | None:
        """Mean images of drift-corrected frames, and of how many frames each pixel is."""
        if not self.options.sum:
            return None
        own = self._spec.channels[self.channel]
        name = f"mean of {self.options.sum} frames, drift corrected"
        counted = "frames in the mean"
        return StreamSpec(
            f"{self.stream}_sum",
            {
                self.channel: ChannelSpec("float32", own.shape, own.dims, own.axes, own.unit, name),
                "frames": ChannelSpec("uint16", own.shape, own.dims, own.axes, "", counted),
            },
            frame_period_s=self.options.sum * self._spec.frame_period_s,
        )

    def take_sum(self) -> Frame | None:
        """The sum that has just been completed, once."""
        done, self._sum = self._sum, None
        return done

    def _add(self, frame: Frame, image: NDArray[Any], followed: Followed) -> None:
        if not self.options.sum:
            return
        # where the specimen lies in the image, not in the scan's frame
        place = np.array([followed.y_nm - self._shift.y_nm, followed.x_nm - self._shift.x_nm])
        if self._adding is None:
            self._adding = _Adding(CorrectedSum((image.shape[0], image.shape[1])), place, frame)
        adding = self._adding
        moved = (place - adding.place) / self.pixel_size_nm
        adding.total.add(image, (float(moved[0]), float(moved[1])))
        if adding.total.count < self.options.sum:
            return
        self._sum = Frame(
            f"{self.stream}_sum",
            self._sums,
            {self.channel: adding.total.mean(), "frames": adding.total.frames},
            adding.first.t_start_s,
            frame.t_end_s,
        )
        self._sums += 1
        self._adding = None


class _Adding:
    """A sum that is not complete."""

    def __init__(self, total: CorrectedSum, place: NDArray[np.float64], first: Frame) -> None:
        self.total = total
        self.place = place
        self.first = first
