"""Makes a station's hardware safe over connections of its own, when its server is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from acquire.errors import HotstageError, InstrumentError
from acquire.instruments import HeatingHolder, HolderState, Instrument, SafeState

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
            failed.pop(role)

    roles = station.roles
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
    # channels measure; what cannot be heard of one heats nothing
    dangerous = {role: why for role, why in failed.items() if role in ("holder", "scan")}
    for role, why in failed.items():
        logger.warning("%s: %s", role, why)
    if dangerous:
        words = "; ".join(f"{role}: {why}" for role, why in dangerous.items())
        raise InstrumentError(f"not known to be safe: {words}")


def _make_one_safe(instrument: Instrument, reason: str, by: float) -> None:
    if not isinstance(instrument, HeatingHolder):
        instrument.make_safe(reason)
        return
    instrument.arm_safe_state(SafeState())
    instrument.make_safe(reason)
    while True:
        try:
            state = instrument.read().state
            if state in SAFE:
                return
            words = f"its state is {state.value}"
        except HotstageError as error:
            words = str(error)
        if time.monotonic() > by:
            raise InstrumentError(f"the holder is not off: {words}")
        time.sleep(_LOOK_S)
