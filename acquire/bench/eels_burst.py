"""The store's share of a burst: 8000 spectra a second, simulated before, into a run, all of them measured meanwhile."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from acquire.bench.eels_made import FIT_EV, TI_EV
from acquire.bench.eels_station import CORE, LOW, Array, microscope
from acquire.bench.store_pace import ticks
from acquire.bench.store_run import STREAM, header, report
from acquire.bench.store_work import SPECTRA
from acquire.bench.work import Bench
from acquire.errors import HotstageError
from acquire.instruments import AnyArray, SpectrometerSetting, SpectrumExposure, StreamSpec
from acquire.measure.eels import (
    Camera,
    find_zero_loss,
    fit_power_law,
    measure_zero_loss_shape,
    running_sum,
    window_sum,
)
from acquire.store import RunWriter, StoreSettings, open_run
from acquire.stream import FrameBlock

PER_S, ESTIMATES_HZ = 8000.0, 20.0
_AT_ONCE = round(PER_S / ESTIMATES_HZ)
_DISTINCT = 6
_SECONDS = 5.0
_EXPOSURE = SpectrumExposure(115e-6, 10e-6)
_SETTING = SpectrometerSetting(400.0, 0.2, 1024)
_LATE = 0.02
_SECTION = "burst"
Block = Mapping[str, AnyArray]


def burst(bench: Bench) -> None:
    """Blocks of simulated pairs at 8000/s: stored, measured in turn, read back."""
    blocks, spec, camera = _simulated(next(bench.seeds("burst", 1)))
    estimate = _estimator(blocks, spec, camera)
    for block in blocks[:2]:
        estimate(block)
    pieces = max(4, round(max(bench.share, 0.1) * _SECONDS * ESTIMATES_HZ))
    with tempfile.TemporaryDirectory(prefix="hotstage-eels-") as folder:
        run = Path(folder) / "burst"
        took, elapsed = _recorded(run, blocks, spec, estimate, pieces)
        stored, wrong = _read_back(run, blocks)
    count = pieces * _AT_ONCE
    rate = pieces / elapsed
    bench.add(
        _SECTION,
        f"{count} pairs of 2 × {_SETTING.channels} channels at {PER_S:g}/s into a run, read back",
        f"{stored} stored, {wrong} wrong, {count / elapsed:.0f}/s",
        "all, none, 8000/s",
        stored == count and wrong == 0 and count / elapsed >= (1 - _LATE) * PER_S,
        stored=stored,
        wrong=wrong,
        seconds=elapsed,
    )
    bench.add(
        _SECTION,
        f"meanwhile zero loss, background and Ti-L of every pair, in blocks of {_AT_ONCE}",
        f"{rate:.1f} Hz, {1e3 * float(np.median(took)):.0f} ms each",
        f"≥ {ESTIMATES_HZ:g} Hz",
        rate >= (1 - _LATE) * ESTIMATES_HZ,
        seconds=took,
    )


def _simulated(seed: int) -> tuple[list[Block], StreamSpec, Camera]:
    """Different blocks, made beforehand: they come round and round."""
    with microscope(seed, specimen="lsnt_nonstoichiometric") as at:
        at.tune(_SETTING)
        taken: Callable[..., Any] | None = getattr(at.spectrometer, "burst", None)
        if taken is None:
            raise HotstageError("the simulated spectrometer takes no bursts.")
        spec = at.spectrometer.arm(_EXPOSURE, None)
        try:
            starts = np.arange(_AT_ONCE) / PER_S
            blocks = [
                taken(k * _AT_ONCE, k * _AT_ONCE / PER_S + starts)[0] for k in range(_DISTINCT)
            ]
        finally:
            at.spectrometer.disarm()
        camera = at.camera
    return blocks, StreamSpec(STREAM, spec.channels, frame_period_s=1 / PER_S), camera


def _estimator(
    blocks: list[Block], spec: StreamSpec, camera: Camera
) -> Callable[[Block], tuple[Array, Array]]:
    low_axis = spec.channels[LOW].axes["energy_loss"]
    core_axis = spec.channels[CORE].axes["energy_loss"]
    shape = measure_zero_loss_shape(blocks[0][LOW], low_axis, camera)

    def estimate(block: Block) -> tuple[Array, Array]:
        peak = find_zero_loss(block[LOW], low_axis, camera, shape=shape)
        electrons = camera.electrons(block[CORE])
        offset = core_axis.offset - np.nan_to_num(peak.position_ev)
        law = fit_power_law(electrons, offset, core_axis.step, *FIT_EV, camera.readout_variance)
        gross = window_sum(running_sum(electrons), offset, core_axis.step, *TI_EV)
        under, sigma = law.integral(*TI_EV)
        return gross - under, sigma

    return estimate


def _recorded(
    run: Path,
    blocks: list[Block],
    spec: StreamSpec,
    estimate: Callable[[Block], object],
    pieces: int,
) -> tuple[list[float], float]:
    """Append and measure block by block, as they fall due; seconds of each estimate, and of all."""
    writer = RunWriter(run, StoreSettings())
    writer.open(header())
    writer.declare_frames(SPECTRA, spec)
    offsets = np.arange(_AT_ONCE) / PER_S
    took: list[float] = []
    began = time.perf_counter()
    try:
        for due in ticks(ESTIMATES_HZ, pieces):
            for number in due:
                data = blocks[number % len(blocks)]
                times = number * _AT_ONCE / PER_S + offsets
                first = number * _AT_ONCE
                block = FrameBlock(STREAM, first, data, times, times + 125e-6, {}, first)
                writer.append_block(block)
                started = time.perf_counter()
                estimate(data)
                took.append(time.perf_counter() - started)
        # the last block has its time, too
        elapsed = max(time.perf_counter() - began, pieces / ESTIMATES_HZ)
    finally:
        writer.close(report())
    return took, elapsed


def _read_back(run: Path, blocks: list[Block]) -> tuple[int, int]:
    """Spectra in the run, and how many of them are not what was appended."""
    spectra = open_run(run).spectra(STREAM)
    stored, wrong = int(spectra.sizes["time"]), 0
    for first in range(0, stored, _AT_ONCE):
        data = blocks[first // _AT_ONCE % len(blocks)]
        for name in (CORE, LOW):
            seen = spectra[name][first : first + _AT_ONCE].values
            wrong += int((seen != data[name][: len(seen)]).any(axis=1).sum())
    return stored, wrong
