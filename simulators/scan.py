"""The simulated scan generator with its HAADF and ABF detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from acquire.acquisition import Acquisition
from acquire.clock import Signal
from acquire.errors import LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    Limit,
    ScanExposure,
    StreamSpec,
)
from acquire.units import show
from simulators.exposing import KeepGoing, lasting
from simulators.imaging import render
from simulators.imaging.probe import FWHM_PER_SIGMA
from simulators.noise import generator
from simulators.truth import ImageFacts
from simulators.world import SCAN, World

LINE_FLYBACK_S = 20e-6
_DRIVER = "driver"
_NOTICE_S = 0.02  # how long the first image waits at once for what it needs
_LIMITS = (
    Limit("field_of_view", 2.0, 1600.0, "nm", _DRIVER),
    Limit("dwell_time", 100e-9, 100e-3, "s", _DRIVER),
    Limit("size", 16, 4096, "px", _DRIVER),
    Limit("position", -1e6, 1e6, "nm", _DRIVER),
)


class SimulatedScan:
    """A STEM scan of the shared specimen; counts are detected electrons unless its options say otherwise.

    Coordinates of ``center_nm``, ``park`` and ``shift`` are those of the scan's frame, x right and y
    down; its origin is where the centre of an unshifted field lies. The specimen drifts under it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._acquisition = Acquisition(world.clock, SCAN)
        self._exposure: ScanExposure | None = None

    def describe(self) -> Description:
        """Identity, limits, beam and detector angles."""
        beam, imaging = self._world.settings.beam, self._world.settings.imaging
        readout = imaging.readout
        details: dict[str, str | float] = {
            "beam_energy_kev": beam.energy_kev,
            "convergence_semi_angle_mrad": beam.convergence_semi_angle_mrad,
            "probe_current_pa": beam.current_pa,
            "gain_counts_per_electron": readout.gain,
            "offset_counts": readout.offset,
            "saturation_counts": float(readout.highest),
            "bits": float(readout.bits),
            "afterglow": readout.afterglow,
            "probe_fwhm_nm": imaging.probe.sigma_nm * FWHM_PER_SIGMA,
            "view": imaging.side,
            "line_flyback_s": LINE_FLYBACK_S,
        }
        for name, detector in imaging.detectors.items():
            details[f"{name}_inner_mrad"] = float(detector.inner_mrad)
            details[f"{name}_outer_mrad"] = float(detector.outer_mrad)
        return Description(
            role=SCAN,
            model="simulated STEM scan",
            driver="simulated",
            simulated=True,
            limits=_LIMITS,
            detectors=tuple(imaging.detectors),
            details=details,
        )

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if the exposure cannot be taken."""
        detectors = self._world.settings.imaging.detectors
        unknown = [name for name in request.detectors if name not in detectors]
        if unknown or not request.detectors or len(set(request.detectors)) < len(request.detectors):
            raise LimitError(
                f"detectors {list(request.detectors)} refused: the scan has {', '.join(detectors)}; "
                "name one or more of them, each once."
            )
        field, dwell, size, position = _LIMITS
        rows, columns = request.shape
        for pixels in (rows, columns):
            _within(size, pixels)
        _within(field, request.field_of_view_nm)
        _within(field, rows * request.pixel_size_nm, "height of the field of view")
        _within(dwell, request.dwell_time_s)
        for coordinate in request.center_nm:
            _within(position, coordinate, "centre of the field of view")
        if not math.isfinite(request.frame_period_s) or request.frame_period_s < 0:
            raise LimitError(
                f"frame period {request.frame_period_s} s refused: it must be a finite number, "
                "at least 0."
            )

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Prepare exposures; raises LimitError, InstrumentError if armed already."""
        self.check(exposure)
        self._acquisition.arm(frames)
        self._exposure = exposure
        self._world.field_of_view = exposure
        return _spec(exposure, self._world.settings.imaging.readout.dtype_name)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed frames.

        The particles are those of mid-exposure; every line sees the drift of its own time.
        """
        exposure = self._exposure
        duration = period = 0.0
        if exposure is not None:
            duration, period = _duration_s(exposure), exposure.frame_period_s

        def expose(index: int, start_s: float, end_s: float, keep_going: KeepGoing) -> Frame | None:
            return (
                None
                if exposure is None
                else self._image(exposure, index, start_s, end_s, keep_going)
            )

        return self._acquisition.frames(stop, period, lasting(self._world.clock, duration, expose))

    def draw(
        self, exposure: ScanExposure, index: int, start_s: float, keep_going: KeepGoing
    ) -> Mapping[str, NDArray[Any]] | None:
        """Images of an exposure that begins at ``start_s``, for a far end that paces it itself.

        It is remembered as frame ``index``. None if ``keep_going`` says no before it is there.

        Raises:
            LimitError: it cannot be taken.
        """
        self.check(exposure)
        self._world.field_of_view = exposure
        end_s = start_s + _duration_s(exposure)
        frame = self._image(exposure, index, start_s, end_s, keep_going)
        return None if frame is None else frame.data

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point of the scan's frame; raises LimitError."""
        for coordinate in (x_nm, y_nm):
            _within(_LIMITS[3], coordinate, "position of the probe")
        self._world.column.park(x_nm, y_nm)

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move field and parked probe over the specimen by a scan shift, relative to the present one.

        Raises:
            LimitError: the shift would leave the limits; nothing moves.
        """
        present = self._world.column.shift()
        for coordinate, change in zip(present, (dx_nm, dy_nm), strict=True):
            _within(_LIMITS[3], coordinate + change, "scan shift")
        self._world.column.shift_by(dx_nm, dy_nm)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam."""
        self._world.column.blank(blanked)

    def blanked(self) -> bool:
        """Whether the beam is blanked."""
        return self._world.column.blanked()

    def make_safe(self, reason: str) -> None:
        """Blank the beam and end the acquisition; idempotent."""
        self._world.column.blank(True)
        self._acquisition.disarm()

    def _image(
        self,
        exposure: ScanExposure,
        index: int,
        start_s: float,
        end_s: float,
        keep_going: KeepGoing,
    ) -> Frame | None:
        world, middle_s = self._world, (start_s + end_s) / 2
        view, imaging = world.view(exposure, middle_s), world.settings.imaging
        probe = world.probe(middle_s)
        electrons = world.column.electrons_per_s() * exposure.dwell_time_s
        data: dict[str, NDArray[Any]]
        if world.draft:
            data = {
                name: empty(exposure.shape, imaging.readout.dtype_name)
                for name in exposure.detectors
            }
        else:
            while world.prepared is not None and not world.prepared.wait(_NOTICE_S):
                if not keep_going():
                    return None
            rngs = {
                name: generator(world.seed, f"{SCAN} {name}", index) for name in exposure.detectors
            }
            images = render(
                world.specimen,
                middle_s,
                view,
                electrons,
                rngs,
                keep_going,
                imaging=imaging,
                probe=probe,
                lines=world.lines(exposure, index, start_s, _line_s(exposure)),
            )
            if images is None:
                return None
            data = {**images}
        before, after = world.drift.at(start_s), world.drift.at(end_s)
        world.truth[SCAN].add(
            ImageFacts(
                index=index,
                t_s=middle_s,
                view=view,
                celsius=world.sample_celsius(middle_s),
                drift_nm=world.drift.at(middle_s),
                dose_e_per_nm2=electrons / view.pixel_nm**2,
                blanked=electrons == 0,
                side=imaging.side,
                detectors=imaging.detectors,
                defocus_nm=probe.defocus_nm,
                probe_sigma_nm=probe.blur_sigma_nm,
                drift_across_nm=(after[0] - before[0], after[1] - before[1]),
            )
        )
        return Frame(SCAN, index, data, start_s, end_s)


