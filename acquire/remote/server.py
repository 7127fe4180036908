"""The instrument server: a station's instruments behind a hardened daemon, safe whenever nobody commands them."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from acquire.bursts import Bursts
from acquire.errors import HotstageError, InstrumentError, LeaseError, LinkError
from acquire.instruments import (
    HeatingHolder,
    HolderState,
    Instrument,
    SafeState,
    Scan,
    Spectrometer,
)
from acquire.remote.acquisition import Acquisition, Batch, Newest
from acquire.remote.catalogue import OPTIONAL, kind_of, method_of, needs_control, only_reads
from acquire.remote.daemon import LOCAL, HardDaemon, WithBlobs, current_connection, current_peer
from acquire.remote.frames import pack_frames
from acquire.remote.lease import TTL_S, Lease
from acquire.remote.rings import Rings, put_frames
from acquire.remote.tls import Role, ServerTls
from acquire.remote.wire import pack, unpack_arguments
from acquire.station import OpenStation, not_safe

logger = logging.getLogger(__name__)

OBJECT_ID = "station"
METHODS = (
    "about",
    "now_s",
    "invoke",
    "frames_next",
    "frames_stop",
    "frames_latest",
    "ring_open",
    "ring_attach",
    "lease_acquire",
    "lease_beat",
    "lease_release",
    "lease_request",
    "lease_granted",
    "lease_hand_over",
    "emergency_off",
    "truth",
    "simulation_facts",
    "simulation_expected",
)
OBSERVERS = (
    "about",
    "now_s",
    "invoke",
    "frames_latest",
    "truth",
    "simulation_facts",
    "simulation_expected",
)
"""What who may only look is served; ``invoke`` looks closer by itself."""
NAME_LENGTH = 80
SAFE_WAIT_S = 1.0
"""An instrument that hangs while it is made safe is not waited for longer than this."""


class InstrumentServer:
    """Serves an open station; whoever wants to command it must hold the lease.

    Whenever the lease ends, in whatever way, exposures stop and every instrument is made safe.

    Args:
        station: open in this process, on a clock that follows the wall.
        listen: ``HOST:PORT`` on this machine, or ``tls://HOST:PORT``; default as the station says.
        ttl_s: wall seconds without a sign of life after which control lapses.
        tls: who the server is and whom it lets in, for an address of TLS.

    Raises:
        HotstageError: a virtual clock, or no such port.
    """

    def __init__(
        self,
        station: OpenStation,
        listen: str | None = None,
        *,
        ttl_s: float = TTL_S,
        tls: ServerTls | None = None,
    ) -> None:
        if not np.isfinite(station.clock.rate):
            raise HotstageError("an instrument server needs a clock that follows the wall.")
        self._station = station
        self._instruments = station.instruments
        self._acquisitions: dict[str, Acquisition] = {}
        self._numbers = itertools.count(1)
        self._newest = {role: Newest() for role in ("scan", "spectrometer")}
        self._arming = {role: threading.Lock() for role in self._newest}
        self._rings = Rings()
        self._commanding = threading.Condition()
        self._under_way = 0
        """Commands that have begun and not ended; control changes hands between them."""
        self.danger: dict[str, str] = {}
        """Why an instrument is not known to be safe, by role; told when all was made safe at the end."""
        self._lease = Lease(self._lapsed, ttl_s)
        try:
            self._daemon = HardDaemon(
                listen or station.station.file.server.listen,
                name="instruments",
                on_disconnect=self._disconnected,
                tls=tls,
            )
        except HotstageError:
            self._lease.close()
            raise
        self._daemon.register(OBJECT_ID, self, METHODS, OBSERVERS)

    @property
    def address(self) -> str:
        """``HOST:PORT`` where it listens."""
        return self._daemon.address

    @property
    def clients(self) -> int:
        """Connections of clients now."""
        return self._daemon.clients

    def start(self) -> None:
        """Begin to serve."""
        self._daemon.start()

    def settled(self) -> bool:
        """Whether the holder is not on its way to its safe state any more, as far as it tells."""
        states: queue.SimpleQueue[HolderState | None] = queue.SimpleQueue()

        def look() -> None:
            try:
                states.put(self._station.holder.read().state)
            except Exception as error:  # noqa: BLE001  it cannot be known, whatever the driver raises
                logger.debug("the holder cannot be read: %s", error)
                states.put(None)

        # a holder that hangs must not keep an abandoned server from ending
        threading.Thread(target=look, name="settled", daemon=True).start()
        try:
            return states.get(timeout=SAFE_WAIT_S) is not HolderState.MAKING_SAFE
        except queue.Empty:
            return True

    def abandon(self, reason: str) -> None:
        """Take control away from whoever has it, and make everything safe."""
        self._lease.revoke(reason)
        self._make_all_safe(reason)

    def close(self) -> None:
        """Make everything safe, then end all connections; idempotent."""
        reason = "the instrument server is being closed"
        self._lease.close()
        self._make_all_safe(reason, at_once=True)
        self.danger = not_safe(self._instruments, SAFE_WAIT_S)
        self._daemon.close()

    # ------------------------------------------------------------- served: what is there

    def about(self) -> dict[str, Any]:
        """Everything a client needs to know before it makes its proxies."""
        return {
            "station": self._station.station.text,
            "source": self._station.station.source,
            "clock_rate": self._station.clock.rate,
            "epoch_unix_s": self._station.clock.epoch_unix_s,
            "roles": sorted(self._instruments),
            "bursts": isinstance(self._station.spectrometer, Bursts),
            "commander": self._lease.commander,
            "asked_by": self._lease.asked_by,
            "tells_truth": self._station.simulation is not None,
            "ttl_s": self._lease.ttl_s,
            "pid": os.getpid(),
        }

    def now_s(self) -> float:
        """The station clock's present time in s."""
        return self._station.clock.now_s()

    def truth(self, stream: str, index: int) -> Any:
        """What really was in one simulated frame."""
        return pack(self._simulation().truth(stream, index))

    def simulation_facts(self) -> Any:
        """Simulator, specimen, seed."""
        return pack(self._simulation().describe())

    def simulation_expected(self) -> Any:
        """What a perfect measurement would say now."""
        return pack(self._simulation().expected())

    def _simulation(self) -> Any:
        if self._station.simulation is None:
            raise InstrumentError("this station is not simulated: nobody knows the truth.")
        return self._station.simulation

    # ---------------------------------------------------------------- served: instruments

    def invoke(self, role: str, method: str, arguments: list[Any], token: str) -> Any:
        """Call one method of the instrument in a role; the catalogue says which need control."""
        instrument = self._instruments.get(role)
        if instrument is None:
            raise LinkError(
                f"this station has no {role!r}; it has {', '.join(sorted(self._instruments))}."
            )
        kind = kind_of(role)
        values = unpack_arguments(method_of(kind, method), arguments)
        if current_peer().role is not Role.OPERATOR and not only_reads(kind, method):
            raise LeaseError(
                f"{role}.{method} refused: {current_peer().name} may look, not command. "
                "An operator's certificate is needed."
            )
        if not needs_control(kind, method, values):
            return self._do(role, instrument, method, values)
        with self._commanding:
            self._lease.require(token)
            self._under_way += 1
        try:
            try:
                result = self._do(role, instrument, method, values)
            finally:  # one that failed may have done half of it
                self._refuse_if_lost(token, role, f"{role}.{method}")
        finally:
            with self._commanding:
                self._under_way -= 1
                self._commanding.notify_all()
        return result

    def _do(self, role: str, instrument: Instrument, method: str, values: list[Any]) -> Any:
        if method in OPTIONAL and not isinstance(instrument, OPTIONAL[method]):
            return None
        call: Callable[..., Any] = getattr(instrument, method)
        if method == "disarm":
            with self._arming[role]:
                self._stop_acquisition(role)
                return call()
        if method != "arm" or not isinstance(instrument, Scan | Spectrometer):
            return call(*values)
        with self._arming[role]:
            spec = call(*values)
            # one that ended without disarm (made safe by anybody) may still wait with its frames
            self._stop_acquisition(role)
            acquisition = Acquisition(
                next(self._numbers), instrument, self._station.clock, self._newest[role]
            )
            self._acquisitions[role] = acquisition
        return {"number": acquisition.number, "spec": pack(spec)}

    def _refuse_if_lost(self, token: str, role: str, what: str) -> None:
        """A command that was under way while control ended is undone by making safe once more."""
        try:
            self._lease.require(token)
        except LeaseError as error:
            self._make_one_safe(role, f"control ended during {what}")
            raise LeaseError(f"{what} was undone by making safe: {error}") from error

    # --------------------------------------------------------------------- served: frames

    def frames_next(
        self,
        role: str,
        number: int,
        received: int,
        wait_s: float,
        token: str,
        onward: bool = False,
        copied: int = -1,
        blocks: bool = False,
    ) -> WithBlobs:
        """Frames of acquisition ``number`` after frame ``received`` of it, every one, in order.

        With ``onward`` those that follow what was given out last, so that a client can ask before
        the answer to its last question has come. A client with a ring says up to which number it
        has copied what was put there; its frames are then in the ring, as far as there is room.
        With ``blocks`` every frame is a packed block of spectra.
        """
        self._lease.require(token)
        acquisition = self._acquisitions.get(role)
        if acquisition is None or acquisition.number != number:
            self._lease.require(token)
            return WithBlobs({"first": received + 1, "frames": [], "ended": True}, [])
        ring = self._rings.of(current_connection(), copied)
        if ring is None:
            batch = acquisition.next(received, wait_s, onward=onward, blocks=blocks)
            self._say_why(batch, token)
            heads, blobs = pack_frames(batch.frames)
            reply = {"first": batch.first, "frames": heads, "ended": batch.ended}
            return WithBlobs(reply, blobs, plain=True)
        batch = acquisition.next(
            received,
            wait_s,
            onward=onward,
            blocks=blocks,
            # half of it now, while the other half is copied out
            most=max(1, min(ring.free, ring.slots // 2)),
            most_bytes=ring.slots * ring.slot_bytes,
        )
        self._say_why(batch, token)
        heads, places, blobs = put_frames(ring, batch.frames)
        reply = {"first": batch.first, "frames": heads, "places": places, "ended": batch.ended}
        return WithBlobs(reply, blobs, plain=True)

    def _say_why(self, batch: Batch, token: str) -> None:
        """Raise LeaseError if the exposure was ended because control ended while its frames were asked for.

        Control goes first, and what was not taken by then is forgotten: such an end brings no frames.
        """
        if batch.ended and not batch.frames:
            self._lease.require(token)

    def frames_stop(self, role: str, number: int, token: str) -> None:
        """End the exposures of acquisition ``number``; the instrument stays armed until disarmed."""
        self._lease.require(token)
        acquisition = self._acquisitions.get(role)
        if acquisition is not None and acquisition.number == number:
            acquisition.stop()

    def frames_latest(self, role: str, after: int, wait_s: float) -> WithBlobs:
        """The newest frame if its serial number is above ``after``, for observers."""
        newest = self._newest.get(role)
        if newest is None:
            raise LinkError(f"{role!r} takes no frames.")
        serial, frame = newest.after(after, wait_s)
        heads, blobs = pack_frames([] if frame is None else [frame])
        return WithBlobs({"serial": serial, "frames": heads}, blobs, plain=True)

    def ring_open(self, slots: int, slot_bytes: int) -> str:
        """Make memory to share with this client, and say where; it is used when the client sees it."""
        return self._rings.open(current_connection(), slots, slot_bytes)

    def ring_attach(self, proof: bytes) -> bool:
        """Whether the client has proved that it sees the memory that it asked for."""
        return self._rings.attach(current_connection(), proof)

    def _disconnected(self, connection: int) -> None:
        self._rings.close(connection)
        self._lease.disconnected(connection)

    def _stop_acquisition(self, role: str) -> None:
        acquisition = self._acquisitions.pop(role, None)
        if acquisition is not None:
            acquisition.stop()

    # -------------------------------------------------------------------- served: control

    def lease_acquire(self, commander: str) -> dict[str, Any]:
        """Take control; the connection of this call keeps it alive.

        The safe state is off at once until this commander arms another: what the last one armed
        (a cooling of hours) is not what this one knows of.
        """
        token = self._lease.acquire(_full_name(commander), current_connection())
        self._forget_safe_state()
        return {"token": token, "ttl_s": self._lease.ttl_s}

    def lease_request(self, commander: str) -> dict[str, Any]:
        """Ask who has control to hand it over; the connection of this call keeps the wish alive."""
        token = self._lease.request(_full_name(commander), current_connection())
        return {"token": token, "ttl_s": self._lease.ttl_s}

    def lease_granted(self, token: str) -> bool:
        """Whether control that was asked for was handed over."""
        return self._lease.granted(token)

    def lease_hand_over(self, token: str, to: str = "") -> str:
        """Give control to who asked for it; nothing is made safe, and the safe state is off at once.

        A command that is under way is waited for: else it would end under another commander. With a
        name, only to who is called so: somebody else may have asked since.
        """
        with self._commanding:
            if not self._commanding.wait_for(lambda: not self._under_way, SAFE_WAIT_S):
                raise LeaseError("control is not handed over: a command is under way. Try again.")
            heir = self._lease.hand_over(token, to)
            # before the heir can arm another
            self._forget_safe_state()
        return heir

    def _forget_safe_state(self) -> None:
        try:
            self._station.holder.arm_safe_state(SafeState())
        except Exception:
            logger.exception("the safe state of the last commander stays armed")

    def lease_beat(self, token: str) -> str:
        """A sign of life of the commander; tells who asks for control."""
        return self._lease.beat(token, current_connection())

    def lease_release(self, token: str) -> None:
        """Give control back; everything is made safe."""
        self._lease.release(token)

    def emergency_off(self, reason: str) -> None:
        """Heater off at once, beam blanked, exposures ended, control taken away; for everyone."""
        text = f"emergency off ({_plain(reason)})"
        logger.warning("%s", text)
        # control goes first: else the commander could heat again, or meet the end of its exposures
        # before it can be told why
        if not self._lease.revoke(text, emergency=True):
            self._make_all_safe(text, at_once=True)

    # -------------------------------------------------------------------------- make safe

    def _lapsed(self, reason: str) -> None:
        """What the lease calls when control has ended."""
        self._make_all_safe(reason, at_once=self._lease.ended_by_emergency)

    def _make_all_safe(self, reason: str, *, at_once: bool = False) -> None:
        """Make every instrument safe and wait for it, but not for long.

        Args:
            reason: for the log and the instruments.
            at_once: the heater is switched off, whatever safe state was armed.
        """
        by = time.monotonic() + SAFE_WAIT_S
        self._await_safe(self._begin_all_safe(reason, at_once=at_once), by)

    def _begin_all_safe(self, reason: str, *, at_once: bool) -> dict[str, threading.Event]:
        """Every instrument in a thread of its own, so that one that hangs cannot hold up the others."""
        done = {role: threading.Event() for role in self._instruments}
        for role, safe in done.items():
            threading.Thread(
                target=self._make_one_safe,
                args=(role, reason, at_once, safe),
                name=f"safe-{role}",
                daemon=True,
            ).start()
        return done

    def _await_safe(self, done: dict[str, threading.Event], by: float) -> None:
        for role, safe in done.items():
            if not safe.wait(max(0.0, by - time.monotonic())):
                logger.error("%s is not known to be safe after %g s", role, SAFE_WAIT_S)

    def _make_one_safe(
        self, role: str, reason: str, at_once: bool = False, safe: threading.Event | None = None
    ) -> None:
        instrument = self._instruments[role]
        left_behind = self._acquisitions.get(role)
        try:
            if at_once and isinstance(instrument, HeatingHolder):
                self._forget_safe_state()
            instrument.make_safe(reason)
        except Exception:
            logger.exception("%s could not be made safe", role)
        finally:
            if safe is not None:
                safe.set()
        self._clear(role, left_behind)

    def _clear(self, role: str, left_behind: Acquisition | None) -> None:
        """End what the last commander armed, so that the next one can arm; never what that one did."""
        instrument = self._instruments[role]
        if not isinstance(instrument, Scan | Spectrometer):
            return
        with self._arming[role]:
            if left_behind is None or self._acquisitions.get(role) is not left_behind:
                return
            self._stop_acquisition(role)
            try:
                instrument.disarm()
            except HotstageError:
                logger.exception("%s could not be disarmed", role)


def _full_name(commander: str) -> str:
    """What a commander calls itself, and the name on its certificate if it showed one."""
    who, name = current_peer(), _plain(commander)
    return name if who is LOCAL else f"{name} ({who.name})"


def _plain(text: str) -> str:
    """What a client says of itself, fit for one line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:NAME_LENGTH])
