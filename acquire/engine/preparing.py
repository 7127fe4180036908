"""Makes what runs beside the steps of a run: a recorder for its scan, and the estimators that watch it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.estimating import HANG_WALL_S, EstimatorTask, Judged
from acquire.engine.memory import LEAK_BYTES, MemoryAccount
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.engine.scanning import ScanRecorder
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import Recipe
from acquire.stream import Estimator

EstimatorMaker = Callable[[Recipe, Mapping[str, StreamSpec]], dict[str, Estimator]]


def make_recorders(
    run: RunContext,
    monitor: HolderMonitor,
    disk: DiskWatch,
    make: EstimatorMaker,
    on_estimate: Callable[[Judged], None],
    scans: list[ScanRecorder],
    estimators: list[EstimatorTask],
) -> None:
    """Add recorders, still at rest, and the estimators' tasks; raises what an instrument refuses.

    They are added as they are made, so that whatever happens they can be closed.
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
    memory = MemoryAccount(LEAK_BYTES)
    listeners: dict[str, list[EstimatorTask]] = {name: [] for name in specs}
    for name, estimator in make(recipe, specs).items():
        task = EstimatorTask(run, name, estimator, on_estimate, memory, HANG_WALL_S)
        estimators.append(task)
        listeners[recipe.estimate[name].stream].append(task)
    for name, spec in specs.items():
        offer = _offer_to(listeners[name])
        recorder = FrameRecorder(run, monitor, disk, "images", name, spec, offer)
        scans.append(ScanRecorder(run, recorder, exposures[name]))


def _offer_to(tasks: list[EstimatorTask]) -> Callable[[Frame], None]:
    def offer(frame: Frame) -> None:
        for task in tasks:
            task.offer(frame)

    return offer
