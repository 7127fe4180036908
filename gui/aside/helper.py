"""Asks a child process to work something out; the newest question of a kind wins, nobody waits.

The child is a plain interpreter on two pipes (:mod:`gui.aside.child`), begun with the first question,
at low priority. If it dies, or is stuck, that question is answered by :class:`Failed`, and the next one
begins another.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

STUCK_S = 120.0
"""A question that takes longer is given up: the first fit on a machine compiles for a while."""
LEAVE_S = 2.0
"""For a file that the child is writing when the window closes."""
_LEAVES_FILES = frozenset({"write_csv"})
"""Calls that are finished also when the window closes; nobody is there for the answers of others."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer."""

    why: str


class Aside:
    """One child, one thread that talks to it, and a place for each kind of question and answer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: OrderedDict[str, tuple[str, tuple[Any, ...]]] = OrderedDict()
        self._answers: dict[str, object] = {}
        self._busy = ""
        self._call = ""
        self._closed = False
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._leave = threading.Timer(LEAVE_S, self._kill)
        self._leave.daemon = True

    def ask(self, kind: str, call: str, *arguments: object) -> None:
        """Have a function of :mod:`gui.aside.work` called; an older question of the kind is dropped."""
        with self._changed:
            if self._closed:
                return
            self._asked[kind] = (call, arguments)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._talk, name="window-aside", daemon=True)
                self._thread.start()

    def busy(self, kind: str) -> bool:
        """Whether a question of this kind is not answered yet."""
        with self._changed:
            return kind == self._busy or kind in self._asked

    def take(self, kind: str) -> Any:
        """An answer that was not taken yet, or :class:`Failed`; None if there is none."""
        with self._changed:
            return self._answers.pop(kind, None)

    def close(self) -> None:
        """Drop what is asked; a file that is being written has two seconds to be finished."""
        with self._changed:
            self._closed = True
            self._asked.clear()
            self._changed.notify_all()
            if not self._busy:
                return
            if self._call in _LEAVES_FILES:
                self._leave.start()
            else:
                self._kill()

    def _talk(self) -> None:
        while True:
            with self._changed:
                while not self._asked and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                kind, (call, arguments) = self._asked.popitem(last=False)
                self._busy, self._call = kind, call
            answer = self._answer(call, arguments)
            with self._changed:
                self._busy = ""
                self._answers[kind] = answer
        self._leave.cancel()
        self._end_child(LEAVE_S)

    def _answer(self, call: str, arguments: tuple[Any, ...]) -> object:
        watch = threading.Timer(STUCK_S, self._kill)
        watch.daemon = True
        watch.start()
        try:
            if self._child is None or self._child.poll() is not None:
                self._end_child(0.0)
                self._child = _begin()
            child = self._child
            if self._closed and call not in _LEAVES_FILES:
                child.kill()  # begun while the window closed, which could not see it
            assert child.stdin is not None
            assert child.stdout is not None
            pickle.dump((call, arguments), child.stdin, pickle.HIGHEST_PROTOCOL)
            child.stdin.flush()
            return pickle.load(child.stdout)  # noqa: S301 - our own child's
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self._end_child(0.0)
            return Failed(f"{call}: the process that works beside the window ended ({error!r})")
        finally:
            watch.cancel()
            watch.join()

    def _kill(self) -> None:
        child = self._child
        if child is not None:
            child.kill()

    def _end_child(self, patience_s: float) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _begin() -> subprocess.Popen[bytes]:
    # -P: a folder "gui" where we happen to be must not stand in for ours
    command = [sys.executable, "-P", "-m", "gui.aside.child"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
