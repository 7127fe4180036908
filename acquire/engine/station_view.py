"""What an engine host tells of its station: instruments with their links, and what is on by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from acquire.instruments import Limit

NAN = float("nan")
LIVE_VIEW = "live view"
"""Stream of images that are taken by hand, and stored nowhere."""


class LinkState(StrEnum):
    """How an instrument, or the server of all, stands."""

    CONNECTED = "connected"
    LOST = "lost"
    """It does not answer: what it does now is not known."""
    MAKING_SAFE = "making safe"
    FAULT = "fault"
    UNKNOWN = "unknown"
    """It was not asked yet."""


@dataclass(frozen=True, slots=True)
class ReadingView:
    """One live value of an instrument: a number with its unit, or a word."""

    name: str
    value: float = NAN
    unit: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class InstrumentView:
    """One instrument of the station, as it was when it last answered."""

    role: str
    kind: str
    """``holder``, ``scan``, ``spectrometer``, ``channel`` or ``server``."""
    link: LinkState = LinkState.UNKNOWN
    trouble: str = ""
    """What is wrong; empty if nothing is."""
    mend: str = ""
    """What a person can do about it."""
    age_s: float = float("inf")
    """Wall seconds since it answered last."""
    model: str = ""
    driver: str = ""
    serial: str = ""
    simulated: bool = False
    limits: tuple[Limit, ...] = ()
    detectors: tuple[str, ...] = ()
    facts: Mapping[str, str | float] = field(default_factory=dict)
    readings: tuple[ReadingView, ...] = ()


@dataclass(frozen=True, slots=True)
class ManualView:
    """What is on by hand."""

    of: str = ""
    """Who has the instruments in hand; empty if nobody."""
    heat: str = ""
    """What the heater was told, in words; empty if nothing."""
    beam_left_s: float = NAN
    """Wall seconds until a beam that was un-blanked by hand is blanked; NaN if it was not."""
    view_left_s: float = NAN
    """Wall seconds until a live view ends by itself; NaN if there is none."""
    view_frames: int = 0
    """Images of the present or last live view."""
    sharpness: float = NAN
    """Of its newest image, see :func:`acquire.engine.sharpness.sharpness`."""
    dose_e_per_nm2: float = 0.0
    """What the worst place got by hand since the last run began; the next one begins with it."""
    trouble: str = ""
    """Why something ended that was on by hand; empty if it was ended by a command."""

    @property
    def words(self) -> str:
        """All of it in a few words; empty if nothing is on."""
        parts = [self.heat]
        if self.view_left_s == self.view_left_s:
            parts.append("live view")
        if self.beam_left_s == self.beam_left_s:
            parts.append("beam on")
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class StationView:
    """The station that a host has open."""

    name: str = ""
    description: str = ""
    source: str = ""
    """The station file."""
    instruments: tuple[InstrumentView, ...] = ()
    """The server first, if there is one, then the holder."""
    manual: ManualView = ManualView()
    driven_by: str = ""
    """Which window or script has control of the host; empty if none has."""


@dataclass(frozen=True, slots=True)
class ContinuationView:
    """What going on with a run that was cut off would do."""

    run: str
    """Folder of the whole run."""
    ended: str
    """How it ended, in words."""
    done: tuple[str, ...] = ()
    """Steps that are not repeated."""
    remaining: tuple[str, ...] = ()
    """Steps that are to be done, the first of which may be the rest of one."""
    hottest_celsius: float = NAN
    """The highest temperature that the steps name; NaN if they name none."""
