"""What a Gatan imaging filter and its camera are told, through DM scripts and plug-in calls.

Sources of the script functions: ``IFSetEnergyLoss`` and ``IFWaitForFilter`` (pyAutoMic and instamatic,
public), ``IFGetSlitIn``, ``IFSetSlitIn`` and ``IFIsInEELSMode`` (public DM scripts, pyscope), ``IFGetEnergyLoss(0)`` and ``IFCSetActiveDispersions(index)`` (public API lists and scripts),
``IFCGetActiveDispersion()`` as an index (a public script by K. Morawiec). The camera is read with the
plug-in's GetAcquiredImage, which lengthens an exposure by a hundredth, at least 50 µs and at most
0.5 ms (``GetImage``), so that the camera does not shorten it to the step below. Unverified: that the
energy loss set is that of one channel of the camera whatever the dispersion, whether what a person adds by
drift tube, prism or high tension is in the energy loss that is told, and everything else about real hardware.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.errors import InstrumentError
from drivers.serialemccd import Emccd, Image
from drivers.serialemccd_packets import Function, script_number

FILTER_S = 15.0
"""Wall seconds that the filter may need for a new energy loss or dispersion."""
UNPROCESSED, GAIN_NORMALIZED = 0, 2
PROCESSING = {"unprocessed": UNPROCESSED, "dark_subtracted": 1, "gain_normalized": GAIN_NORMALIZED}
_SHUTTER = -1
"""That of the camera's own set-up."""
_DEFAULT_CORRECTIONS = -1
"""The camera's own choice of corrections, by the plug-in's argument ``corrections`` below 0."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Which camera is read, and how."""

    number: int
    width: int
    """Energy channels."""
    height: int
    top: int
    bottom: int
    """Rows ``top`` to ``bottom``, the latter left out, are read."""
    processing: int
    settling_s: float
    full_counts: float
    """Of a pixel as it is processed, from which on it is full; NaN: not known."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of what is read."""
        return self.bottom - self.top, self.width


