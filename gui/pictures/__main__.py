"""``python -m gui.pictures OUT``: pictures of the main states, both sizes, both themes; some into the docs."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import platformdirs

from gui.bench.processes import engine_host

FOR_DOCS = {
    "window": "hold-1280x720-night",
    "window-day": "map-1280x720-day",
    "window-recipe": "recipe-1280x720-night",
    "window-instruments": "instruments-1280x720-day",
    "window-replay": "replay-1280x720-night",
    "window-fault": "fault-1280x720-night",
}
"""What a picture is called in the docs, and which one it is."""
DOCS_BYTES = 300_000


def main() -> int:
    """Take the pictures; returns an exit status."""
    from gui.pictures.scenes import NAMES

    parser = argparse.ArgumentParser(prog="python -m gui.pictures", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures; made if it is not there")
    parser.add_argument("--only", default="", help=f"some of {', '.join(NAMES)}, with commas")
    parser.add_argument("--docs", type=Path, help="folder for slim copies of the good ones")
    parser.add_argument("--attach", help=argparse.SUPPRESS)
    given = parser.parse_args()
    wanted = frozenset(filter(None, given.only.split(",")))
    if unknown := wanted - set(NAMES):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    out: Path = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    docs: Path | None = given.docs.absolute() if given.docs else None
    with tempfile.TemporaryDirectory(prefix="hotstage-") as folder:
        if given.attach:  # it shows the run of another process, whose home it shares
            os.chdir(folder)
            _at_scale(given.attach, out)
            return 0
        _at_home(Path(folder))
        begun_s = time.monotonic()
        count = _all(out, wanted)
        os.chdir(out)
    if docs is not None:
        _copy_for_docs(out, docs)
    sys.stdout.write(f"{count} pictures in {out}, {time.monotonic() - begun_s:.0f} s\n")
    return 0


def _at_home(folder: Path) -> None:
    """Work as an operator does in the own folder: paths in the pictures begin with ``~``, and truly so."""
    # what is compiled once for a machine is not to be compiled again
    os.environ.setdefault("XDG_CACHE_HOME", str(Path(platformdirs.user_cache_dir())))
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(folder)
    work = folder / "hotstage"
    work.mkdir(exist_ok=True)
    os.chdir(work)


def _all(out: Path, wanted: frozenset[str]) -> int:
    from gui.pictures import recipes, scenes
    from gui.pictures.stage import Stage

    count = 0
    at_faults = {"fault", "failed", "replay-cut-off"}
    if not wanted or wanted - at_faults:
        with engine_host("simulated") as (host, address):
            stage = Stage(address, out, Path("window.ini").absolute(), wanted)
            scenes.all_but_faults(stage, host, address, out)
            stage.close()
            count += len(stage.taken)
    if not wanted or wanted & at_faults:
        narrow = Path("narrow.toml").absolute()
        narrow.write_text(recipes.narrow_station(), encoding="utf-8")
        with engine_host(str(narrow)) as (host, address):
            stage = Stage(address, out, Path("fault.ini").absolute(), wanted)
            scenes.faults(stage, host)
            stage.close()
            count += len(stage.taken)
    return count


def _at_scale(address: str, out: Path) -> None:
    from gui.pictures import scenes
    from gui.pictures.stage import Stage

    stage = Stage(address, out, Path("scaled.ini").absolute(), sizes=((1280, 720),))
    scenes.one_at_scale(stage)
    stage.close()


def _copy_for_docs(out: Path, docs: Path) -> None:
    from gui.pictures.stage import slim

    for name, source in FOR_DOCS.items():
        path = out / f"{source}.png"
        if path.is_file():
            size = slim(path, docs / f"{name}.png", DOCS_BYTES)
            sys.stdout.write(f"{docs / name}.png: {size} bytes\n")


if __name__ == "__main__":
    sys.exit(main())
