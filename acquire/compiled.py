"""Compiles the inner loops of measurements and simulations to machine code."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs

from acquire.locking import take

logger = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])
_SOURCES = Path(__file__).resolve().parent.parent
_MARK = b"acquire.compiled"
_IMPORTED = re.compile(rb"^from ((?:acquire|simulators)[\w.]*) import", re.MULTILINE)
_CHOSEN: str = cast(Any, numba.config).CACHE_DIR
"""Where somebody wants all compiled code to be kept."""
_DECORATING = threading.Lock()
_KEPT = 24
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
    place = kept_for(Path(function.__code__.co_filename))
    with _kept_in(place):
        try:
            made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
        except RuntimeError:
            # nowhere to keep it: neither beside the module nor in a home directory
            return cast(_F, numba.njit(nogil=True, error_model="numpy")(function))
    if place is not None:
        _save_in_turn(made, place / "saving.lock")
    return cast(_F, made)


def compile_apart(name: str, module: Path, statement: str) -> None:
    """Run a Python statement that compiles, in a process of its own, unless its loops are on disk already.

    Compiling holds Python's global lock for much of a minute: in a process that commands a heater,
    the lease that keeps it on could lapse meanwhile. Afterwards this process loads them in a second.
    Where nothing can be kept on disk, this does nothing.

    Args:
        name: of what is compiled; :func:`note_compiled` remembers it.
        module: a file beside the compiled functions.
        statement: for ``python -c``.
    """
    mark = _mark(name, module)
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


def note_compiled(name: str, module: Path) -> None:
    """Remember that the loops of ``name`` are on disk, as long as the sources stay as they are."""
    mark = _mark(name, module)
    if mark is not None:
        with suppress(OSError):
            mark.touch()


def _mark(name: str, module: Path) -> Path | None:
    kept = kept_for(module)
    return kept / f"{name}.done" if kept is not None else None


def kept_for(module: Path) -> Path | None:
    """Where the compiled code of a module's folder is kept; None where numba shall find a place.

    Every state of the sources has a place of its own: numba looks at the module of a function alone,
    and would go on with the old code of what that function calls from another module.
    """
    if _CHOSEN:
        return Path(_CHOSEN)
    return _kept_for(module.resolve().parent)


@lru_cache
def _kept_for(folder: Path) -> Path | None:
    root = Path(platformdirs.user_cache_dir("hotstage")) / "compiled"
    kept = root / state_of_sources(folder)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        kept.touch()
    except OSError:
        return None
    with suppress(OSError):
        others = sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in others[:-_KEPT]:
            if time.time() - old.stat().st_mtime > _IN_USE_S:
                shutil.rmtree(old, ignore_errors=True)
    return kept


def state_of_sources(folder: Path) -> str:
    """A name for the place and the state of a folder's compiled modules, and of those they import."""
    digest = hashlib.sha256(str(folder).encode())
    for source in sorted(_compiled_below(folder)):
        digest.update(str(source).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compiled_below(folder: Path) -> set[Path]:
    found: set[Path] = set()
    folders, seen = [folder], {folder}
    while folders:
        for source in folders.pop().glob("*.py"):
            text = source.read_bytes()
            if _MARK not in text:
                continue
            found.add(source)
            for name in _IMPORTED.findall(text):
                at = _SOURCES.joinpath(*name.decode().split("."))
                beside = at if at.is_dir() else at.parent
                if beside not in seen:
                    seen.add(beside)
                    folders.append(beside)
    return found


def _save_in_turn(made: Any, lock: Path) -> None:
    """Let one process at a time keep code: numba names it by counting what it finds in an index.

    Two that compile one function for different types at once would take the same name, and one of
    them would later be given the other's code.
    """
    save = made._cache.save_overload

    def save_in_turn(signature: Any, code: Any) -> None:
        with suppress(OSError), lock.open("wb", buffering=0) as file:
            take(file, wait=True)
            save(signature, code)

    made._cache.save_overload = save_in_turn


@contextmanager
def _kept_in(place: Path | None) -> Iterator[None]:
    """Let numba keep what is decorated meanwhile in a place; it asks once, when it decorates."""
    config: Any = numba.config  # made up at run time, which its types do not know
    # modules are imported by several threads, and this is the one setting of them all
    with _DECORATING:
        before = config.CACHE_DIR
        config.CACHE_DIR = before if place is None else str(place)
        try:
            yield
        finally:
            config.CACHE_DIR = before
