"""The SCPI dialect of the Keithley 2400 class, as a source-meter that forces a current and measures four-wire.

Sources: Keithley 2400S-900-01 (public manual pages): elements of a reading in fixed order, overflow
and NAN value 9.91e37, time stamp that starts over after 99999.999 s (p. 18-50), status word (p. 18-50 and
18-51), error numbers (appendix B), +803 for a reading with the output off, the rest of a line
that is discarded after an error in it. PyMeasure's ``keithley2400.py`` for the commands.
A new connection sets the event status enable mask to a number and reads until that number comes back
(IEEE 488.2, ``*ESE``), so that no reply to an older question is taken for a new one.
Unverified: that ^C and an empty line end what an older connection left unfinished (the manual gives ^C
for RS-232; LAN models may only log -113), and that a 2450 tells ``*LANG?`` in every dialect.
Nothing here was tried on hardware.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from acquire.errors import InstrumentError
from drivers.links import Link, MalformedReply, Transport, Wire, check_line, open_line

logger = logging.getLogger(__name__)

T = TypeVar("T")
REPLY_S = 0.5
"""Wall seconds for one exchange beside the integration; 9600 baud need 80 ms for a reading."""
CONNECT_S = 2.0
QUIET_S = 0.03
"""A device that has said nothing for so long has finished what an older connection asked for."""
OVERFLOW = 9.9e37
"""The device writes 9.91e37 for what overflowed or was not measured."""
TIME_WRAPS_S = 99999.999
MOST_ERRORS = 16
ENDS = {"LF": b"\n", "CR": b"\r", "CRLF": b"\r\n"}
BAUD_RATES = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600)

STATUS_OVERFLOW = 1 << 0
STATUS_COMPLIANCE = 1 << 3
STATUS_OVER_VOLTAGE = 1 << 4
STATUS_RANGE_COMPLIANCE = 1 << 16
STATUS_CONTACT_CHECK = 1 << 18
STATUS_REMOTE_SENSE = 1 << 22

_CLASS = re.compile(r"^24(?:00|01|10|20|25|30|40)")
_GRAPHICAL = re.compile(r"^24(?:50|60|61|70)")
_ERROR = re.compile(r'([+-]?\d+), ?"([^"]*)"')
_NUMBER = re.compile(r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[Ee][+-]?\d+)?$")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says of itself to ``*IDN?``."""

    maker: str
    model: str
    serial: str
    firmware: str


@dataclass(frozen=True, slots=True)
class SourceReading:
    """One reading: voltage (V), current (A), device time (s) and status word."""

    volts: float
    amps: float
    time_s: float
    status: int

    @property
    def resistance_ohm(self) -> float:
        """Voltage over current; NaN without a current."""
        return self.volts / self.amps if self.amps else math.nan

    @property
    def power_mw(self) -> float:
        """Power in the device under test."""
        return self.volts * self.amps * 1e3


