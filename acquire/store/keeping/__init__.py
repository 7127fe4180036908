"""Keeps runs: checks everything about one, and repairs what a dead writer left of it."""

from acquire.store.keeping.inspect import Finding
from acquire.store.keeping.recover import Recovery, recover_run
from acquire.store.keeping.verify import CheckedArray, Verification, verify_run

__all__ = [
    "CheckedArray",
    "Finding",
    "Recovery",
    "Verification",
    "recover_run",
    "verify_run",
]
