"""Receives every frame of an acquisition: asks ahead, through shared memory where server and client have some.

Two questions are always under way, so that the server prepares an answer while the one before is
received; what has arrived is acknowledged with the next question. Through a ring a frame costs two
copies in memory, through a socket also the way through the system, and encryption if there is any.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from acquire.clock import Signal
from acquire.errors import HotstageError, LinkError
from acquire.instruments import Frame
from acquire.remote.client import Link, Questions
from acquire.remote.frames import unpack_frames
from acquire.remote.messages import Bytes
from acquire.remote.ring import LEAST_SLOTS, MOST_BYTES, RingReader
from acquire.remote.wire import exactly, short, unpack

logger = logging.getLogger(__name__)

POLL_S = 0.1
"""Longest that a question waits at the server before the stop signal is looked at again."""
PATIENCE_S = 1.5
"""Asking again for frames is harmless (nothing is commanded), so a lost answer is not the end yet."""
ANSWER_S = 10.0
AHEAD = 2
RING_BYTES = 16 << 20
"""Of a whole ring, unless it would have too few or too many slots: what the processor's cache still holds."""
SLOTS = 32
LEAST_BYTES = 32 << 10
"""Smaller frames go beside the answer: one more copy of them costs less than to look after a slot."""


class Receiver:
    """Takes the frames of one instrument, one acquisition at a time; for one thread at a time.

    Args:
        link: to the server.
        role: of the instrument.
        shares: whether to ask for shared memory where the server is on this computer.
    """

    def __init__(self, link: Link, role: str, *, shares: bool = True) -> None:
        self._link = link
        self._role = role
        self._shares = shares
        self._questions: Questions | None = None
        self._ring: RingReader | None = None
        self._onward = self._blocks = False

    @property
    def shared(self) -> bool:
        """Whether frames come through shared memory."""
        return self._ring is not None

    def batches(
        self,
        number: int,
        token: Callable[[], str],
        frame_bytes: int,
        stop: Signal,
        *,
        blocks: bool = False,
    ) -> Iterator[list[Frame]]:
        """The frames of acquisition ``number`` as they come, none left out, until it ends.

        Args:
            number: of the acquisition.
            token: of the commander.
            frame_bytes: about the size of a frame, at least.
            stop: looked at after every answer.
            blocks: packed blocks of spectra (:mod:`acquire.remote.blocks`) instead of frames.

        Raises:
            LinkError: no answer for too long, or a frame was lost.
            HotstageError: what ended the exposure at the server.
        """
        received, ended = 0, False
        self._blocks = blocks
        try:
            while not ended and not stop.is_set():
                frames, ended = self._next(number, received, token, frame_bytes)
                received += len(frames)
                yield frames
        finally:
            self._settle(ended)

    def close(self) -> None:
        """End the connection and let go of shared memory; idempotent."""
        questions, self._questions = self._questions, None
        ring, self._ring = self._ring, None
        if questions is not None:
            questions.close()
        if ring is not None:
            ring.close()

    def _settle(self, ended: bool) -> None:
        """Take the answers that are still owed if they come at once, else give up the connection."""
        questions = self._questions
        if questions is None:
            return
        if ended:
            with contextlib.suppress(HotstageError):
                while questions.unanswered:
                    questions.answer(POLL_S)
        if questions.unanswered:
            self.close()

    def _next(
        self, number: int, received: int, token: Callable[[], str], frame_bytes: int
    ) -> tuple[list[Frame], bool]:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                questions = self._connected(frame_bytes)
                self._ask(questions, number, received, token)
                reply, beside = questions.answer(ANSWER_S)
                break
            except LinkError as error:
                self.close()
                # without a cause it is the server's own answer, and stays the same
                if error.__cause__ is None or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
        first, frames, ended = self._read(reply, beside)
        if frames and first != received + 1:
            raise LinkError(f"frame {received + 1} of {self._role} was lost on the way.")
        if not ended:
            try:  # before anybody works on these frames, so that the next ones come meanwhile
                self._ask(questions, number, received + len(frames), token)
            except LinkError as error:
                logger.info("frames of %s are asked for anew: %s", self._role, error)
                self.close()
        return frames, ended

    def _ask(
        self, questions: Questions, number: int, received: int, token: Callable[[], str]
    ) -> None:
        self._onward = self._onward and bool(questions.unanswered)
        while questions.unanswered < AHEAD:
            copied = -1 if self._ring is None else self._ring.copied
            where = self._role, number, received
            how = POLL_S, token(), self._onward, copied, self._blocks
            questions.ask("frames_next", *where, *how, within_s=ANSWER_S)
            self._onward = True

    def _read(self, reply: Any, beside: Bytes) -> tuple[int, list[Frame], bool]:
        """Number of the first frame, the frames, and whether they are the last ones."""
        given = exactly(reply, dict, dict)
        if given.keys() - {"places"} != {"first", "frames", "ended"}:
            raise LinkError(f"frames came with missing or unknown fields: {short(given)}.")
        take = None if self._ring is None else self._ring.take
        frames = unpack_frames(given["frames"], beside, given.get("places"), take)
        return unpack(int, given["first"]), frames, unpack(bool, given["ended"])

    # -------------------------------------------------------------------------- connection

    def _connected(self, frame_bytes: int) -> Questions:
        questions = self._questions
        if questions is None or not questions.usable():
            self.close()
            questions = self._questions = self._link.questions()
            self._onward = False
        if questions.here and self._shares and not questions.unanswered:
            self._share(questions, frame_bytes)
        return questions

    def _share(self, questions: Questions, frame_bytes: int) -> None:
        """Have a ring whose slots are large enough, if there can be one."""
        if frame_bytes < LEAST_BYTES or frame_bytes * LEAST_SLOTS > MOST_BYTES:
            return
        if self._ring is not None and self._ring.slot_bytes >= frame_bytes:
            return
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        slots = int(np.clip(RING_BYTES // frame_bytes, LEAST_SLOTS, SLOTS))
        try:
            path = unpack(str, questions.call("ring_open", slots, frame_bytes, within_s=ANSWER_S))
            ring = RingReader(path, slots, frame_bytes)
            if questions.call("ring_attach", ring.proof, within_s=ANSWER_S) is True:
                self._ring = ring
                return
            ring.close()
        except LinkError as error:
            if error.__cause__ is not None and not questions.usable():
                raise  # the connection is lost, which is another matter
            logger.info("frames of %s come through the socket: %s", self._role, error)
        self._shares = False
