"""Moves every frame back by its drift, so that the specimen stands still in the view."""

from __future__ import annotations

import math

from acquire.engine.status import LiveImage
from gui.words import tr


class Standstill:
    """Nothing is resampled: the whole frame is drawn elsewhere."""

    def __init__(self) -> None:
        self.on = False
        self.place_nm = (0.0, 0.0)
        """(x, y) of the specimen in the newest frame, relative to the stream's first; as it was
        last where it was not measured."""
        self._held_at: tuple[float, float] | None = None
        self._known = False
        self._stream = ""

    def hold(self, on: bool) -> None:
        """Hold it where it is now, or let it go."""
        self.on = on
        self._held_at = None

    def place(self, image: LiveImage) -> None:
        """Take the place of the frame that is to be drawn."""
        if image.stream != self._stream:
            self._stream = image.stream
            self.place_nm, self._held_at = (0.0, 0.0), None
        self._known = image.place_index >= 0 and math.isfinite(image.place_x_nm)
        if self._known:
            self.place_nm = (image.place_x_nm, image.place_y_nm)
            if self.on and self._held_at is None:
                self._held_at = self.place_nm

    @property
    def held_at(self) -> tuple[float, float] | None:
        """The place at which it is held; None while nothing is."""
        return self._held_at if self.on else None

    @property
    def origin_nm(self) -> tuple[float, float]:
        """Where the corner of the frame is drawn."""
        if self.held_at is None:
            return 0.0, 0.0
        return self.held_at[0] - self.place_nm[0], self.held_at[1] - self.place_nm[1]

    def words(self, image: LiveImage) -> str:
        """Whether it stands still, and how far it has moved."""
        if not self._known or self.held_at is None:
            return tr("not held still: this stream's drift is not measured")
        x, y = self.origin_nm
        across = tr("left") if x > 0 else tr("right")
        along = tr("up") if y > 0 else tr("down")
        said = tr("held still; drifted {x:.1f} nm {across}, {y:.1f} nm {along}").format(
            x=abs(x), across=across, y=abs(y), along=along
        )
        behind = image.index - image.place_index
        if behind:
            ago = tr("1 frame ago") if behind == 1 else tr("{n} frames ago").format(n=behind)
            said += tr(" ({ago})").format(ago=ago)
        return said
