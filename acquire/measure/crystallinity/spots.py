"""Tells crystals from droplets: spots of the local spectrum at the lattice's spacings, particle by particle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import AnyArray
from acquire.measure.crystallinity.spectra import (
    FilmSpectrum,
    Image,
    Plane,
    cut,
    film_centres,
    film_spectrum,
    plane,
    power_spectra,
    without_slow,
)
from acquire.measure.crystallinity.statistics import detection_power, false_alarm, threshold
from acquire.measure.crystallinity.windows import Window, round_window, size_class
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags

Array = NDArray[np.float64]

NICKEL_NM = (0.353 / math.sqrt(3.0), 0.353 / 2.0)
"""{111} and {200} of fcc nickel, a = 0.353 nm."""
_FEWEST_FILM_PATCHES = 6
_WHOLE = 0.7
"""Share of the window's weight that must lie in the image."""
_ENOUGH_POWER = 0.5

COLUMNS: Mapping[str, str] = {
    "crystalline": "1",
    "judged": "1",
    "spot_snr": "1",
    "false_alarm": "1",
    "power": "1",
    "spacing_nm": "nm",
    "spacing_sigma_nm": "nm",
    "spot_angle_rad": "rad",
    "spot_angle_sigma_rad": "rad",
}
"""Columns that :func:`measure_crystallinity` gives for every particle, and their units.

``crystalline`` int, 1 where a spot was found; ``judged`` int, 1 where it was, or a crystal would have
shown with a chance of at least one half; ``spot_snr`` highest amplitude in the searched part of the
spectrum over that of the noise there; ``false_alarm`` chance that noise reaches it; ``power`` chance
to find a crystal of the expected fringe contrast; ``spacing_nm`` and ``spot_angle_rad`` of the spot
found, else NaN: the angle is that of its wave vector, from x towards y, in (-π/2, π/2].
"""


@dataclass(frozen=True, slots=True)
class CrystalOptions:
    """What counts as a crystal."""

    spacings_nm: tuple[float, ...] = NICKEL_NM
    """Lattice spacings, one of which must show."""
    tolerance: float = 0.03
    """Relative half-width of the search about each of them."""
    false_positive_rate: float = 0.001
    """Chance that an amorphous particle is taken for a crystal, per particle and image."""
    fringe_contrast: float = 0.1
    """Amplitude of a crystal's fringes over the particle's own mean contrast, from which the power follows."""
    largest_window_nm: float = 4.0
    """Larger particles are looked at in a window of this radius in their middle."""
    polarity: Literal["bright", "dark"] = "bright"
    dark_level: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("tolerance", 0.0, 0.2),
            ("false_positive_rate", 0.0, 0.5),
            ("fringe_contrast", 0.0, 2.0),
        ):
            value = getattr(self, name)
            if not low < value <= high:
                raise MeasureError(
                    f"{name} = {value!r} cannot be used: it must be above {low:g} and at most {high:g}."
                )
        if not self.spacings_nm or not all(0 < d < math.inf for d in self.spacings_nm):
            raise MeasureError(
                f"spacings_nm = {self.spacings_nm!r} cannot be used: one or more positive lengths "
                "in nm are needed."
            )


