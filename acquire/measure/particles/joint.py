"""Tells particles that overlap apart, by their common upper surface rather than by their outline.

Where domes share room the higher is seen, and no neck need be left between them. Particles of one
material and shape have one steepness (height over radius), so that a maximum's height says how wide
its dome is, and what a dome leaves unexplained shows the next: the highest first, domes are added
where the rest is significant, all are fitted together, and those that do not pay are taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from acquire.measure.particles.detect import Detection
from acquire.measure.particles.explain import SurfaceModel, explain, inflation_by_area
from acquire.measure.particles.islands import free_film, join_pairs
from acquire.measure.particles.meeting import overlapping
from acquire.measure.particles.noise import FilmNoise, film_noise
from acquire.measure.particles.shapes import BlurredDome
from acquire.measure.particles.size import PIXEL_VARIANCE, Sizes
from acquire.measure.particles.suspects import (
    believable,
    close_pairs,
    form_holds,
    pooled_steepness,
    suspects,
)
from acquire.measure.particles.weigh_joint import describe_owned, weigh_joint

_UNKNOWN = 1.6
"""σ over what the blocks say: measured, on random places; what is hidden is in no information matrix."""
_FEW_SHARE = 0.25
"""Of the image: where what is looked at again takes less, the rest of it is left alone."""
_AROUND = 40.0
"""Blocks of film around a group by which its noise is known, besides the group's own length."""
_LARGEST = 1.5
"""Over the largest particle expected."""


@dataclass(frozen=True)
class Untangled:
    """What was found and its sizes, after overlapping particles were told apart."""

    found: Detection
    sizes: Sizes
    joint: NDArray[np.bool_]
    """Which were fitted together with others; their masks are what is seen of them."""


def untangle(
    contrast: NDArray[np.float32],
    coarse: NDArray[np.float32],
    found: Detection,
    sizes: Sizes,
    dome: BlurredDome,
    blur_px: float,
    *,
    largest_px: float,
    shot: int = 1,
) -> Untangled:
    """Tell apart what overlaps among the particles found in a contrast image (y, x).

    ``coarse`` holds its means over the detection's blocks; ``sizes`` are the fits of every particle
    by itself, ``largest_px`` the footprint radius that none exceeds. Only islands of which a particle
    is not a dome of the common steepness, is not round, or reaches into another are looked at; where
    one dome then still says all, it stays as it was. Without a particle that stands by itself the
    steepness is not known, and nothing is told apart.
    """
    alone = Untangled(found, sizes, np.zeros(len(found), bool))
    if dome.exponent == 0.0 or len(found) == 0:
        return alone
    good = believable(sizes)
    steepness, spread = pooled_steepness(sizes, good)
    if steepness == 0.0:
        return alone
    group = join_pairs(len(found), close_pairs(sizes))
    if not form_holds(found, sizes, contrast.shape, group):
        return alone
    suspect = suspects(found, sizes, contrast.shape, steepness)
    if not suspect.any():
        return alone
    chosen = np.isin(group, group[suspect])
    factor = found.factor
    noise = film_noise(contrast, free_film(found.labels, 2), factor, int(3.0 * largest_px))
    areas, inflation = inflation_by_area(noise, factor)
    model = SurfaceModel(
        image=coarse,
        values=dome.values,
        blur=float(np.sqrt(blur_px**2 + PIXEL_VARIANCE * factor**2)) / factor,
        white=noise.white / factor**2,
        shot=shot,
        steepness=steepness * factor,
        spread=spread,
        areas=areas,
        inflation=inflation,
        largest=_LARGEST * largest_px / factor,
        lowest=found.seed_snr * found.sigma,
    )
    single = np.column_stack([sizes.y_px, sizes.x_px, sizes.radius_px, sizes.height])
    single[:, :3] /= factor
    held = single[~chosen & good]
    windows = _windows(found, group, chosen)
    if sum(coarse[window].size for window in windows.values()) < _FEW_SHARE * coarse.size:
        domes, chosen = _explain_apart(model, found, group, single[good], good, windows)
        held = single[~chosen & good]
    else:
        region = np.concatenate([[False], chosen])[found.labels]
        model, domes = explain(model, held, region)
    return _merged(alone, group, chosen, held, domes, model, noise) if chosen.any() else alone


