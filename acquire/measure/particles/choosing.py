"""``particles`` on the detector that shows them best: looks at all until it knows, then holds to one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from acquire.errors import ConfigError, MeasureError
from acquire.instruments import AnyArray, Frame, StreamSpec
from acquire.measure.particles.channels import (
    ChannelScore,
    score_channels,
    settle_channel,
    usual_polarity,
)
from acquire.measure.particles.live_quantities import CHOOSING, LIVE_COLUMNS, LIVE_QUANTITIES
from acquire.measure.particles.measure import ParticleMeasurement
from acquire.measure.particles.tables import empty_table
from acquire.measure.particles.warm import begin_warm_up
from acquire.stream.choice import DetectorChoice
from acquire.stream.records import Estimate, Quantity, Value

if TYPE_CHECKING:
    from acquire.measure.particles.estimator import ParticleEstimator

FRAMES = 3
"""So many frames running must show particles on a detector that is chosen."""
_NOT_TOLD = Value(math.nan, math.nan)


class ChoosingParticles:
    """Sizes the particles of the detector in which they stand out most.

    It is chosen on the first three frames running that show particles, in the polarity that its name
    tells, or else in the better one, and is then held for better or worse: sizes from different
    detectors are not to be compared. Until then every value is NaN and the flag is ``choosing``,
    with whatever flag all the detectors' images share. From the last of the three frames on,
    estimates are those of a :class:`ParticleEstimator` for that detector. An operator's ``polarity``
    is not put in question.

    Args:
        make: makes the estimator of one detector.
        name: of the estimator.
        spec: of the stream.
        detectors: channels of the stream, at least one.
        options: as in a recipe.

    Raises:
        ConfigError: an option or a pixel size cannot be used.
    """

    quantities: tuple[Quantity, ...] = LIVE_QUANTITIES
    columns: Mapping[str, str] = LIVE_COLUMNS

    def __init__(
        self,
        make: type[ParticleEstimator],
        name: str,
        spec: StreamSpec,
        detectors: tuple[str, ...],
        options: Mapping[str, object],
    ) -> None:
        self.name = name
        self.stream = spec.name
        self._make, self._spec, self._options = make, spec, dict(options)
        # made to be refused now rather than in the middle of a run
        candidates = {detector: make(name, spec, detector, options) for detector in detectors}
        first = next(iter(candidates.values()))
        self._pixel_size_nm, self._plain = first.pixel_size_nm, first.options
        self._detectors = {
            detector: (
                tuple(spec.channels[detector].shape),
                np.dtype(spec.channels[detector].dtype),
            )
            for detector in detectors
        }
        given = first.options.polarity if self._options.get("polarity") is not None else None
        self._polarity = {detector: given or usual_polarity(detector) for detector in detectors}
        self._series: deque[tuple[ChannelScore, ...]] = deque(maxlen=FRAMES)
        self._chosen: ParticleEstimator | None = None
        self._choice: DetectorChoice | None = None
        self._warm = [begin_warm_up(kind) for _, kind in self._detectors.values()]

    @property
    def choice(self) -> DetectorChoice | None:
        """None until it has chosen."""
        return self._choice

    def hold(self, choice: DetectorChoice) -> None:
        """Look there from the first frame on; ignored if it is no detector or polarity of these."""
        polarity = choice.facts.get("polarity")
        if choice.detector in self._detectors and self._allows(choice.detector, polarity):
            self._take(choice)

    def prepare(self) -> None:
        """Wait until all is compiled, which takes up to a minute the first time on a machine."""
        for warm in self._warm:
            warm.wait()

    def update(self, frame: Frame) -> Estimate | None:
        """Look at all detectors until one is chosen, then measure that; None if the frame lacks it."""
        self.prepare()
        if self._chosen is None:
            flags = self._look(frame)
            if self._chosen is None:
                return self._waiting(frame, flags) if flags else None
        return self._told(self._chosen.update(frame))

    def measurer(self) -> Callable[[Frame], ParticleMeasurement | None]:
        """Measures a frame by itself; ConfigError until it has chosen."""
        if self._chosen is None:
            raise ConfigError(
                f"estimate.{self.name}: the detector is not chosen yet, which needs the frames one "
                "after the other."
            )
        return self._chosen.measurer()

    def follow(self, head: Frame, measured: ParticleMeasurement | None) -> Estimate | None:
        """The estimate for the next frame, once it has chosen; see :class:`ParticleEstimator`."""
        if self._chosen is None:
            return self._waiting(head, (CHOOSING,))
        return self._told(self._chosen.follow(head, measured))

    def _look(self, frame: Frame) -> tuple[str, ...]:
        """Score the frame and choose if that settles it; flags if not, none if it has no image."""
        there = {name: frame.data[name] for name in self._detectors if name in frame.data}
        if not there:
            return ()
        images = {
            name: image
            for name, image in there.items()
            if (image.shape, image.dtype) == self._detectors[name]
        }
        try:
            scores = score_channels(images, self._pixel_size_nm, self._plain)
        except MeasureError:
            scores = ()
        scores = tuple(score for score in scores if self._allows(score.channel, score.polarity))
        self._series.append(scores)
        settled = settle_channel(self._series) if len(self._series) == FRAMES else None
        if settled is not None:
            self._take(_choice_of(settled, scores, frame))
        shared = set.intersection(*(set(score.flags) for score in scores)) if scores else set()
        unreadable = () if scores else ("unreadable",)
        return (CHOOSING, *unreadable, *sorted(shared))

    def _allows(self, detector: str, polarity: object) -> bool:
        known = self._polarity[detector]
        return polarity in ("bright", "dark") if known is None else polarity == known

    def _take(self, choice: DetectorChoice) -> None:
        options = {**self._options, "polarity": choice.facts["polarity"]}
        self._chosen = self._make(self.name, self._spec, choice.detector, options)
        self._choice = choice
        self._series.clear()

    def _told(self, estimate: Estimate | None) -> Estimate | None:
        return None if estimate is None else replace(estimate, choice=self._choice)

    def _waiting(self, head: Frame, flags: tuple[str, ...]) -> Estimate:
        return Estimate(
            estimator=self.name,
            stream=head.stream,
            frame_index=head.index,
            t_s=head.t_end_s,
            values={quantity.name: _NOT_TOLD for quantity in self.quantities},
            flags=flags,
            table=_no_particles(),
        )


def _no_particles() -> dict[str, AnyArray]:
    none = np.zeros(0, np.int64)
    return {**empty_table(), "id": none, "age_frames": none}


def _choice_of(
    settled: ChannelScore, newest: tuple[ChannelScore, ...], frame: Frame
) -> DetectorChoice:
    """The choice with its reasons: the score over the frames, and that of the others on the last."""
    others = {
        score.channel: max(
            other.contrast_to_noise for other in newest if other.channel == score.channel
        )
        for score in newest
        if score.channel != settled.channel
    }
    return DetectorChoice(
        settled.channel,
        frame.index,
        frame.t_end_s,
        {
            "polarity": settled.polarity,
            "score": round(settled.contrast_to_noise, 3),
            "particles": float(settled.particles),
            **{f"score_{name}": round(score, 3) for name, score in others.items()},
        },
    )
