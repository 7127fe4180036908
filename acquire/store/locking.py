"""The lock by which a run says that its writer lives; the system releases it when that process ends."""

from __future__ import annotations

import logging
import sys
from io import FileIO
from pathlib import Path

from acquire.errors import StoreError

logger = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    _FAR = 0x7FFF_FF00
    """Windows forbids reading what is locked, so a byte is locked where no journal ever reaches."""

    def _take(file: FileIO, *, shared: bool, wait: bool) -> None:
        here = file.tell()
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(here)

else:
    import fcntl

    def _take(file: FileIO, *, shared: bool, wait: bool) -> None:
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file.fileno(), mode if wait else mode | fcntl.LOCK_NB)


def hold(file: FileIO) -> None:
    """Lock a file of one's own for as long as it is open; a prober may hold it for an instant.

    Where a file system knows no locks, the file stays without one: that is no reason to lose a run.
    """
    try:
        _take(file, shared=False, wait=True)
    except OSError as error:
        logger.warning(
            "%s has no lock (%s): do not recover it while it is written", file.name, error
        )


def try_hold(file: FileIO) -> bool:
    """Lock a file if nobody holds it; False if somebody does."""
    try:
        _take(file, shared=False, wait=False)
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
            _take(file, shared=True, wait=False)
        except (BlockingIOError, PermissionError):
            return True
        except OSError as error:
            logger.warning("%s cannot be locked (%s)", path, error)
    return False