@lru_cache(maxsize=16)
def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A shared, read-only array of zeros, for drafts."""
    array = np.zeros(shape, dtype=dtype)
    array.setflags(write=False)
    return array


def _within(limit: Limit, value: float, name: str = "") -> None:
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{name or limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the scan "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)}. "
            "Choose a value in between."
        )


def _duration_s(exposure: ScanExposure) -> float:
    return exposure.scan_time_s + exposure.shape[0] * LINE_FLYBACK_S


def _line_s(exposure: ScanExposure) -> float:
    return _duration_s(exposure) / exposure.shape[0]


def _spec(exposure: ScanExposure, dtype: str) -> StreamSpec:
    pixel = exposure.pixel_size_nm
    rows, columns = exposure.shape
    # positions of pixel centres in the scan's frame
    axes = {
        "y": Axis(exposure.center_nm[1] - (rows - 1) / 2 * pixel, pixel, "nm"),
        "x": Axis(exposure.center_nm[0] - (columns - 1) / 2 * pixel, pixel, "nm"),
    }
    return StreamSpec(
        SCAN,
        {
            name: ChannelSpec(
                dtype, exposure.shape, ("y", "x"), axes, "counts", f"{name.upper()} image"
            )
            for name in exposure.detectors
        },
        frame_period_s=max(exposure.frame_period_s, _duration_s(exposure)),
    )
