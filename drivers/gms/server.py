"""Serves the camera, the energy filter and DigiScan of Gatan's Microscopy Suite over Pyro5, from its own Python.

A script of its own: it needs Python 3.7 or newer as GMS embeds it, numpy, Pyro5 and msgpack, and nothing of
hotstage. Copy it to the Gatan computer, open it in GMS, tick "execute on background thread", run it; or
run it with ``--port``. It listens on this computer only: whoever works elsewhere runs ``hotstage serve`` here.

What it serves (object ``hotstage.gms``, methods only, msgpack only): :class:`Service`. One owner at a time
commands, by a lease that lapses when nothing is heard of him. What takes time is a job: it is begun, waited
for in short calls, and can be aborted; its parts are short, and every one is limited. All calls of
DigitalMicrograph are made by the thread that runs the script.

DigitalMicrograph's calls and their sources: ``GetActiveCamera``, ``PrepareForAcquire``,
``CreateImageForAcquire``, ``AcquireInPlace``, ``DS_CreateParameters``, ``DS_SetParametersSignal``,
``DS_StartAcquisition``, ``DS_DeleteParameters``, ``ExecuteScriptString`` with ``IFSetEnergyLoss`` and
``IFWaitForFilter`` (pycroscopy/pyAutoMic, MIT, public); values of scripts through ``GetPersistentTagGroup`` (many
public scripts); ``IFGetEnergyLoss``, ``IFCSetActiveDispersions``, ``IFCGetActiveDispersion``, ``IFGetSlitIn``,
``IFSetSlitIn``, ``IFIsInEELSMode``, ``DoesFunctionExist``, ``DSSetScanControl``,
``DSSetBeamDSPosition``, ``DSIsAcquisitionActive``, ``DSStopAcquisition`` (public DM scripts). Unverified: that other
threads of this Python run while one of these calls lasts (if not, others only wait longer), and the
arguments of ``DS_CreateParameters``, of which public programs give five, six or seven.

GMS's own DualEELS mode is driven by its window; no call for it was found in public. A dual spectrum here is
two exposures in one job, each at its own energy loss, with the filter waited for in between, and the
time of each is told. After every exposure the filter must still be where it was, and at the end of a job at
its dispersion and without a slit: else somebody has moved it, and the job fails. Nothing was tried on hardware.
"""

from __future__ import annotations

import argparse
import math
import queue
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import DigitalMicrograph as DM  # type: ignore[import-not-found]  # noqa: N817
import numpy as np
import Pyro5.api
from Pyro5 import config, errors, protocol, serializers

OBJECT = "hotstage.gms"
PROTOCOL = 2
PORT = 9191
LOOPBACK = ("127.0.0.1", "localhost")
LEASE_S = 10.0
"""A lease lapses when its owner calls nothing for so long."""
LONGEST_WAIT_S = 1.0
LONGEST_PIECE_S = 1.0
"""Longer exposures are summed from pieces, so that they can be ended in between."""
LONGEST_EXPOSURE_S = 1000.0
LONGEST_FRAME_S = 3600.0
MOST_POINTS = 2048
MOST_BYTES = 256 << 20
"""Of the results of one job."""
CHUNK_BYTES = 1 << 20
MOST_REQUEST_BYTES = 64 << 10
MOST_ENERGY_EV = 1e5
TOLERANCE_EV = 0.5
"""A filter that comes no nearer to an energy loss does not obey."""
SAME_EV = 1e-3
"""Energies have the digits of a 32-bit float."""
BEGIN_S = 0.5
"""DigiScan may say for so long that it is not active yet."""
UNTOUCHED = 0xFFFFFFFF
"""Value of pixels that DigiScan has not written."""
_TAG = "hotstage:value"

if TYPE_CHECKING:  # Python 3.7 knows these words only where nothing evaluates them
    from collections.abc import Callable, Sequence

    Array = Any
    Area = tuple[int, int, int, int]
    Ended = Callable[[], bool]


