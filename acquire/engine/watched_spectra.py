"""Lets estimators look at spectra, of steps and recorded ones, as they look at recorded scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acquire.bursts import SpectrumBlock
from acquire.engine.context import RunContext
from acquire.errors import RecipeError
from acquire.instruments import Frame, StreamSpec
from acquire.stream import Estimator
from acquire.stream.informing import Informed

Offer = Callable[[Frame | SpectrumBlock], None]


def spectra_specs(run: RunContext) -> dict[str, StreamSpec]:
    """What the frames of every stream of spectra that is looked at will be like, by its name.

    The spectrometer is tuned and armed for each, and disarmed: before anything is heated, with the
    beam as it is. What it is tuned to afterwards every step sets anew.

    Raises:
        RecipeError: the station has no spectrometer.
        HotstageError: what the spectrometer refuses.
    """
    recipe, spectrometer = run.recipe, run.station.spectrometer
    found: dict[str, StreamSpec] = {}
    for name, entry in recipe.estimate.items():
        settings = recipe.spectra(entry.stream)
        if settings is None or entry.stream in found:
            continue
        if spectrometer is None:
            raise RecipeError(
                f"estimate.{name}: station {run.station.station.name!r} has no spectrometer."
            )
        spectrometer.tune(settings.setting())
        spec = spectrometer.arm(settings.exposure(), 1)
        spectrometer.disarm()
        found[entry.stream] = spec
    return found


def inform(run: RunContext, made: Mapping[str, Estimator]) -> None:
    """Tell estimators of spectra what the spectrometer says of itself."""
    spectrometer = run.station.spectrometer
    if spectrometer is None:
        return
    for name, estimator in made.items():
        stream = run.recipe.estimate[name].stream
        if isinstance(estimator, Informed) and run.recipe.spectra(stream) is not None:
            estimator.inform(spectrometer.describe().details)


class WatchedSpectra:
    """Offers recorded spectra of some streams to the estimators that look at them."""

    def __init__(
        self, run: RunContext, specs: Mapping[str, StreamSpec], offers: Mapping[str, Offer]
    ) -> None:
        self._run = run
        self._specs = specs
        self._offers = offers
        self._told: set[str] = set()

    def offer(self, stream: str, spec: StreamSpec) -> Offer | None:
        """Where frames of a stream that was armed so are offered; None if nobody looks at it.

        Nothing is offered where the spectrometer gives other frames than it said before the run: on
        another axis all numbers would be wrong.
        """
        if stream not in self._offers:
            return None
        if self._specs[stream].channels != spec.channels:
            if stream not in self._told:
                self._told.add(stream)
                self._run.warn(
                    f"the spectra {stream!r} are not what the spectrometer said before the run: "
                    "they are recorded, but not measured."
                )
            return None
        return self._offers[stream]