class SourceMeter:
    """A 2400-class source-meter on a line; the output is touched by nothing but :meth:`off` and :meth:`on`.

    Args:
        port: ``COM3``, ``/dev/ttyUSB0``, ``HOST:PORT``, ``socket://…`` or ``rfc2217://…``.
        what: the device's part, for messages.
        baud_rate: of a serial line.
        terminator: ``LF``, ``CR`` or ``CRLF``, as the device is set.

    Raises:
        ValueError: an option cannot be used.
    """

    def __init__(self, port: str, what: str, baud_rate: int, terminator: str) -> None:
        check_line(port)
        if terminator not in ENDS:
            raise ValueError(f"terminator {terminator!r} refused: choose one of {', '.join(ENDS)}.")
        if baud_rate not in BAUD_RATES:
            raise ValueError(
                f"baud_rate {baud_rate!r} refused: choose one of {', '.join(map(str, BAUD_RATES))}."
            )
        self._end = ENDS[terminator]
        self.what = f"{what} at {port}"
        self.identity: Identity | None = None
        self._tokens = itertools.cycle(range(1, 128))
        self.left_errors: list[str] = []
        """Errors that were in the queue when the present connection was made, but for the -1xx that its
        own first bytes, or the cut command before them, can have caused."""

        def connect(deadline: float) -> Transport:
            return open_line(port, deadline, baudrate=baud_rate)

        self.link = Link(
            connect,
            what=self.what,
            mend="Is the source-meter switched on, its cable plugged, its interface set to this port, "
            f"{baud_rate} baud and terminator {terminator}?",
            greet=self._greet,
            connect_s=CONNECT_S,
        )

    @property
    def known_identity(self) -> Identity:
        """What the device said when it was connected; raises InstrumentError before that."""
        if self.identity is None:
            raise InstrumentError(f"{self.what} was not identified yet.")
        return self.identity

    def talk(self, exchange: Callable[[Wire], T], doing: str, extra_s: float = 0.0) -> T:
        """Carry out an exchange; raises LinkError, InstrumentError."""
        return self.link.talk(exchange, within_s=REPLY_S + extra_s, doing=doing)

    # ------------------------------------------------------------------ within an exchange

    def write(self, wire: Wire, *commands: str) -> None:
        """Send commands, each as a line of its own."""
        wire.send(b"".join(command.encode("ascii") + self._end for command in commands))

    def ask(self, wire: Wire, query: str) -> str:
        """Send a query and give its reply without white space around it."""
        self.write(wire, query)
        reply = wire.receive_line(self._end)
        try:
            return reply.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise MalformedReply(f"{query} was answered by {reply!r}, which is no text.") from error

    def ask_number(self, wire: Wire, query: str) -> float:
        """Send a query that is answered by one number."""
        return number(self.ask(wire, query), query)

    def errors(self, wire: Wire) -> list[str]:
        """Empty the error queue; what was in it, oldest first."""
        found: list[str] = []
        for _ in range(MOST_ERRORS):
            code, text = error_entry(self.ask(wire, ":SYST:ERR?"))
            if code == 0:
                break
            found.append(f"{code} {text}")
        return found

    def read(self, wire: Wire) -> tuple[SourceReading, list[str]]:
        """Take a reading, and the first error of the queue with it."""
        reply = self.ask(wire, ":READ?;:SYST:ERR?")
        elements, semicolon, error = reply.partition(";")
        if not semicolon:
            # the device discards what follows an error in a line, and may so answer only in part
            if "," in reply and '"' in reply:
                code, text = error_entry(reply)
                raise InstrumentError(f"{self.what} refused to read: {code} {text}.")
            raise MalformedReply(f"a reading and an error were asked for; {reply!r} came.")
        code, text = error_entry(error)
        return reading(elements), [f"{code} {text}"] if code else []

    def set_up(self, wire: Wire, commands: Iterable[str]) -> None:
        """Send settings, then read the error queue; raises InstrumentError if one was refused."""
        self.write(wire, *commands)
        if refused := self.errors(wire):
            raise InstrumentError(f"{self.what} refused its settings: {'; '.join(refused)}.")

    def verify(self, wire: Wire, query: str, expected: float, tolerance: float) -> float:
        """Read a setting back; raises InstrumentError if the device took another value."""
        took = self.ask_number(wire, query)
        if not abs(took - expected) <= tolerance:
            raise InstrumentError(
                f"{self.what} answers {query} with {took:g}; {expected:g} was set. It is not used so."
            )
        return took

    def on(self, wire: Wire) -> None:
        """Switch the output on; raises InstrumentError if the device does not."""
        self.write(wire, ":OUTP 1")
        if not self.is_on(wire):
            why = "; ".join(self.errors(wire)) or "it gives no reason"
            raise InstrumentError(f"{self.what} does not switch its output on: {why}.")

    def off(self, wire: Wire) -> None:
        """Switch the output off and have it confirmed; raises InstrumentError if it is not."""
        self.write(wire, ":OUTP 0")
        if self.is_on(wire):
            raise InstrumentError(f"{self.what} was told to switch its output off and did not.")

    def is_on(self, wire: Wire) -> bool:
        """Whether the output is on."""
        reply = self.ask(wire, ":OUTP?")
        if reply not in ("0", "1"):
            raise MalformedReply(f":OUTP? was answered by {reply!r}, not by 0 or 1.")
        return reply == "1"

    # ------------------------------------------------------------------------ connection

    def _greet(self, wire: Wire) -> None:
        """End what an older connection left, and identify the device; its output stays as it is."""
        wire.send(b"\x03" + self._end)
        wire.quiet(QUIET_S)
        self._synchronise(wire)
        identity = identify(self.ask(wire, "*IDN?"))
        if not _CLASS.match(identity.model):
            self._check_dialect(wire, identity)
        if self.identity is not None and identity != self.identity:
            raise InstrumentError(
                f"{self.what} is now another device, {identity}; it was {self.identity}. "
                "Open the station again if that is meant."
            )
        if left := self.errors(wire):
            logger.warning("%s had errors in its queue: %s", self.what, "; ".join(left))
        self.left_errors = [error for error in left if not error.startswith("-1")]
        self.identity = identity

    def _synchronise(self, wire: Wire) -> None:
        """Pass over what still comes of old questions: on a serial line a late reply survives a reconnection."""
        token = str(next(self._tokens))
        self.write(wire, f"*ESE {token};*ESE?")
        for _ in range(MOST_ERRORS):
            if wire.receive_line(self._end).strip() == token.encode("ascii"):
                return
        raise MalformedReply("it does not tell the event mask that was just set.")

    def _check_dialect(self, wire: Wire, identity: Identity) -> None:
        if not _GRAPHICAL.match(identity.model):
            raise InstrumentError(
                f"{self.what} is a {identity.maker} {identity.model}: the driver needs a Keithley of the "
                "2400 class (2400 to 2440, or 2450 to 2470 in SCPI2400 mode). Check the port."
            )
        language = self.ask(wire, "*LANG?")
        if language.upper() != "SCPI2400":
            raise InstrumentError(
                f"{self.what} is a {identity.model} that speaks {language}: send it *LANG SCPI2400 once, "
                "or choose SCPI 2400 as command set in its system menu, and restart it."
            )


