"""Makes what runs beside the steps of a run: a recorder for its scan, and the estimators that watch it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from acquire.bursts import SpectrumBlock
from acquire.engine.companions import Companion
from acquire.engine.context import RunContext
from acquire.engine.correcting import DriftCorrector
from acquire.engine.disk import DiskWatch
from acquire.engine.estimating import HANG_WALL_S, EstimatorTask, Judged
from acquire.engine.memory import LEAK_BYTES, MemoryAccount
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.engine.scanning import ScanRecorder
from acquire.engine.watched_spectra import Offer, WatchedSpectra, inform, spectra_specs
from acquire.errors import RecipeError
from acquire.instruments import Frame, ScanExposure, StreamSpec
from acquire.recipe import Recipe, SpectrumImage
from acquire.stream import Estimator, Prepares
from acquire.stream.choosing import Chooses
from acquire.stream.shifting import Steering, Steers, Sums

LOOK_WALL_S = 0.1
"""Wall time between looks for an abort while estimators get ready."""
EstimatorMaker = Callable[[Recipe, Mapping[str, StreamSpec]], dict[str, Estimator]]


def make_recorders(
    run: RunContext,
    monitor: HolderMonitor,
    disk: DiskWatch,
    make: EstimatorMaker,
    on_estimate: Callable[[Judged], None],
    scans: list[ScanRecorder],
    estimators: list[EstimatorTask],
) -> WatchedSpectra:
    """Add recorders, still at rest, and the estimators' tasks; raises what an instrument refuses.

    They are added as they are made, so that whatever happens they can be closed. Returned is who
    looks at the spectra that steps will take.
    """
    recipe, scan = run.recipe, run.station.scan
    exposures = {
        name: entry.scan.exposure(entry.every)
        for name, entry in recipe.record.items()
        if entry.scan is not None
    }
    specs: dict[str, StreamSpec] = {}
    for name, exposure in exposures.items():
        # what frames will look like is only known from arming
        specs[name] = scan.arm(exposure, 1)
        scan.disarm()
    spectra = spectra_specs(run)
    specs |= spectra
    memory = MemoryAccount(LEAK_BYTES)
    listeners: dict[str, list[EstimatorTask]] = {name: [] for name in specs}
    made = make(recipe, specs)
    inform(run, made)
    for name, choice in run.earlier.choices.items():
        estimator = made.get(name)
        if isinstance(estimator, Chooses):
            estimator.hold(choice)
    _await_ready(run, made)
    correctors = _correctors(run, made, exposures)
    for name, estimator in made.items():
        stream = recipe.estimate[name].stream
        corrector = correctors.get(stream) if _steering(estimator) is not None else None
        companion = Companion(
            run.shifts, corrector, _sum_taker(run, monitor, disk, estimator, stream)
        )
        task = EstimatorTask(run, name, estimator, on_estimate, memory, HANG_WALL_S, companion)
        estimators.append(task)
        listeners[stream].append(task)
    for name, exposure in exposures.items():
        offer = _offer_to(listeners[name])
        recorder = FrameRecorder(run, monitor, disk, "images", name, specs[name], offer)
        scans.append(ScanRecorder(run, recorder, exposure, correctors.get(name)))
    return WatchedSpectra(run, spectra, {name: _offer_to(listeners[name]) for name in spectra})


def _await_ready(run: RunContext, estimators: Mapping[str, Estimator]) -> None:
    """Wait until all can measure without delay, or something ends the run.

    Before anything is heated: a condition that is judged for the first time when the compiler is
    done may have been met long ago.
    """
    for name, estimator in estimators.items():
        if not isinstance(estimator, Prepares):
            continue
        waiting = threading.Thread(target=estimator.prepare, name=f"prepare-{name}", daemon=True)
        waiting.start()
        while waiting.is_alive() and not run.ending:
            waiting.join(LOOK_WALL_S)


def _offer_to(tasks: list[EstimatorTask]) -> Offer:
    def offer(frame: Frame | SpectrumBlock) -> None:
        for task in tasks:
            task.offer(frame)

    return offer


def _steering(estimator: Estimator) -> Steering | None:
    return estimator.steering if isinstance(estimator, Steers) else None


def _correctors(
    run: RunContext,
    estimators: Mapping[str, Estimator],
    exposures: Mapping[str, ScanExposure],
) -> dict[str, DriftCorrector]:
    """Who corrects the drift of which stream; raises RecipeError if two would."""
    found: dict[str, DriftCorrector] = {}
    wanting: list[str] = []
    for name, estimator in estimators.items():
        steering = _steering(estimator)
        if steering is None:
            continue
        wanting.append(name)
        stream = run.recipe.estimate[name].stream
        found[stream] = DriftCorrector(run, steering, exposures[stream])
    if len(wanting) > 1:
        raise RecipeError(
            f"estimate: {' and '.join(wanting)} would both correct the drift by scan shift. Leave "
            "'correct: scan_shift' to one of them."
        )
    run.steered = bool(wanting) or any(
        isinstance(step, SpectrumImage) and step.drift_correct != "never"
        for step in run.recipe.distinct_steps()
    )
    return found


def _sum_taker(
    run: RunContext,
    monitor: HolderMonitor,
    disk: DiskWatch,
    estimator: Estimator,
    stream: str,
) -> Callable[[Frame], None] | None:
    """Stores or shows an estimator's sums as ``STREAM_sum``."""
    spec = estimator.sum_spec() if isinstance(estimator, Sums) else None
    if spec is None:
        return None
    name = f"{stream}_sum"
    pixel = next(iter(spec.channels.values())).axes["x"].step
    if not (isinstance(estimator, Sums) and estimator.store_sums):
        return lambda frame: run.live.put_image(replace(frame, stream=name), pixel, derived=True)
    of_steps = {getattr(step, "name", None) for step in run.recipe.distinct_steps()}
    if name in run.recipe.record or name in run.frames or name in of_steps:
        raise RecipeError(
            f"estimate: the sums would be stored as {name!r}, which is the name of another stream. "
            "Name that one differently, or store the sums of one estimator only."
        )
    recorder = FrameRecorder(run, monitor, disk, "images", name, spec, derived=True)

    def store(frame: Frame) -> None:
        recorder.record(
            replace(
                frame,
                t_start_s=frame.t_start_s + run.zero_s,
                t_end_s=frame.t_end_s + run.zero_s,
            ),
            0.0,
        )

    return store
