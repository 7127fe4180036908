"""The child of :class:`gui.aside.Aside`: answers questions on its pipes until they are closed."""

from __future__ import annotations

import os
import pickle
import sys
from typing import BinaryIO

from gui.aside.helper import Failed

NICENESS = 5
"""Whoever acquires on this machine comes first."""


def main() -> None:
    """Serve; answers go to what was the standard output, so that nobody else's words get among them."""
    questions = sys.stdin.buffer
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        if hasattr(os, "nice"):
            os.nice(NICENESS)
        while _serve(questions, answers):
            pass


def _serve(questions: BinaryIO, answers: BinaryIO) -> bool:
    try:
        call, arguments = pickle.load(questions)  # noqa: S301 - our own parent's
    except EOFError:
        return False
    from gui.aside import work

    try:
        answer = getattr(work, call)(*arguments)
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        answer = Failed(str(error) or type(error).__name__)
    try:
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
    except BrokenPipeError:
        return False
    return True


if __name__ == "__main__":
    main()
