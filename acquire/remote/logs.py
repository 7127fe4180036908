"""Where the processes behind a station say what happened: a file of each, kept small, the newest kept."""

from __future__ import annotations

import logging
import os
import re
from logging.handlers import RotatingFileHandler
from pathlib import Path

import platformdirs

FOLDER_VARIABLE = "HOTSTAGE_LOG_DIR"
FILE_BYTES = 1 << 20
KEPT_FILES = 40
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

logger = logging.getLogger(__name__)


def log_folder() -> Path:
    """The folder in HOTSTAGE_LOG_DIR, or that of the user's logs."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else Path(platformdirs.user_log_dir("hotstage", appauthor=False))


def log_to_file(role: str, station: str) -> Path | None:
    """Write what this process logs, from INFO on, to a file of its own as well.

    Who took control, who was refused, what was made safe and why is found there afterwards. A file
    is at most twice ``FILE_BYTES``, and only the newest ``KEPT_FILES`` are kept. A folder that cannot
    be written to is said, and stops nothing.

    Returns:
        The file; None if there is none.
    """
    folder = log_folder()
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{role}-{station}-{os.getpid()}.log")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old(folder)
        handler = RotatingFileHandler(
            folder / name, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8"
        )
    except OSError as error:
        logger.warning("nothing is logged to a file: %s", error)
        return None
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.addHandler(handler)
    if root.level > logging.INFO:
        for other in root.handlers:  # what is shown stays as it was
            if other is not handler and other.level == logging.NOTSET:
                other.setLevel(root.level)
        root.setLevel(logging.INFO)
    return folder / name


def _forget_old(folder: Path) -> None:
    files = sorted(folder.glob("*.log*"), key=_age)
    for file in files[: max(0, len(files) - KEPT_FILES)]:
        file.unlink(missing_ok=True)


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another process has forgotten it meanwhile
        return 0.0