class Refused(Exception):
    """What a client is told; ``kinds`` names the class of error that it is on the other side."""

    def __init__(self, words: str, kind: str = "InstrumentError") -> None:
        super().__init__(words)
        self.kinds = [kind]


# ------------------------------------------------------------------ numbers that came over the wire


def number(name: str, value: Any, low: float, high: float) -> float:
    """A finite number within limits; raises Refused."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Refused(f"{name} = {value!r} refused: a number is needed.")
    if not low <= value <= high:
        raise Refused(f"{name} = {value!r} refused: {low:g} to {high:g} is allowed.", "LimitError")
    return float(value)


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within limits; raises Refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"{name} = {value!r} refused: a whole number is needed.")
    return int(number(name, value, low, high))


def settings_of(given: Any, known: Sequence[str]) -> dict[str, Any]:
    """A map with exactly these keys; raises Refused."""
    if not isinstance(given, dict) or set(given) != set(known):
        raise Refused("settings {} are needed, and no others.".format(", ".join(sorted(known))))
    return given


def items(name: str, given: Any, most: int) -> Sequence[Any]:
    """A list that is neither empty nor too long; raises Refused."""
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= most:
        raise Refused(f"{name}: a list of 1 to {most} is needed.")
    return given


# ----------------------------------------------------------------------------- DigitalMicrograph


def script(text: str) -> None:
    """Carry out DM script."""
    DM.ExecuteScriptString(text)


def script_value(expression: str) -> float:
    """The number that an expression of DM script has, through a persistent tag."""
    script(
        f"number value = {expression}\nTagGroup tags = GetPersistentTagGroup()\n"
        f'TagGroupSetTagAsFloat(tags, "{_TAG}", value)\n'
    )
    found, value = DM.GetPersistentTagGroup().GetTagAsFloat(_TAG)
    if not found:
        raise Refused(f"DigitalMicrograph did not tell {expression}.")
    return float(value)


class Microscope:
    """Camera, filter and DigiScan; only for the thread that runs the script."""

    def __init__(self) -> None:
        self._image: Any = None
        self._area: Any = None
        self._known: dict[str, bool] = {}

    def energy_loss(self) -> float:
        """Energy loss that is set, in eV."""
        return script_value("IFGetEnergyLoss(0)")

    def go_to(self, energy_ev: float) -> float:
        """Set an energy loss, wait for the filter, and return what it took."""
        script(f"IFSetEnergyLoss({energy_ev:.9g})\nIFWaitForFilter()\n")
        return self.energy_loss()

    def dispersion(self) -> int:
        """Number of the dispersion that is set."""
        return round(script_value("IFCGetActiveDispersion()"))

    def disperse(self, index: int) -> int:
        """Set a dispersion by its number, wait for the filter, and return what it took."""
        script(f"IFCSetActiveDispersions({index})\nIFWaitForFilter()\n")
        return self.dispersion()

    def slit_in(self) -> bool:
        """Whether the energy slit is in; False where there is none."""
        return self._has("IFGetSlitIn") and script_value("IFGetSlitIn()") != 0

    def expect_spectroscopy(self) -> None:
        """Raise Refused if the filter makes images."""
        if self._has("IFIsInEELSMode") and not script_value("IFIsInEELSMode()"):
            raise Refused(
                "the filter is not in its spectroscopy mode. Look that nobody else uses it, and switch it to "
                "EELS in DigitalMicrograph."
            )

    def _has(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = script_value(f'DoesFunctionExist("{name}")') != 0
        return self._known[name]

    def take_slit_out(self) -> None:
        """Take the energy slit out, if it is in; raises Refused if it stays."""
        if self.slit_in():
            script("IFSetSlitIn(0)\nIFWaitForFilter()\n")
            if self.slit_in():
                raise Refused("the filter's energy slit does not go out.")

    def expose(
        self, exposure_s: float, processing: int, area: Area, full_counts: float
    ) -> tuple[Array, int]:
        """Counts of the channels, summed over the rows of an area (top, left, bottom, right).

        Also how many pixels have ``full_counts`` or more.
        """
        camera = DM.GetActiveCamera()
        if self._image is None or self._area != (processing, area):
            camera.PrepareForAcquire()
            self._image = camera.CreateImageForAcquire(1, 1, processing, *area)
            self._area = (processing, area)
        camera.AcquireInPlace(self._image, exposure_s, 1, 1, processing, *area)
        counts = np.asarray(self._image.GetNumArray())
        top, left, bottom, right = area
        if counts.shape != (bottom - top, right - left):
            raise Refused(f"the camera gave {counts.shape} pixels for an area of {area}.")
        full = int(np.count_nonzero(counts >= full_counts))
        return counts.sum(axis=0, dtype=np.float64), full

    def move_beam(self, x: float, y: float) -> None:
        """Put the beam on a point of DigiScan's own coordinates, and hold it there."""
        script(f"DSSetScanControl(1)\nDSSetBeamDSPosition({x:.9g}, {y:.9g})\n")

    def scan(
        self,
        signals: Sequence[int],
        shape: tuple[int, int],
        pixel_us: float,
        rotation_deg: float,
        limit_s: float,
        ended: Ended,
    ) -> dict[int, Array] | None:
        """Images of signals, by their number; None if it was ended; raises Refused for no whole frame."""
        rows, columns = shape
        parameters = DM.DS_CreateParameters(columns, rows, rotation_deg, pixel_us, False)
        images = {}
        try:
            for signal in signals:
                images[signal] = DM.CreateImage(np.full(shape, UNTOUCHED, np.uint32))
                DM.DS_SetParametersSignal(parameters, signal, 4, True, images[signal].GetID())
            DM.DS_StartAcquisition(parameters, False, False)
            start, active, begun = time.monotonic(), True, False
            while active or not begun:
                active = script_value("DSIsAcquisitionActive()") != 0
                # a short one is over before anybody looks
                begun = begun or active or time.monotonic() > start + BEGIN_S
                late = time.monotonic() > start + limit_s
                if ended() or (active and late):
                    script(f"DSStopAcquisition({parameters})\n")
                    if late:
                        raise Refused(f"DigiScan does not end its frame within {limit_s:g} s.")
                    return None
                time.sleep(0.02)
            found = {signal: np.array(image.GetNumArray()) for signal, image in images.items()}
            if any((pixels == UNTOUCHED).any() for pixels in found.values()):
                raise Refused("DigiScan gave no whole frame.")
            return found
        finally:
            DM.DS_DeleteParameters(parameters)


