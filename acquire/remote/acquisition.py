"""Frames of an armed instrument on their way out: every one in order to the recorder, the newest to observers."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acquire.bursts import Bursts
from acquire.clock import Clock
from acquire.errors import InstrumentError
from acquire.instruments import Frame, Scan, Spectrometer
from acquire.remote.blocks import pack_block

logger = logging.getLogger(__name__)

QUEUE_FRAMES = 512
QUEUE_BYTES = 64 << 20
REPLY_FRAMES = 128
REPLY_BYTES = 4 << 20
MAX_WAIT_S = 1.0


def frame_bytes(frame: Frame) -> int:
    """Bytes of a frame's data."""
    return sum(array.nbytes for array in frame.data.values())


def _bounded(wait_s: float) -> float:
    """A wait that is asked for, within 0 and ``MAX_WAIT_S``; NaN, which no time ever exceeds, is 0."""
    return min(wait_s, MAX_WAIT_S) if wait_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames numbered ``first``, ``first + 1``, …, and whether the acquisition has ended after them.

    Where blocks of spectra were asked for, each frame is one, packed, and counts as one.
    """

    first: int
    frames: Sequence[Frame]
    ended: bool


class Newest:
    """The newest frame of one instrument for any number of observers, who may miss others."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._serial = 0
        self._frame: Frame | None = None

    def put(self, frame: Frame) -> None:
        """Replace what is there; never waits for anybody."""
        with self._arrived:
            self._serial += 1
            self._frame = frame
            self._arrived.notify_all()

    def after(self, serial: int, wait_s: float) -> tuple[int, Frame | None]:
        """Serial number and frame of the newest after ``serial``; None if none came within ``wait_s``.

        A number above all of ours is that of a server that was here before.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._serial not in (0, serial), _bounded(wait_s))
            if self._serial not in (0, serial):
                return self._serial, self._frame
            return self._serial, None


class Acquisition:
    """One armed acquisition: exposes when the first frame is asked for, and waits when nobody takes them.

    The queue is bounded and lossless: a full one holds the exposure up (back-pressure). A frame
    leaves it only when its receiver has said that it came, so a lost answer loses nothing.

    Args:
        instrument: armed already.
    """

    def __init__(
        self, number: int, instrument: Scan | Spectrometer, clock: Clock, newest: Newest
    ) -> None:
        self.number = number
        self._instrument = instrument
        self._clock = clock
        self._newest = newest
        self._stop = clock.signal()
        self._changed = threading.Condition()
        self._queue: deque[tuple[Frame, int]] = deque()
        """Frames and their bytes."""
        self._bytes = 0
        self._first = 1
        """Number of the frame at the head of the queue."""
        self._given = 0
        """Number of the last frame that was given out."""
        self._begun = self._ended = False
        self._blocks = False
        self._error: Exception | None = None

    def next(
        self,
        received: int,
        wait_s: float,
        *,
        onward: bool = False,
        blocks: bool = False,
        most: int = REPLY_FRAMES,
        most_bytes: int = REPLY_BYTES,
    ) -> Batch:
        """The frames after number ``received``, at least one unless none came in time.

        Args:
            received: all up to this one have arrived, and are forgotten.
            wait_s: wall seconds to wait for one, at most ``MAX_WAIT_S``.
            onward: those after the ones given out last, whose arrival is not known yet.
            blocks: packed blocks of spectra instead of frames; the first question decides.
            most: no more than so many.
            most_bytes: no more bytes, unless one frame alone is larger.

        Raises:
            InstrumentError: frames after ``received`` were given to somebody else already.
            Exception: what ended the exposure, after the frames that came before it.
        """
        give_up = time.monotonic() + _bounded(wait_s)
        with self._changed:
            self._begin(blocks)
            self._forget(received)
            self._given = max(self._given, received) if onward else received
            while not self._waiting() and not self._ended:
                left_s = give_up - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            if not self._waiting() and self._error is not None:
                raise self._error
            return self._batch(most, most_bytes)

    def stop(self, wait_s: float = 1.0) -> None:
        """End the exposure and forget frames that were not taken; waits a little for it to end."""
        give_up = time.monotonic() + wait_s
        self._stop.set()
        with self._changed:
            self._ended = self._ended or not self._begun
            self._begun = True
            self._queue.clear()
            self._bytes = 0
            self._changed.notify_all()
            while not self._ended and (left_s := give_up - time.monotonic()) > 0:
                self._changed.wait(left_s)

    def _begin(self, blocks: bool) -> None:
        if not self._begun:
            self._begun, self._blocks = True, blocks
            self._clock.spawn(self._pump, f"frames-{self.number}")

    def _forget(self, received: int) -> None:
        if received < self._first - 1:
            raise InstrumentError(
                f"frames up to {self._first - 1} of this acquisition were received already; "
                f"frame {received + 1} cannot be had again. One receiver must take them all."
            )
        gone = min(received - self._first + 1, len(self._queue))
        for _ in range(gone):
            self._bytes -= self._queue.popleft()[1]
        if gone:
            self._first += gone
            self._changed.notify_all()
        if received >= self._first and not self._stop.is_set():
            raise InstrumentError(f"frame {received} of this acquisition was never taken.")

    def _waiting(self) -> int:
        """How many frames were not given out yet."""
        return max(0, self._first - 1 + len(self._queue) - self._given)

    def _batch(self, most: int, most_bytes: int) -> Batch:
        frames: list[Frame] = []
        size = 0
        first, waiting = self._given + 1, self._waiting()
        head = first - self._first
        for frame, own in itertools.islice(self._queue, head, head + min(most, waiting)):
            size += own
            if frames and size > most_bytes:
                break
            frames.append(frame)
        self._given += len(frames)
        ended = self._ended and self._error is None and len(frames) == waiting
        return Batch(first, frames, ended)

    def _pump(self) -> None:
        error: Exception | None = None
        try:
            for frame, shown in self._exposed():
                if not self._put(frame, shown):
                    break
        except Exception as caught:  # noqa: BLE001  goes to the receiver, whatever it is
            if self._stop.is_set():
                logger.info("acquisition %d ended with %s", self.number, caught)
            else:
                error = caught
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _exposed(self) -> Iterator[tuple[Frame, Frame]]:
        """What goes to the receiver, and the newest single frame of it, for observers."""
        instrument = self._instrument
        if not self._blocks:
            for frame in instrument.frames(self._stop):
                yield frame, frame
            return
        if not isinstance(instrument, Bursts):
            raise InstrumentError("this instrument gives single frames only, no blocks of them.")
        for block in instrument.blocks(self._stop):
            yield pack_block(block), block.frame(-1)

    def _put(self, frame: Frame, shown: Frame) -> bool:
        self._newest.put(shown)
        size = frame_bytes(frame)
        with self._changed:
            while self._queue and not self._stop.is_set():
                if len(self._queue) < QUEUE_FRAMES and self._bytes + size <= QUEUE_BYTES:
                    break
                self._changed.wait()
            if self._stop.is_set():
                return False
            self._queue.append((frame, size))
            self._bytes += size
            self._changed.notify_all()
            return True
