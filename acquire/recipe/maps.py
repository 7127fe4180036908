"""The step that takes a map: spectra at the points of a grid, in one pass or several, and images of the same field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from acquire.instruments import ScanExposure
from acquire.recipe.schema import Name, Point, SpectrumSettings, Strict
from acquire.recipe.step import Step
from acquire.units import Nanometres, Seconds, show, show_duration

POINTS_AT_MOST = 100_000
"""Spectra of one map, all passes together: as many as a line scan may have."""
LEAST_IMAGE_PX = 32
"""A side of images in which the drift can be seen."""
SQUARE = 1e-3
"""By so much the sides of a point may differ where images are taken, whose pixels are square."""


class MapImages(Strict):
    """Images of the mapped area: on its grid, each point divided into whole pixels, or of a size of their own."""

    detectors: tuple[str, ...] = Field(min_length=1)
    """The drift is seen with the first one."""
    dwell_time: Seconds = Field(gt=0)
    pixels_per_point: int = Field(default=1, ge=1, le=256, strict=True)
    """Pixels along the side of a point."""
    margin: Nanometres = Field(default=0.0, ge=0)
    """What the images show beyond the map on every side, rounded up to whole pixels: a small map may
    hold nothing by which it is found again."""
    size: int | None = Field(default=None, ge=LEAST_IMAGE_PX, strict=True)
    """Pixels along the side of a square image around the map's middle instead, for scans that take some
    sizes only; with ``field_of_view``."""
    field_of_view: Nanometres | None = Field(default=None, gt=0)

    @field_validator("detectors")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a detector twice")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> MapImages:
        if (self.size is None) != (self.field_of_view is None):
            raise ValueError(
                "'size' and 'field_of_view' go together, for images off the map's grid"
            )
        if self.size is not None and self.model_fields_set & {"pixels_per_point", "margin"}:
            raise ValueError(
                "say 'size' and 'field_of_view', or 'pixels_per_point' and 'margin', not both"
            )
        return self


@dataclass(frozen=True, slots=True)
class MapPoint:
    """One spectrum of a map."""

    pass_: int
    row: int
    column: int
    position_nm: tuple[float, float]
    """Centre of the point (x, y), where positions of the recipe count from."""


class SpectrumImage(Step):
    """Take spectra at the points of a grid.

    ``from`` and ``to`` are the top left and the bottom right corner of the mapped area, as positions
    of a line scan; the points are the centres of its ``rows × columns`` equal parts. The points of a
    pass are taken row by row, each row from the left.
    """

    kind: ClassVar[str] = "spectrum_image"
    from_: Point = Field(alias="from")
    to: Point
    shape: tuple[int, int]
    """Rows, columns."""
    spectra: SpectrumSettings
    passes: int = Field(default=1, ge=1, strict=True)
    images: MapImages | None = None
    """Taken before every pass and after the last one, where the drift is corrected by rows also
    before every row."""
    drift_correct: Literal["never", "passes", "rows"] = "never"
    """Between what the field is brought back by scan shift to where the first image found it."""
    max_shift: Nanometres = Field(default=100.0, gt=0)
    """Farthest from there."""
    name: Name = "spectrum_image"
    _done: int = PrivateAttr(default=0)

    @field_validator("shape", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(type(number) is int and number >= 1 for number in value)
        ):
            return tuple(value)
        raise ValueError("write [rows, columns] as whole numbers, for example [20, 30]")

    @field_validator("drift_correct", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("is never, passes or rows; write one of these words")
        return value

    @model_validator(mode="after")
    def _possible(self) -> SpectrumImage:
        (x0, y0), (x1, y1) = self.from_, self.to
        if not (x1 > x0 and y1 > y0):
            raise ValueError(
                "'to' must lie further right and further down than 'from': they are the top left and "
                "the bottom right corner of the map"
            )
        if self.points < 2:
            raise ValueError("a map of one point is none; use a 'spectrum' step")
        if self.points > POINTS_AT_MOST:
            raise ValueError(
                f"{self.points} spectra are too many for a map; at most {POINTS_AT_MOST} are taken, "
                "all passes together"
            )
        self._check_images()
        return self

    def _check_images(self) -> None:
        if self.drift_correct != "never" and self.images is None:
            raise ValueError(
                f"drift_correct: {self.drift_correct} needs images to see the drift in; give the step "
                "'images', for example {detectors: [haadf], dwell_time: 2 µs, pixels_per_point: 4}"
            )
        if self.drift_correct == "passes" and self.passes == 1:
            raise ValueError(
                "drift_correct: passes corrects between passes, and there is one; write rows, or more "
                "passes"
            )
        if self.images is None:
            return
        self._check_field(self.images)
        least = min(self.image_exposure((0.0, 0.0)).shape)
        if self.drift_correct != "never" and least < LEAST_IMAGE_PX:
            raise ValueError(
                f"the images would have {least} pixels along a side, and the drift is seen in "
                f"{LEAST_IMAGE_PX} or more; raise images.pixels_per_point or images.margin"
            )

    def _check_field(self, images: MapImages) -> None:
        width, height = self.spacing_xy_nm
        if images.field_of_view is not None:
            longer = max(width * self.shape[1], height * self.shape[0])
            if images.field_of_view < longer:
                raise ValueError(
                    f"the map is {show(longer, 'nm')} long, and images.field_of_view is "
                    f"{show(images.field_of_view, 'nm')}; the images must hold the map"
                )
            return
        if abs(width - height) > SQUARE * width:
            bottom = self.from_[1] + self.shape[0] * width
            raise ValueError(
                f"a point would be {show(width, 'nm')} wide and {show(height, 'nm')} high, and the "
                "pixels of images are square; move 'to' to "
                f"[{show(self.to[0], 'nm', 6)}, {show(bottom, 'nm', 6)}], or change the shape"
            )

    @property
    def points(self) -> int:
        """Spectra, all passes together."""
        return self.passes * self.shape[0] * self.shape[1]

    @property
    def spacing_xy_nm(self) -> tuple[float, float]:
        """Width and height of a point."""
        (x0, y0), (x1, y1) = self.from_, self.to
        return (x1 - x0) / self.shape[1], (y1 - y0) / self.shape[0]

    @property
    def spacing_nm(self) -> float:
        """Side of the square that is as large as a point, for the dose."""
        return math.sqrt(math.prod(self.spacing_xy_nm))

    @property
    def done(self) -> int:
        """Spectra that were taken before, by the run that this one continues."""
        return self._done

    def after(self, done: int) -> SpectrumImage:
        """The rest of the map when so many of its spectra are taken."""
        step = self.model_copy()
        step._done = self._done + done
        return step

    def places(self) -> Iterator[MapPoint]:
        """The points that are still to be taken, in the order in which they are."""
        rows, columns = self.shape
        (left, top), (width, height) = self.from_, self.spacing_xy_nm
        for number in range(self._done, self.points):
            pass_, rest = divmod(number, rows * columns)
            row, column = divmod(rest, columns)
            place = left + (column + 0.5) * width, top + (row + 0.5) * height
            yield MapPoint(pass_, row, column, place)

    def begins(self, place: MapPoint) -> bool:
        """Whether images are due before a point."""
        starts_row = place.column == 0
        return starts_row and (place.row == 0 or self.drift_correct == "rows")

    def image_exposure(self, corner_nm: tuple[float, float]) -> ScanExposure:
        """How the images are taken.

        Args:
            corner_nm: where positions count from, in the scan's own frame.
        """
        images = self.images
        assert images is not None
        if images.size is not None and images.field_of_view is not None:
            rows = columns = images.size
            width_nm = images.field_of_view
        else:
            pixel_nm = self.spacing_xy_nm[0] / images.pixels_per_point
            beyond = math.ceil(images.margin / pixel_nm - 1e-9)
            rows, columns = (n * images.pixels_per_point + 2 * beyond for n in self.shape)
            width_nm = columns * pixel_nm
        middle = [
            corner + (a + b) / 2
            for corner, a, b in zip(corner_nm, self.from_, self.to, strict=True)
        ]
        return ScanExposure(
            images.detectors,
            (rows, columns),
            width_nm,
            images.dwell_time,
            center_nm=(middle[0], middle[1]),
        )

    @property
    def images_name(self) -> str:
        """Of the stream of its images."""
        return f"{self.name}_images"

    @property
    def image_count(self) -> int:
        """How many images belong to the whole map; 0 without."""
        if self.images is None:
            return 0
        return self.passes * (self.shape[0] if self.drift_correct == "rows" else 1) + 1

    @property
    def least_duration_s(self) -> float:
        """Exposures alone."""
        exposed_s = (self.points - self._done) * self.spectra.exposed_s
        if self.images is None:
            return exposed_s
        return exposed_s + self.image_count * self.image_exposure((0.0, 0.0)).scan_time_s

    def __str__(self) -> str:
        rows, columns = self.shape
        low, high = self.spectra.range
        passes = f", {self.passes} passes" if self.passes > 1 else ""
        rest = f", from spectrum {self._done + 1} on" if self._done else ""
        return (
            f"spectrum image, {rows} × {columns} points{passes}, {low:g}–{high:g} eV, "
            f"{show_duration(self.spectra.dwell_time)} each{rest}"
        )