# ------------------------------------------------------------------------------------------ jobs


class Settings:
    """What a job is asked for, checked when it is made."""

    def run(self, job: Job, microscope: Microscope, ended: Ended) -> bool:
        """Carry it out in the thread of the script; True unless it was ended."""
        raise NotImplementedError


class Job:
    """Something that takes time, and what it has given so far."""

    def __init__(self, kind: str, settings: Settings, owner: str) -> None:
        self.id = uuid.uuid4().hex
        self.kind = kind
        self.settings = settings
        self.owner = owner
        self.state = "running"
        self.words = ""
        self.error = "InstrumentError"
        self.parts: list[dict[str, Any]] = []
        self.arrays: dict[str, Array] = {}
        self.abort = threading.Event()
        self.done = threading.Event()


def exposures_of(given: Any) -> list[tuple[str, float, float]]:
    """Checked exposures of one spectrum: name, energy loss, time."""
    found: list[tuple[str, float, float]] = []
    for item in items("exposures", given, 2):
        item = settings_of(item, ("name", "energy_loss_ev", "exposure_s"))
        if item["name"] not in ("core_loss", "low_loss") or item["name"] in [f[0] for f in found]:
            raise Refused("exposures are core_loss and low_loss, each once.")
        energy = number("energy_loss_ev", item["energy_loss_ev"], -MOST_ENERGY_EV, MOST_ENERGY_EV)
        exposure = number("exposure_s", item["exposure_s"], 1e-6, LONGEST_EXPOSURE_S)
        found.append((item["name"], energy, exposure))
    return found


