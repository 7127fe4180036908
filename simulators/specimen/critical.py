"""Critical diameters of crystals as somebody would find them who watches every particle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.specimen.rates import lived
from simulators.specimen.specimen import Specimen

Array = NDArray[np.float64]


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
