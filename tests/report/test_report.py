"""Every run, whole, partial, failed or killed, gets a true summary and a legible page."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.report import plot_run, run_profiles, summarise, to_markdown, to_rich
from acquire.report.pictures import first_and_last, nice_length
from acquire.report.text import show_value
from acquire.store import RunWriter, open_run
from acquire.stream import FrameContext, RunHeader, RunReport, Value

Experiment = Callable[..., Path]

CASES = {
    "completed": {},
    "killed": {"outcome": "", "frames": 22},
    "aborted without images": {
        "parts": frozenset({"holder", "spectra"}),
        "outcome": "aborted",
        "cause": "operator",
    },
    "without estimates": {"parts": frozenset({"holder", "images"})},
    "without a holder log": {"parts": frozenset({"images", "estimates"})},
    "one image": {"frames": 1},
    "nothing": {"parts": frozenset(), "outcome": "failed", "cause": "the holder did not answer"},
}


def test_a_summary_says_what_happened(experiment: Experiment, tmp_path: Path) -> None:
    summary = summarise(open_run(experiment(tmp_path / "run")))
    assert (summary.outcome, summary.cause, summary.simulated) == ("completed", "", True)
    assert summary.images == {"overview": 40}
    assert summary.spectra == {"line": 40}
    low, high = summary.temperature_celsius
    assert low == pytest.approx(25, abs=3)
    assert high == pytest.approx(700, abs=3)
    assert 0.5 < summary.hold_deviation_celsius < 3
    assert summary.final["count"] == Value(30.0, 0.5)
    assert summary.first["mean_diameter"].value < summary.final["mean_diameter"].value
    assert summary.flags["few_particles"] < summary.estimates == 40
    assert summary.marks == ((100.0, "first particles on the boundary"),)
    assert [s.outcome for s in summary.steps] == ["reached", "condition met", "done", "reached"]
    size = sum(f.stat().st_size for f in (tmp_path / "run").rglob("*") if f.is_file())
    assert summary.bytes_on_disk == size


def test_a_killed_run_is_summarised_from_its_journal(
    experiment: Experiment, tmp_path: Path
) -> None:
    summary = summarise(open_run(experiment(tmp_path / "run", outcome="", frames=22)))
    assert summary.outcome == "not closed"
    assert "killed" in summary.cause
    assert [s.outcome for s in summary.steps] == ["reached", "interrupted"]
    assert summary.steps[1].text == "hold for 5 min until mean_diameter >= 3.83 nm"
    assert math.isnan(summary.steps[1].t_end_s)
    assert summary.dose_e_per_nm2 == pytest.approx(22 * 2e5)
    (tmp_path / "run" / "journal.jsonl").unlink()
    assert summarise(open_run(tmp_path / "run")).images == {"overview": 22}


def test_the_text_fits_terminal_and_markdown(experiment: Experiment, tmp_path: Path) -> None:
    summary = summarise(
        open_run(experiment(tmp_path / "run", outcome="failed", cause="a|b\nthe disk is full"))
    )
    shown = io.StringIO()
    Console(file=shown, width=100).print(to_rich(summary))
    markdown = to_markdown(summary)
    for text in (shown.getvalue(), markdown):
        for expected in (
            "Ni exsolution, first look",
            "the disk is full",
            "LSNT-07",
            "clock × 10",
            "40 of overview",
            "few_particles × 8 of 40 estimates",
            "ramp to 700 °C at 20 °C/s",
            "first particles on the boundary",
        ):
            assert expected in text
    assert max(map(len, shown.getvalue().splitlines())) <= 100
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {3, 6}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_gets_a_page(experiment: Experiment, tmp_path: Path, case: str) -> None:
    run = open_run(experiment(tmp_path / "run", **CASES[case]))
    plot_run(run, tmp_path / "page.png")
    page = matplotlib.image.imread(tmp_path / "page.png")
    assert page.shape[:2] == (1245, 1755)
    dark = page[..., :3].mean(axis=2) < 0.9
    # something is drawn in the head and, unless nothing was recorded, all over the body
    assert dark[:180].any()
    body = dark[200:]
    filled = [block.any() for row in np.array_split(body, 4) for block in np.array_split(row, 4, 1)]
    assert sum(filled) >= (1 if case == "nothing" else 10)


def test_pictures_are_of_the_sized_stream_with_its_particles(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = open_run(experiment(tmp_path / "run"))
    first, last = first_and_last(run)
    np.testing.assert_array_equal(last.image, run.images("overview").haadf[-1])
    assert first.title == "haadf, frame 0, 0 s, 25 °C"
    assert (last.width_nm, last.height_nm) == pytest.approx((120, 120))
    assert (len(first.diameters_nm), len(last.diameters_nm)) == (0, 30)
    # the outlines lie on what is bright
    pixel = 120 / 256
    x, y = (last.centres_nm / pixel).astype(int).T
    assert (last.image[y, x] > 1.7 * np.median(last.image)).all()


def test_line_scans_are_measured_with_the_camera_of_the_run(
    experiment: Experiment, tmp_path: Path
) -> None:
    (profile,) = run_profiles(open_run(experiment(tmp_path / "run")))
    assert profile.edges == ("ti_l", "o_k")
    np.testing.assert_allclose(profile.distance_nm, 1.25 * np.arange(40))
    titanium = profile.profile.edges["ti_l"]
    oxygen = profile.profile.edges["o_k"]
    # two Gaussians of height 40 and 30 and σ 1.5 eV in channels of 0.1 eV, the window from 456 eV
    inside = 0.5 * (1 + math.erf((458 - 456) / 1.5 / math.sqrt(2)))
    expected = math.sqrt(2 * math.pi) * 15 * (40 * inside + 30)
    assert titanium.electrons.mean() == pytest.approx(expected, rel=0.06)
    dip = oxygen.electrons[18:23].mean() / oxygen.electrons[[*range(10), *range(30, 40)]].mean()
    assert dip == pytest.approx(0.73, abs=0.06)
    scatter = (titanium.electrons - titanium.electrons.mean()) / titanium.sigma
    assert 0.6 < scatter.std() < 1.5


def test_a_summary_tells_what_line_scans_are_flagged_with(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = open_run(experiment(tmp_path / "run", parts=frozenset({"spectra"})))
    (profile,) = run_profiles(run)
    (scan,) = summarise(run).line_scans.values()
    assert (scan.edges, scan.points, scan.flags) == (("ti_l", "o_k"), 40, {})
    assert "| line scan line | 40 points: Ti-L2,3, O-K |" in to_markdown(summarise(run))
    poor = np.zeros(40, bool)
    poor[3:6] = True
    edges = dict(profile.profile.edges)
    edges["o_k"] = replace(edges["o_k"], flags={**edges["o_k"].flags, "poor_fit": poor})
    flags = {**profile.profile.flags, "no_zero_loss": poor}
    flagged = replace(profile, profile=replace(profile.profile, edges=edges, flags=flags))
    text = to_markdown(summarise(run, [flagged]))
    assert "flagged: no_zero_loss × 3, poor_fit of O-K × 3" in text


@pytest.mark.parametrize(
    ("value", "sigma", "text"),
    [
        (8.8312, 0.0412, "8.831 ± 0.041 nm"),
        (3.83, 0.8, "3.83 ± 0.80 nm"),
        (2083.3, 380.0, "2080 ± 380 nm"),
        (52, 0, "52 nm"),
        (math.nan, 1.0, "–"),
        (5.0, math.nan, "5 nm"),
    ],
)
def test_values_are_rounded_as_their_sigma_allows(value: float, sigma: float, text: str) -> None:
    assert show_value(Value(value, sigma), "nm") == text


@pytest.mark.parametrize(
    ("most", "length"), [(30, 20), (50, 50), (0.7, 0.5), (100, 100), (9.99, 5)]
)
def test_scale_bars_have_round_lengths(most: float, length: float) -> None:
    assert nice_length(most) == pytest.approx(length)


def _write(path: Path, kind: str, channel: ChannelSpec, data: np.ndarray[Any, Any]) -> Path:
    writer = RunWriter(path)
    writer.open(RunHeader("odd", "", "", "bench", {}, 0.0, 1.0))
    name = "haadf" if kind == "images" else "core_loss"
    writer.declare_frames(kind, StreamSpec("odd", {name: channel}))
    for index in range(4):
        context = FrameContext(20.0, 20.0, 1.0, index, (float(index), 0.0))
        writer.append_frame(Frame("odd", index, {name: data.copy()}, index, index + 0.5), context)
    writer.close(RunReport("completed", "", 4.0, {"odd": 4}))
    return path


@pytest.mark.parametrize(
    ("axis", "width_nm"),
    [
        (Axis(0.0, 0.5, "nm"), 16.0),
        (Axis(0.0, 0.0005, "µm"), 16.0),
        (Axis(16.0, -0.5, "nm"), 16.0),
        (Axis(0.0, 0.0, "nm"), None),
        (Axis(0.0, 1.0, "1/nm"), None),
        (None, None),
    ],
)
def test_scale_bar_is_right_in_any_unit_and_left_out_where_it_is_unknown(
    tmp_path: Path, axis: Axis | None, width_nm: float | None
) -> None:
    axes = {} if axis is None else {"y": axis, "x": axis}
    channel = ChannelSpec("uint16", (32, 32), ("y", "x"), axes)
    run = open_run(_write(tmp_path / "run", "images", channel, np.eye(32, dtype=np.uint16)))
    picture = first_and_last(run)[0]
    assert picture.calibrated == (width_nm is not None)
    if width_nm is not None:
        assert picture.width_nm == pytest.approx(width_nm)
    plot_run(run, tmp_path / "page.png")


@pytest.mark.parametrize(
    ("kind", "channel", "value"),
    [
        ("images", ChannelSpec("float32", (32, 32), ("y", "x"), {}), np.inf),
        ("images", ChannelSpec("float32", (32,), ("x",), {}), 1.0),
        ("spectra", ChannelSpec("float32", (64,), ("energy_loss",), {}), 1.0),
        (
            "spectra",
            ChannelSpec("float32", (64,), ("energy_loss",), {"energy_loss": Axis(0.0, 1.0, "px")}),
            1.0,
        ),
    ],
)
def test_data_that_cannot_be_drawn_do_not_cost_the_page(
    tmp_path: Path, kind: str, channel: ChannelSpec, value: float
) -> None:
    data = np.full(channel.shape, value, np.float32)
    run = open_run(_write(tmp_path / "run", kind, channel, data))
    assert run_profiles(run) == []
    plot_run(run, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
