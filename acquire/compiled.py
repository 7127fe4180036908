"""Compiles the inner loops of measurements and simulations to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., Any])


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
