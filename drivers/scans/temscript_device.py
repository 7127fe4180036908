"""What a temscript server is told and asked, one function for each thing, with every reply checked.

Sources: niermann/temscript 2.1 (BSD): ``server.py``, ``microscope.py``, ``marshall.py`` and
``docs/instrument.rst``: endpoints, encodings, beam shift in metres, magnification rounded to the next
step that the column has, rotation in radians, images as (height, width). Unverified: which types the
images of a real microscope have (16-bit and 32-bit integers with sign are expected).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Cut
from acquire.errors import InstrumentError, LinkError
from drivers.links import ExchangeCut
from drivers.scans.temscript_http import TemscriptHttp

DTYPES = {
    f"{sign}INT{bits}": f"{letter}{bits // 8}"
    for sign, letter in (("", "i"), ("U", "u"))
    for bits in (8, 16, 32, 64)
}
"""numpy's name of an image type, without its byte order; the server also knows floats, refused here."""
ORDERS = {"LITTLE": "<", "BIG": ">"}
BYTES_PER_PIXEL = 8 * 4 / 3
"""Of the widest type, in BASE64."""
SLOWEST_BYTES_PER_S = 5e6
ACQUIRE_S = 10.0
"""Wall seconds that the microscope may take to begin and to end a frame."""
HIGHEST = 65535
ROTATION_TOLERANCE_RAD = 1e-3
OLDEST_VERSION = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server says of itself."""

    version: str
    family: str
    microscope: str
    binnings: Mapping[str, tuple[int, ...]]
    """Of every STEM detector, by its name there."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How images are taken."""

    image_size: str
    binning: int
    dwell_time_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Images of one acquisition by the name of the detector there, and station times around it."""

    images: Mapping[str, NDArray[np.uint16]]
    asked_s: float
    answered_s: float


class TemscriptDevice:
    """The requests; all raise LinkError, InstrumentError."""

    def __init__(self, http: TemscriptHttp) -> None:
        self._http = http

    def identify(self) -> Identity:
        """Ask for version, microscope and detectors; raises InstrumentError if it cannot be used."""
        version = self._text("version")
        major = version.partition(".")[0]
        if not major.isdigit() or int(major) < OLDEST_VERSION:
            raise InstrumentError(
                f"the server at {self._http.address} is temscript {version!r}; version "
                f"{OLDEST_VERSION}.0 or later is needed. Update it on the microscope's PC."
            )
        if self._http.get("stem_available").value is not True:
            raise InstrumentError("the microscope says that it has no STEM.")
        found = self._http.get("stem_detectors").value
        if not isinstance(found, dict):
            raise _strange("stem_detectors", found)
        binnings = {}
        for name, info in found.items():
            listed = info.get("binnings") if isinstance(info, dict) else None
            if not isinstance(listed, list) or not all(_is_whole(n) and n > 0 for n in listed):
                raise _strange("stem_detectors", found)
            binnings[name] = tuple(listed)
        return Identity(version, self._text("family"), self._text("microscope_id"), binnings)

    def demand_stem(self) -> None:
        """Raise InstrumentError unless the microscope is in STEM mode, which only a person may change."""
        mode = self._text("instrument_mode")
        if mode != "STEM":
            raise InstrumentError(
                f"the microscope is in mode {mode!r}. Switch it to STEM, and look at the alignment."
            )

    # ---------------------------------------------------------------------------- beam

    def set_blanked(self, blanked: bool) -> None:
        """Blank or un-blank the beam, and read back that it is so."""
        self._http.put("beam_blanked", blanked)
        if self.blanked() is not blanked:
            raise InstrumentError(
                f"the beam is {'not ' if blanked else ''}blanked though it was told otherwise. Look "
                "at the blanker's settings on the microscope."
            )

    def blanked(self) -> bool:
        """Whether the beam is blanked."""
        value = self._http.get("beam_blanked").value
        if not isinstance(value, bool):
            raise _strange("beam_blanked", value)
        return value

    def magnify(self, magnification: float) -> float:
        """Set the magnification; returns what the column has taken."""
        self._http.put("stem_magnification", magnification)
        return self.magnification()

    def magnification(self, cut: Cut | None = None) -> float:
        """The magnification of the scan; raises ExchangeCut."""
        return self._number("stem_magnification", cut)

    def rotate(self, radians: float | None) -> float:
        """Set the rotation of the scan, unless it is to be as it is; returns what it has taken."""
        if radians is not None:
            self._http.put("stem_rotation", radians)
        taken = self.rotation()
        off_rad = 0.0 if radians is None else math.remainder(taken - radians, math.tau)
        if radians is not None and not abs(off_rad) <= ROTATION_TOLERANCE_RAD:
            raise InstrumentError(
                f"rotation {math.degrees(radians):.4g}° refused: the microscope takes "
                f"{math.degrees(taken):.4g}°. Ask for that."
            )
        return taken

    def rotation(self, cut: Cut | None = None) -> float:
        """The rotation of the scan in rad; raises ExchangeCut."""
        return self._number("stem_rotation", cut)

    def shift(self, endpoint: str) -> tuple[float, float]:
        """Beam or image shift in m."""
        value = self._http.get(endpoint).value
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
            raise _strange(endpoint, value)
        return float(value[0]), float(value[1])

    def set_shift(self, endpoint: str, x_m: float, y_m: float) -> None:
        """Set beam or image shift in m."""
        self._http.put(endpoint, [x_m, y_m])

    # --------------------------------------------------------------------------- images

    def set_parameters(self, wanted: Parameters) -> Parameters:
        """Say how images are taken; returns what the microscope has taken."""
        self._http.put(
            "stem_acquisition_param",
            {
                "image_size": wanted.image_size,
                "binning": wanted.binning,
                "dwell_time(s)": wanted.dwell_time_s,
            },
        )
        return self.parameters()

    def parameters(self, cut: Cut | None = None) -> Parameters:
        """How images are taken; raises ExchangeCut."""
        found = self._http.get("stem_acquisition_param", cut=cut).value
        try:
            taken = Parameters(found["image_size"], found["binning"], found["dwell_time(s)"])
        except (KeyError, TypeError, IndexError) as error:
            raise _strange("stem_acquisition_param", found) from error
        if not (_is_whole(taken.binning) and _is_number(taken.dwell_time_s)):
            raise _strange("stem_acquisition_param", found)
        return taken

    def demand_unchanged(self, taken: Parameters, rotation_rad: float, cut: Cut) -> None:
        """Raise InstrumentError if somebody has changed how images are taken; ExchangeCut."""
        now = self.parameters(cut)
        if now != taken:
            raise InstrumentError(
                f"how images are taken was changed from {taken} to {now} since the scan was armed. "
                "Arm it again, and let no other program scan meanwhile."
            )
        turned_rad = math.remainder(self.rotation(cut) - rotation_rad, math.tau)
        if not abs(turned_rad) <= ROTATION_TOLERANCE_RAD:
            raise InstrumentError(
                f"the scan was rotated by {math.degrees(turned_rad):.3g}° since it was armed. Arm it "
                "again, and leave the rotation as it is."
            )

    def wait_until_free(self, cut: Cut) -> None:
        """Wait for the end of a frame whose request was cut; raises ExchangeCut."""
        if self._http.busy_left_s > 0:
            self._http.get("version", cut=cut)
            self._http.free()

    def acquire(
        self,
        names: Sequence[str],
        shape: tuple[int, int],
        offset: int,
        duration_wall_s: float,
        cut: Cut,
    ) -> Taken:
        """Take one image with each of the detectors, all in one scan.

        When it is cut, or the link is lost, the microscope goes on until the frame has ended.

        Args:
            names: of the detectors, there.
            shape: rows and columns that are expected.
            offset: added to every value, which must be 0 to 65535 then.
            duration_wall_s: of the scan.
            cut: ends the request; raises ExchangeCut.
        """
        query = "&".join(f"detectors={quote(name, safe='')}" for name in names)
        size = math.ceil(shape[0] * shape[1] * len(names) * BYTES_PER_PIXEL) + (1 << 16)
        # half as long again for a flyback that is not known
        self._http.busy_for(1.5 * duration_wall_s + ACQUIRE_S)
        try:
            answer = self._http.get(
                f"acquire?{query}", within_s=size / SLOWEST_BYTES_PER_S, at_most=size, cut=cut
            )
        except (LinkError, ExchangeCut):
            raise
        except InstrumentError:
            self._http.free()
            raise
        self._http.free()
        value = answer.value
        if not isinstance(value, dict):
            raise _strange("acquire", value)
        missing = [name for name in names if name not in value]
        if missing:
            raise InstrumentError(
                f"the microscope took no image with {', '.join(missing)}. Insert and select the "
                "detector in the microscope's own program, and look that nothing else scans."
            )
        images = {name: _image(name, value[name], shape, offset) for name in names}
        return Taken(images, answer.asked_s, answer.answered_s)

    def _text(self, endpoint: str) -> str:
        value = self._http.get(endpoint).value
        if not isinstance(value, str):
            raise _strange(endpoint, value)
        return value

    def _number(self, endpoint: str, cut: Cut | None = None) -> float:
        value = self._http.get(endpoint, cut=cut).value
        if not _is_number(value):
            raise _strange(endpoint, value)
        return float(value)


def _image(name: str, packed: Any, shape: tuple[int, int], offset: int) -> NDArray[np.uint16]:
    """An image as the server packs it."""
    if not isinstance(packed, dict):
        raise _strange("acquire", packed)
    found = (packed.get("height"), packed.get("width"))
    if found != shape:
        raise InstrumentError(
            f"{name}: the image has {found[0]} x {found[1]} pixels where {shape[0]} x {shape[1]} were "
            "expected. Look at the option full_size: it is the size of an image without binning."
        )
    kind, order = packed.get("type"), packed.get("endianness")
    if kind not in DTYPES or order not in ORDERS or packed.get("encoding") != "BASE64":
        raise _strange("acquire", {key: value for key, value in packed.items() if key != "data"})
    dtype = np.dtype(ORDERS[order] + DTYPES[kind])
    try:
        raw = base64.b64decode(packed.get("data", ""), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _strange("acquire", f"data of {name}: {error}") from error
    if len(raw) != shape[0] * shape[1] * dtype.itemsize:
        raise _strange("acquire", f"{len(raw)} bytes of {name}")
    counts = np.frombuffer(raw, dtype).reshape(shape)
    low, high = int(counts.min()) + offset, int(counts.max()) + offset
    if low < 0 or high > HIGHEST:
        raise InstrumentError(
            f"{name}: values from {low} to {high} do not fit into 0 to {HIGHEST}. Set the option "
            "count_offset to what must be added to the microscope's values."
        )
    return (counts.astype(np.int64) + offset).astype(np.uint16)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _strange(endpoint: str, value: object) -> LinkError:
    return LinkError(f"the temscript server answered {endpoint} with {str(value)[:100]!r}.")
