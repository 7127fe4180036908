"""Analyses one run: measures in parallel, follows in order, and writes beside the run, never over."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from acquire._version import __version__
from acquire.analysis.frames import BLOCK_BYTES, frames_of, looked_at, rows_of_block, spec_of
from acquire.analysis.lanes import Lanes
from acquire.analysis.measuring import Block, Measured, measure_block, whole
from acquire.analysis.settings import AnalysisSettings
from acquire.analysis.splitting import SplitEstimator
from acquire.errors import ConfigError, HotstageError, MeasureError, StoreError
from acquire.instruments import Frame
from acquire.store import JOURNAL_NAME, ZARR_NAME, Run, RunWriter
from acquire.store.documents import plain
from acquire.store.files import write_whole
from acquire.store.layout import CHECKSUMS_NAME, METADATA_NAME
from acquire.stream import DetectorChoice, Estimate, Estimator, Note, RunReport, Value
from acquire.stream.choosing import Chooses, detectors_of
from acquire.stream.informing import Informed
from acquire.stream.prefix import prefixed, prefixed_estimate
from acquire.stream.shifting import AppliedShift, Steers

FOLDER = "analyses"
FACTS_NAME = "analysis.json"
SETTINGS_NAME = "settings.yaml"
UNREADABLE = "unreadable"
"""The flag of a frame whose stored data are damaged."""
_LIBRARIES = ("numpy", "scipy", "numba", "zarr", "dask")
_MOST_NAMED = 1000
_SHARE = 4
"""Blocks for each worker at least, where there are enough frames, so that none is idle for long."""

Progress = Callable[[int, int], None]
"""Is told how many frames are done, and how many there are."""


@dataclass(frozen=True)
class Analysis:
    """An analysis that is done."""

    run: Path
    """The folder of the run."""
    folder: Path
    """Where it was written: open it with :func:`acquire.open_run`."""
    frames: int
    """Frames measured, counted once for each estimator."""
    unreadable: tuple[str, ...]
    """Frames whose stored data are damaged, in words; their estimates are flagged."""
    open: bool
    """Whether the run was not closed: what was there by then was analysed."""
    peak_in_flight: int = 0
    """The most blocks that were in memory at one time."""


@dataclass(frozen=True)
class Job:
    """An analysis that can be begun; made by :meth:`plan`, which refuses what cannot be done."""

    run: Run
    settings: AnalysisSettings
    folder: Path
    as_live: bool
    block_bytes: int
    estimators: dict[str, Estimator]

    @classmethod
    def plan(
        cls,
        run: Run,
        settings: AnalysisSettings,
        folder: Path,
        *,
        as_live: bool = False,
        block_bytes: int = BLOCK_BYTES,
    ) -> Job:
        """Check everything before anything is written.

        Raises:
            StoreError: the folder exists, or the run lacks a stream.
            ConfigError: an estimator cannot be used as asked.
        """
        if folder.exists():
            raise StoreError(
                f"{folder} exists, and nothing is overwritten. Give the analysis another name "
                "(--name), or another folder (--output)."
            )
        made = {
            name: settings.make(name, spec_of(frames_of(run, entry.stream), entry.stream))
            for name, entry in settings.estimate.items()
        }
        _hold_inherited(run, made)
        _inform(run, settings, made)
        return cls(run, settings, folder, as_live, block_bytes, made)

    @property
    def frames(self) -> int:
        """How many frames are to be measured, counted once for each estimator."""
        return sum(
            frames_of(self.run, entry.stream).sizes["time"]
            for entry in self.settings.estimate.values()
        )

    def carry_out(self, lanes: Lanes, progress: Progress, stop: threading.Event) -> Analysis:
        """Measure and write; raises HotstageError, and then leaves nothing behind.

        Args:
            lanes: where blocks are measured.
            progress: is told how far it is.
            stop: ends it soon, as an error does.
        """
        began = datetime.now(UTC)
        unreadable: list[str] = []
        checks: dict[str, dict[str, int]] = {}
        done = 0
        with _beside(self.folder) as place:
            writer = RunWriter(place)
            writer.open(replace(self.run.header, analysis_of=self.run.path.name, continues=None))
            t_end_s = 0.0
            try:
                for name, estimator in self.estimators.items():
                    prefix = self.settings.estimate[name].prefix
                    quantities = prefixed(estimator.quantities, prefix)
                    writer.declare_estimates(name, quantities, estimator.columns)
                    crc = count = 0
                    for measured in self._measured(name, estimator, lanes, stop):
                        if stop.is_set():
                            raise HotstageError(f"the analysis of {self.run.path} was interrupted.")
                        estimate = self._estimate(name, estimator, measured)
                        if measured.why:
                            unreadable.append(
                                f"frame {measured.head.index} of {measured.head.stream}: "
                                f"{measured.why}"
                            )
                        if estimate is not None:
                            writer.append_estimate(prefixed_estimate(estimate, prefix))
                        crc = zlib.crc32(measured.crc32.to_bytes(4, "little"), crc)
                        t_end_s = max(t_end_s, measured.head.t_end_s)
                        count += 1
                        done += 1
                        progress(done, self.frames)
                    checks[name] = {"frames": count, "crc32": crc}
                text = f"analysed {done} frames of {self.run.path.name}"
                writer.note(Note("analysis", 0.0, text, {"settings": self.settings.plain()}))
            except BaseException:
                with suppress(HotstageError):  # it is removed: only what went wrong before counts
                    writer.close(RunReport("failed", "not completed", t_end_s, {}))
                raise
            writer.close(RunReport("completed", "", t_end_s, {}))
            facts = {
                "hotstage_analysis": 1,
                "name": self.folder.name,
                "began": began.isoformat(),
                "ended": datetime.now(UTC).isoformat(),
                "run": _identity(self.run),
                "measured": checks,
                "settings": self.settings.plain(),
                "settings_from": self.settings.source,
                "as_live": self.as_live,
                "scheduler": lanes.scheduler,
                "workers": lanes.workers,
                "versions": _versions(),
                "unreadable": unreadable[:_MOST_NAMED],
                "unreadable_frames": len(unreadable),
            }
            write_whole(place / FACTS_NAME, _json(facts), sync=True)
            write_whole(place / SETTINGS_NAME, self.settings.dump().encode(), sync=True)
        return Analysis(
            self.run.path,
            self.folder,
            done,
            tuple(unreadable),
            self.run.report is None,
            lanes.peak_in_flight,
        )

    def _measured(
        self, name: str, estimator: Estimator, lanes: Lanes, stop: threading.Event
    ) -> Iterator[Measured]:
        """Every frame in order, measured by itself, or whole where the estimator does not split."""
        stream = self.settings.estimate[name].stream
        data = frames_of(self.run, stream)
        rows = data.sizes["time"]
        version_ns = (self.run.zarr_path / METADATA_NAME).stat().st_mtime_ns
        channel, first = self.settings.estimate[name].channel, 0
        channels: tuple[str, ...] = (channel,)
        if not isinstance(estimator, Chooses):
            channels = looked_at(data, channel)
        else:
            seen = detectors_of(spec_of(data, stream))
            # one by one, so that what is measured in parallel does not depend on the size of blocks
            while estimator.choice is None and first < rows:
                block = Block(self.run.path, stream, seen, first, first + 1, version_ns)
                yield from measure_block(block, whole)
                first += 1
            if estimator.choice is None:
                return
            channels = (estimator.choice.detector,)
        each = rows_of_block(data, channels[0], self.block_bytes, _SHARE * lanes.workers)
        measure = None if self.as_live else _measurer(estimator)
        blocks = (
            Block(self.run.path, stream, channels, start, min(rows, start + each), version_ns)
            for start in range(first, rows, each)
        )
        if measure is not None:
            # an event reaches no other process
            stopped = stop.is_set if lanes.scheduler == "threads" else None
            pieces = (partial(measure_block, block, measure, stopped) for block in blocks)
            for found in lanes.in_order(pieces):
                yield from found
            return
        for block in blocks:  # images stay in this process, and in memory one block at a time
            yield from measure_block(block, whole)

    def _estimate(self, name: str, estimator: Estimator, measured: Measured) -> Estimate | None:
        head = measured.head
        if measured.why:
            values = {q.name: Value(math.nan, math.nan) for q in estimator.quantities}
            return Estimate(name, head.stream, head.index, head.t_end_s, values, (UNREADABLE,))
        try:
            if isinstance(measured.result, Frame):
                if isinstance(estimator, Steers):
                    estimator.applied_shift(_shift_during(head))
                return estimator.update(measured.result)
            assert isinstance(estimator, SplitEstimator)
            return estimator.follow(head, measured.result)
        except HotstageError:
            raise
        except Exception as error:
            raise MeasureError(
                f"estimator {name!r} failed on frame {head.index} of {head.stream!r} in "
                f"{self.run.path}: {type(error).__name__}: {error}"
            ) from error


def _hold_inherited(run: Run, estimators: Mapping[str, Estimator]) -> None:
    """Where an earlier segment chose the detector, that choice stands, as it did while recording."""
    for name, estimator in estimators.items():
        if isinstance(estimator, Chooses) and name in run.estimators:
            choice = DetectorChoice.from_attributes(run.estimates(name).attrs, "")
            if choice is not None and choice.segment:
                estimator.hold(choice)


def _inform(run: Run, settings: AnalysisSettings, estimators: Mapping[str, Estimator]) -> None:
    """Tell estimators of spectra what the spectrometer said of itself."""
    described = run.header.instruments.get("spectrometer")
    for name, estimator in estimators.items():
        spectra = run.streams[settings.estimate[name].stream] == "spectra"
        if isinstance(estimator, Informed) and spectra and described is not None:
            estimator.inform(described.details)


def _measurer(estimator: Estimator) -> Callable[[Frame], Any] | None:
    """What measures frames by themselves; None where they must come one after the other."""
    if not isinstance(estimator, SplitEstimator):
        return None
    try:
        return estimator.measurer()
    except ConfigError:
        return None


def _shift_during(head: Frame) -> AppliedShift:
    """The scan shift that was recorded with a frame, or none."""
    stored = head.meta.scalars
    x_nm, y_nm = (stored.get(f"scan_shift_{axis}", 0.0) for axis in "xy")
    if not math.isfinite(x_nm + y_nm):
        return AppliedShift(steady=False)
    return AppliedShift(x_nm, y_nm, steady=stored.get("scan_shifted", 0.0) == 0.0)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A place that becomes ``folder`` at the end, or is removed if something goes wrong."""
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)  # of a program of the same number that was killed
        yield part
        if folder.exists():
            raise StoreError(
                f"{folder} was made by somebody else meanwhile, and nothing is overwritten. "
                "Give the analysis another name."
            )
        part.rename(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}. Name another folder with "
            "--output."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _identity(run: Run) -> dict[str, Any]:
    """Which run it was, and what it was made of."""
    files = {
        "metadata": run.zarr_path / METADATA_NAME,
        "checksums": run.path / CHECKSUMS_NAME,
        "journal": run.path / JOURNAL_NAME,
    }
    return {
        "folder": run.path.name,
        "name": run.header.name,
        "epoch_unix_s": run.header.epoch_unix_s,
        "state": run.state,
        "zarr": ZARR_NAME,
        "sha256": {what: _digest(file) for what, file in files.items() if file.is_file()},
        "frames": {stream: frames_of(run, stream).sizes["time"] for stream in run.streams},
    }


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    return {
        "hotstage": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _json(facts: dict[str, Any]) -> bytes:
    return (json.dumps(plain(facts), indent=2, ensure_ascii=False) + "\n").encode()
