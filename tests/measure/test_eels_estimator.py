"""The live estimator tells of every DualEELS pair what it holds, and why it must not be trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import ConfigError
from acquire.instruments import Axis, ChannelSpec, Frame, FrameMeta, StreamSpec
from acquire.measure.eels import EelsEstimator, ShiftNoise
from acquire.measure.eels.live_shift import LiveShift
from acquire.measure.eels.reference_files import save_reference
from acquire.measure.eels.reference_shapes import oxygen_reference, ti3_reference, ti4_reference
from acquire.stream import Estimate

Array = NDArray[np.float64]
STEP, CHANNELS = 0.2, 1000
CORE, LOW = Axis(400.0, STEP, "eV"), Axis(-20.0, STEP, "eV")
FRACTION = 0.3


def _spec(core: Axis = CORE, reads: int = 1, low: bool = True) -> StreamSpec:
    channels = {
        "core_loss": ChannelSpec("int32", (CHANNELS,), ("energy_loss",), {"energy_loss": core})
    }
    dims, shape = ("energy_loss",), (CHANNELS,)
    if reads > 1:
        dims, shape = ("low_loss_read", *dims), (reads, *shape)  # type: ignore[assignment]
        read = Axis(0.0, 1.0, "1")
        channels["low_loss_time"] = ChannelSpec(
            "float64", (reads, 2), ("low_loss_read", "span"), {"low_loss_read": read, "span": read}
        )
    if low:
        axes = {dim: LOW if dim == "energy_loss" else Axis(0.0, 1.0, "1") for dim in dims}
        channels["low_loss"] = ChannelSpec("int32", shape, dims, axes)
    return StreamSpec("line_scan", channels)


def _low(shift: float) -> Array:
    energy = LOW.offset - shift + STEP * np.arange(CHANNELS)
    peak = ndtr((energy + STEP / 2) / 0.28) - ndtr((energy - STEP / 2) / 0.28)
    plasmon = np.exp(-0.5 * ((energy - 25) / 3.0) ** 2) * STEP / 7.5
    return np.asarray(2e5 * (peak + 0.4 * plasmon))


def _core(shift: float, fraction: float = FRACTION) -> Array:
    offset = CORE.offset - shift
    energy = offset + STEP * np.arange(CHANNELS)
    four, three, oxygen = (
        np.nan_to_num(r.on(offset, STEP, CHANNELS)[0])
        for r in (ti4_reference(0.66), ti3_reference(0.66), oxygen_reference(0.66))
    )
    return np.asarray(
        1e3 * (energy / 400) ** -3.0
        + 3e4 * ((1 - fraction) * four + fraction * three)
        + 2e4 * oxygen
    )


def _frame(
    rng: np.random.Generator, index: int, shift: float = 0.0, core_shift: float | None = None
) -> Frame:
    core = _core(shift if core_shift is None else core_shift)
    data = {
        "core_loss": rng.poisson(core).astype(np.int32),
        "low_loss": rng.poisson(_low(shift)).astype(np.int32),
    }
    t = 0.6 * index
    spans = {"low_loss": (t, t + 1e-3), "core_loss": (t + 1e-3, t + 0.5)}
    return Frame("line_scan", index, data, t, t + 0.5, FrameMeta(spans=spans))


def _made(spec: StreamSpec | None = None, **options: object) -> EelsEstimator:
    return EelsEstimator("eels", spec or _spec(), "core_loss", options)


def _update(estimator: EelsEstimator, frame: Frame) -> Estimate:
    estimate = estimator.update(frame)
    assert estimate is not None
    return estimate


def _changed(frame: Frame, **data: Any) -> Frame:
    return Frame(
        frame.stream,
        frame.index,
        {**frame.data, **data},
        frame.t_start_s,
        frame.t_end_s,
        frame.meta,
    )


def test_every_pair_of_a_line_tells_all_that_its_axis_holds() -> None:
    rng = np.random.default_rng(1)
    estimator = _made()
    walk = np.cumsum(rng.normal(0, 0.02, 60))
    estimates = [_update(estimator, _frame(rng, k, walk[k])) for k in range(60)]
    names = {q.name for q in estimator.quantities}
    assert names == {
        *("zero_loss_position", "energy_shift", "zero_loss_counts", "relative_thickness"),
        *("ti3_fraction", "o_k_ratio", "ti_l_counts", "o_k_counts"),
    }
    assert all(set(estimate.values) == names for estimate in estimates)
    assert not any(estimate.flags for estimate in estimates[1:])
    fractions = np.array([estimate.values["ti3_fraction"].value for estimate in estimates])
    sigma = np.array([estimate.values["ti3_fraction"].sigma for estimate in estimates])
    assert abs(fractions.mean() - FRACTION) < 0.01
    assert np.std(fractions) < 1.3 * sigma.mean()
    thickness = [estimate.values["relative_thickness"].value for estimate in estimates]
    assert np.mean(thickness) == pytest.approx(math.log1p(0.4), abs=0.07)
    errors = [e.values["energy_shift"].value - w for e, w in zip(estimates, walk, strict=True)]
    assert np.std(errors[20:]) < 0.03


def test_the_same_frames_give_the_same_estimates() -> None:
    told = []
    for _ in range(2):
        rng, estimator = np.random.default_rng(2), _made()
        told.append([_update(estimator, _frame(rng, k, 0.01 * k)) for k in range(4)])
    assert told[0] == told[1]


def test_the_filter_takes_jitter_that_the_core_loss_does_not_share_off() -> None:
    rng = np.random.default_rng(3)
    shift = LiveShift()
    jitter = rng.normal(0, 0.06, 200)
    walk = np.cumsum(rng.normal(0, 0.01, 200))
    found = []
    for k in range(200):
        at = np.array([0.5 * k, 0.5 * k + 0.5])
        position = np.array([walk[k] + jitter[k]])
        found.append(shift.follow(position, np.array([1e-3]), at[:1, None] + [[0, 1e-3]], at))
    error, sigma = (np.array(column) for column in zip(*found, strict=True))
    error = (error - walk)[40:]
    assert np.std(error) < 0.5 * 0.06
    assert np.std(error) == pytest.approx(sigma[40:].mean(), rel=0.4)
    assert shift.noise.jitter_ev == pytest.approx(0.06, rel=0.25)


def test_a_moved_axis_begins_anew_and_is_flagged() -> None:
    rng, estimator = np.random.default_rng(4), _made()
    for k in range(5):
        _update(estimator, _frame(rng, k))
    moved = _update(estimator, _frame(rng, 5, 2.0))
    assert "axis_moved" in moved.flags
    assert moved.values["energy_shift"].value == pytest.approx(2.0, abs=0.01)
    assert "axis_moved" not in _update(estimator, _frame(rng, 6, 2.0)).flags
    shift = LiveShift(ShiftNoise())
    nothing = np.array([np.nan]), np.array([np.nan])
    spans = np.array([[0.0, 1.0]])
    assert all(math.isnan(v) for v in shift.follow(*nothing, spans, spans[0]))
    first = shift.follow(np.array([0.5]), np.array([0.01]), spans + 1, spans[0] + 1)
    bridged = shift.follow(*nothing, spans + 9, spans[0] + 9)
    assert bridged[0] == pytest.approx(0.5)
    assert bridged[1] > first[1]
    again = shift.follow(np.array([0.1]), np.array([0.01]), spans, spans[0])
    assert again[0] == pytest.approx(0.1), "an earlier time is another series"


def test_a_pair_that_cannot_be_measured_is_flagged_and_the_next_is_measured() -> None:
    rng, estimator = np.random.default_rng(5), _made()
    dark = np.zeros(CHANNELS, np.int32)
    first = _update(estimator, _changed(_frame(rng, 0), core_loss=dark, low_loss=dark.copy()))
    assert {"no_zero_loss", "no_counts"} <= set(first.flags)
    assert all(math.isnan(value.value) for value in first.values.values())
    good = _update(estimator, _frame(rng, 1))
    assert not good.flags
    lost = _update(estimator, _changed(_frame(rng, 2), low_loss=dark.copy()))
    assert "no_zero_loss" in lost.flags
    assert math.isfinite(lost.values["energy_shift"].value), "bridged"
    short = _update(estimator, _changed(_frame(rng, 3), core_loss=dark[:-1].copy()))
    assert short.flags == ("unreadable",)
    frame = _frame(rng, 4)
    _update(estimator, frame)
    again = _update(estimator, _changed(_frame(rng, 5), core_loss=frame.data["core_loss"]))
    assert again.flags == ("dead_row",)
    assert estimator.update(_changed(_frame(rng, 6), core_loss=dark)) is not None
    assert not _update(estimator, _frame(rng, 7)).flags
    ti3 = next(q for q in estimator.quantities if q.name == "ti3_fraction")
    assert {"no_zero_loss", "unreadable", "dead_row", "axis_moved"} <= set(ti3.spoiled_by)


def test_interleaved_reads_are_taken_with_their_own_times() -> None:
    rng, estimator = np.random.default_rng(6), _made(_spec(reads=4))
    for k in range(6):
        shifts = 0.05 * k + np.array([-0.03, -0.01, 0.01, 0.03])
        low = np.stack([rng.poisson(_low(s)) for s in shifts]).astype(np.int32)
        begin = 0.125 * np.arange(4)[:, None]
        frame = _changed(
            _frame(rng, k, 0.05 * k),
            low_loss=low,
            low_loss_time=np.hstack([begin, begin + 1e-3]),
        )
        estimate = _update(estimator, frame)
    assert not estimate.flags
    assert estimate.values["zero_loss_position"].value == pytest.approx(0.25, abs=0.005)


def test_without_low_losses_nothing_may_rest_on_the_valence() -> None:
    estimator = _made(_spec(low=False))
    frame = _frame(np.random.default_rng(7), 0)
    estimate = _update(
        estimator, Frame("line_scan", 0, {"core_loss": frame.data["core_loss"]}, 0.0, 0.5)
    )
    assert "no_low_loss" in estimate.flags
    by_name = {q.name: q for q in estimator.quantities}
    assert "relative_thickness" not in by_name
    assert "no_low_loss" in by_name["ti3_fraction"].spoiled_by
    assert "no_low_loss" not in by_name["ti_l_counts"].spoiled_by


def test_details_of_the_spectrometer_fill_what_the_recipe_leaves_open() -> None:
    estimator = _made(counts_per_electron=1.0, full_scale_counts=1e6)
    estimator.inform(
        {"gain_counts_per_electron": 5.0, "full_scale_counts": 100.0, "camera": "counting"}
    )
    frame = _frame(np.random.default_rng(8), 0)
    assert not _update(estimator, frame).flags, "what the recipe says counts"
    other = _made()
    other.inform({"gain_counts_per_electron": 1.0, "full_scale_counts": 1e3})
    assert {"saturated", "low_loss_saturated"} <= set(_update(other, frame).flags)
    with pytest.raises(ConfigError, match="details"):
        _made().inform({"gain_counts_per_electron": -1.0})


def test_references_of_ones_own_are_read_from_files(tmp_path: Path) -> None:
    pytest.importorskip("rsciio")
    files = {}
    for name, reference in (("ti4", ti4_reference(0.66)), ("ti3", ti3_reference(0.66))):
        files[name] = str(save_reference(reference, tmp_path / f"{name}.msa"))
    rng = np.random.default_rng(9)
    frames = [_frame(rng, k) for k in range(3)]
    own, usual = _made(references=files), _made()
    for frame in frames:
        a, b = _update(own, frame), _update(usual, frame)
    assert a.values["ti3_fraction"].value == pytest.approx(b.values["ti3_fraction"].value, abs=0.01)
    with pytest.raises(ConfigError, match="missing"):
        _made(references={**files, "ti3": str(tmp_path / "missing.msa")})


@pytest.mark.parametrize(
    ("options", "channel", "message"),
    [
        ({"edges": ["xx"]}, "core_loss", "there is no xx"),
        ({"edges": ["ni_l"]}, "core_loss", "Move the range"),
        ({"fwhm": "0 eV"}, "core_loss", "fwhm"),
        ({"colour": 1}, "core_loss", "colour"),
        ({}, "low_loss", "Name that one"),
        ({}, "haadf", "not a spectrum"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_run(
    options: dict[str, object], channel: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        EelsEstimator("eels", _spec(), channel, options)
