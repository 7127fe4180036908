"""Keeps the field of a map on the specimen: compares its images with the first one, and shifts the scan between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from acquire.engine.beamtime import BeamTime
from acquire.engine.earlier import MapBegan
from acquire.errors import HotstageError, LimitError, LinkError, MeasureError
from acquire.instruments import Frame, ScalarSpec
from acquire.units import show, show_duration

if TYPE_CHECKING:
    # scipy comes with it, for which a run without maps does not wait
    from acquire.measure.drift import Prepared, Registration

OFFSET_SCALARS = {
    "field_offset_x": ScalarSpec(
        "nm", "how far the specimen lay to the right of where the map's first image had it"
    ),
    "field_offset_y": ScalarSpec(
        "nm", "how far the specimen lay below where the map's first image had it"
    ),
    "field_offset_known": ScalarSpec("1", "1 if the last image before told that offset, else 0"),
}
"""Of every spectrum of a map with images. The offset is that of the last image that told one."""
DEADBAND_PX = 0.25
SIGMAS = 2.0
"""Offsets up to so many pixels of the images, or up to so many of their own σ, are left."""


class MapDrift:
    """Where the field of one map lies on the specimen, as its images tell; the first one is the measure.

    Every image is compared with the first, so that errors do not add up. An image that cannot be
    placed changes nothing: the field stays where it is, the spectra after it are marked, and a
    warning says so once. The field is never taken farther than ``max_shift_nm`` from where the map
    began.

    Args:
        time: of the run.
        name: of the map.
        detector: that the drift is seen with.
        correct: whether the scan is shifted, or the drift only told.
        max_shift_nm: bound of the correction, in this segment of a run that goes on.
        began: the map's first image, if an earlier segment took it.
    """

    def __init__(
        self,
        time: BeamTime,
        name: str,
        detector: str,
        *,
        correct: bool,
        max_shift_nm: float,
        began: MapBegan | None = None,
    ) -> None:
        import acquire.measure.drift  # noqa: F401 - the preflight waits for it, and not the run

        self._time = time
        self._run = time.run
        self._name = name
        self._detector = detector
        self._correct = correct
        self._max_nm = max_shift_nm
        self._first = _earlier(began)
        """What all later images are compared with."""
        self._began_nm = time.run.shifts.present
        self._offset_nm = (0.0, 0.0)
        self._known = False

    @property
    def scalars(self) -> dict[str, float]:
        """What is recorded of the spectra that come now."""
        values = (*self._offset_nm, float(self._known))
        return dict(zip(OFFSET_SCALARS, values, strict=True))

    def look(self, frame: Frame, pixel_nm: float, *, last: bool = False) -> None:
        """Place the field by an image, and bring it back if that is wanted.

        Args:
            frame: as it was recorded.
            pixel_nm: size of its pixels.
            last: nothing follows that the field would have to be brought back for.

        Raises:
            LinkError: the scan does not answer, and the recipe does not wait for it.
        """
        if not self._run.enforce:
            return  # a preflight's images are empty
        from acquire.measure.drift import prepare, register

        try:
            image = prepare(frame.data[self._detector], pixel_nm)
            if self._first is None:
                # one in which nothing is to be seen cannot be the measure of the others
                self._known = image.usable
                self._first = image if image.usable else None
                if not image.usable:
                    self._lost(image.flags)
                return
            found = register(self._first, image, pixel_nm)
        except MeasureError as error:
            self._lost((str(error),))
            return
        if not found.found:
            self._lost(found.flags)
            return
        self._offset_nm, self._known = (found.dx_nm, found.dy_nm), True
        self._tell(frame, found)
        if self._correct and not last:
            self._bring_back(found, pixel_nm)

    def _lost(self, why: tuple[str, ...]) -> None:
        self._known = False
        self._run.warn(
            f"where the field of {self._name!r} lies cannot be told from its images "
            f"({', '.join(why)}): the map goes on uncorrected, and field_offset_known marks its "
            "spectra. Give the images a wider margin, or more dwell time."
        )

    def _tell(self, frame: Frame, found: Registration) -> None:
        x_nm, y_nm = self._offset_nm
        self._run.note(
            "map drift",
            f"{self._name}: the specimen lies ({x_nm:.2f}, {y_nm:.2f}) nm from where image 1 had it",
            {
                "stream": self._name,
                "image": frame.index,
                "t_s": (frame.t_start_s + frame.t_end_s) / 2,
                "offset_x_nm": x_nm,
                "offset_y_nm": y_nm,
                "sigma_nm": found.sigma_nm,
                "method": found.method,
            },
        )

    def _bring_back(self, found: Registration, pixel_nm: float) -> None:
        run, (dx_nm, dy_nm) = self._run, self._offset_nm
        if math.hypot(dx_nm, dy_nm) <= max(DEADBAND_PX * pixel_nm, SIGMAS * found.sigma_nm):
            return
        x_nm, y_nm = run.shifts.present
        farthest = math.hypot(x_nm + dx_nm - self._began_nm[0], y_nm + dy_nm - self._began_nm[1])
        if farthest > self._max_nm:
            self._refused(
                f"it would take the field {show(farthest, 'nm')} from where the map began, and "
                f"max_shift is {show(self._max_nm, 'nm')}"
            )
            return
        began_s = run.now_s()
        try:
            run.station.scan.shift(dx_nm, dy_nm)
        except LinkError as error:
            # whether it was shifted the next image shows: nothing is commanded twice
            run.warn(
                f"whether the scan was shifted by ({dx_nm:.2f}, {dy_nm:.2f}) nm at run time "
                f"{show_duration(run.now_s())} is not known: {error} Scan shifts and offsets of "
                f"{self._name!r} may be wrong by that much until its next image."
            )
            self._known = False
            self._time.scan_link.failed(error)
            return
        except LimitError as error:
            self._refused(str(error))
            return
        except HotstageError as error:
            self._refused(f"the scan could not be shifted: {error}")
            return
        run.shifts.moved(began_s, run.now_s(), dx_nm, dy_nm)
        self._offset_nm = 0.0, 0.0
        x_nm, y_nm = run.shifts.present
        run.note(
            "correction",
            f"{self._name}: field brought back by ({dx_nm:.2f}, {dy_nm:.2f}) nm",
            {"stream": self._name, "shift_x_nm": x_nm, "shift_y_nm": y_nm, "corrections": 1},
        )

    def _refused(self, why: str) -> None:
        self._correct = False
        self._run.warn(
            f"the drift of {self._name!r} is not corrected any more: {why}. Its images go on telling "
            "where the field lies."
        )


def _earlier(began: MapBegan | None) -> Prepared | None:
    """The first image of a map that goes on; None if it can be no measure."""
    if began is None:
        return None
    from acquire.measure.drift import prepare

    try:
        image = prepare(began.image, began.pixel_nm)
    except MeasureError:
        return None
    return image if image.usable else None
