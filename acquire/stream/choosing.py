"""What an estimator may offer beside: to find out by itself which detector it looks at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from acquire.errors import ConfigError
from acquire.instruments import ChannelSpec, Frame, StreamSpec
from acquire.stream.choice import DetectorChoice
from acquire.stream.records import Estimate, Estimator, EstimatorFactory, Quantity

AUTO = "auto"
"""Stands for a detector's name where the estimator chooses; a detector so called comes first."""


@runtime_checkable
class Chooses(Protocol):
    """An estimator (:class:`Estimator`) that chooses once, and then holds to it.

    Until then its estimates are flagged and NaN; from then on each of them carries the choice
    (:attr:`Estimate.choice`).
    """

    quantities: tuple[Quantity, ...]
    columns: Mapping[str, str]

    @property
    def choice(self) -> DetectorChoice | None:
        """None until it has chosen."""

    def hold(self, choice: DetectorChoice) -> None:
        """Look there from the first frame on, as an earlier segment of the run did.

        A choice that this recipe leaves no room for, such as one of a detector that is not recorded
        any more, is ignored. Called before the first frame.
        """

    def update(self, frame: Frame) -> Estimate | None:
        """Look at all detectors of a frame until it has chosen, then measure the one."""


@runtime_checkable
class ChoosingFactory(Protocol):
    """A factory (:class:`EstimatorFactory`) whose estimators may choose, ``from: STREAM.auto``."""

    def choosing(
        self,
        name: str,
        spec: StreamSpec,
        detectors: tuple[str, ...],
        options: Mapping[str, object],
    ) -> Chooses:
        """Make one that chooses among some channels of a stream; ConfigError if it can't."""


def chooses(channel: str, detectors: Collection[str]) -> bool:
    """Whether a recipe's ``from: STREAM.CHANNEL`` leaves the choice to the estimator."""
    return channel == AUTO and AUTO not in detectors


def check_choosing(name: str, factory: object) -> None:
    """Raise ConfigError if the factory's estimators cannot choose their detector."""
    if not isinstance(factory, ChoosingFactory):
        raise ConfigError(
            f"the estimator {name!r} cannot choose its detector. Name one in 'from', in place of "
            f"{AUTO!r}."
        )


def make_estimator(
    plugin: str,
    factory: EstimatorFactory,
    name: str,
    spec: StreamSpec,
    channel: str,
    options: Mapping[str, object],
) -> Estimator:
    """The estimator that a recipe's entry asks for, for one channel or for the best of all.

    Args:
        plugin: the name of the entry point, for messages.
        factory: what is behind it.
        name: of the entry.
        spec: of the stream.
        channel: one of its channels, or ``auto``.
        options: of the estimator itself.

    Raises:
        ConfigError: the estimator cannot be made so, or cannot choose.
    """
    if not chooses(channel, spec.channels):
        return factory(name, spec, channel, options)
    check_choosing(plugin, factory)
    assert isinstance(factory, ChoosingFactory)
    detectors = detectors_of(spec)
    if not detectors:
        raise ConfigError(
            f"estimate.{name}: there is no image in {spec.name!r} that a detector could be chosen "
            "by. Name a stream of images in 'from'."
        )
    return factory.choosing(name, spec, detectors, options)


def detectors_of(spec: StreamSpec) -> tuple[str, ...]:
    """The channels of a stream that are images of a detector, in their order.

    What counts something per pixel beside an image, without a unit, is none.
    """
    images = {name: channel for name, channel in spec.channels.items() if _is_image(channel)}
    with_unit = tuple(name for name, channel in images.items() if channel.unit not in ("", "1"))
    return with_unit or tuple(images)


def _is_image(channel: ChannelSpec) -> bool:
    return tuple(channel.dims) == ("y", "x")