def area_of(given: Any) -> Area:
    """Checked area of a camera: top, left, bottom, right."""
    if not isinstance(given, (list, tuple)) or len(given) != 4:
        raise Refused("area: top, left, bottom and right are needed.")
    top, left, bottom, right = (whole("area", edge, 0, 1 << 14) for edge in given)
    if not (top < bottom and left < right):
        raise Refused(f"area = {list(given)!r} refused: it is empty.", "LimitError")
    return top, left, bottom, right


class Spectra(Settings):
    """A dual or single spectrum at every one of some points, or once where the beam is."""

    KEYS = ("exposures", "dispersion", "processing", "area", "points", "full_counts")

    def __init__(self, given: Any) -> None:
        given = settings_of(given, self.KEYS)
        self.exposures = exposures_of(given["exposures"])
        self.dispersion = whole("dispersion", given["dispersion"], 0, 99)
        self.processing = whole("processing", given["processing"], 1, 3)
        self.area = area_of(given["area"])
        self.full_counts = None
        if given["full_counts"] is not None:
            self.full_counts = number("full_counts", given["full_counts"], 1, 1e9)
        self.points = None
        if given["points"] is not None:
            self.points = []
            for point in items("points", given["points"], MOST_POINTS):
                if not isinstance(point, (list, tuple)) or len(point) != 2:
                    raise Refused("points: pairs of DigiScan coordinates are needed.")
                self.points.append(tuple(number("points", c, -32768, 32768) for c in point))
        channels = self.area[3] - self.area[1]
        number(
            "points", 8 * channels * len(self.points or [0]) * len(self.exposures), 0, MOST_BYTES
        )

    def run(self, job: Job, microscope: Microscope, ended: Ended) -> bool:
        """Carry it out; True unless it was ended."""
        self._expect_filter(microscope)
        channels = self.area[3] - self.area[1]
        points: Sequence[Any] = self.points or [None]
        for name, _, _ in self.exposures:
            job.arrays[name] = np.zeros((len(points), channels))
        present = microscope.energy_loss()
        for index, point in enumerate(points):
            if point is not None:
                microscope.move_beam(*point)
            for name, energy, exposure in self.exposures:
                if abs(present - energy) > SAME_EV:
                    present = microscope.go_to(energy)
                if abs(present - energy) > TOLERANCE_EV:
                    raise Refused(f"the filter is at {present:g} eV instead of {energy:g} eV.")
                start = time.monotonic()
                full = self._expose(job.arrays[name][index], exposure, microscope, ended)
                if full is None:
                    return False
                part = {"name": name, "point": index, "energy_loss_ev": present}
                part["full"] = None if self.full_counts is None else full
                job.parts.append(dict(part, start_s=start, end_s=time.monotonic()))
                found = microscope.energy_loss()
                if abs(found - present) > SAME_EV:
                    raise Refused(
                        f"the filter is at {found:g} eV instead of {present:g} eV: it was moved in an "
                        "exposure. Look that nobody else uses it."
                    )
        self._expect_filter(microscope)
        return True

    def _expect_filter(self, microscope: Microscope) -> None:
        microscope.expect_spectroscopy()
        if microscope.dispersion() != self.dispersion:
            raise Refused(f"the filter is not at dispersion {self.dispersion} any more.")
        if microscope.slit_in():
            raise Refused("the filter's energy slit is in; tuning takes it out.")

    def _expose(
        self, into: Array, exposure: float, microscope: Microscope, ended: Ended
    ) -> int | None:
        """Add counts; how many pixels were full, or None if it was ended."""
        full_counts = math.inf if self.full_counts is None else self.full_counts
        pieces = max(1, math.ceil(exposure / LONGEST_PIECE_S * (1 - 1e-9)))
        total = 0
        for _ in range(pieces):
            if ended():
                return None
            counts, full = microscope.expose(
                exposure / pieces, self.processing, self.area, full_counts
            )
            into += counts
            total += full
        return None if ended() else total


