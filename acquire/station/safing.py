"""Makes a station's hardware safe over connections of its own, when its server is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from acquire.errors import HotstageError, InstrumentError
from acquire.instruments import HeatingHolder, HolderState, Instrument, SafeState, Scan
from acquire.station.file import SIMULATED

if TYPE_CHECKING:
    from acquire.station.station import Station

logger = logging.getLogger(__name__)

SAFE = (HolderState.OFF, HolderState.TRIPPED)
_LOOK_S = 0.02


def make_safe_anew(
    station: Station, addresses: Mapping[str, str], reason: str, within_s: float
) -> None:
    """Open every driver anew and make its device safe, all at the same time; the heater goes off at once.

    Args:
        station: on wires of its own, not in this process.
        addresses: where the far ends of its wires listen, if it has any.
        reason: for the log and the instruments.
        within_s: wall seconds for all.

    Raises:
        InstrumentError: which of them are not known to be safe by then, and why.
    """
    by = time.monotonic() + within_s
    failed: dict[str, str] = {}
    opener = station.opener(station.make_clock(), addresses)

    def one(role: str) -> None:
        try:
            instrument = opener.open(role)
            try:
                _make_one_safe(instrument, reason, by)
            finally:
                close = getattr(instrument, "close", None)
                if callable(close):
                    close()
        except HotstageError as error:
            failed[role] = str(error)
        except Exception as error:
            logger.exception("%s could not be made safe", role)
            failed[role] = repr(error)
        else:
            failed.pop(role, None)

    # what was simulated in the server has ended with it
    roles = [role for role, one in station.settings.items() if one.driver != SIMULATED]
    failed.update(dict.fromkeys(roles, f"nothing was heard of it within {within_s:g} s"))
    threads = [
        threading.Thread(target=one, args=(role,), name=f"safe-{role}", daemon=True)
        for role in roles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, by - time.monotonic()))
    opener.close()
    left = dict(failed)  # one that comes too late may still change it
    # channels measure; what cannot be heard of one heats nothing
    dangerous = {role: why for role, why in left.items() if role in ("holder", "scan")}
    for role, why in left.items():
        logger.warning("%s: %s", role, why)
    if dangerous:
        words = "; ".join(f"{role}: {why}" for role, why in dangerous.items())
        raise InstrumentError(f"not known to be safe: {words}")


def _make_one_safe(instrument: Instrument, reason: str, by: float) -> None:
    if isinstance(instrument, HeatingHolder):
        try:
            instrument.arm_safe_state(SafeState())
        except HotstageError as error:
            logger.warning("the heater may cool before it is off: %s", error)
    instrument.make_safe(reason)
    # make_safe returns at once; who lets go before it is known would end what is still under way
    while problem := _danger(instrument):
        if time.monotonic() > by:
            raise InstrumentError(problem)
        time.sleep(_LOOK_S)


def not_safe(instruments: Mapping[str, Instrument], within_s: float) -> dict[str, str]:
    """Why holder and beam are not known to be safe within so many wall seconds after they were told to be.

    Empty if both are. Bounded in time, also if an instrument hangs.
    """
    by = time.monotonic() + within_s
    left = {
        role: f"nothing was heard of it within {within_s:g} s"
        for role, one in instruments.items()
        if isinstance(one, HeatingHolder | Scan)
    }

    def look(role: str) -> None:
        while problem := _danger(instruments[role]):
            left[role] = problem
            if time.monotonic() > by:
                return
            time.sleep(_LOOK_S)
        del left[role]

    threads = [
        threading.Thread(target=look, args=(role,), name=f"look-{role}", daemon=True)
        for role in list(left)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, by + 2 * _LOOK_S - time.monotonic()))
    return dict(left)


def _danger(instrument: Instrument) -> str:
    """Why an instrument is not known to be safe; empty if it is."""
    try:
        if isinstance(instrument, HeatingHolder):
            state = instrument.read().state
            return "" if state in SAFE else f"the holder is not off: its state is {state.value}"
        if isinstance(instrument, Scan):
            return "" if instrument.blanked() else "the beam is not blanked"
    except Exception as error:  # noqa: BLE001  it cannot be known, whatever the driver raises
        return str(error) or repr(error)
    return ""