def _windows(
    found: Detection, group: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> dict[int, tuple[slice, slice]]:
    """By name of a chosen group the part of the labels that it lies in, with film enough around it."""
    windows = {}
    for name in np.unique(group[chosen]).tolist():
        which = group == name
        top, left = found.top_px[which].min(), found.left_px[which].min()
        bottom, right = found.bottom_px[which].max(), found.right_px[which].max()
        around = max(bottom - top, right - left) / found.factor + _AROUND
        windows[name] = (
            slice(max(int(top / found.factor - around), 0), int(bottom / found.factor + around)),
            slice(max(int(left / found.factor - around), 0), int(right / found.factor + around)),
        )
    return windows


def _explain_apart(
    model: SurfaceModel,
    found: Detection,
    group: NDArray[np.int64],
    single: NDArray[np.float64],
    good: NDArray[np.bool_],
    windows: dict[int, tuple[slice, slice]],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The domes (n, 4) of a few groups, each explained by itself in its own window, and their particles.

    ``single`` are the ``good`` particles' own fits, which are held where they are of another group.
    A group that falls into as many domes as it had, of which none meet, is left out.
    """
    parts, told = [np.zeros((0, 4))], np.zeros(len(group), np.bool_)
    for name, window in windows.items():
        place = np.array([window[0].start, window[1].start, 0.0, 0.0])
        region = np.concatenate([[False], group == name])[found.labels[window]]
        part = replace(model, image=np.ascontiguousarray(model.image[window]))
        _, domes = explain(part, single[group[good] != name] - place, region)
        if len(domes) == np.count_nonzero(group == name) and not overlapping(*domes[:, :3].T).any():
            continue
        parts.append(domes + place)
        told |= group == name
    return np.concatenate(parts), told


def _merged(
    before: Untangled,
    group: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    held: NDArray[np.float64],
    domes: NDArray[np.float64],
    model: SurfaceModel,
    noise: FilmNoise,
) -> Untangled:
    """Puts groups of joint domes in the place of what was found there, unless one dome is still one."""
    found, sizes, factor = before.found, before.sizes, before.found.factor
    surface, owner = model.surface(domes)
    region = np.concatenate([[False], chosen])[found.labels]
    rows = describe_owned(found.labels, region, surface, owner, len(domes))
    shows = (rows[:, 9] > 0) & (rows[:, 2] > 0)
    whose = np.where(shows, group[np.maximum(rows[:, 9].astype(np.int64) - 1, 0)], -1)
    radius = domes[:, 2] * factor
    meets = overlapping(domes[:, 0] * factor, domes[:, 1] * factor, radius)
    replaced = np.zeros(len(found), np.bool_)
    taken = np.zeros(len(domes), np.bool_)
    for name in np.unique(group[chosen]):
        old, new = group == name, whose == name
        many = np.count_nonzero(new)
        if many == 0 or (many == np.count_nonzero(old) and not meets[new].any()):
            continue
        replaced |= old
        taken |= new
    if not replaced.any():
        return before
    every = np.concatenate([held, domes])
    which = len(held) + np.flatnonzero(taken)
    alive = np.ones(len(every), np.bool_)
    sigma = weigh_joint(
        model.image,
        every,
        alive,
        which,
        model.values,
        model.blur,
        model.white,
        noise.texture,
        1.0 / factor,
        model.shot,
        model.steepness,
        model.spread,
    )
    stay = np.flatnonzero(~replaced)
    names = np.zeros(len(found) + 1, np.int32)
    names[stay + 1] = np.arange(1, len(stay) + 1)
    labels = names[found.labels]
    new_names = np.zeros(len(domes) + 1, np.int32)
    new_names[1:][taken] = np.arange(len(stay) + 1, len(stay) + 1 + len(which))
    inside = np.concatenate([[False], replaced])[found.labels]
    labels[inside] = new_names[owner[inside] + 1]
    rows, joint = rows[taken], domes[taken]
    area = factor**2
    scale = _height_kept(found, sizes)
    peak = rows[:, 0] * scale

    def both(old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([old[stay], new])

    told = replace(
        found,
        labels=labels,
        y_px=both(found.y_px, rows[:, 3] * factor),
        x_px=both(found.x_px, rows[:, 4] * factor),
        area_px=both(found.area_px, rows[:, 1] * area),
        half_area_px=both(found.half_area_px, rows[:, 2] * area),
        top_px=both(found.top_px, rows[:, 5] * factor),
        bottom_px=both(found.bottom_px, rows[:, 6] * factor),
        left_px=both(found.left_px, rows[:, 7] * factor),
        right_px=both(found.right_px, rows[:, 8] * factor),
        peak=both(found.peak, peak),
        peak_snr=both(found.peak_snr, peak / max(found.sigma, 1e-30)),
    )
    y, x, radius = (
        both(a, b)
        for a, b in zip(
            (sizes.y_px, sizes.x_px, sizes.radius_px), (joint[:, :3] * factor).T, strict=True
        )
    )
    sized = Sizes(
        y,
        x,
        radius,
        both(sizes.radius_sigma_px, _UNKNOWN * sigma[:, 0] * factor),
        both(sizes.height, joint[:, 3]),
        both(sizes.height_sigma, _UNKNOWN * sigma[:, 1]),
        both(sizes.chi2, sigma[:, 2]),
        both(sizes.bump_chi2, np.full(len(which), np.inf)),
        overlapping(y, x, radius),
    )
    return Untangled(told, sized, np.arange(len(y)) >= len(stay))


def _height_kept(found: Detection, sizes: Sizes) -> float:
    """Filtered peak over the height of a dome, on average."""
    clear = believable(sizes)
    return float(np.median(found.peak[clear] / sizes.height[clear])) if clear.any() else 1.0