class Scan(Settings):
    """One frame of DigiScan."""

    KEYS = ("signals", "shape", "pixel_time_us", "rotation_deg")

    def __init__(self, given: Any) -> None:
        given = settings_of(given, self.KEYS)
        self.signals = [whole("signals", s, 0, 31) for s in items("signals", given["signals"], 8)]
        shape = items("shape", given["shape"], 2)
        if len(shape) != 2:
            raise Refused("shape: rows and columns are needed.")
        self.shape = whole("shape", shape[0], 1, 8192), whole("shape", shape[1], 1, 8192)
        self.pixel_us = number("pixel_time_us", given["pixel_time_us"], 0.01, 1e6)
        self.rotation = number("rotation_deg", given["rotation_deg"], -360, 360)
        pixels = self.shape[0] * self.shape[1]
        number("shape", 4 * pixels * len(self.signals), 0, MOST_BYTES)
        self.frame_s = number("frame time", 1e-6 * pixels * self.pixel_us, 0, LONGEST_FRAME_S)

    def run(self, job: Job, microscope: Microscope, ended: Ended) -> bool:
        """Carry it out; True unless it was ended."""
        limit_s = 2 * self.frame_s + 10
        start = time.monotonic()
        images = microscope.scan(
            self.signals, self.shape, self.pixel_us, self.rotation, limit_s, ended
        )
        if images is None:
            return False
        job.arrays = {str(signal): image for signal, image in images.items()}
        job.parts.append({"name": "frame", "start_s": start, "end_s": time.monotonic()})
        return True


class Tune(Settings):
    """Set the dispersion and an energy loss, and take the slit out."""

    KEYS = ("dispersion", "energy_loss_ev")

    def __init__(self, given: Any) -> None:
        given = settings_of(given, self.KEYS)
        self.dispersion = whole("dispersion", given["dispersion"], 0, 99)
        self.energy = number(
            "energy_loss_ev", given["energy_loss_ev"], -MOST_ENERGY_EV, MOST_ENERGY_EV
        )

    def run(self, job: Job, microscope: Microscope, ended: Ended) -> bool:
        """Carry it out."""
        microscope.expect_spectroscopy()
        dispersion = microscope.dispersion()
        if dispersion != self.dispersion:
            dispersion = microscope.disperse(self.dispersion)
        microscope.take_slit_out()
        taken = microscope.go_to(self.energy)
        job.parts.append({"name": "tuned", "dispersion": dispersion, "energy_loss_ev": taken})
        return True


KINDS = {"spectra": Spectra, "scan": Scan, "tune": Tune}


# --------------------------------------------------------------------------------------- service