@dataclass(frozen=True, slots=True)
class Crystallinity:
    """What one image says of its particles' crystals."""

    table: Mapping[str, AnyArray]
    """Columns as in :data:`COLUMNS`, one row per particle given."""
    flags: tuple[str, ...]

    @property
    def crystalline(self) -> NDArray[np.bool_]:
        """Which particles show a spot."""
        return np.asarray(np.asarray(self.table["crystalline"]) != 0)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Of which particles something can be said."""
        return np.asarray(np.asarray(self.table["judged"]) != 0)


def measure_crystallinity(
    image: NDArray[Any],
    pixel_size_nm: float,
    places_nm: Array,
    radii_nm: Array,
    options: CrystalOptions | None = None,
) -> Crystallinity:
    """Look for lattice fringes within the footprint of every particle of an image (y, x).

    Args:
        image: integers or floats (y, x).
        pixel_size_nm: of the square pixels.
        places_nm: centres (n, 2) as (y, x) from the image's top-left corner.
        radii_nm: footprint radii (n,).
        options: spacings, rates.

    A round Hann window ends where the footprint does. The power in it is compared to that of the
    noise, whose dependence on the wave vector comes from patches of bare film with the same window,
    and whose strength comes from the particle's own spectrum away from the wanted spacings. Where the
    film has spots of its own (its lattice, or a disturbance of the scan), nothing is searched.

    Flags: ``pixel_too_coarse`` (no wanted spacing has two pixels; nothing is judged), ``no_film`` (too
    little bare film to know its spots; nothing is judged), ``no_power`` (at least half of the particles
    are too faint for their crystals to show), ``no_particles``, and those of the image (``saturated``,
    ``blank``, ``constant``, ``nonfinite``: with the last three nothing is judged).

    Raises:
        MeasureError: the array is no image, or pixel size or places cannot be used.
    """
    options = options or CrystalOptions()
    image = np.asarray(image)
    check_image(image, pixel_size_nm)
    places, radii = _checked(places_nm, radii_nm)
    flags = image_flags(image, options.dark_level)
    table = unjudged(len(places))
    bands = _bands(options, pixel_size_nm)
    if not bands:
        flags = (*flags, "pixel_too_coarse")
    if UNMEASURABLE.intersection(flags) or not bands:
        return Crystallinity(table, flags)
    if len(places) == 0:
        return Crystallinity(table, (*flags, "no_particles"))
    fast, slow = without_slow(image, pixel_size_nm, _slowest(bands))
    slow -= np.float32(options.dark_level)
    inside = np.minimum(radii, options.largest_window_nm)
    classes = np.array([size_class(max(r, 2.0 * pixel_size_nm)) for r in inside])
    lacking = False
    for radius in np.unique(classes):
        which = np.flatnonzero(classes == radius)
        window = round_window(float(radius), pixel_size_nm)
        film_at = film_centres(
            image.shape, places / pixel_size_nm, 1.1 * radii / pixel_size_nm, window.half_px
        )
        if len(film_at) < _FEWEST_FILM_PATCHES:
            lacking = True
            continue
        search = _search(film_spectrum(fast, slow, film_at, window), window, bands)
        centres = np.floor(places[which] / pixel_size_nm).astype(np.intp)
        rows = _look(fast, slow, centres, search, options)
        for name, column in rows.items():
            table[name][which] = column
    if lacking:
        flags = (*flags, "no_film")
    if 2 * np.count_nonzero(table["judged"] == 0) >= len(places) and not lacking:
        flags = (*flags, "no_power")
    return Crystallinity(table, flags)


def unjudged(count: int) -> dict[str, AnyArray]:
    """The table of particles of which nothing can be said."""
    table: dict[str, AnyArray] = {name: np.full(count, np.nan) for name in COLUMNS}
    table["crystalline"] = np.zeros(count, np.int64)
    table["judged"] = np.zeros(count, np.int64)
    table["power"] = np.zeros(count)
    return table


def _checked(places_nm: Array, radii_nm: Array) -> tuple[Array, Array]:
    places = np.asarray(places_nm, np.float64).reshape(-1, 2)
    radii = np.asarray(radii_nm, np.float64).ravel()
    if len(places) != len(radii):
        raise MeasureError(
            f"{len(places)} places and {len(radii)} radii were given: one radius per particle is needed."
        )
    if not (np.isfinite(places).all() and np.isfinite(radii).all() and (radii > 0).all()):
        raise MeasureError(
            "places and radii of particles must be finite, and radii positive; leave out the others."
        )
    return places, radii


def _bands(options: CrystalOptions, pixel_size_nm: float) -> list[tuple[float, float]]:
    """Lengths of the wave vectors in 1/nm that are searched: of those spacings that two pixels resolve."""
    resolved = [d for d in options.spacings_nm if d * (1 - options.tolerance) >= 2 * pixel_size_nm]
    return [
        (1 / (d * (1 + options.tolerance)), 1 / (d * (1 - options.tolerance))) for d in resolved
    ]


def _slowest(bands: list[tuple[float, float]]) -> float:
    return 0.6 * min(low for low, _ in bands)


@dataclass(frozen=True)
class _Search:
    """Where in the spectrum of a window is looked, and what noise does there."""

    window: Window
    film: FilmSpectrum
    plane: Plane
    wanted: NDArray[np.bool_]
    gauge: NDArray[np.bool_]
    """From where the strength of the noise is taken."""
    area: float
    half_perimeter: float
    cells: float

    def threshold(self, rate: float) -> float:
        """Power over the noise's mean that noise exceeds with the chance ``rate``."""
        where = self.area, self.half_perimeter, self.window.roughness_nm2, self.cells
        return threshold(rate, *where)

    def false_alarm(self, power: float) -> float:
        """Chance that noise reaches a power over its mean."""
        where = self.area, self.half_perimeter, self.window.roughness_nm2, self.cells
        return false_alarm(power, *where)


