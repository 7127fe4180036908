"""A stand-in of the module ``DigitalMicrograph`` of Gatan's Microscopy Suite: only the calls that our server makes.

It lives in a process of its own (:mod:`simulators.wires.gms_child`) and asks the simulation over a
private pipe. Names and arguments are those of the public programs that the server names as its
sources; ``DS_CreateParameters`` takes the five of pyAutoMic.
"""
# ruff: noqa: N801, N802

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.wires.gms_pipe import Asking

_asking: Asking | None = None
_numbers = itertools.count(1)
_scans: dict[int, dict[str, Any]] = {}
_images: dict[int, Py_Image] = {}


def connect(asking: Asking) -> None:
    """Say where the simulation is."""
    global _asking
    _asking = asking


def _ask(call: str, *arguments: Any) -> tuple[Any, bytes]:
    if _asking is None:
        raise RuntimeError("there is no simulation behind this module")
    return _asking.ask(call, *arguments)


class Py_Image:
    """An image; its array is live."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._id = next(_numbers)

    def GetNumArray(self) -> NDArray[Any]:
        """The pixels, (rows, columns)."""
        return self._array

    def GetID(self) -> int:
        """Its number."""
        return self._id


class Py_TagGroup:
    """The persistent tags."""

    def GetTagAsFloat(self, label: str) -> tuple[bool, float]:
        """Whether there is such a tag, and its value."""
        value, _ = _ask("tag", label)
        return value is not None, 0.0 if value is None else float(value)


class Py_Camera:
    """The active camera."""

    def PrepareForAcquire(self) -> None:
        """Make it ready."""
        _ask("prepare")

    def CreateImageForAcquire(
        self, bin_x: int, bin_y: int, processing: int, top: int, left: int, bottom: int, right: int
    ) -> Py_Image:
        """An image that an exposure of this area fits into."""
        return Py_Image(np.zeros(((bottom - top) // bin_y, (right - left) // bin_x), np.int32))

    def AcquireInPlace(
        self,
        image: Py_Image,
        exposure: float,
        bin_x: int,
        bin_y: int,
        processing: int,
        top: int,
        left: int,
        bottom: int,
        right: int,
    ) -> None:
        """Expose into an image; returns when it is read."""
        area = (top, left, bottom, right)
        shape, data = _ask("acquire", exposure, bin_x, bin_y, processing, *area)
        image.GetNumArray()[...] = np.frombuffer(data, "<i4").reshape(shape)


def GetActiveCamera() -> Py_Camera:
    """The camera that the spectrometer uses."""
    return Py_Camera()


def GetPersistentTagGroup() -> Py_TagGroup:
    """The tags that stay."""
    return Py_TagGroup()


def ExecuteScriptString(text: str) -> None:
    """Carry out DM script; raises RuntimeError."""
    _ask("script", text)
    _collect()


def CreateImage(array: NDArray[Any]) -> Py_Image:
    """An image with a copy of an array."""
    image = Py_Image(np.array(array))
    _images[image.GetID()] = image
    return image


def DS_CreateParameters(
    width: int, height: int, rotation: float, pixel_time_us: float, line_sync: bool
) -> int:
    """Parameters of a scan, and their number."""
    number = next(_numbers)
    _scans[number] = {
        "shape": [height, width],
        "rotation": rotation,
        "pixel_us": pixel_time_us,
        "line_sync": bool(line_sync),
        "signals": {},
        "running": False,
    }
    return number


def DS_SetParametersSignal(
    parameters: int, signal: int, data_bytes: int, selected: bool, image_id: int
) -> None:
    """Say that a signal shall be acquired, and into which image."""
    if selected:
        _scans[parameters]["signals"][signal] = image_id


def DS_StartAcquisition(parameters: int, continuous: bool, synchronous: bool) -> None:
    """Begin a scan; returns at its end if it is synchronous."""
    scan = _scans[parameters]
    if continuous:
        raise RuntimeError("continuous scans are not simulated here")
    signals = sorted(scan["signals"])
    _ask("scan", scan["shape"], scan["rotation"], scan["pixel_us"], scan["line_sync"], signals)
    scan["running"] = True
    while synchronous and _ask("scanning")[0]:
        time.sleep(0.01)
    if synchronous:
        _collect()


def DS_DeleteParameters(parameters: int) -> None:
    """Forget the parameters of a scan."""
    for image_id in _scans.pop(parameters)["signals"].values():
        _images.pop(image_id, None)


def _collect() -> None:
    """Fill the images of scans that have ended."""
    for scan in _scans.values():
        if not scan["running"] or _ask("scanning")[0]:
            continue
        scan["running"] = False
        for signal, image_id in scan["signals"].items():
            shape, data = _ask("scanned", signal)
            if data and image_id in _images:
                pixels = np.frombuffer(data, "<u2").reshape(shape)
                _images[image_id].GetNumArray()[...] = pixels
