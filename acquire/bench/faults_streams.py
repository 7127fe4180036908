"""Opens and closes thousands of streams, and watches what that takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from acquire.bench.faults_check import Outcome
from acquire.bench.faults_records import run_header
from acquire.errors import StoreError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.store import ZARR_NAME, RunWriter, verify_run
from acquire.store.writer import MOST_STREAMS
from acquire.stream import FrameContext, RunReport

FRAMES = 3
VERIFY_EACH = 10
"""One of so many runs is verified from end to end; all are read."""
SIDE = 8
MOST_FILES = 400
"""Files that the process may have open; systems begin to refuse at 1024, Windows at 512."""
MOST_GROWTH_BYTES = 200 * 2**20
"""Memory that the largest run may take, and that many runs after one another may not."""


def many_streams(folder: Path, runs: int, streams: int) -> Outcome:
    """``runs`` runs after one another in one process, of ``streams`` streams each."""
    folder.mkdir(parents=True)
    found = Outcome()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(folder), str(runs), str(streams)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told: list[dict[str, Any]] = []
        for line in process.stdout:
            told.append(json.loads(line))
            run = folder / str(len(told) - 1)
            _check(run, streams, found)
            if len(told) % VERIFY_EACH == 1:
                verified = verify_run(run)
                if not verified.good:
                    found.problems += [f"verify: {f.where}: {f.text}" for f in verified.findings]
            shutil.rmtree(run)
    if process.returncode != 0 or len(told) != runs:
        found.problems.append(f"the process ended with {process.returncode} after {len(told)} runs")
        return found
    if (files := max(line["files"] for line in told)) > MOST_FILES:
        found.problems.append(f"{files} files were open at once; {MOST_FILES} are allowed")
    if told[-1]["left"] > told[0]["left"]:
        found.problems.append(
            f"{told[-1]['left']} files stay open, {told[0]['left']} after one run"
        )
    if (most := max(line["grown"] for line in told)) > MOST_GROWTH_BYTES:
        found.problems.append(f"the memory grew by {most / 1e6:.0f} MB")
    if any(str(MOST_STREAMS) not in line["refused"] for line in told if line["refused"]):
        found.problems.append(f"a stream too many is refused without the limit: {told[0]}")
    if streams == MOST_STREAMS and not all(line["refused"] for line in told):
        found.problems.append("a stream too many is taken")
    return found


def _check(run: Path, streams: int, found: Outcome) -> None:
    root: Any = zarr.open_group(run / ZARR_NAME, mode="r")
    for number in range(streams):
        name = f"images/s{number}/full"
        if f"{name}/haadf" not in root:
            found.problems.append(f"{name} is not there")
            continue
        frames = np.asarray(root[name]["haadf"][:])
        found.readable += len(frames)
        right = np.stack([_image(number, index) for index in range(FRAMES)])
        if not np.array_equal(frames, right):
            found.wrong += 1


def _image(stream: int, index: int) -> Any:
    return np.full((SIDE, SIDE), 1 + stream * FRAMES + index, np.uint16)


# --------------------------------------------------------------------- in the process itself


def _main(folder: Path, runs: int, streams: int) -> None:
    own = psutil.Process()
    _expect_few_files()
    before = own.memory_info().rss
    for run in range(runs):
        refused = ""
        files = 0
        writer = RunWriter(folder / str(run))
        writer.open(run_header(time.time()))
        for stream in range(streams):
            _write(writer, stream)
            if stream % 50 == 0:
                files = max(files, len(own.open_files()))
        if streams == MOST_STREAMS:
            try:
                _write(writer, streams)
            except StoreError as error:
                refused = str(error)
        grown = own.memory_info().rss - before
        writer.close(RunReport("completed", "", 1.0, {}))
        left = len(own.open_files())
        told = {"files": files, "refused": refused, "grown": grown, "left": left}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _write(writer: RunWriter, number: int) -> None:
    pixel = Axis(0.0, 1.0, "nm")
    image = ChannelSpec("uint16", (SIDE, SIDE), ("y", "x"), {"y": pixel, "x": pixel})
    name = f"s{number}"
    writer.declare_frames("images", StreamSpec(name, {"haadf": image}))
    for index in range(FRAMES):
        frame = Frame(name, index, {"haadf": _image(number, index)}, float(index), index + 0.5)
        writer.append_frame(frame, FrameContext(20.0, 20.0, 0.0, index))


def _expect_few_files() -> None:
    """Let the system allow no more open files than most systems do."""
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