class GifDevice:
    """The commands; every one raises LinkError, InstrumentError."""

    def __init__(self, emccd: Emccd, camera: Camera) -> None:
        self._emccd = emccd
        self._camera = camera
        self.tells_dispersion = emccd.has("IFCGetActiveDispersion")
        """Whether it can say which dispersion is set."""
        self._has_slit = emccd.has("IFGetSlitIn")
        self._tells_mode = emccd.has("IFIsInEELSMode")

    def examine(self) -> None:
        """Raise InstrumentError if there is no such camera, or no filter."""
        doing = "a question for the cameras"
        cameras = self._emccd.call(Function.GET_NUMBER_OF_CAMERAS, doing=doing).longs[0]
        if self._camera.number >= cameras:
            raise InstrumentError(
                f"camera {self._camera.number} refused: DigitalMicrograph has {cameras}, numbered "
                "from 0. Choose that of the spectrometer."
            )
        if not self._emccd.has("IFSetEnergyLoss"):
            raise InstrumentError(
                "this DigitalMicrograph has no script function IFSetEnergyLoss, so no Gatan imaging "
                "filter is installed. Look whether the address is that of the right computer."
            )

    def select(self) -> None:
        """Make the camera the one that is read; raises InstrumentError if it is retracted."""
        number = self._camera.number
        doing = f"the choice of camera {number}"
        self._emccd.call(Function.SELECT_CAMERA, longs=(number,), doing=doing)
        inserted = self._emccd.call(Function.IS_CAMERA_INSERTED, longs=(number,), doing=doing)
        if not inserted.bools[0]:
            raise InstrumentError(
                f"the spectrometer's camera {number} is retracted; insert it in DigitalMicrograph."
            )

    def energy_loss(self, cut: Callable[[], bool] | None = None) -> float:
        """The energy loss that is set, in eV."""
        doing = "a question for the energy loss"
        return self._emccd.value("IFGetEnergyLoss(0)", doing=doing, cut=cut)

    def set_energy_loss(self, ev: float, cut: Callable[[], bool] | None = None) -> float:
        """Set the energy loss and wait for the filter; returns what it took, in eV."""
        return self._emccd.script(
            f"IFSetEnergyLoss({script_number(ev)})\nIFWaitForFilter()\n"
            "number value = IFGetEnergyLoss(0)\nExit(value)\n",
            doing=f"energy loss {ev:.6g} eV",
            within_s=FILTER_S,
            cut=cut,
        )

    def dispersion(self, cut: Callable[[], bool] | None = None) -> int | None:
        """Index of the dispersion that is set; None where it cannot tell."""
        if not self.tells_dispersion:
            return None
        doing = "a question for the dispersion"
        return round(self._emccd.value("IFCGetActiveDispersion()", doing=doing, cut=cut))

    def set_dispersion(self, index: int) -> None:
        """Choose a dispersion by its index and wait for the filter."""
        self._emccd.script(
            f"IFCSetActiveDispersions({index})\nIFWaitForFilter()\nExit(0)\n",
            doing=f"dispersion {index}",
            within_s=FILTER_S,
        )

    def spectroscopy(self, cut: Callable[[], bool] | None = None) -> bool:
        """Whether the filter makes spectra rather than images; True where it cannot tell."""
        if not self._tells_mode:
            return True
        doing = "a question for the filter's mode"
        return self._emccd.value("IFIsInEELSMode()", doing=doing, cut=cut) != 0

    def slit_in(self, cut: Callable[[], bool] | None = None) -> bool:
        """Whether the energy slit is in; False where there is none."""
        if not self._has_slit:
            return False
        doing = "a question for the slit"
        return self._emccd.value("IFGetSlitIn()", doing=doing, cut=cut) != 0

    def take_slit_out(self) -> bool:
        """Take the energy slit out, if it is in; returns whether it still is."""
        if not self.slit_in():
            return False
        self._emccd.script(
            "IFSetSlitIn(0)\nIFWaitForFilter()\nExit(0)\n",
            doing="the slit's way out",
            within_s=FILTER_S,
        )
        return self.slit_in()

    @property
    def raw(self) -> bool:
        """Whether pixels come as the camera has them, dark level included."""
        return self._camera.processing == UNPROCESSED

    def expose(self, exposure_s: float, wall_s: float, cut: Callable[[], bool]) -> Image:
        """Read the camera after an exposure, which takes about ``wall_s`` on the wall."""
        head = (self._camera.processing, 1)  # binning 1
        return self._read(Function.GET_ACQUIRED_IMAGE, head, (0,), exposure_s, wall_s, cut)

    def dark(self, exposure_s: float, wall_s: float, cut: Callable[[], bool]) -> Image:
        """Read the camera, unprocessed, after an exposure with its shutter closed."""
        return self._read(Function.GET_DARK_REFERENCE, (1,), (), exposure_s, wall_s, cut)

    def counts(self, image: Image) -> NDArray[np.int64]:
        """Counts of the channels, summed over rows."""
        if self.raw:
            return np.asarray(image.data.sum(axis=0, dtype=np.int64), np.int64)
        halves = image.data.view(np.int16).sum(axis=0, dtype=np.int64)
        return np.asarray(2 * halves, np.int64)

    def full(self, image: Image) -> float:
        """How many pixels hold as much as they can; NaN if it is not known how much that is."""
        full_counts = self._camera.full_counts
        if self.raw:
            return float(np.count_nonzero(image.data >= full_counts))
        halves = image.data.view(np.int16)
        cut_off = int(np.count_nonzero(halves == np.iinfo(np.int16).max))
        if math.isnan(full_counts):
            return float(cut_off) if cut_off else math.nan
        # a half may have been rounded down
        full = int(np.count_nonzero(halves >= math.floor(full_counts / 2)))
        return float(max(cut_off, full))

    def _read(
        self,
        function: Function,
        head: tuple[int, ...],
        delay: tuple[int, ...],
        exposure_s: float,
        wall_s: float,
        cut: Callable[[], bool],
    ) -> Image:
        camera = self._camera
        rows, columns = camera.shape
        area = (camera.top, 0, camera.bottom, columns)
        end = (_SHUTTER, *delay, int(not self.raw), _DEFAULT_CORRECTIONS)
        return self._emccd.image(
            function,
            longs=(columns, rows, *head, *area, *end),
            doubles=(exposure_s, camera.settling_s),
            shape=camera.shape,
            within_s=wall_s,
            doing=f"an exposure of {exposure_s:.3g} s",
            cut=cut,
        )
