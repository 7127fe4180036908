"""Compiles the inner loops of measurements and simulations to machine code."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs

logger = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])
_KEPT = 4
"""Caches of so many states of the sources stay, however old."""
_IN_USE_S = 86400.0
"""A cache that a process has used since is in use: several checkouts must not clear each other's."""


def compiled(function: _F) -> _F:
    """A numpy function of plain loops, compiled at its first call and kept on disk for the next process.

    It runs without Python's global lock, so that an estimator holds up nothing else in its process.
    Arguments are arrays and numbers; a new combination of their types is compiled anew, which takes
    some seconds, so that whoever needs the first answer soon calls it once beforehand. Division by
    zero gives inf or NaN, as in numpy. Sums are not reordered: the same input gives the same bits.
    """
    try:
        return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # nowhere to keep it: neither beside the module nor in a home directory
        return cast(_F, numba.njit(nogil=True, error_model="numpy")(function))


def compile_apart(name: str, statement: str) -> None:
    """Run a Python statement that compiles, in a process of its own, unless its loops are on disk already.

    Compiling holds Python's global lock for much of a minute: in a process that commands a heater,
    the lease that keeps it on could lapse meanwhile. Afterwards this process loads them in a second.
    Where nothing can be kept on disk, this does nothing.

    Args:
        name: of what is compiled; :func:`note_compiled` remembers it.
        statement: for ``python -c``.
    """
    mark = _mark(name)
    if mark is None or mark.exists():
        return
    done = subprocess.run(
        [sys.executable, "-P", "-c", statement],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    if done.returncode:
        # whoever needs the loops compiles them then, and says what is wrong
        logger.warning("%s was not compiled ahead: %s", name, done.stderr.strip()[-500:])


def note_compiled(name: str) -> None:
    """Remember that the loops of ``name`` are on disk, as long as the sources stay as they are."""
    mark = _mark(name)
    if mark is not None:
        with suppress(OSError):
            mark.touch()


def _mark(name: str) -> Path | None:
    config: Any = numba.config
    return Path(config.CACHE_DIR) / f"{name}.done" if config.CACHE_DIR else None


def state_of_sources(folder: Path) -> str:
    """A name that changes with any module below a folder that has compiled functions."""
    digest = hashlib.sha256()
    for module in sorted(folder.rglob("*.py")):
        source = module.read_bytes()
        if b"acquire.compiled" in source:
            digest.update(str(module.relative_to(folder)).encode() + b"\0" + source)
    return digest.hexdigest()[:16]


def _keep_apart() -> None:
    """Give every state of the sources a cache of its own.

    numba looks at the module of a function alone: it would go on with the old code of what that
    function calls from another module.
    """
    config: Any = numba.config  # made up at run time, which its types do not know
    if config.CACHE_DIR:
        return  # somebody chose a place
    sources = Path(__file__).resolve().parent.parent
    root = Path(platformdirs.user_cache_dir("hotstage")) / "compiled"
    state = hashlib.sha256(str(sources).encode())
    for package in ("acquire", "simulators"):
        state.update(state_of_sources(sources / package).encode())
    cache = root / state.hexdigest()[:16]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        cache.touch()
    except OSError:
        return  # numba finds another place
    config.CACHE_DIR = str(cache)
    with suppress(OSError):
        others = sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in others[:-_KEPT]:
            if time.time() - old.stat().st_mtime > _IN_USE_S:
                shutil.rmtree(old, ignore_errors=True)


_keep_apart()
