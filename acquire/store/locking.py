"""The lock by which a run says that its writer lives; the system releases it when that process ends."""

from __future__ import annotations

import logging
from io import FileIO
from pathlib import Path

from acquire.errors import StoreError
from acquire.locking import take

logger = logging.getLogger(__name__)


def hold(file: FileIO) -> None:
    """Lock a file of one's own for as long as it is open; a prober may hold it for an instant.

    Where a file system knows no locks, the file stays without one: that is no reason to lose a run.
    """
    try:
        take(file, shared=False, wait=True)
    except OSError as error:
        logger.warning(
            "%s has no lock (%s): do not recover it while it is written", file.name, error
        )


def try_hold(file: FileIO) -> bool:
    """Lock a file if nobody holds it; False if somebody does."""
    try:
        take(file, shared=False, wait=False)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s cannot be locked (%s)", file.name, error)
    return True


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of this file; False if there is no such file.

    Raises:
        StoreError: the file cannot be opened.
    """
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    with file:
        try:
            take(file, shared=True, wait=False)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            logger.warning("%s cannot be locked (%s)", path, error)
    return False
