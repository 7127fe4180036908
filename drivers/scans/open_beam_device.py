"""An Open Beam Interface board behind its TCP server: every exchange ends with a synchronisation.

The board tells nothing of its state. So a command counts as done when the synchronisation after it was
answered, and after a lost connection nothing of its state counts as known until it is set again.

Commands are carried out in their order, the abort and the blank, too. So the pixels of a frame are
asked for in pieces of some ten milliseconds, with as much on the way as keeps the board busy: this is
how long a cut, or a blank in a frame, waits.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, finite_rate
from acquire.errors import LinkError
from drivers.links import ExchangeCut, Link, MalformedReply, TcpTransport, Wire, parse_address
from drivers.scans import open_beam_protocol as obi
from drivers.scans.open_beam_protocol import Range

logger = logging.getLogger(__name__)

COMMAND_S = 2.0
PIECE_WALL_S = 0.02
MOST_IN_PIECE = 1 << 17
"""Pixels; a piece of 125 ns pixels is shorter than it might be, for the sake of buffers."""
PIECES_AHEAD = 3
STALLED_S = 10.0
"""No pixel for so much longer than the pieces on the way need: the board hangs."""
CUT_S = 0.12
"""A cut that the board did not answer for so long ends the connection."""
STALE_BYTES = 1 << 27
"""Pixels of a client before, at most, before the first synchronisation."""
PARK_CYCLES = 8
MOST_STALE = 4


@dataclass(frozen=True, slots=True)
class Raster:
    """A frame's pixels."""

    x: Range
    y: Range
    cycles: int
    """Of every pixel."""

    @property
    def pixels(self) -> int:
        """How many."""
        return self.x.count * self.y.count


@dataclass(frozen=True, slots=True)
class Scanned:
    """A frame's values, and station times around its exposure."""

    counts: NDArray[np.uint16]
    """ADC values (rows, columns)."""
    start_s: float
    end_s: float


class OpenBeamDevice:
    """The board; any thread may call, exchanges never overlap. All methods raise LinkError.

    Args:
        address: ``HOST:PORT`` of the board's server.
        clock: of the station.
        blank_wanted: whether the beam shall be blanked in a frame; looked at while it goes on.
    """

    def __init__(self, address: str, clock: Clock, blank_wanted: Callable[[], bool]) -> None:
        parse_address(address)
        self.address = address
        self._clock = clock
        self._blank_wanted = blank_wanted
        self._cookie = random.randrange(1 << 16)
        self._link = Link(
            lambda deadline: TcpTransport(address, deadline),
            what=f"the Open Beam Interface at {address}",
            mend="See that its server runs, and that no other program uses it.",
            greet=self._greet,
        )
        self._state = threading.Condition()
        self._blanked_in_frame: bool | None = None

    @property
    def connections(self) -> int:
        """How many were made; what the board was told on an earlier one may be lost."""
        return self._link.connections

    def open(self) -> None:
        """Connect and synchronise."""
        self._link.open()

    def close(self) -> None:
        """End the connection; idempotent."""
        self._link.close()

    def do(self, commands: bytes, doing: str, *, pixels: int = 0) -> None:
        """Carry out commands that return so many pixels, and wait for their end."""

        def exchange(wire: Wire) -> None:
            cookie = self._next_cookie()
            wire.send(commands + obi.synchronize(cookie))
            if pixels:
                obi.counts(wire.receive(2 * pixels))
            _expect(wire, cookie)

        self._link.talk(exchange, within_s=COMMAND_S, doing=doing)

    def park(self, x: int, y: int, after: bytes) -> None:
        """Put the beam on a point, and carry out commands when it is there."""
        cookie = self._next_cookie()
        # older gateware takes single points only out of raster mode, and the other way round
        vector = obi.synchronize(cookie, raster=False) + obi.point(x, y, PARK_CYCLES) + after

        def exchange(wire: Wire) -> None:
            last = self._next_cookie()
            wire.send(vector + obi.synchronize(last))
            _expect(wire, cookie)
            obi.counts(wire.receive(2))
            _expect(wire, last)

        self._link.talk(exchange, within_s=COMMAND_S, doing="the position of the probe")

    @property
    def in_frame(self) -> bool:
        """Whether a frame is being scanned, or will be at once."""
        return self._blanked_in_frame is not None

    def announce(self) -> None:
        """Say that a frame comes now, which begins with the beam blanked; :meth:`scan` must follow."""
        self._tell(True)

    def wait_for_blank(self, blanked: bool, within_s: float) -> bool:
        """Wait until a frame under way is exposed with the beam so; False if there is none, or in vain."""
        with self._state:
            self._state.wait_for(lambda: self._blanked_in_frame in (None, blanked), within_s)
            return self._blanked_in_frame is blanked

    def scan(self, raster: Raster, cut: Callable[[], bool]) -> Scanned | None:
        """Scan one frame, and blank the beam after it; None if it was cut.

        Raises:
            LinkError: the connection was lost, or the board hangs.
        """
        wall_s = raster.pixels * raster.cycles * obi.CYCLE_S / finite_rate(self._clock)
        watch = _Watch(cut)
        frame = _Frame(self._clock, raster, watch, self._blank_wanted, self._tell)

        def exchange(wire: Wire) -> Scanned | None:
            return frame.take(wire, self._next_cookie)

        try:
            return self._link.talk(
                exchange,
                within_s=2 * wall_s + COMMAND_S + STALLED_S,
                doing="a frame",
                cut=watch.gave_up,
            )
        except ExchangeCut as error:
            if cut():
                raise LinkError(
                    "the Open Beam Interface did not answer when a frame was cut; whether the beam is "
                    "blanked is not known."
                ) from error
            raise LinkError(
                f"the Open Beam Interface sent no pixels for {STALLED_S:g} s; what it does is not known."
            ) from error
        finally:
            self._tell(None)

    def _tell(self, blanked: bool | None) -> None:
        with self._state:
            self._blanked_in_frame = blanked
            self._state.notify_all()

    def _next_cookie(self) -> int:
        self._cookie = (self._cookie + 1) % (1 << 16)
        return self._cookie

    def _greet(self, wire: Wire) -> None:
        """Find the present in what an earlier client may have left under way."""
        cookie = self._next_cookie()
        wire.send(obi.synchronize(cookie))
        stale = wire.receive_line(obi.reply_to(cookie), at_most=STALE_BYTES)
        if stale:
            logger.info("%d bytes for an earlier client were thrown away", len(stale))


