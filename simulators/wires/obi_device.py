"""What the Open Beam Interface drives and reads: position, blanker and one detector of the simulation.

Scan positions are DAC codes of 14 bits; all of them together are ``full_scale`` wide, their middle is the
scan's origin. Pixels of a raster region are those of an image of the simulated scan, drawn when its
first pixel is lit, and once more past its middle. Other pixels are taken from an image of the whole field.

The ADC follows the detector's current, so that it does not grow with the dwell time, whose samples
are averaged; noise is that of the region's first dwell time. In hardware codes wrap at the edge of
the DAC's range; here a region goes on beyond it. Without external control the scan is the
microscope's own: nothing is blanked, and the ADC reads dark, as it does while the beam is blanked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import LimitError
from acquire.instruments import ScanExposure
from simulators.scan import SimulatedScan
from simulators.world import World

CYCLE_S = 125e-9
"""One count of a dwell time; a field of 0 is one count."""
CODES = 1 << 14
HIGHEST = CODES - 1
NO_BEAM, ELECTRON = 0, 1
_FEWEST, _MOST = 16, 4096  # pixels of a simulated image along a side
_FIELD_PIXELS = 512
_FIELD_LASTS_S = 1.0
_STEPS_PER_CODE = 256

Codes = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Region:
    """Where a raster runs: codes, counts, and steps in 256ths of a code."""

    x_start: int
    x_count: int
    x_step: int
    y_start: int
    y_count: int
    y_step: int

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.x_count * self.y_count


@dataclass
class _Drawn:
    codes: Codes
    """Of all pixels, in their order."""
    past_middle: bool
    start_s: float


class ObiDevice:
    """Beam, blanker, DAC and ADC.

    Args:
        world: the column.
        scan: draws the images.
        detector: that the ADC is connected to.
        full_scale_nm: width of the DAC's range.
        codes_per_count: of the ADC, for a count of the detector in a microsecond.
        dark_codes: of the ADC without any beam.
    """

    def __init__(
        self,
        world: World,
        scan: SimulatedScan,
        detector: str,
        full_scale_nm: float,
        codes_per_count: float,
        dark_codes: int,
    ) -> None:
        self._world = world
        self._scan = scan
        self._detector = detector
        self._full_scale_nm = full_scale_nm
        self._codes_per_count = codes_per_count
        self._dark = dark_codes
        self._frames = 0
        self._external = False
        self._beam = NO_BEAM
        self._blank = True
        self._inline: bool | None = None
        self._region: Region | None = None
        self._position = 0
        self._drawn: _Drawn | None = None
        self._field: tuple[float, Codes] | None = None

    # ------------------------------------------------------------------------- the beam

    @property
    def lit(self) -> bool:
        """Whether the beam is on the specimen where we put it."""
        return self._external and self._beam == ELECTRON and not self._blank

    def control(self, external: bool) -> None:
        """Take the beam over, or leave it to the microscope."""
        self._external = external
        self._apply()

    def select(self, beam: int) -> None:
        """Choose a beam; the others are blanked while we have control."""
        self._beam = beam
        self._apply()

    def blank(self, blanked: bool, inline: bool) -> None:
        """Blank or un-blank, at once or with the next pixel."""
        if inline:
            self._inline = blanked
            return
        self._blank = blanked
        self._apply()

    def _apply(self) -> None:
        self._world.column.blank(self._external and not self.lit)
        self._drawn = self._field = None

    # ---------------------------------------------------------------------- the raster

    def begin(self, region: Region) -> None:
        """Begin a raster; what ran before is over."""
        self._region, self._position, self._drawn = region, 0, None

    def end(self) -> None:
        """End the raster."""
        self._region = None

    @property
    def region(self) -> Region | None:
        """Of the raster that runs."""
        return self._region

    @property
    def left(self) -> int:
        """Pixels until the raster is complete; 0 if none runs."""
        return 0 if self._region is None else self._region.pixels - self._position

    def raster(self, count: int, dwell_s: float, keep_going: Callable[[], bool]) -> Codes:
        """The next pixels of the raster, at most ``left``."""
        region = self._region
        if region is None or not 0 < count <= self.left:
            raise ValueError(f"{count} pixels of a raster with {self.left} left")
        self._next_pixel()
        first = self._position
        self._position += count
        codes = np.full(count, self._dark, np.uint16)
        row, column = divmod(self._position - 1, region.x_count)
        self._park(
            region.x_start + column * region.x_step / _STEPS_PER_CODE,
            region.y_start + row * region.y_step / _STEPS_PER_CODE,
        )
        if self.lit:
            image = self._image(region, first, dwell_s, keep_going)
            if image is not None:
                codes = image[first : self._position]
        if not self.left:
            self.end()
        return codes

    def vector(self, x: int, y: int, dwell_s: float, keep_going: Callable[[], bool]) -> Codes:
        """One pixel anywhere."""
        self._next_pixel()
        self._park(x, y)
        if not self.lit:
            return np.full(1, self._dark, np.uint16)
        field = self._whole_field(dwell_s, keep_going)
        return self._at(field, np.array([x]), np.array([y]))

    # --------------------------------------------------------------------------- within

    def _next_pixel(self) -> None:
        if self._inline is not None:
            blanked, self._inline = self._inline, None
            if blanked != self._blank:
                self.blank(blanked, inline=False)

    def _image(
        self, region: Region, first: int, dwell_s: float, keep_going: Callable[[], bool]
    ) -> Codes | None:
        past_middle = 2 * first >= region.pixels
        drawn = self._drawn
        if drawn is not None and (drawn.past_middle or not past_middle):
            return drawn.codes
        now_s = self._world.clock.now_s()
        duration_s = region.pixels * dwell_s
        if drawn is None:
            # mid-exposure cannot be drawn before it has come: that of half a frame ago is
            self._frames += 1
            start_s = now_s
            shown_s = now_s - duration_s / 2
        else:
            # a slice of pixels is made a little ahead of its time
            start_s = drawn.start_s
            shown_s = min(start_s, now_s - duration_s / 2)
        codes = self._region_codes(region, dwell_s, shown_s, keep_going)
        if codes is not None:
            self._drawn = _Drawn(codes, past_middle, start_s)
        return codes

    def _region_codes(
        self, region: Region, dwell_s: float, start_s: float, keep_going: Callable[[], bool]
    ) -> Codes | None:
        rows, columns = region.y_count, region.x_count
        shape = (max(rows, _FEWEST), max(columns, _FEWEST))
        pixel_nm = self._nm(region.x_step / _STEPS_PER_CODE)
        if region.x_step == region.y_step and max(shape) <= _MOST:
            left, top = self._place(region.x_start), self._place(region.y_start)
            exposure = ScanExposure(
                (self._detector,),
                shape,
                shape[1] * pixel_nm,
                dwell_s,
                center_nm=(
                    left + (shape[1] - 1) / 2 * pixel_nm,
                    top + (shape[0] - 1) / 2 * pixel_nm,
                ),
            )
            try:
                codes = self._draw(exposure, start_s, keep_going)
                return None if codes is None else codes[:rows, :columns].ravel()
            except LimitError:
                pass  # too small or too large to be drawn by itself
        field = self._whole_field(dwell_s, keep_going)
        y, x = np.mgrid[:rows, :columns]
        return self._at(
            field,
            region.x_start + x * region.x_step / _STEPS_PER_CODE,
            region.y_start + y * region.y_step / _STEPS_PER_CODE,
        ).ravel()

    def _whole_field(self, dwell_s: float, keep_going: Callable[[], bool]) -> Codes | None:
        now_s = self._world.clock.now_s()
        if self._field is not None and now_s - self._field[0] < _FIELD_LASTS_S:
            return self._field[1]
        shape = (_FIELD_PIXELS, _FIELD_PIXELS)
        exposure = ScanExposure((self._detector,), shape, self._full_scale_nm, dwell_s)
        self._frames += 1
        codes = self._draw(exposure, now_s - exposure.scan_time_s / 2, keep_going)
        if codes is not None:
            self._field = (now_s, codes)
        return codes

    def _at(self, field: Codes | None, x: NDArray[Any], y: NDArray[Any]) -> Codes:
        if field is None:
            return np.full(x.shape, self._dark, np.uint16)
        column, row = (
            np.clip(code * _FIELD_PIXELS / CODES, 0, _FIELD_PIXELS - 1).astype(np.intp)
            for code in (x, y)
        )
        return np.asarray(field[row, column], np.uint16)

    def _draw(
        self, exposure: ScanExposure, start_s: float, keep_going: Callable[[], bool]
    ) -> Codes | None:
        images = self._scan.draw(exposure, self._frames - 1, start_s, keep_going)
        if images is None:
            return None
        offset = self._world.settings.imaging.readout.offset
        per_count = self._codes_per_count * 1e-6 / exposure.dwell_time_s
        codes = self._dark + (images[self._detector] - offset) * per_count
        return np.clip(np.rint(codes), 0, HIGHEST).astype(np.uint16)

    def _park(self, x: float, y: float) -> None:
        """Leave the beam on a point, blanked or not, while it is ours."""
        if self._external:
            self._world.column.park(self._place(x), self._place(y))

    def _place(self, code: float) -> float:
        """Position of a code in the scan's frame, in nm."""
        return self._nm(code) - self._full_scale_nm / 2

    def _nm(self, codes: float) -> float:
        return codes / CODES * self._full_scale_nm


def dwell_s(field: int) -> float:
    """How long a pixel lasts."""
    return (field + 1) * CYCLE_S


def counted(field: int) -> int:
    """How many a count of a region stands for: 14 bits, and a counter that begins at one less."""
    return field & HIGHEST or CODES
