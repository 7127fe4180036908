"""Compiles the inner loops of measurements and simulations to machine code."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs

_F = TypeVar("_F", bound=Callable[..., Any])
_KEPT = 4
"""Caches of so many states of the sources stay."""


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
            shutil.rmtree(old, ignore_errors=True)


_keep_apart()
