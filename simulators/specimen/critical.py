"""Critical diameters of crystals: as somebody knows them who sees every particle, and measured from images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.crystallinity import CriticalDiameter, CrystallinityEstimator, Looks
from simulators.imaging import render
from simulators.noise import generator
from simulators.specimen.domes import View
from simulators.specimen.rates import lived
from simulators.specimen.specimen import Specimen, named

Array = NDArray[np.float64]

DOSE_RATE_E_PER_NM2_S = 1e6
"""Published [APB]."""
PIXEL_NM, PIXELS = 0.08, 256
"""A field of 20.5 nm; two pixels and a half per {111} fringe."""
FRAME_S = 2.0
_DETECTOR = "haadf"
_FIRST_S, _WATCH_S = 20.0, 130.0
_CLEAR_NM = 7.0
"""Fields are chosen about particles with no other one so near."""
_RULE = 1e-3


def critical_diameters_nm(
    specimen: Specimen,
    celsius: float = 800.0,
    rate_celsius_per_s: float = 5.0,
    watch_s: float = 240.0,
    every_s: float = 0.5,
) -> Array:
    """Diameter of each particle at its last change from droplet to crystal; float64 (n,).

    A fresh specimen is heated and watched at a temperature. Particles count that began as droplets
    in that time, have stayed crystals since, and took no other in.
    """
    begin_s = (celsius - 25) / rate_celsius_per_s
    hot = specimen.under(lived([(begin_s, celsius)]))
    times = begin_s + np.arange(0.0, watch_s, every_s)
    shape = (len(times), len(specimen.sites))
    diameter, crystal = np.zeros(shape), np.zeros(shape, dtype=bool)
    for k, t_s in enumerate(times.tolist()):
        found = hot.particles(t_s)
        diameter[k, found.id] = found.diameter_nm
        crystal[k, found.id] = found.crystalline
    # a crystal for the last tenth of the time has come to stay
    settled = (diameter[0] < 3.0) & crystal[-len(times) // 10 :].all(axis=0)
    settled[list(hot.merged(float(times[-1])).values())] = False
    which = np.flatnonzero(settled)
    last_droplet = len(times) - 1 - np.argmax(~crystal[::-1, which], axis=0)
    return np.asarray((diameter[last_droplet, which] + diameter[last_droplet + 1, which]) / 2)


def measured_critical(
    preset: str,
    seeds: Sequence[int],
    fields: int = 4,
    celsius: float = 800.0,
    dose_rate_e_per_nm2_s: float = DOSE_RATE_E_PER_NM2_S,
) -> CriticalDiameter:
    """The critical diameter from HAADF images alone, as the live estimator sees them.

    Fresh specimens are heated at 5 °C/s. In each, ``fields`` small fields about young droplets are
    recorded, a frame of 2 s after the other; sizes, crystals and ids come from
    :class:`~acquire.measure.crystallinity.CrystallinityEstimator`. Truth serves to choose where to
    look, as an operator would, and for nothing else.
    """
    looks = [
        seen
        for seed in seeds
        for seen in _watched(named(preset, seed), fields, celsius, dose_rate_e_per_nm2_s)
    ]
    pooled = Looks(
        np.concatenate([seen.diameters_nm for seen in looks]),
        np.concatenate([seen.crystalline for seen in looks]),
        # ids count anew in each field
        np.concatenate([seen.particles + 100_000 * n for n, seen in enumerate(looks)]),
        np.concatenate([seen.sigmas_nm for seen in looks]),
        np.concatenate([seen.power for seen in looks]),
    )
    return pooled.critical_diameter(_RULE)


def _watched(
    specimen: Specimen, fields: int, celsius: float, dose_rate_e_per_nm2_s: float
) -> Iterator[Looks]:
    """What was seen in each of some fields of one specimen."""
    begin_s = (celsius - 25) / 5.0
    hot = specimen.under(lived([(begin_s, celsius)]))
    times = begin_s + np.arange(_FIRST_S, _WATCH_S, FRAME_S)
    axis = Axis(0.0, PIXEL_NM, "nm")
    image = ChannelSpec("uint16", (PIXELS, PIXELS), ("y", "x"), {"y": axis, "x": axis})
    stream = StreamSpec("scan", {_DETECTOR: image})
    electrons = dose_rate_e_per_nm2_s * FRAME_S * PIXEL_NM**2
    for n, origin_nm in enumerate(_fields(hot, float(times[0]), fields)):
        view = View(origin_nm, (PIXELS, PIXELS), PIXEL_NM)
        options = {"largest_diameter": "8 nm", "false_positive_rate": _RULE}
        estimator = CrystallinityEstimator("crystallinity", stream, _DETECTOR, options)
        for k, t_s in enumerate(times.tolist()):
            rng = generator(specimen.seed, "critical diameter", n, k)
            images = render(hot, t_s, view, electrons, {_DETECTOR: rng})
            if images is not None:
                estimator.update(Frame("scan", k, {**images}, t_s - FRAME_S / 2, t_s + FRAME_S / 2))
        yield estimator.follower.looks()


def _fields(specimen: Specimen, t_s: float, count: int) -> list[tuple[float, float]]:
    """Top-left corners (x, y) of fields about the first droplets that stand alone."""
    domes = specimen.particles(t_s)
    side = PIXELS * PIXEL_NM
    origins: list[tuple[float, float]] = []
    for i in np.flatnonzero((domes.diameter_nm > 2.2) & (domes.diameter_nm < 3.0)).tolist():
        x, y = float(domes.x_nm[i]), float(domes.y_nm[i])
        apart = np.hypot(domes.x_nm - x, domes.y_nm - y)
        far = all(math.hypot(x - a, y - b) > 2 * side for a, b in origins)
        if domes.z_nm[i] == 0 and far and np.count_nonzero(apart < _CLEAR_NM) == 1:
            origins.append((x - side / 2, y - side / 2))
        if len(origins) == count:
            break
    return origins
