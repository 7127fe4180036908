"""References come to the data's channels by integrals, are kept in files, and are refused where they do not suit."""

from __future__ import annotations

import builtins
import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.mlls import fit_limit, fit_references
from acquire.measure.eels.reference_files import load_reference, save_reference
from acquire.measure.eels.reference_shapes import (
    O_K_PEAKS_EV,
    TI4_SPLITTING_EV,
    oxygen_reference,
    ti3_reference,
    ti4_reference,
)
from acquire.measure.eels.references import Reference, measured_reference

Array = NDArray[np.float64]
WINDOWS = ((410.0, 450.0), (452.5, 475.0))


def _gaussian(centre: float = 460.0, sigma: float = 1.0, step: float = 0.05) -> Reference:
    energy = np.arange(440.0, 480.0, step)
    shape = np.exp(-0.5 * ((energy - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return Reference("line", energy, shape, "made")


@settings(max_examples=40, deadline=None)
@given(offset=st.floats(441.0, 450.0), step=st.floats(0.06, 0.9))
def test_channels_hold_the_integral_of_the_reference_wherever_they_lie(
    offset: float, step: float
) -> None:
    reference = _gaussian()
    channels = int(25.0 / step)
    on = reference.on(np.array([offset]), step, channels)[0]
    low, high = offset - step / 2, offset + step * (channels - 0.5)
    assert on.sum() == pytest.approx(reference.area(low, high), abs=1e-9)
    centres = offset + step * np.arange(channels)
    assert (on * centres).sum() / on.sum() == pytest.approx(460.0, abs=0.002)


def test_blurring_adds_widths_in_quadrature_and_keeps_area_and_place() -> None:
    sharp = _gaussian(sigma=0.5)
    blurred = sharp.blurred(1.2)
    energy, shape = blurred.energy_ev, blurred.per_ev
    mean = (energy * shape).sum() / shape.sum()
    width = np.sqrt((shape * (energy - mean) ** 2).sum() / shape.sum())
    assert shape.sum() == pytest.approx(sharp.per_ev.sum(), rel=1e-6)
    assert mean == pytest.approx(460.0, abs=1e-6)
    assert width == pytest.approx(np.hypot(0.5, 1.2 / 2.3548), rel=1e-3)
    twice = sharp.blurred(0.6).blurred(1.2)
    assert np.abs(twice.per_ev - blurred.per_ev).max() < 1e-4 * shape.max()
    with pytest.raises(MeasureError, match="sharper than the data"):
        blurred.blurred(0.6)


def test_built_in_references_have_the_measured_splittings_and_shift() -> None:
    four, three, oxygen = ti4_reference(), ti3_reference(), oxygen_reference()
    for reference in (four, three, oxygen):
        assert reference.onset_ev is not None
        start = reference.onset_ev
        assert reference.area(start, start + 50.0) == pytest.approx(1.0, rel=1e-3)
        assert reference.below(100.0) == 0.0
    peaks = _peaks(four, 4)
    # neighbours pull at each other's tops by a few hundredths of an eV
    assert peaks[1] - peaks[0] == pytest.approx(TI4_SPLITTING_EV[0], abs=0.05)
    assert peaks[3] - peaks[2] == pytest.approx(TI4_SPLITTING_EV[1], abs=0.12)
    assert np.diff(_peaks(oxygen, 3)) == pytest.approx(np.diff(O_K_PEAKS_EV), abs=0.15)
    centroids = [
        float((r.per_ev * r.energy_ev)[r.energy_ev < 461.0 - moved].sum())
        / float(r.per_ev[r.energy_ev < 461.0 - moved].sum())
        for r, moved in ((four, 0.0), (three, 2.0))
    ]
    assert centroids[1] - centroids[0] == pytest.approx(-2.0, abs=0.4)


def _peaks(reference: Reference, count: int) -> Array:
    shape = reference.per_ev
    top = np.flatnonzero((shape[1:-1] > shape[:-2]) & (shape[1:-1] >= shape[2:])) + 1
    best = np.sort(top[np.argsort(shape[top])[-count:]])
    return np.asarray(reference.energy_ev[best])


def test_a_reference_measured_on_shifted_rows_is_their_mean_less_the_background() -> None:
    rng = np.random.default_rng(5)
    made = ti4_reference(0.6)
    offset = 400.0 + rng.uniform(-1.0, 1.0, 400)
    energy = offset[:, None] + 0.1 * np.arange(1000)
    counts = rng.poisson(4e4 * made.on(offset, 0.1, 1000) + 60 * (energy / 440) ** -3.0)
    counts = counts.astype(float)
    counts[7] = np.nan
    found = measured_reference("ti4", counts, offset, 0.1, background_ev=(410, 450))
    assert found.area(455, 475) == pytest.approx(4e4 * made.area(455, 475), rel=0.005)
    got = found.on(455.0, 0.1, 200)[0]
    want = 4e4 * made.on(455.0, 0.1, 200)[0]
    assert np.abs(got - want).max() < 0.02 * want.max()
    assert found.electrons == pytest.approx(399 * 4e4 * made.area(450, 497), rel=0.05)


@pytest.mark.parametrize("unit", ["eV", "keV"])
def test_files_come_back_as_they_were_written(tmp_path: Path, unit: str) -> None:
    rsciio = pytest.importorskip("rsciio.hspy")
    reference = ti3_reference(0.5)
    path = save_reference(reference, tmp_path / "ti3.msa")
    again = load_reference(path, windows_ev=[(452, 475)], step_ev=0.1, resolution_ev=0.5)
    assert again.name == "ti3"
    assert np.allclose(again.energy_ev, reference.energy_ev, atol=1e-6)
    assert np.allclose(again.per_ev, reference.per_ev, rtol=1e-7, atol=1e-12)
    factor = {"eV": 1.0, "keV": 1e-3}[unit]
    axis = {
        "_type": "UniformDataAxis", "name": "Energy loss", "units": unit, "navigate": False,
        "size": len(reference.energy_ev), "offset": reference.energy_ev[0] * factor,
        "scale": reference.step_ev * factor, "is_binned": True,
    }  # fmt: skip
    signal = {
        "data": reference.per_ev * reference.step_ev,
        "axes": [axis],
        "metadata": {"General": {"title": "Ti3+"}, "Signal": {"signal_type": "EELS"}},
        "original_metadata": {},
        "attributes": {"_lazy": False},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }
    rsciio.file_writer(str(tmp_path / "ti3.hspy"), signal)
    other = load_reference(tmp_path / "ti3.hspy", title="Ti3+")
    assert np.allclose(other.energy_ev, reference.energy_ev, atol=1e-6)
    assert np.allclose(other.per_ev, reference.per_ev, rtol=1e-6, atol=1e-12)
    with pytest.raises(MeasureError, match="There are: 'Ti3\\+'"):
        load_reference(tmp_path / "ti3.hspy", title="Ti4+")


def test_references_on_another_axis_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("rsciio.msa")
    path = save_reference(ti4_reference(), tmp_path / "ti4.msa")
    with pytest.raises(MeasureError, match="not over"):
        load_reference(path, windows_ev=[(850, 870)])
    with pytest.raises(MeasureError, match="finer reference"):
        load_reference(path, step_ev=0.01)
    text = path.read_text(encoding="latin-1")
    (tmp_path / "nm.msa").write_text(text.replace(": eV", ": nm"), encoding="latin-1")
    with pytest.raises(MeasureError, match="not an energy"):
        load_reference(tmp_path / "nm.msa")
    (tmp_path / "none.msa").write_text(text.replace(": eV", ": "), encoding="latin-1")
    with pytest.raises(MeasureError, match="no unit"):
        load_reference(tmp_path / "none.msa")
    assert load_reference(tmp_path / "none.msa", unit="eV").step_ev == pytest.approx(0.02)
    (tmp_path / "down.msa").write_text(text.replace(": 0.02", ": -0.02"), encoding="latin-1")
    with pytest.raises(MeasureError, match="positive step"):
        load_reference(tmp_path / "down.msa")
    (tmp_path / "cut.msa").write_text(text[: text.index("#SPECTRUM") + 80], encoding="latin-1")
    with pytest.raises(MeasureError, match="is empty"):
        load_reference(tmp_path / "cut.msa")
    (tmp_path / "other.dm3").write_bytes(b"no image of any program")
    with pytest.raises(MeasureError, match="cannot be read"):
        load_reference(tmp_path / "other.dm3")
    with pytest.raises(MeasureError, match="no reference at"):
        load_reference(tmp_path / "gone.msa")
    with pytest.raises(MeasureError, match="which references are read from"):
        load_reference(tmp_path / "ti4.txt")
    uneven = np.cumsum(np.linspace(0.1, 0.2, 50)) + 450
    for energy in (uneven, uneven[::-1]):
        with pytest.raises(MeasureError, match=r"even axis|ascend"):
            Reference("bad", energy, np.ones(50), "made")


def test_a_missing_rosettasciio_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_reference(ti4_reference(), tmp_path / "ti4.msa")

    def missing(name: str, package: str | None = None) -> None:
        raise builtins.ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MeasureError, match=r"hotstage\[export\]"):
        load_reference(path)


def test_fits_of_references_reach_the_limit_with_readout_noise_and_own_axes() -> None:
    rng = np.random.default_rng(6)
    ni = _gaussian(856.0 - 400, 1.0)
    la = _gaussian(460.5, 1.5)
    n, step = 800, 0.2
    offset = 440.5 + rng.uniform(0, 0.2, n)
    window = (442.0, 478.0)
    amount, level, readout = (150.0, 300.0), 30.0, 1.4**2
    energy = offset[:, None] + step * np.arange(190)
    middle = np.sqrt(window[0] * window[1])
    mean = level * step * (energy / middle) ** -3.0
    mean = mean + sum(a * r.on(offset, step, 190) for a, r in zip(amount, (ni, la), strict=True))
    counts = rng.poisson(mean) + rng.normal(0, 1.4, mean.shape)
    fit = fit_references(counts, offset, step, [ni, la], window, readout_variance=readout)
    limit = fit_limit([ni, la], amount, 440.5, step, window, (level, 3.0), readout)
    error = fit.coefficients - amount
    assert np.all(error.std(axis=0) < 1.08 * np.sqrt(np.diag(limit)[:2]))
    assert np.all(np.abs(error.mean(axis=0)) < 4 * np.sqrt(np.diag(limit)[:2] / n))
    assert np.std(error / fit.sigma, axis=0) == pytest.approx(1.0, abs=0.08)
    assert fit.chi2.mean() == pytest.approx(1.0, abs=0.03)
    assert fit.chi2.std() == pytest.approx(fit.chi2_sigma.mean(), rel=0.15)
    assert not any(flag.any() for flag in fit.flags.values())


def test_what_cannot_be_fitted_is_flagged_row_by_row_or_refused_by_name() -> None:
    rng = np.random.default_rng(7)
    pair = [ti4_reference(0.6), ti3_reference(0.6)]
    offset = np.full(6, 400.0)
    energy = 400.0 + 0.1 * np.arange(900)
    counts = rng.poisson(20 * (energy / 440) ** -3.0 + 5000 * pair[0].on(offset, 0.1, 900)).astype(
        float
    )
    counts[0, 100] = np.nan
    offset[1] = 420.0
    counts[2] = 0.0
    counts[3, energy < 452.4] = 0.0
    counts[4] += np.where(np.abs(energy - 470) < 1.5, 80, 0)
    fit = fit_references(counts, offset, 0.1, pair, WINDOWS)
    flags = {name: list(np.flatnonzero(flag)) for name, flag in fit.flags.items()}
    assert flags["nonfinite"] == [0]
    assert flags["out_of_range"] == [1]
    assert 3 in flags["no_background"]
    assert 4 in flags["poor_fit"]
    assert np.isnan(fit.coefficients[:2]).all()
    assert np.isfinite(fit.coefficients[3:]).all()
    assert flags["no_fit"] == [2]
    assert not any(flag[5] for flag in fit.flags.values())
    noisy = Reference(
        "ti4", pair[0].energy_ev, pair[0].per_ev, "short", onset_ev=452.0, electrons=2e4
    )
    assert fit_references(counts[5:], 400.0, 0.1, [noisy], WINDOWS).flags["noisy_reference"][0]
    twin = Reference("twin", pair[0].energy_ev, 3 * pair[0].per_ev, "copy")
    with pytest.raises(MeasureError, match=r"'ti4' cannot be told.*'twin'"):
        fit_references(counts[5:], 400.0, 0.1, [*pair, twin], WINDOWS[1])
    flat = Reference("flat", energy, (energy / 440) ** -2.9, "made")
    held = fit_references(counts, offset, 0.1, pair, WINDOWS, "before")
    for name in ("nonfinite", "out_of_range", "no_fit", "no_background"):
        assert list(np.flatnonzero(held.flags[name])) == flags[name]
    assert held.flags["poor_fit"][4]
    assert held.coefficients[5] == pytest.approx(fit.coefficients[5], abs=400)
    with pytest.raises(MeasureError, match=r"'flat' cannot be told.*the background"):
        fit_references(counts[5:], 400.0, 0.1, [pair[0], flat], WINDOWS)
    with pytest.raises(MeasureError, match="not over"):
        fit_references(counts[5:], 400.0, 0.1, pair, ((410, 450), (452, 590)))
    tail = Reference("tail", energy, np.exp(-(((energy - 445) / 8) ** 2)), "made")
    with pytest.raises(MeasureError, match="fitted alone"):
        fit_references(counts[5:], 400.0, 0.1, [pair[0], tail], WINDOWS, "before")
    with pytest.raises(MeasureError, match="a window of its own"):
        fit_references(counts[5:], 400.0, 0.1, pair, WINDOWS[1], "before")
    with pytest.raises(MeasureError, match="overlap"):
        fit_references(counts[5:], 400.0, 0.1, pair, ((410, 455), (452, 470)))
