"""An instrument that is lost for a while is waited for as the recipe says, and what is missing is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.errors import LinkError
from acquire.instruments import HolderState
from acquire.recipe import Recipe

LINE = """- line_scan: {from: [40 nm, 80 nm], to: [120 nm, 80 nm], points: 20,
    spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 2 s}}
"""
IMAGES = """- image: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 1 ms},
    frames: 10}
"""
"""Each takes 4.1 s."""


class Flaky:
    """Stands before an instrument; while it is away, every call and every frame is a LinkError."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.away = False
        self.asked = 0
        """Calls while it was away."""

    def leave(self) -> None:
        self.away = True

    def come_back(self) -> None:
        """It was switched off and on: it has lost what it was told, and its beam is blanked."""
        self._inner.disarm()
        if hasattr(self._inner, "blank"):
            self._inner.blank(True)
        self.away = False

    def _check(self) -> None:
        if self.away:
            self.asked += 1
            raise LinkError("no answer (a test says so)")

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value) or name == "describe":
            return value

        def call(*arguments: Any) -> Any:
            self._check()
            return self._frames(value(*arguments)) if name == "frames" else value(*arguments)

        return call

    def _frames(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            self._check()
            yield frame


@pytest.fixture
def scan(bench: Any) -> Flaky:
    bench.station.scan = Flaky(bench.station.scan)
    return bench.station.scan


@pytest.fixture
def spectrometer(bench: Any) -> Flaky:
    bench.station.spectrometer = Flaky(bench.station.spectrometer)
    return bench.station.spectrometer


def _recipe(short: Recipe, steps: str = "", patience: str = "30 s") -> Recipe:
    text = short.dump()
    if steps:
        text = text.split("steps:")[0] + "steps:\n" + steps
    return Recipe.parse(text + f"on_link_loss: {{retry_for: {patience}}}\n")


def _gaps(bench: Any) -> list[tuple[str, int, int]]:
    return [(stream, index, count) for stream, index, _, count in bench.sink.gaps]


def test_a_scan_that_comes_back_goes_on_recording_behind_a_gap(
    bench: Any, short: Recipe, scan: Flaky
) -> None:
    report = bench.run(_recipe(short), {20.5: scan.leave, 30.5: scan.come_back})
    assert report.outcome == "completed", report.cause
    frames = bench.sink.kept_frames
    before = [f for f in frames if f.t_start_s < 20.5]
    after = [f for f in frames if f.t_start_s > 30.5]
    assert len(before) + len(after) == len(frames) == report.frames["overview"]
    # one a second from 0 s on: those of 21 s to 30 s were due, and then it began again at once
    assert _gaps(bench) == [("overview", 21, 10)]
    assert [f.index for f in frames] == [*range(21), *range(31, 31 + len(after))]
    assert after[0].t_start_s == pytest.approx(30.6, abs=0.3)
    assert "no answer" in bench.sink.gaps[0][2]
    assert [text.split(",")[0][:22] for text in bench.texts("link")] == [
        "the scan was lost",
        "the scan is back after",
    ]
    assert len(bench.texts("warning")) == 1
    assert not any(f.data["haadf"] is None for f in frames)
    assert scan.asked > 10, "it was asked again and again"


def test_the_beam_is_on_again_when_a_scan_is_back(bench: Any, short: Recipe, scan: Flaky) -> None:
    blanked: list[bool] = []
    bench.run(
        _recipe(short),
        {20.5: scan.leave, 25.0: scan.come_back, 28.0: lambda: blanked.append(scan.blanked())},
    )
    assert blanked == [False], "no black images that look like data"


@pytest.mark.parametrize("instrument", ["scan", "spectrometer"])
def test_a_line_scan_takes_every_point_although_an_instrument_is_lost_in_it(
    bench: Any, short: Recipe, request: pytest.FixtureRequest, instrument: str
) -> None:
    flaky: Flaky = request.getfixturevalue(instrument)
    blanked: list[bool] = []
    inner = flaky._inner if instrument == "scan" else bench.station.scan
    report = bench.run(
        _recipe(short, LINE),
        {
            11.0: flaky.leave,
            18.0: lambda: blanked.append(inner.blanked()),
            24.0: flaky.come_back,
        },
    )
    assert report.outcome == "completed", report.cause
    contexts = bench.sink.contexts["line_scan"]
    assert report.frames["line_scan"] == len(contexts) == 20
    positions = [c.position_nm[0] for c in contexts]
    assert positions == sorted(set(positions)), "every point once, in order"
    frames = [f for f in bench.sink.kept_frames if f.stream == "line_scan"]
    if instrument == "spectrometer":
        assert _gaps(bench) == [("line_scan", 5, 1)]
        assert [f.index for f in frames] == [*range(5), *range(6, 21)]
        assert blanked == [True], "nobody looks, so nothing is exposed"
        assert len(bench.texts("tuned")) == 2, "it is tuned again"
        assert bench.engine.status.dose_e_per_nm2 > 0
    else:
        # the point that could not be gone to was not exposed
        assert [f.index for f in frames] == list(range(20))
    assert max(b.t_start_s - a.t_end_s for a, b in pairwise(frames)) > 10


def test_an_image_step_takes_all_its_images_although_the_scan_is_lost_in_it(
    bench: Any, short: Recipe, scan: Flaky
) -> None:
    report = bench.run(_recipe(short, IMAGES), {11.0: scan.leave, 24.0: scan.come_back})
    assert report.outcome == "completed", report.cause
    images = [f for f in bench.sink.kept_frames if f.stream == "image"]
    assert len(images) == report.frames["image"] == 10
    assert ("image", 2, 1) in _gaps(bench)
    assert [f.index for f in images] == [0, 1, *range(3, 11)]


@pytest.mark.parametrize(
    ("steps", "instrument"), [("", "scan"), (LINE, "spectrometer"), (IMAGES, "scan")]
)
def test_an_instrument_that_stays_away_fails_the_run_safely(
    bench: Any, short: Recipe, request: pytest.FixtureRequest, steps: str, instrument: str
) -> None:
    flaky: Flaky = request.getfixturevalue(instrument)
    report = bench.run(_recipe(short, steps, "10 s"), {11.0: flaky.leave, 40.0: flaky.come_back})
    assert report.outcome == "failed"
    assert "on_link_loss.retry_for = 10 s" in report.cause
    assert report.steps[-1]["t_end_s"] == pytest.approx(21.0, abs=4.5)
    assert bench.station.holder.read().state is HolderState.OFF
    assert _gaps(bench), "also what was missing at the end is told"


@pytest.mark.parametrize("instrument", ["scan", "spectrometer"])
def test_without_a_word_in_the_recipe_a_lost_instrument_fails_the_run_at_once(
    bench: Any, short: Recipe, request: pytest.FixtureRequest, instrument: str
) -> None:
    flaky: Flaky = request.getfixturevalue(instrument)
    report = bench.run(_recipe(short, LINE, "0 s"), {11.0: flaky.leave})
    assert report.outcome == "failed"
    assert "no answer" in report.cause
    assert report.t_end_s < 15.0
    assert bench.station.holder.read().state is HolderState.OFF


@pytest.mark.parametrize(
    ("steps", "instrument"), [("", "scan"), (LINE, "spectrometer"), (IMAGES, "scan")]
)
def test_an_abort_is_obeyed_while_an_instrument_is_waited_for(
    bench: Any, short: Recipe, request: pytest.FixtureRequest, steps: str, instrument: str
) -> None:
    flaky: Flaky = request.getfixturevalue(instrument)
    abort: Callable[[], None] = lambda: bench.engine.abort("enough")  # noqa: E731
    report = bench.run(
        _recipe(short, steps), {11.0: flaky.leave, 20.0: abort, 20.4: flaky.come_back}
    )
    # an instrument that cannot be made safe is a failure, whatever the run was ended for
    assert report.outcome == "failed"
    assert "no answer" in report.cause
    assert "enough" in report.cause
    assert report.steps[-1]["t_end_s"] == pytest.approx(20.0, abs=0.5)
    assert bench.station.holder.read().state is HolderState.OFF
    assert bench.station.scan.blanked()


def test_a_pause_is_obeyed_while_an_instrument_is_waited_for(
    bench: Any, short: Recipe, scan: Flaky
) -> None:
    report = bench.run(
        _recipe(short),
        {
            20.5: scan.leave,
            25.0: bench.engine.pause,
            28.0: scan.come_back,
            60.0: bench.engine.resume,
        },
    )
    assert report.outcome == "completed", report.cause
    setpoints = [value for t, value in bench.column("setpoint") if 25.5 < t < 59.5]
    assert max(setpoints) - min(setpoints) < 1e-6
    starts = [f.t_start_s for f in bench.sink.kept_frames]
    assert not [t for t in starts if 20.5 < t < 60.0]
    # those of 21 s to 24 s were due; none is while the run is paused
    assert _gaps(bench) == [("overview", 21, 4)]


def test_a_pause_is_obeyed_in_a_line_scan_whose_spectrometer_is_waited_for(
    bench: Any, short: Recipe, spectrometer: Flaky
) -> None:
    states: list[str] = []
    report = bench.run(
        _recipe(short, LINE),
        {
            11.0: spectrometer.leave,
            20.0: bench.engine.pause,
            20.5: lambda: states.append(bench.engine.state.value),
            30.0: spectrometer.come_back,
            60.0: bench.engine.resume,
        },
    )
    assert report.outcome == "completed", report.cause
    assert states == ["paused"]
    assert report.frames["line_scan"] == 20
    frames = [f for f in bench.sink.kept_frames if f.stream == "line_scan"]
    assert not [f for f in frames if 11.0 < f.t_start_s < 60.0]
    assert _gaps(bench) == [("line_scan", 5, 1)]


def test_a_holder_that_is_lost_is_not_waited_for(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose() -> None:
        def read() -> Any:
            raise LinkError("no answer (a test says so)")

        monkeypatch.setattr(bench.station.holder, "read", read)

    report = bench.run(_recipe(short), {20.0: lose})
    assert report.outcome == "failed"
    assert "holder was lost" in report.cause
    assert report.steps[0]["t_end_s"] < 22.0


def test_each_instrument_is_blamed_for_itself(
    bench: Any, short: Recipe, scan: Flaky, spectrometer: Flaky
) -> None:
    def swap() -> None:
        spectrometer.come_back()
        scan.leave()

    report = bench.run(_recipe(short, LINE, "12 s"), {11.0: spectrometer.leave, 16.1: swap})
    assert report.outcome == "failed"
    assert report.cause.startswith("the scan has not answered for 12")


RECORDED = """  edge: {spectrum: {at: [80 nm, 80 nm], spectra: {range: [400 eV, 600 eV],
    dispersion: 0.1 eV, dwell_time: 500 ms, low_loss_dwell_time: 0.1 ms}}, every: 5 s}
steps:
"""


def test_images_go_on_while_a_spectrometer_is_away_that_records_beside_the_steps(
    bench: Any, short: Recipe, spectrometer: Flaky
) -> None:
    text = _recipe(short).dump().replace("steps:\n", RECORDED)
    report = bench.run(Recipe.parse(text), {20.2: spectrometer.leave, 37.1: spectrometer.come_back})
    assert report.outcome == "completed", report.cause
    taken = [frame for frame in bench.sink.kept_frames if frame.stream == "edge"]
    starts_s = [frame.t_start_s for frame in taken]
    assert not [t_s for t_s in starts_s if 20.1 < t_s < 37.1]
    # that of 20 s was lost on its way, and those of 25, 30 and 35 s could not be taken
    assert _gaps(bench) == [("edge", 4, 4)]
    assert starts_s[4] == pytest.approx(37.5, abs=0.6), "it comes as soon as it can"
    images = [f.t_start_s for f in bench.sink.kept_frames if f.stream == "overview"]
    assert len([t_s for t_s in images if 20.2 < t_s < 37]) >= 15
    assert spectrometer.asked > 40
    lost = Recipe.parse(text.replace("retry_for: 30 s", "retry_for: 5 s"))
    ended = bench.run(lost, {20.2: spectrometer.leave})
    assert ended.outcome == "failed"
    assert "the spectrometer has not answered for 5" in ended.cause


SHORT_SPECTRA = "record: {chip: {holder: {every: 200 ms}}}\nsteps:\n" + LINE.replace(
    "dwell_time: 2 s", "dwell_time: 100 ms"
)


@pytest.mark.parametrize(
    ("instrument", "rested_s"),
    [
        # it can be neither moved nor blanked until it is back
        ("scan", 23.0),
        # two calls of 5 s tell that it is lost; then the beam is blanked
        ("spectrometer", 10.0),
    ],
)
def test_a_probe_that_rests_for_want_of_an_instrument_counts_as_dose(
    bench: Any,
    short: Recipe,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    instrument: str,
    rested_s: float,
) -> None:
    flaky: Flaky = request.getfixturevalue(instrument)
    check = flaky._check

    def slowly() -> None:
        if flaky.away:
            bench.clock.sleep(5.0)
        check()

    monkeypatch.setattr(flaky, "_check", slowly)
    header = short.dump().split("record:")[0]
    recipe = Recipe.parse(header + SHORT_SPECTRA + "on_link_loss: {retry_for: 1 min}\n")
    report = bench.run(recipe, {0.95: flaky.leave, 24.0: flaky.come_back})
    assert report.outcome == "completed", report.cause
    current_pa = probe_current_pa(bench.station.scan.describe())
    counted_s = report.dose_e_per_nm2 / spot_dose(current_pa, 1.0, 80.0 / 19)
    assert counted_s == pytest.approx(rested_s, abs=4.0)
