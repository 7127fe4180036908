"""Runs pieces of work on Dask: local threads, local processes or a cluster, a bounded number at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from acquire.errors import ConfigError, HotstageError

LOCAL = ("threads", "processes")
_ANSWER_S = 10.0
_Result = TypeVar("_Result")


class Lanes:
    """Where work is done; a context manager.

    Args:
        scheduler: ``threads``, ``processes``, or the address of a Dask scheduler such as
            ``tcp://host:8786``, whose workers must see the runs under the same paths.
        workers: how many pieces are worked on at once; by default one per core, or what the
            cluster has.

    Raises:
        ConfigError: the scheduler is unknown or does not answer, or distributed is not installed.
    """

    def __init__(self, scheduler: str = "threads", workers: int | None = None) -> None:
        if scheduler not in LOCAL and "://" not in scheduler:
            raise ConfigError(
                f"scheduler {scheduler!r} is unknown: write threads, processes, or the address of "
                "a Dask scheduler such as tcp://HOST:8786."
            )
        if workers is not None and workers < 1:
            raise ConfigError(f"{workers} workers cannot do anything; ask for 1 or more.")
        self.scheduler = scheduler
        self.workers = workers or os.cpu_count() or 1
        self.most_in_flight = 0
        self.peak_in_flight = 0
        """The most pieces that were handed out, or done and not yet taken, at one time."""
        self._in_flight = 0
        self._lock = threading.Lock()
        self._cleanup = ExitStack()
        self._client: Any = None
        self._given: int | None = workers

    def __enter__(self) -> Self:
        if self.scheduler not in LOCAL:
            self._client = _connect(self.scheduler)
            self._cleanup.callback(self._client.close)
            threads = sum(self._client.nthreads().values())
            if not threads:
                self._cleanup.close()
                raise ConfigError(
                    f"the Dask scheduler at {self.scheduler} has no workers. Start some with "
                    f"`dask worker {self.scheduler}`."
                )
            self.workers = self._given or threads
        self.most_in_flight = 2 * self.workers
        self._room = threading.Semaphore(self.most_in_flight)
        if self._client is None:
            pool: Executor
            if self.scheduler == "threads":
                pool = ThreadPoolExecutor(self.workers, "analysis")
            else:
                # not forked: this process has threads
                pool = ProcessPoolExecutor(
                    self.workers, multiprocessing.get_context("spawn"), initializer=_leave_to_parent
                )
            self._pool = self._cleanup.enter_context(pool)
            self._waiters = self._cleanup.enter_context(
                ThreadPoolExecutor(self.most_in_flight, "analysis-dask")
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def in_order(self, pieces: Iterable[Callable[[], _Result]]) -> Generator[_Result]:
        """Do pieces of work and give their results in order; may be called from several threads.

        No more pieces than ``most_in_flight`` are under way or waiting to be taken, of all callers
        together. When the caller stops, what it began is waited for and dropped.

        Raises:
            HotstageError: what a piece raised, or the cluster lost it.
        """
        waiting: deque[Any] = deque()
        coming = iter(pieces)
        more = True
        try:
            while more or waiting:
                # who has results to take need not wait for room: that could be for ever
                while more and self._room.acquire(blocking=not waiting):
                    piece = next(coming, None)
                    if piece is None:
                        more = False
                        self._room.release()
                        break
                    self._count(1)
                    waiting.append(self._submit(piece))
                if waiting:
                    result = self._result(waiting[0])
                    waiting.popleft()
                    self._count(-1)
                    self._room.release()
                    yield result
        finally:
            for future in waiting:
                future.cancel()
            for future in waiting:
                self._settle(future)
                self._count(-1)
                self._room.release()

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)

    def _submit(self, piece: Callable[[], Any]) -> Any:
        if self._client is not None:
            return self._client.submit(piece, pure=False)
        return self._waiters.submit(self._compute, piece)

    def _compute(self, piece: Callable[[], Any]) -> Any:
        delayed, compute = _dask()
        work = delayed(piece, pure=False, traverse=False)()
        return compute(work, scheduler=self.scheduler, pool=self._pool)[0]

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except HotstageError:
            raise
        except Exception as error:
            raise HotstageError(
                f"a piece of the analysis was lost by {self.scheduler}: {type(error).__name__}: "
                f"{error}. Try again; with --scheduler threads it runs within this program."
            ) from error

    def _settle(self, future: Any) -> None:
        if isinstance(future, Future) and not future.cancelled():
            future.exception()


def _dask() -> tuple[Any, Any]:
    """Dask's ``delayed`` and ``compute``, which have no types; imported when they are needed."""
    from dask.base import compute
    from dask.delayed import delayed

    return delayed, compute


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            f"the scheduler {address} needs the package distributed ({error}). "
            'Install it: pip install "hotstage[cluster]".'
        ) from error
    try:
        client: Any = Client
        return client(address, timeout=_ANSWER_S)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}). Start one with "
            "`dask scheduler`, or use --scheduler threads."
        ) from error


def _leave_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; only the parent decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