def _search(film: FilmSpectrum, window: Window, bands: list[tuple[float, float]]) -> _Search:
    waves = plane(window.transform_px, window.pixel_size_nm)
    wanted = np.zeros(waves.k.shape, bool)
    for low, high in bands:
        # at least one step wide, however coarse the transform
        spare = max(0.0, 0.5 * (waves.step_per_nm - (high - low)))
        wanted |= waves.ring(low - spare, high + spare)
    whole = int(wanted.sum())
    wanted &= film.clear
    around = 0.5 * math.pi * sum(low + high for low, high in bands)
    highest = 0.95 * 0.5 / window.pixel_size_nm
    gauge = waves.ring(_slowest(bands), max(highest, bands[0][1])) & film.clear
    cell = window.cell_per_nm2
    return _Search(
        window,
        film,
        waves,
        wanted,
        gauge,
        area=float(wanted.sum()) * waves.step_per_nm**2,
        half_perimeter=around * float(wanted.sum()) / max(whole, 1),
        # a median of n exponential values scatters as a mean of n/2
        cells=max(4.0, 0.5 * float(gauge.sum()) * waves.step_per_nm**2 / cell),
    )


def _look(
    fast: Image,
    slow: Image,
    centres: NDArray[np.intp],
    search: _Search,
    options: CrystalOptions,
) -> dict[str, AnyArray]:
    """Rows of the table for particles of one size of window, about pixels (n, 2)."""
    window, film = search.window, search.film
    rows = unjudged(len(centres))
    if not search.wanted.any():
        return rows
    inside = [(centres[:, axis] >= 0) & (centres[:, axis] < fast.shape[axis]) for axis in (0, 1)]
    present = np.flatnonzero(inside[0] & inside[1])
    if len(present) == 0:
        return rows
    total = float(window.weights.sum())
    bare = cut(np.ones_like(slow), centres[present], window.half_px)
    share = np.einsum("nij,ij->n", bare, window.weights) / total
    present = present[share >= _WHOLE]
    if len(present) == 0:
        return rows
    spectra = power_spectra(fast, centres[present], window)
    noise = np.median((spectra / film.noise)[:, search.gauge], axis=1) / math.log(2.0)
    height = np.einsum("nij,ij->n", cut(slow, centres[present], window.half_px), window.weights)
    excess = np.maximum(
        (height / total - film.counts) * (1.0 if options.polarity == "bright" else -1.0), 0.0
    )
    typical = float(np.median(film.noise[search.wanted]))
    expected = (0.5 * options.fringe_contrast * excess * total) ** 2 / (noise * typical)
    needed = search.threshold(options.false_positive_rate)
    power = detection_power(expected, np.full(len(present), needed))
    for n, row in enumerate(present.tolist()):
        ratio = spectra[n] / (film.level * np.float32(noise[n]))
        spot = _highest(ratio, search)
        found = spot.power >= needed and spot.peaked
        rows["crystalline"][row] = int(found)
        rows["spot_snr"][row] = math.sqrt(spot.power)
        rows["false_alarm"][row] = search.false_alarm(spot.power)
        rows["power"][row] = power[n]
        rows["judged"][row] = int(found or power[n] >= _ENOUGH_POWER)
        if found:
            length = math.hypot(spot.ky, spot.kx)
            # a peak moves by the noise's gradient over the peak's curvature
            sigma_k = math.sqrt(window.roughness_nm2 / (2.0 * spot.power)) / (
                (2.0 * math.pi) ** 2 * window.spread_nm2
            )
            rows["spacing_nm"][row] = 1.0 / length
            rows["spacing_sigma_nm"][row] = sigma_k / length**2
            rows["spot_angle_rad"][row] = math.atan(spot.ky / spot.kx) if spot.kx else math.pi / 2
            rows["spot_angle_sigma_rad"][row] = sigma_k / length
    return rows


@dataclass(frozen=True)
class _Spot:
    power: float
    ky: float
    kx: float
    peaked: bool
    """Whether it is higher than all about it: the tail of something outside is not."""


def _highest(ratio: Image, search: _Search) -> _Spot:
    """The highest searched point of a spectrum over its noise, its place refined by a parabola."""
    waves = search.plane
    at = int(np.argmax(np.where(search.wanted, ratio, -1.0)))
    i, j = divmod(at, ratio.shape[1])
    around = _around(ratio, i, j)
    shifts = []
    logs = np.log(np.maximum(around, 1e-12))
    for low, middle, high in (logs[:, 1], logs[1, :]):
        bend = low - 2 * middle + high
        shifts.append(float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0)
    step = waves.step_per_nm
    return _Spot(
        float(ratio[i, j]),
        float(waves.ky[i, 0]) + shifts[0] * step,
        float(waves.kx[0, j]) + shifts[1] * step,
        bool(around[1, 1] >= around.max()),
    )


def _around(ratio: Image, i: int, j: int) -> Array:
    """The 3 × 3 values about a point, beyond the half plane those of the opposite wave vectors."""
    rows, columns = ratio.shape
    values = np.empty((3, 3))
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            y, x = i + a, j + b
            if x < 0 or x >= columns:
                y, x = -y, -x if x < 0 else rows - x
            values[a + 1, b + 1] = ratio[y % rows, x]
    return values