class _Watch:
    """Says when a frame shall end by itself, and when it has not."""

    def __init__(self, cut: Callable[[], bool]) -> None:
        self._cut = cut
        self._cut_since: float | None = None
        self._due = time.monotonic() + COMMAND_S

    def expect(self, within_s: float) -> None:
        """Something came; the next is due."""
        self._due = time.monotonic() + within_s

    def cut(self) -> bool:
        """Whether the frame shall end."""
        if not self._cut():
            return False
        if self._cut_since is None:
            self._cut_since = time.monotonic()
        return True

    def gave_up(self) -> bool:
        """Whether the board does not answer."""
        now = time.monotonic()
        cut_in_vain = self.cut() and now - (self._cut_since or now) > CUT_S
        return cut_in_vain or now > self._due


class _Frame:
    """The exchange of one frame."""

    def __init__(
        self,
        clock: Clock,
        raster: Raster,
        watch: _Watch,
        blank_wanted: Callable[[], bool],
        tell: Callable[[bool], None],
    ) -> None:
        self._clock = clock
        self._raster = raster
        self._watch = watch
        self._blank_wanted = blank_wanted
        self._tell = tell
        self._blanked = True
        self._under_way: list[tuple[int, bool]] = []
        """Pixels of each piece, and whether it is exposed with the beam blanked."""
        pixel_wall_s = raster.cycles * obi.CYCLE_S / finite_rate(clock)
        self._piece = min(MOST_IN_PIECE, max(1, int(PIECE_WALL_S / pixel_wall_s)))
        self._patience_s = (PIECES_AHEAD + 1) * self._piece * pixel_wall_s + STALLED_S

    def take(self, wire: Wire, next_cookie: Callable[[], int]) -> Scanned | None:
        first, last = next_cookie(), next_cookie()
        wire.send(
            obi.blank(True) + obi.synchronize(first) + obi.region(self._raster.x, self._raster.y)
        )
        _expect(wire, first)
        total = self._raster.pixels
        data = bytearray(2 * total)
        asked = got = 0
        start_s = self._clock.now_s()
        while got < total:
            if self._watch.cut():
                self._end(wire, next_cookie())
                return None
            while asked < total and len(self._under_way) < PIECES_AHEAD:
                asked += self._ask(wire, min(self._piece, total - asked))
                if asked == total:
                    wire.send(obi.blank(True) + obi.synchronize(last))
            pixels, blanked = self._under_way.pop(0)
            self._watch.expect(self._patience_s)
            wire.receive_into(memoryview(data)[2 * got : 2 * (got + pixels)])
            got += pixels
            self._tell(blanked)
        _expect(wire, last)
        end_s = self._clock.now_s()
        image = obi.counts(data).reshape(self._raster.y.count, self._raster.x.count)
        return Scanned(image, start_s, end_s)

    def _ask(self, wire: Wire, pixels: int) -> int:
        wanted = self._blank_wanted()
        change = obi.blank(wanted, inline=True) if wanted is not self._blanked else b""
        wire.send(change + obi.runs(pixels, self._raster.cycles) + obi.FLUSH)
        self._blanked = wanted
        self._under_way.append((pixels, wanted))
        return pixels

    def _end(self, wire: Wire, cookie: int) -> None:
        """End a frame that was cut, with the beam blanked; what is under way still comes."""
        wire.send(obi.ABORT + obi.blank(True) + obi.synchronize(cookie))
        left = 2 * sum(pixels for pixels, _ in self._under_way)
        wire.receive_line(obi.reply_to(cookie), at_most=left + 64)


def _expect(wire: Wire, cookie: int) -> None:
    """The reply to a synchronisation; one to an earlier, that came twice or late, is thrown away."""
    for _ in range(MOST_STALE):
        came = wire.receive(4)
        if came == obi.reply_to(cookie):
            return
        if not came.startswith(obi.MARK):
            break
    raise MalformedReply(
        f"{came.hex(' ')} came where a synchronisation was expected: pixels are missing, or too many."
    )
