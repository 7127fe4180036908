"""The two halves of an estimator whose measuring needs no memory, so that frames can be measured in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from acquire.instruments import Frame
from acquire.stream import Estimate, Quantity


@runtime_checkable
class SplitEstimator(Protocol):
    """An estimator (:class:`~acquire.stream.Estimator`) that also comes in two halves.

    ``follow(head, measure(frame))`` for every frame in order is what ``update(frame)`` does, but
    that measuring a frame by itself cannot use what earlier frames have taught.
    """

    quantities: tuple[Quantity, ...]
    columns: Mapping[str, str]

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one frame with all that is known; the live path."""

    def measurer(self) -> Callable[[Frame], Any]:
        """What measures one frame by itself.

        It is pure and can be pickled, and so can what it gives: it may run in another process, or
        on another machine, on frames in any order, several at a time.

        Raises:
            ConfigError: as it is set up, the estimator needs all frames in order; they come to
                ``update`` instead.
        """

    def follow(self, head: Frame, measured: Any) -> Estimate | None:
        """Take the measurement of the next frame, whose ``head`` is the frame without its data."""
