"""The REST interface of a DECTRIS detector: one connection per request, each within a deadline.

Sources: DECTRIS, SIMPLON API 1.8.0 (public manuals of EIGER2, and dectris/documentation, ``stream_v2``):
``GET``/``PUT /<module>/api/1.8.0/<config|status|command>/<name>``; a value travels as ``{"value": …}`` with
its ``min``, ``max`` and ``allowed_values``. Nothing was tried on hardware.

A connection of its own for every request keeps a late or doubled reply from being taken for another's,
and lets ``abort`` through while ``trigger`` is still waiting for its exposures.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any

from acquire.acquisition import Cut
from acquire.errors import InstrumentError, LinkError
from drivers.links import ExchangeCut, cause, parse_address
from drivers.spectrometers import simplon_http

COMMAND_S = 3.0
"""Wall seconds for a request that exposes nothing."""
_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,40}")


def never() -> bool:
    """What is not cut."""
    return False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value of the detector, and the range that it may be in."""

    value: Any
    low: float = -math.inf
    high: float = math.inf

    def number(self, name: str) -> float:
        """The value as a finite number; raises LinkError."""
        value = self.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise LinkError(f"the detector says {name} = {value!r}, which is no number.")
        return float(value)


class Rest:
    """Requests to one detector; any thread may call.

    Args:
        address: ``HOST:PORT`` of the detector's control unit, whose port is 80.
        api: version of the interface.

    A request whose ``cut`` turns true raises ExchangeCut within 0.1 s; what the detector did is not
    known then.

    Raises:
        ValueError: the address or the version is none.
    """

    def __init__(self, address: str, api: str) -> None:
        self._where = parse_address(address)
        if not isinstance(api, str) or not _VERSION.fullmatch(api):
            raise ValueError(f"api = {api!r} refused: write a version, for example '1.8.0'.")
        self._api = api
        self._closed = False
        self.what = f"the detector at {address}"

    def get(
        self, module: str, kind: str, name: str, within_s: float = COMMAND_S, cut: Cut = never
    ) -> Parameter:
        """A parameter: ``get("detector", "config", "count_time")``; raises LinkError, InstrumentError."""
        path = f"/{module}/api/{self._api}/{kind}/{name}"
        reply = self._ask("GET", path, None, within_s, cut)
        if not isinstance(reply, dict) or "value" not in reply:
            raise self._misunderstood(name, reply)
        low, high = (reply.get(end) for end in ("min", "max"))
        return Parameter(
            reply["value"],
            -math.inf if not isinstance(low, int | float) else float(low),
            math.inf if not isinstance(high, int | float) else float(high),
        )

    def set(self, module: str, name: str, value: object, cut: Cut = never) -> None:
        """Set a parameter of the configuration; raises LinkError, InstrumentError."""
        path = f"/{module}/api/{self._api}/config/{name}"
        self._ask("PUT", path, json.dumps({"value": value}).encode(), COMMAND_S, cut)

    def command(self, module: str, name: str, within_s: float = COMMAND_S, cut: Cut = never) -> Any:
        """Carry out a command, and what it returns; raises LinkError, InstrumentError."""
        path = f"/{module}/api/{self._api}/command/{name}"
        return self._ask("PUT", path, b"", within_s, cut)

    def close(self) -> None:
        """End every request that is under way; later ones raise LinkError. Idempotent."""
        self._closed = True

    def _ask(self, method: str, path: str, body: bytes | None, within_s: float, cut: Cut) -> Any:
        deadline = time.monotonic() + within_s

        def ended() -> bool:
            return self._closed or cut()

        if self._closed:
            raise LinkError(f"the link to {self.what} was closed here; {path} was not sent.")
        try:
            reply = simplon_http.request(self._where, method, path, body, deadline, ended)
        except ExchangeCut as error:
            raise ExchangeCut(
                f"{method} {path} to {self.what} was ended from here before it was answered."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() >= deadline
            why = f"no complete answer within {within_s:g} s" if late else cause(error)
            raise LinkError(
                f"{self.what} did not answer {method} {path} ({why}); what it did is not known. "
                "See that its control unit is on, and that the address is right."
            ) from error
        if not 200 <= reply.status < 300:
            words = reply.payload[:300].decode("utf-8", "replace").strip()
            raise InstrumentError(
                f"{self.what} refused {method} {path}: {reply.status} {reply.reason}. {words}".rstrip()
            )
        if not reply.payload.strip():
            return None
        try:
            return json.loads(reply.payload)
        except (ValueError, RecursionError) as error:
            raise self._misunderstood(path, reply.payload[:60]) from error

    def _misunderstood(self, what: str, reply: object) -> LinkError:
        return LinkError(
            f"{self.what} answered {what} with something that is not understood: {str(reply)[:80]!r}. "
            "Does the address belong to a DECTRIS detector?"
        )
