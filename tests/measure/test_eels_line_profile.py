"""Line scans of simulated specimens: edges that lie on one another, several low-loss reads, boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import line_profile
from acquire.measure.eels.interface import fit_interface, fit_interfaces
from acquire.measure.eels.together import fit_together
from simulators.spectra import Band, CoreLoss, LowLoss, Optics, film

Array = NDArray[np.float64]
OPTICS = Optics(beam_kev=300.0)
LOW = Band(-20.0, 0.1, 1024)
LOW_AXIS = Axis(-20.0, 0.1, "eV")


def _axis(band: Band) -> Axis:
    return Axis(band.offset_ev, band.dispersion_ev, "eV")


def test_grain_boundary_gives_the_published_dips_from_one_scan() -> None:
    """Sr -26 %, Ta -11 %, Zr -7 % from three edges that sit upon one another; σ below 3 %."""
    rng = np.random.default_rng(11)
    x = np.linspace(-6.0, 6.0, 61)
    band = Band(1640.0, 0.5, 1400)
    core, low = CoreLoss(band, OPTICS), LowLoss(LOW, OPTICS)
    rows, lows = [], []
    jitter = rng.normal(0.2, 0.1, x.size)
    for place, shift in zip(x, jitter, strict=True):
        away = np.exp(-0.5 * (place / 0.8) ** 2)
        relative = {"Sr": 1 - 0.26 * away, "Ta": 1 - 0.11 * away, "Zr": 1 - 0.07 * away}
        point = film("lstz", 60.0, relative=relative)
        rows.append(core.mean(point, 4e10, shift))
        lows.append(low.mean(point, 1e6, shift))
    counts, below = rng.poisson(rows), rng.poisson(lows)
    found = line_profile(
        counts, _axis(band), below, LOW_AXIS, edges=("ta_m", "sr_l", "zr_l"), elements=("Li", "O")
    )
    assert found.edges["zr_l"].together == ("ta_m3",)
    assert not any(mask.any() for mask in found.flags.values())
    assert np.std((found.shift_ev - jitter) / found.shift_sigma_ev) == pytest.approx(1.0, abs=0.3)
    fits = fit_interfaces(x, {n: (e.electrons, e.sigma) for n, e in found.edges.items()})
    for name, change in (("sr_l", -0.26), ("ta_m", -0.11), ("zr_l", -0.07)):
        fit = fits[name]
        assert fit.change.sigma < 0.03
        assert abs(fit.change.value - change) < 2 * fit.change.sigma + 0.01
    assert abs(fits["sr_l"].fwhm_nm.value - 2.35482 * 0.8) < 3 * fits["sr_l"].fwhm_nm.sigma


def test_oxygen_does_not_change_at_the_boundary() -> None:
    rng = np.random.default_rng(12)
    x = np.linspace(-6.0, 6.0, 41)
    band = Band(480.0, 0.2, 500)
    core = CoreLoss(band, OPTICS)
    rows = [
        core.mean(film("lstz", 60.0, relative={"Sr": 1 - 0.26 * np.exp(-(p**2))}), 3e8, 0.0)
        for p in x
    ]
    edge = line_profile(rng.poisson(rows), _axis(band), edges=("o_k",)).edges["o_k"]
    fit = fit_interface(x, edge.electrons, edge.sigma, position_nm=0.0, fwhm_nm=1.88)
    assert fit.change.sigma < 0.03
    assert abs(fit.change.value) < 2.5 * fit.change.sigma


def test_nickel_is_told_from_the_lanthanum_before_it() -> None:
    """White lines of La, scattered once more by plasmons, lie right under Ni-L."""
    rng = np.random.default_rng(13)
    band = Band(700.0, 0.2, 1200)
    core, low = CoreLoss(band, OPTICS), LowLoss(LOW, OPTICS)
    points = [film("lsnt", 60.0, nickel_nm=nm) for nm in np.repeat([0.0, 3.0, 6.0], 20)]
    counts = rng.poisson([core.mean(p, 3e9, 0.0) for p in points])
    below = rng.poisson([low.mean(p, 1e6, 0.0) for p in points])
    found = line_profile(
        counts, _axis(band), below, LOW_AXIS, edges=("la_m", "ni_l"), elements=("Sr", "Ti", "O")
    )
    nickel = found.edges["ni_l"]
    assert nickel.together == ("la_m",)
    assert not nickel.flags["overlapped"].any()
    atoms = np.array([p.per_nm2["Ni"] for p in points])
    zero, three, six = (nickel.electrons[k : k + 20].mean() for k in (0, 20, 40))
    # in proportion to the nickel, of which the film itself holds some
    slope = (six - zero) / (atoms[40] - atoms[0])
    assert zero / slope == pytest.approx(atoms[0], abs=0.1 * atoms[40])
    assert (three - zero) / slope == pytest.approx(atoms[20] - atoms[0], rel=0.06)
    assert nickel.electrons[:20].std() / nickel.sigma[:20].mean() == pytest.approx(1.0, abs=0.4)
    # without the low loss it cannot be told which part lanthanum scattered there, and a background
    # that is fitted upon lanthanum is no background
    alone = line_profile(counts, _axis(band), edges=("la_m", "ni_l"))
    assert alone.edges["ni_l"].flags["overlapped"].all()
    only = line_profile(counts[:, 450:], Axis(790.0, 0.2, "eV"), edges=("ni_l",), elements=("La",))
    assert only.edges["ni_l"].flags["overlapped"].all()
    assert only.counted_flags()["overlapped ni_l"] == 60


def test_reads_of_one_dwell_are_averaged_and_their_jitter_is_in_sigma() -> None:
    rng = np.random.default_rng(14)
    n, reads = 60, 12
    walk = rng.normal(0.0, 0.3, n)
    jitter = rng.normal(0.0, 0.06, (n, reads))
    spectrum = LowLoss(LOW, OPTICS).spectrum(film("lsnt", 60.0))
    low = rng.poisson(spectrum.rows(3e4, (walk[:, None] + jitter).ravel())).reshape(n, reads, -1)
    band = Band(400.0, 0.2, 800)
    core = rng.poisson(CoreLoss(band, OPTICS).spectrum(film("lsnt", 60.0)).rows(1e9, walk))
    found = line_profile(core, _axis(band), low, LOW_AXIS)
    error = (found.shift_ev - walk) / found.shift_sigma_ev
    assert error.std() == pytest.approx(1.0, abs=0.3)
    assert found.shift_sigma_ev.mean() == pytest.approx(0.06 / np.sqrt(reads), rel=0.2)
    one = line_profile(core, _axis(band), low[:, 0], LOW_AXIS)
    assert np.std(one.shift_ev - walk) > 2.5 * np.std(found.shift_ev - walk)
    low[0, :] = 0
    low[1, 3] = 0
    patchy = line_profile(core, _axis(band), low, LOW_AXIS)
    assert patchy.flags["no_zero_loss"].sum() == 1
    assert patchy.shift_ev[1] == pytest.approx(walk[1], abs=0.1)
    with pytest.raises(MeasureError, match="do not belong"):
        line_profile(core, _axis(band), low[:-1], LOW_AXIS)


def test_every_edge_is_flagged_by_itself() -> None:
    rng = np.random.default_rng(15)
    band = Band(400.0, 0.2, 800)
    mean = CoreLoss(band, OPTICS).mean(film("lsnt", 60.0), 1e9, 0.0)
    core = rng.poisson(np.tile(mean, (6, 1)))
    hidden = core.copy()
    hidden[2, 70:130] += (
        5 * core[2, 70:130]
    )  # something stands in the window that Ti-L's is fitted in
    hidden[3] = 0
    low = rng.poisson(np.tile(LowLoss(LOW, OPTICS).mean(film("lsnt", 60.0), 1e6, 0.0), (6, 1)))
    low[4] = 2**20
    found = line_profile(hidden, _axis(band), low, LOW_AXIS, full_scale_counts=2.0**20)
    assert found.edges["ti_l"].flags["poor_fit"].tolist() == [False, False, True, *[False] * 3]
    assert not found.edges["o_k"].flags["poor_fit"].any()
    assert found.edges["o_k"].flags["no_counts"].tolist() == [False] * 3 + [True, False, False]
    assert found.flags["saturated"].tolist() == [False] * 4 + [True, False]
    told = found.counted_flags()
    assert told["poor_fit ti_l"] == 1
    assert "poor_fit o_k" not in told
    assert told["saturated"] == 1
    none = line_profile(core, _axis(band), low, LOW_AXIS, edges=("o_k", "ni_l"))
    assert none.edges["ni_l"].flags["out_of_range"].all()
    assert np.isnan(none.edges["ni_l"].electrons).all()
    with pytest.raises(MeasureError, match="no edge 'fe_l'"):
        line_profile(core, _axis(band), edges=("fe_l",))


def test_edges_without_a_shape_cannot_be_fitted_together() -> None:
    with pytest.raises(MeasureError, match="no shape of 'ti_l'"):
        fit_together(np.ones((2, 900)), np.zeros(2), 1.0, {"ti_l": (456.0, 480.0)}, (400.0, 500.0))
    nothing = fit_together(
        np.ones((2, 900)), np.zeros(2), 1.0, {"zr_l": (2220.0, 2270.0)}, (2110.0, 2290.0)
    )
    assert np.isnan(nothing.electrons["zr_l"]).all()
