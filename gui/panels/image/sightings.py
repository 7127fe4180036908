"""What this window was shown of every particle: a bounded store for trails, growth and curves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from gui.panels.image.particles import Floats, Ints, Particles

MOST_ROWS = 150_000
"""Particles times frames that are kept, about 10 MB; the oldest frames go first."""
MOST_FRAMES = 2_000
TRAIL_FRAMES = 240
"""As far back as trails reach, if so many were shown."""
TRAIL_POINTS = 24
TRAIL_ROWS = 5_000
"""More points than that would cost more time than trails are worth."""
_GROWTH_FRAMES = 60
_FEWEST_FOR_GROWTH = 6


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame."""

    index: int
    t_s: float
    place_nm: tuple[float, float]
    """(x, y) of the specimen in the image, relative to the first."""
    particles: Particles


@dataclass(frozen=True, slots=True)
class Course:
    """One particle over the frames in which it was shown; arrays are (n,)."""

    t_s: Floats
    diameter_nm: Floats
    sigma_nm: Floats


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through the newest diameters of one particle."""

    rate_nm_per_min: float
    sigma_nm_per_min: float
    """From the scatter about the line."""
    frames: int


class Sightings:
    """Frames in rising order; one that does not rise begins anew."""

    def __init__(self) -> None:
        self._frames: deque[Shown] = deque(maxlen=MOST_FRAMES)
        self._rows = 0
        self._added = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def newest(self) -> Shown | None:
        """The frame that was taken last."""
        return self._frames[-1] if self._frames else None

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._rows = 0

    def add(self, shown: Shown) -> bool:
        """Take a frame; False if it is the one that was taken last."""
        last = self._frames[-1] if self._frames else None
        if last is not None and last.index == shown.index:
            return False
        if last is not None and (shown.index < last.index or shown.t_s <= last.t_s):
            self.clear()
        if len(self._frames) == MOST_FRAMES:
            self._drop()
        self._frames.append(shown)
        self._added += 1
        self._rows += len(shown.particles)
        while self._rows > MOST_ROWS and len(self._frames) > 1:
            self._drop()
        return True

    def _drop(self) -> None:
        self._rows -= len(self._frames.popleft().particles)

    def course(self, track: int, frames: int = MOST_FRAMES) -> Course:
        """A particle's diameters in the newest frames that it was in."""
        found: list[tuple[float, float, float]] = []
        for shown in list(self._frames)[-frames:]:
            row = shown.particles.row_of(track)
            if row >= 0:
                found.append(
                    (
                        shown.t_s,
                        float(shown.particles.diameter_nm[row]),
                        float(shown.particles.sigma_nm[row]),
                    )
                )
        columns = np.array(found, dtype=np.float64).reshape(-1, 3)
        return Course(columns[:, 0], columns[:, 1], columns[:, 2])

    def growth(self, track: int) -> Growth | None:
        """How fast a particle grows; None while too little of it was shown."""
        course = self.course(track, _GROWTH_FRAMES)
        known = np.isfinite(course.diameter_nm)
        minutes, diameter = course.t_s[known] / 60, course.diameter_nm[known]
        n = len(minutes)
        if n < _FEWEST_FOR_GROWTH:
            return None
        from_middle = minutes - minutes.mean()
        spread = float(from_middle @ from_middle)
        slope = float(from_middle @ diameter) / spread
        rest = diameter - diameter.mean() - slope * from_middle
        return Growth(slope, float(np.sqrt(rest @ rest / (n - 2) / spread)), n)

    def trails(self, still_at: tuple[float, float] | None) -> tuple[Ints, Floats, Floats]:
        """Where the particles of the last frame were lately: tracks (n,) and x, y (n,), track by track.

        In the image as each frame showed it, or, with the place that the view is held at, on the
        specimen.
        """
        if not self._frames:
            return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        last = self._frames[-1].particles
        points = min(TRAIL_POINTS, max(2, TRAIL_ROWS // max(1, len(last))))
        recent = self._spaced(points)
        moved = [_moved(shown, still_at) for shown in recent]
        track = np.concatenate([shown.particles.track for shown in recent])
        x = np.concatenate([s.particles.x_nm - m[0] for s, m in zip(recent, moved, strict=True)])
        y = np.concatenate([s.particles.y_nm - m[1] for s, m in zip(recent, moved, strict=True)])
        kept = (track >= 0) & np.isin(track, last.track)
        order = np.argsort(track[kept], kind="stable")
        return track[kept][order], x[kept][order], y[kept][order]

    def _spaced(self, points: int) -> list[Shown]:
        """Some of the last frames, evenly spaced, and the newest; the same ones for as long as they count."""
        recent = list(self._frames)[-TRAIL_FRAMES:]
        every = max(1, -(-len(recent) // points))
        first = self._added - len(recent)
        kept = [shown for n, shown in enumerate(recent[:-1], start=first) if n % every == 0]
        return [*kept, recent[-1]]


def _moved(shown: Shown, still_at: tuple[float, float] | None) -> tuple[float, float]:
    if still_at is None:
        return 0.0, 0.0
    return shown.place_nm[0] - still_at[0], shown.place_nm[1] - still_at[1]
