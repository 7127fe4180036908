"""Explains an island by the upper surface of domes: adds the highest that pays, fits all, drops what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from acquire.measure.particles.arrays import negative_side_sigma
from acquire.measure.particles.islands import find_peaks
from acquire.measure.particles.noise import FilmNoise
from acquire.measure.particles.settle import misfit_in, room_of, settle
from acquire.measure.particles.smoothing import smooth
from acquire.measure.particles.surface import fit_beside, neighbours, raise_surface
from acquire.measure.particles.suspects import FEWEST, steepness_of

_PAYS = 20.0
"""χ² that a dome must gain, in units that count texture as noise."""
_TEXTURE_SHARE = 0.6
"""Of the texture's variance on a dome's scale that is not told from it: edges are, by the fit."""
_STANDS_OUT = 0.06
"""A dome must stand out of the others by this share of its height: forms are no better known."""
_PEAK_SNR = 4.0
_SMOOTH = 1.2
"""In blocks, for the search of maxima."""
_FEWEST_BLOCKS = 3.0
_ROUNDS = 6
_SWEEPS = 8
_BARE = 0.7
"""A dome of which this share is seen tells its steepness."""
_DOUBLE = 0.35


@dataclass(frozen=True)
class SurfaceModel:
    """What a fit needs beside the domes; lengths in blocks."""

    image: NDArray[np.float32]
    values: NDArray[np.float64]
    blur: float
    white: float
    """Variance of a block of the film."""
    shot: int
    steepness: float
    spread: float
    """About it, of the logarithm of heights."""
    areas: NDArray[np.float64]
    inflation: NDArray[np.float64]
    """By how much texture widens the noise of a mean over such areas."""
    largest: float
    lowest: float
    """Height below which a dome by itself would not have been found."""

    @property
    def how(self) -> tuple[NDArray[np.float64], float, float, int, float, float]:
        """What the compiled fits take."""
        return self.values, self.blur, self.white, self.shot, self.steepness, self.spread

    def possible(self, domes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which domes (n, 4) are neither larger nor fainter than a particle can be."""
        return np.asarray((domes[:, 2] < self.largest) & (domes[:, 3] > self.lowest))

    def surface(self, domes: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Upper surface (y, x) of domes and the number of the one that is seen, -1 for none."""
        surface = np.zeros(self.image.shape, np.float32)
        owner = np.full(self.image.shape, -1, np.int32)
        raise_surface(surface, owner, domes, np.arange(len(domes)), self.values, self.blur, 0, 0)
        return surface, owner

    def pays(
        self, gain: NDArray[np.float64], shown: NDArray[np.float64], height: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """χ² gained, counted as if texture were noise, over what is asked for; 1 is just enough."""
        area = np.maximum(shown, 1.0)
        texture = np.interp(area, self.areas, self.inflation)
        gain = np.maximum(gain, 0.0)
        bright = np.maximum(1.0 + self.shot * height, 0.2)
        clear = gain / (1.0 + _TEXTURE_SHARE * texture * bright) / _PAYS
        out = np.sqrt(gain * self.white * bright / area) / (_STANDS_OUT * height)
        return np.where(shown >= _FEWEST_BLOCKS, np.minimum(clear, out), 0.0)


def inflation_by_area(
    noise: FilmNoise, factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas in blocks, and the variance that texture adds to means over discs of such areas, over white.

    Two points of a disc of radius r are s apart with the density
    4 s / (π r²) · arccos(s / 2r) - 2 s² / (π r³) · √(1 - s² / 4r²).
    """
    areas = np.geomspace(1.0, 1e4, 24)
    radius = np.sqrt(areas / np.pi)[:, None]
    share = (np.arange(400) + 0.5) / 400
    apart = 2.0 * radius * share
    density = 4.0 * apart / (np.pi * radius**2) * np.arccos(share)
    density -= 2.0 * apart**2 / (np.pi * radius**3) * np.sqrt(1.0 - share**2)
    texture = np.interp(apart * factor, np.arange(len(noise.texture)), noise.texture, right=0.0)
    mean = (density * texture).sum(axis=1) * (2.0 * radius[:, 0] / 400)
    return areas, mean * areas * factor**2 / noise.white


def explain(
    model: SurfaceModel, held: NDArray[np.float64], region: NDArray[np.bool_]
) -> tuple[SurfaceModel, NDArray[np.float64]]:
    """The domes (n, 4) in a region beside those that are held.

    The model's steepness is pooled anew from all of them after the first round: where particles
    crowd, few stand alone.
    """
    domes, gain, shown = held.copy(), np.zeros(len(held)), np.zeros(len(held))
    smoothed = smooth(model.image, _SMOOTH)
    for number in range(_ROUNDS):
        before = len(domes)
        domes, left = _propose(model, domes, region, smoothed)
        if number > 0:
            domes = _insist(model, domes, len(held), left, smoothed)
        added = len(domes) - before
        if added == 0:
            break
        alive = np.ones(len(domes), np.bool_)
        free = np.arange(len(domes)) >= len(held)
        gain, shown = np.append(gain, np.zeros(added)), np.append(shown, np.zeros(added))
        _settle(model, domes, alive, free, free, gain, shown, _SWEEPS)
        if number == 0:
            model = _pooled_again(model, domes, shown)
        _prune(model, domes, alive, free, gain, shown)
        domes, gain, shown = domes[alive], gain[alive], shown[alive]
    alive = _without_doubles(model, domes, len(held), smoothed)
    return model, domes[alive][len(held) :]


def _propose(
    model: SurfaceModel,
    domes: NDArray[np.float64],
    region: NDArray[np.bool_],
    smoothed: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The domes and those that pay at maxima of what they leave over, the highest first.

    Also the candidates (n, 4) that do not pay beside the domes as they are.
    """
    rest = model.image.copy()
    surface, _ = model.surface(domes)
    rest -= surface
    rest = smooth(rest, _SMOOTH)
    threshold = _PEAK_SNR * negative_side_sigma(np.where(region, np.float32(0.0), rest))
    rest[~region] = 0.0
    ys, xs = find_peaks(rest, max(threshold, 1e-30), np.zeros((0, 0), np.bool_), 0.0, 2)
    room = np.empty((len(domes) + len(ys), 4))
    room[: len(domes)] = domes
    count = len(domes)
    alive = np.ones(len(room), np.bool_)
    left = []
    for y, x in zip(ys.tolist(), xs.tolist(), strict=True):
        height = max(float(smoothed[y, x]), 1e-3 * model.steepness)
        start = (y + 0.5, x + 0.5, max(height / model.steepness, 1.0), height)
        room[count] = start
        now = room[: count + 1]
        near = neighbours(now, count, alive[: count + 1], model.blur)
        gain, shown, _ = fit_beside(model.image, now, count, near, *model.how)
        pays = model.pays(np.array([gain]), np.array([shown]), now[count:, 3])
        if pays[0] > 1.0 and model.possible(room[count : count + 1])[0]:
            count += 1
        else:
            left.append(start)
    return room[:count], np.array(left).reshape(-1, 4)


def _insist(
    model: SurfaceModel,
    domes: NDArray[np.float64],
    held: int,
    candidates: NDArray[np.float64],
    smoothed: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The domes, and candidates that pay once their neighbours have given way to them.

    One dome that stands for two lies between them, and leaves no room for a second.
    """
    rows, columns = model.image.shape
    fixed = model.how[:4]
    for start in candidates:
        trial = np.concatenate([domes, start[None]])
        last = len(domes)
        alive = np.ones(len(trial), np.bool_)
        near = neighbours(trial, last, alive, model.blur)
        free = np.zeros(len(trial), np.bool_)
        free[near] = True
        free[:held] = False
        free[last] = True
        room = room_of(trial, last, near, model.blur, rows, columns)
        alive[last] = False
        before = misfit_in(room, model.image, smoothed, trial, alive, *fixed)
        alive[last] = True
        gain, shown = settle(model.image, trial, alive, free, free, *model.how, _SWEEPS)
        gain[last] = min(
            gain[last],
            before - misfit_in(room, model.image, smoothed, trial, alive, *fixed),
        )
        pays = model.pays(gain[last:], shown[last:], trial[last:, 3])
        if pays[0] > 1.0 and model.possible(trial[last:])[0]:
            domes = trial
    return domes


def _without_doubles(
    model: SurfaceModel,
    domes: NDArray[np.float64],
    held: int,
    smoothed: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Which domes stay when of two with nearly one centre the other may take all; in place.

    Each of them pays beside the other as it is, although one may say as much.
    """
    rows, columns = model.image.shape
    fixed = model.how[:4]
    alive = np.ones(len(domes), np.bool_)
    for k in range(len(domes) - 1, held - 1, -1):
        apart = np.hypot(domes[:, 0] - domes[k, 0], domes[:, 1] - domes[k, 1])
        close = alive & (apart < _DOUBLE * np.maximum(domes[:, 2], domes[k, 2]))
        close[k] = False
        if not close[held:].any():
            continue
        near = neighbours(domes, k, alive, model.blur)
        room = room_of(domes, k, near, model.blur, rows, columns)
        before = misfit_in(room, model.image, smoothed, domes, alive, *fixed)
        trial, rest, free = domes.copy(), alive.copy(), np.zeros(len(domes), np.bool_)
        rest[k] = False
        free[near] = True
        free[:held] = False
        settle(model.image, trial, rest, free, free, *model.how, _SWEEPS)
        lost = misfit_in(room, model.image, smoothed, trial, rest, *fixed) - before
        area = np.array([0.5 * np.pi * domes[k, 2] ** 2])
        if model.pays(np.array([lost]), area, domes[k : k + 1, 3])[0] < 1.0:
            domes[:], alive = trial, rest
    return alive


def _settle(
    model: SurfaceModel,
    domes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    moving: NDArray[np.bool_],
    free: NDArray[np.bool_],
    gain: NDArray[np.float64],
    shown: NDArray[np.float64],
    sweeps: int,
) -> None:
    """Fit what moves, in place, and keep what each dome pays up to date."""
    gained, seen = settle(model.image, domes, alive, moving, free, *model.how, sweeps)
    fitted = np.isfinite(gained)
    gain[fitted], shown[fitted] = gained[fitted], seen[fitted]


def _pooled_again(
    model: SurfaceModel, domes: NDArray[np.float64], shown: NDArray[np.float64]
) -> SurfaceModel:
    bare = (shown > _BARE * np.pi * domes[:, 2] ** 2) | (shown == 0.0)
    if np.count_nonzero(bare) < FEWEST:
        return model
    steepness, spread = steepness_of(domes[bare, 2], domes[bare, 3])
    return replace(model, steepness=steepness, spread=spread)


def _prune(
    model: SurfaceModel,
    domes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    free: NDArray[np.bool_],
    gain: NDArray[np.float64],
    shown: NDArray[np.float64],
) -> None:
    """Take away, the worst first, what does not pay once all others have settled; in place."""
    while True:
        pays = np.where(alive & free, model.pays(gain, shown, domes[:, 3]), np.inf)
        pays[free & ~model.possible(domes)] = 0.0
        pays[~alive] = np.inf
        worst = int(np.argmin(pays))
        if pays[worst] >= 1.0:
            return
        alive[worst] = False
        moving = np.zeros(len(domes), np.bool_)
        moving[neighbours(domes, worst, alive, model.blur)] = True
        _settle(model, domes, alive, moving, free, gain, shown, 3)