class Service:
    """What clients may call; every method answers within about a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token = ""
        self._owner = ""
        self._heard = 0.0
        self._job: Job | None = None
        self.work: queue.Queue[Job] = queue.Queue()

    def hello(self) -> dict[str, Any]:
        """Who this is."""
        return {"server": OBJECT, "protocol": PROTOCOL, "python": sys.version.split()[0]}

    def status(self) -> dict[str, Any]:
        """What is going on, and the time here."""
        with self._lock:
            job = self._job
            busy = job is not None and not job.done.is_set()
            return {
                "owner": self._owner if self._alive() else "",
                "busy": busy,
                "doing": job.kind if job is not None and busy else "",
                "now_s": time.monotonic(),
            }

    def take(self, owner: Any, token: Any) -> str:
        """A lease for ``owner``, by a token that he made up; refused while another has one.

        With the same token it may be asked for again, when the answer was lost.
        """
        if not isinstance(owner, str) or not 0 < len(owner) <= 100:
            raise Refused("an owner needs a name of at most 100 letters.")
        if not isinstance(token, str) or not 16 <= len(token) <= 100:
            raise Refused("a token of 16 to 100 letters is needed.")
        with self._lock:
            if self._alive() and token != self._token:
                raise Refused(
                    f"the microscope is in the hands of {self._owner}. Wait until he lets go.",
                    "LeaseError",
                )
            self._token, self._owner = token, owner
            self._heard = time.monotonic()
            return self._token

    def release(self, token: Any) -> None:
        """Give the lease back; what runs is aborted."""
        with self._lock:
            if token == self._token:
                self._token = ""
                if self._job is not None:
                    self._job.abort.set()

    def begin(self, token: Any, kind: Any, settings: Any) -> dict[str, Any]:
        """Begin a job; its number, and the time here before it begins."""
        self._hear(token)
        if kind not in KINDS:
            raise Refused("a job is one of {}.".format(", ".join(sorted(KINDS))))
        job = Job(kind, KINDS[kind](settings), token)
        with self._lock:
            if self._job is not None and not self._job.done.is_set():
                raise Refused(f"the microscope is busy with a job ({self._job.kind}).")
            self._job = job
        now = time.monotonic()
        self.work.put(job)
        return {"job": job.id, "now_s": now}

    def wait(self, token: Any, job_id: Any, wait_s: Any) -> dict[str, Any]:
        """Wait for a job to end, for at most a second; how it stands."""
        self._hear(token)
        job = self._find(job_id)
        job.done.wait(number("wait_s", wait_s, 0, LONGEST_WAIT_S))
        self._hear(token)
        if not job.done.is_set():
            return {"state": "running"}
        if job.state == "failed":
            raise Refused(job.words, job.error)
        arrays = {
            name: {"dtype": array.dtype.newbyteorder("<").str, "shape": list(array.shape)}
            for name, array in job.arrays.items()
        }
        return {"state": job.state, "parts": job.parts, "arrays": arrays, "now_s": time.monotonic()}

    def fetch(self, token: Any, job_id: Any, name: Any, offset: Any) -> bytes:
        """At most a megabyte of an array of a job that is done, from a byte on."""
        self._hear(token)
        job = self._find(job_id)
        if not job.done.is_set() or name not in job.arrays:
            raise Refused(f"job {job_id} has no array {name!r}.")
        array = job.arrays[name]
        begin = whole("offset", offset, 0, array.nbytes)
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        return flat[begin : begin + CHUNK_BYTES].tobytes()

    def abort(self, token: Any, job_id: Any) -> None:
        """End a job, if it still runs (None: whichever does), at the end of its present piece."""
        self._hear(token)
        with self._lock:
            if self._job is not None and job_id in (None, self._job.id):
                self._job.abort.set()

    def ended(self, job: Job) -> bool:
        """Whether a job shall end: aborted, or nobody owns it any more."""
        with self._lock:
            return job.abort.is_set() or job.owner != self._token or not self._alive()

    def _alive(self) -> bool:
        return bool(self._token) and time.monotonic() - self._heard < LEASE_S

    def _hear(self, token: Any) -> None:
        with self._lock:
            if not isinstance(token, str) or token != self._token or not self._alive():
                raise Refused("the lease has lapsed, or is another's. Take it anew.", "LeaseError")
            self._heard = time.monotonic()

    def _find(self, job_id: Any) -> Job:
        with self._lock:
            if self._job is None or self._job.id != job_id:
                raise Refused(f"there is no job {job_id!r}.")
            return self._job


for _method in ("hello", "status", "take", "release", "begin", "wait", "fetch", "abort"):
    Pyro5.api.expose(getattr(Service, _method))


def carry_out(service: Service, microscope: Microscope, job: Job) -> None:
    """Run a job in the thread of the script."""
    try:
        whole_job = job.settings.run(job, microscope, lambda: service.ended(job))
        job.state = "done" if whole_job else "cut"
    except Refused as refused:
        job.state, job.words, job.error = "failed", str(refused), refused.kinds[0]
    except Exception as error:  # noqa: BLE001  DigitalMicrograph raises what it likes, and the server lives on
        job.state = "failed"
        job.words = f"DigitalMicrograph failed: {type(error).__name__}: {error}"
    finally:
        job.done.set()


# ------------------------------------------------------------------------------------------ Pyro


class StrictMessage(protocol.ReceivingMessage):  # type: ignore[misc]
    """Only small, plain msgpack messages are looked at: no other serializer, compression or flag."""

    def __init__(self, header: bytes, payload: Any = None) -> None:
        super().__init__(header, payload)
        plain = self.type == protocol.MSG_PING or self.serializer_id == StrictMsgpack.serializer_id
        odd = self.flags & ~protocol.FLAGS_CORR_ID or self.annotations_size
        if not plain or odd or self.data_size > MOST_REQUEST_BYTES:
            raise errors.ProtocolError("a message of this kind is not taken here")


class StrictMsgpack(serializers.MsgpackSerializer):  # type: ignore[misc]
    """Numbers, texts, lists and maps; no class and no extension of either side."""

    def object_hook(self, obj: Any) -> Any:
        """Refuse maps that stand for objects."""
        if "__class__" in obj:
            raise errors.SerializeError("objects are not taken here")
        return obj

    def ext_hook(self, code: int, data: bytes) -> Any:
        """Refuse extensions."""
        raise errors.SerializeError("extensions are not taken here")


def told(error: Exception) -> dict[str, Any]:
    """An error as every Pyro5 client can read it, without a trace of this process."""
    words = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
    return {
        "__class__": "Pyro5.errors.PyroError",
        "__exception__": True,
        "args": (words,),
        "attributes": {"kinds": getattr(error, "kinds", ["InstrumentError"])},
    }


def harden() -> None:
    """Make the Pyro5 of this process as strict as this server needs it."""
    config.SERVERTYPE = "thread"
    config.SERIALIZER = "msgpack"
    config.THREADPOOL_SIZE = 40
    config.COMMTIMEOUT = 20.0  # a silent client does not keep its thread
    config.SOCK_NODELAY = True
    config.MAX_MESSAGE_SIZE = 4 << 20
    config.DETAILED_TRACEBACK = False
    strict = StrictMsgpack()
    serializers.serializers["msgpack"] = strict
    serializers.serializers_by_id[StrictMsgpack.serializer_id] = strict
    serializers.SerializerBase.register_class_to_dict(Exception, told)
    protocol.ReceivingMessage = StrictMessage


def serve(host: str = LOOPBACK[0], port: int = PORT, stop: threading.Event | None = None) -> None:
    """Serve until ``stop`` (an event) is set; the calling thread makes DigitalMicrograph's calls."""
    if host not in LOOPBACK:
        raise ValueError(
            f"host {host!r} refused: this server knows nobody by name, so it listens on {LOOPBACK[0]} only. "
            "Run `hotstage serve` on this computer for others."
        )
    harden()
    service, microscope = Service(), Microscope()
    daemon = Pyro5.api.Daemon(host=host, port=port)
    daemon.register(service, OBJECT)
    thread = threading.Thread(target=daemon.requestLoop, name="hotstage-gms")
    thread.daemon = True
    thread.start()
    sys.stdout.write(f"hotstage GMS server listens on {daemon.locationStr}\n")
    sys.stdout.flush()
    try:
        while stop is None or not stop.is_set():
            try:
                job = service.work.get(timeout=0.2)
            except queue.Empty:
                continue
            carry_out(service, microscope, job)
    finally:
        daemon.shutdown()
        thread.join(2.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="hotstage's server inside GMS")
    parser.add_argument("--host", default=LOOPBACK[0])
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args(arguments)
    serve(given.host, given.port)


if __name__ == "__main__":
    main(sys.argv[1:])
