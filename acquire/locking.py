"""Locks on open files; the system releases them when the file is closed or its process ends, however it ends."""

from __future__ import annotations

import sys
from io import FileIO

if sys.platform == "win32":
    import msvcrt

    _FAR = 0x7FFF_FF00
    """Windows forbids reading what is locked, so a byte is locked that no file of ours ever reaches."""

    def take(file: FileIO, *, shared: bool = False, wait: bool = False) -> None:
        """Lock an open file, there always exclusively.

        Raises:
            PermissionError, OSError: another holds it, or still does after 10 s if ``wait``.
        """
        here = file.tell()
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(here)

else:
    import fcntl

    def take(file: FileIO, *, shared: bool = False, wait: bool = False) -> None:
        """Lock an open file, with others if ``shared``.

        Raises:
            BlockingIOError: another holds it and ``wait`` is False.
            OSError: the file system knows no locks.
        """
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file.fileno(), mode if wait else mode | fcntl.LOCK_NB)