# ------------------------------------------------------------------------------- parsing


def identify(reply: str) -> Identity:
    """Parse ``KEITHLEY INSTRUMENTS INC.,MODEL 2400,serial,firmware``; raises MalformedReply."""
    parts = [part.strip() for part in reply.split(",")]
    if len(parts) != 4 or not all(parts[:2]):
        raise MalformedReply(
            f"*IDN? was answered by {reply!r}, not by maker, model, serial, version."
        )
    maker, model, serial, firmware = parts
    model = model.upper().removeprefix("MODEL").strip()
    if "KEITHLEY" not in maker.upper():
        raise InstrumentError(
            f"the device says it is {reply!r}: the driver needs a Keithley of the 2400 class. "
            "Check the port."
        )
    return Identity(maker, model, serial, firmware)


def number(text: str, what: str) -> float:
    """One number as the device writes it; raises MalformedReply."""
    if not _NUMBER.match(text):
        raise MalformedReply(f"{what} was answered by {text!r}, which is no number.")
    return float(text)


def reading(elements: str) -> SourceReading:
    """Parse voltage, current, time and status; overflow becomes NaN. Raises MalformedReply."""
    parts = elements.split(",")
    if len(parts) != 4:
        raise MalformedReply(f"a reading of 4 elements was asked for; {elements!r} came.")
    if len({len(part) for part in parts}) != 1:
        # all have as many digits: one that lost a byte would be another number
        raise MalformedReply(f"the elements of {elements!r} are not equally long.")
    volts, amps, time_s, status = (number(part, ":READ?") for part in parts)
    if status != int(status) or not 0 <= status < 1 << 24:
        raise MalformedReply(f"{elements!r} ends with {parts[3]!r}, which is no status word.")
    if not 0 <= time_s <= TIME_WRAPS_S + 1:
        raise MalformedReply(
            f"{elements!r} has the time {parts[2]!r}, which the device cannot have."
        )
    return SourceReading(_finite(volts), _finite(amps), time_s, int(status))


def error_entry(reply: str) -> tuple[int, str]:
    """Parse ``-113,"Undefined header"``; raises MalformedReply."""
    match = _ERROR.fullmatch(reply.strip())
    if match is None:
        raise MalformedReply(f":SYST:ERR? was answered by {reply!r}, not by number and text.")
    return int(match[1]), match[2]


def newer(time_s: float, before_s: float) -> bool:
    """Whether a time stamp is later than another, also across the device's wrap."""
    return time_s > before_s or (before_s > TIME_WRAPS_S - 3600 and time_s < 3600)


def amperes(value: float) -> str:
    """A level as it is sent."""
    return f"{value:.6E}"


def _finite(value: float) -> float:
    return value if abs(value) < OVERFLOW else math.nan
