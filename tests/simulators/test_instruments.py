"""The simulated instruments together: clock, truth, reproducibility, options."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from acquire.clock import Clock, VirtualClock, WallClock
from acquire.errors import ConfigError, InstrumentError, LimitError
from acquire.instruments import (
    Frame,
    HolderState,
    ScanExposure,
    Simulation,
    SpectrometerSetting,
    SpectrumExposure,
)
from acquire.station import Station
from simulators.instruments import (
    ExsolutionSimulation,
    SimulatedHolder,
    SimulatedScan,
    SimulatedSpectrometer,
    build,
)
from simulators.specimen import View
from simulators.truth import REMEMBERED, ImageFacts, TruthLog

BOTH = ("haadf", "abf")
OVERVIEW = ScanExposure(BOTH, (512, 512), 160.0, 1e-6, frame_period_s=1.0)


class Bench:
    """A simulation with its instruments by name."""

    def __init__(self, clock: Clock, **options: object) -> None:
        self.clock = clock
        self.simulation = build(clock, **{"seed": 1, **options})  # type: ignore[arg-type]
        found = self.simulation.instruments
        assert isinstance(found["holder"], SimulatedHolder)
        assert isinstance(found["scan"], SimulatedScan)
        assert isinstance(found["spectrometer"], SimulatedSpectrometer)
        self.holder, self.scan, self.spectrometer = (
            found["holder"],
            found["scan"],
            found["spectrometer"],
        )

    def images(self, exposure: ScanExposure, number: int = 1) -> list[Frame]:
        self.scan.arm(exposure, number)
        frames = list(self.scan.frames(self.clock.signal()))
        self.scan.disarm()
        return frames


@contextmanager
def bench(**options: object) -> Iterator[Bench]:
    clock = VirtualClock()
    with clock.enrolled("test"):
        yield Bench(clock, **options)


def test_the_default_station_opens_and_is_a_simulation() -> None:
    clock = VirtualClock()
    with clock.enrolled("test"), Station.load("simulated").open(clock) as station:
        assert isinstance(station.simulation, Simulation)
        assert set(station.instruments) == {"holder", "scan", "spectrometer", "resistance"}
        assert station.station.file.simulation is not None
        assert station.station.make_clock().rate == 10


def _session() -> list[object]:
    """A whole small experiment with three tasks, and everything it gave."""
    given: list[object] = []
    with bench() as b:
        b.holder.ramp(720.0, 50.0)
        closed = b.clock.signal()

        def watch() -> None:
            while not closed.wait(0.7):
                given.append(b.holder.read())

        task = b.clock.spawn(watch, "watch")
        small = ScanExposure(BOTH, (128, 128), 100.0, 1e-6, frame_period_s=5.0)
        for frame in b.images(small, 12):
            given += [frame.t_start_s, *(d.tobytes() for d in frame.data.values())]
            given.append(json.dumps(b.simulation.truth("scan", frame.index)))
        b.spectrometer.arm(SpectrumExposure(0.1), 3)
        for frame in b.spectrometer.frames(b.clock.signal()):
            given += [frame.t_end_s, *(d.tobytes() for d in frame.data.values())]
        closed.set()
        task.join()
    return given


def test_two_virtual_runs_are_identical() -> None:
    first, second = _session(), _session()
    assert len(first) > 100
    assert first == second


def test_what_is_seen_does_not_depend_on_who_looked_before() -> None:
    def last_frame(looks: int) -> tuple[bytes, float]:
        with bench() as b:
            b.holder.ramp(700.0, 50.0)
            for _ in range(looks):
                b.clock.sleep(120.0 / looks)
                b.simulation.expected()
                b.holder.read()
            b.clock.sleep(120.0 - b.clock.now_s())
            frame = b.images(OVERVIEW)[0]
            truth = b.simulation.truth("scan", frame.index)
            return frame.data["haadf"].tobytes(), truth["mean_diameter_nm"]

    few, many = last_frame(1), last_frame(64)
    assert few[1] == pytest.approx(many[1], rel=1e-9)
    assert few[0] == many[0]


def test_the_image_shows_the_particles_that_the_truth_lists() -> None:
    diameters = ["8.8 nm"]
    with bench(specimen="reference_domes", dome_diameters=diameters, probe_current="2 nA") as b:
        frame = b.images(OVERVIEW)[0]
        truth = b.simulation.truth("scan", frame.index)
    pixel = truth["pixel_size_nm"]
    image = gaussian_filter(frame.data["haadf"].astype(float), 1)
    inner = [p for p in truth["particles"] if not p["touches_border"]]
    assert len(inner) >= 9
    assert truth["mean_diameter_nm"] == pytest.approx(8.8)
    place = (np.arange(512) + 0.5) * pixel
    for particle in inner:
        dx, dy = place[None, :] - particle["x_nm"], place[:, None] - particle["y_nm"]
        distance = np.hypot(dx, dy)
        radius = particle["footprint_diameter_nm"] / 2
        ring = (distance > 1.2 * radius) & (distance < 1.5 * radius)
        excess = image / image[ring].mean() - 1
        # the excess at 0.1 per nm integrates to the volume of the equivalent sphere
        inside = distance < 1.2 * radius
        volume = excess[inside].sum() * pixel**2 / 0.1
        assert np.cbrt(6 / math.pi * volume) == pytest.approx(particle["diameter_nm"], rel=0.04)
        top = inside & (excess > 0.05 * radius)
        assert (dx * top).sum() / top.sum() == pytest.approx(0.0, abs=pixel)
        assert (dy * top).sum() / top.sum() == pytest.approx(0.0, abs=pixel)


def test_truth_is_json_and_its_summary_follows_from_its_particles() -> None:
    with bench() as b:
        b.holder.ramp(700.0, 100.0)
        b.clock.sleep(200.0)
        frame = b.images(OVERVIEW)[0]
        truth = json.loads(json.dumps(b.simulation.truth("scan", frame.index)))
        expected = b.simulation.expected()
    whole = [
        p["diameter_nm"]
        for p in truth["particles"]
        if p["diameter_nm"] >= 2 and not p["touches_border"]
    ]
    assert truth["count"] == len(whole) > 8
    assert truth["mean_diameter_nm"] == pytest.approx(np.mean(whole))
    assert truth["temperature_celsius"] == pytest.approx(700.0, abs=0.01)
    assert truth["dose_e_per_nm2"] == pytest.approx(50e-12 * 1e-6 / 1.602e-19 / 0.3125**2, rel=1e-3)
    assert expected["mean_diameter"] == pytest.approx(truth["mean_diameter_nm"], rel=0.01)
    assert expected["count"] == truth["count"]


def test_drift_and_shift_move_the_particles_oppositely() -> None:
    with bench(thermal_drift="0.1 nm/°C", slow_drift="0 nm", specimen="reference_domes") as b:

        def where() -> tuple[dict[int, tuple[float, float]], tuple[float, float]]:
            truth = b.simulation.truth("scan", b.images(OVERVIEW)[0].index)
            places = {p["id"]: (p["x_nm"], p["y_nm"]) for p in truth["particles"]}
            return places, tuple(truth["drift_nm"])

        def moved(before: dict[int, tuple[float, float]]) -> NDArray[np.float64]:
            after, _ = where()
            both = before.keys() & after.keys()
            assert len(both) > 4
            return np.array([np.subtract(after[k], before[k]) for k in both])

        cold, still = where()
        b.holder.ramp(225.0, 100.0)
        b.clock.sleep(400.0)
        hot, drift = where()
        assert np.allclose(moved(cold), np.subtract(drift, still), atol=1e-6)
        assert math.hypot(*drift) == pytest.approx(20.0, rel=0.01)
        b.scan.shift(7.0, -3.0)
        assert np.allclose(moved(hot), (-7.0, 3.0), atol=0.01)


def test_spectra_at_a_boundary_hold_more_ti3_than_beside_it() -> None:
    with bench(drift=False) as b:
        film = b.simulation._world.specimen.film
        line = np.array([[x, 0.0] for x in np.linspace(0, 200, 100)])
        feet, arrived = film.project_to_boundary(line)
        foot = feet[arrived][0]
        b.spectrometer.tune(SpectrometerSetting(400.0, 0.1, 2000))
        found = {}
        for name, (x, y) in {"on": foot, "off": foot + 15.0}.items():
            b.scan.park(float(x), float(y))
            b.spectrometer.arm(SpectrumExposure(0.5), 4)
            frames = list(b.spectrometer.frames(b.clock.signal()))
            b.spectrometer.disarm()
            truths = [b.simulation.truth("spectrometer", f.index) for f in frames]
            found[name] = dict(truths[0])
            axis = 400 + 0.1 * np.arange(2000)
            valley = []
            for frame, truth in zip(frames, truths, strict=True):
                core = frame.data["core_loss"]
                at = axis - truth["zlp_shift_ev"]
                peak = core[np.abs(at - 459.7) < 0.3].mean()
                valley.append(core[np.abs(at - 458.45) < 0.2].mean() / peak)
            found[name]["valley"] = float(np.mean(valley))
    assert found["on"]["ti3_fraction"] == pytest.approx(0.6, abs=0.01)
    assert found["on"]["distance_to_boundary_nm"] < 0.1
    assert found["off"]["ti3_fraction"] == pytest.approx(0.05, abs=0.01)
    assert found["on"]["valley"] > 1.2 * found["off"]["valley"]


def test_low_loss_and_core_loss_have_their_own_spans_and_the_shift_of_their_time() -> None:
    with bench() as b:
        b.spectrometer.arm(SpectrumExposure(0.5, 1e-3), 2)
        frames = list(b.spectrometer.frames(b.clock.signal()))
        truth = b.simulation.truth("spectrometer", 1)
    frame = frames[1]
    assert frame.meta.spans["low_loss"] == (frame.t_start_s, frame.t_start_s + 1e-3)
    assert frame.meta.spans["core_loss"] == (frame.t_start_s + 1e-3, frame.t_end_s)
    low = frame.data["low_loss"].astype(float)
    axis = -20 + 0.1 * np.arange(len(low))
    near = np.abs(axis - axis[np.argmax(low)]) < 0.9
    assert float(axis[near] @ low[near] / low[near].sum()) == pytest.approx(
        truth["low_loss_shifts_ev"][0], abs=0.02
    )
    # the read of a millisecond jitters, the mean of half a second hardly does
    assert 0 < abs(truth["low_loss_shifts_ev"][0] - truth["zlp_shift_ev"]) < 0.25


def test_holding_again_and_again_changes_and_remembers_nothing() -> None:
    with bench() as b:
        b.holder.ramp(300.0, 100.0)
        b.clock.sleep(1.0)
        b.holder.hold()
        b.clock.sleep(0.002)  # within the thermal lag
        history = b.simulation.chip._history
        knots, settled = len(history._times), history.celsius(100.0)
        for _ in range(50):
            b.holder.hold()
            b.clock.sleep(0.1)
        assert b.holder.read().state is HolderState.HOLDING
        assert b.holder.read().setpoint_celsius == pytest.approx(125.0)
        assert (len(history._times), history.celsius(100.0)) == (knots, settled)


@pytest.mark.parametrize("nm", [math.nan, math.inf, -math.inf, 1e300, -2e6])
def test_positions_that_no_scan_can_reach_are_refused_and_move_nothing(nm: float) -> None:
    with bench(drift=False) as b:
        before = b.images(OVERVIEW)[0]
        for move in (b.scan.shift, b.scan.park):
            for point in ((nm, 0.0), (0.0, nm)):
                with pytest.raises(LimitError, match="refused"):
                    move(*point)
        for center in ((nm, 0.0), (0.0, nm)):
            with pytest.raises(LimitError, match="refused"):
                b.scan.arm(replace(OVERVIEW, center_nm=center), 1)
        after = b.images(OVERVIEW)[0]
        truths = [b.simulation.truth("scan", frame.index) for frame in (before, after)]
        assert truths[0]["particles"] == truths[1]["particles"]
    with bench() as b:
        b.scan.shift(8e5, 0.0)
        with pytest.raises(LimitError, match="scan shift"):
            b.scan.shift(8e5, 0.0)


def test_a_blanked_beam_gives_no_dose() -> None:
    with bench() as b:
        b.scan.blank(True)
        frame = b.images(OVERVIEW)[0]
        truth = b.simulation.truth("scan", frame.index)
        b.spectrometer.arm(SpectrumExposure(0.1), 1)
        spectrum = next(iter(b.spectrometer.frames(b.clock.signal())))
    assert truth["dose_e_per_nm2"] == 0.0
    assert truth["blanked"]
    assert frame.data["haadf"].mean() < 0.1
    assert spectrum.data["core_loss"].std() == pytest.approx(1.4 * 5.3, rel=0.1)


def test_draft_frames_are_empty_and_everything_else_is_the_same() -> None:
    told = []
    for draft in (True, False):
        with bench(draft=draft) as b:
            b.holder.ramp(700.0, 50.0)
            b.clock.sleep(150.0)
            frame = b.images(OVERVIEW)[0]
            told.append((frame.t_start_s, frame.t_end_s, b.simulation.truth("scan", 0)))
            if draft:
                assert all(not d.any() for d in frame.data.values())
                assert frame.data["haadf"].shape == (512, 512)
                assert frame.data["haadf"].dtype == np.uint16
    assert told[0] == told[1]


def test_stop_cuts_a_minute_long_exposure_at_once_on_the_wall_clock() -> None:
    b = Bench(WallClock(), draft=True)
    b.scan.arm(ScanExposure(("haadf",), (512, 512), 160.0, 60 / 512**2))
    stop = b.clock.signal()
    cut_at: list[float] = []

    def cut() -> None:
        b.clock.sleep(0.2)
        cut_at.append(time.monotonic())
        stop.set()

    b.clock.spawn(cut, "cut")
    assert list(b.scan.frames(stop)) == []
    assert time.monotonic() - cut_at[0] < 0.25


def test_disarm_ends_the_frames_of_another_task() -> None:
    with bench(draft=True) as b:
        b.scan.arm(ScanExposure(("haadf",), (512, 512), 160.0, 60 / 512**2))
        got: list[Frame] = []
        frames = b.scan.frames(b.clock.signal())
        task = b.clock.spawn(lambda: got.extend(frames), "reader")
        b.clock.sleep(10.0)
        b.scan.disarm()
        assert task.join(2.0)
        assert got == []


def test_frames_need_an_armed_scan_and_one_reader() -> None:
    with bench(draft=True) as b:
        with pytest.raises(InstrumentError, match="not armed"):
            b.scan.frames(b.clock.signal())
        b.scan.arm(OVERVIEW)
        first = b.scan.frames(b.clock.signal())
        next(first)
        with pytest.raises(InstrumentError, match="being read"):
            b.scan.frames(b.clock.signal())
        b.spectrometer.arm(SpectrumExposure(0.1), 1)
        with pytest.raises(InstrumentError, match="tuned while armed"):
            b.spectrometer.tune(SpectrometerSetting(500.0, 0.1))


def test_late_frames_keep_the_beat() -> None:
    with bench(draft=True) as b:
        b.scan.arm(OVERVIEW, 5)
        starts = []
        for frame in b.scan.frames(b.clock.signal()):
            starts.append(frame.t_start_s)
            b.clock.sleep(0.9 if frame.index == 1 else 0.0)  # too late by a little
    assert starts[1] == pytest.approx(starts[0] + 1)
    assert starts[2] > starts[1] + 1.1
    assert starts[3] == pytest.approx(starts[1] + 2)


def test_options_reach_the_image_the_metadata_and_the_truth() -> None:
    with bench(
        detector_bits=8,
        detector_gain=2.0,
        detector_offset=12.0,
        haadf_angles=["60 mrad", "150 mrad"],
        focus="30 nm",
        texture=0.0,
        slope=0.3,
        specimen="reference_domes",
    ) as b:
        frame = b.images(OVERVIEW)[0]
        truth = b.simulation.truth("scan", frame.index)
        details, about = b.scan.describe().details, b.simulation.describe()
    assert frame.data["haadf"].dtype == np.uint8
    assert (details["bits"], details["saturation_counts"]) == (8.0, 255.0)
    assert (details["gain_counts_per_electron"], details["offset_counts"]) == (2.0, 12.0)
    assert (details["haadf_inner_mrad"], details["haadf_outer_mrad"]) == (60.0, 150.0)
    assert (about["texture"], about["slope"], about["focus_nm"]) == (0.0, 0.3, 30.0)
    assert truth["defocus_nm"] == -30.0
    assert truth["probe_sigma_nm"] == pytest.approx(math.hypot(0.2, 0.023 * 15), rel=1e-3)
    one = truth["particles"][0]
    assert one["contrasts"]["haadf"] == one["contrast"] > 0 > one["contrasts"]["abf"]


def test_a_cross_section_is_seen_through_the_same_scan() -> None:
    with bench(view="cross_section", drift=False) as b:
        b.holder.ramp(800.0, 100.0)
        b.clock.sleep(100.0)
        frame = b.images(OVERVIEW)[0]
        truth = json.loads(json.dumps(b.simulation.truth("scan", frame.index)))
        b.scan.shift(0.0, -20.0)
        lower = b.images(OVERVIEW)[0]
    surface = round(truth["surface_y_nm"] / truth["pixel_size_nm"])
    assert surface == 256
    haadf = frame.data["haadf"]
    assert haadf[: surface - 40].mean() < 0.1 < 10 * haadf[surface + 40 :].mean()
    assert lower.data["haadf"][surface : surface + 50].mean() < 5, "the surface went down"
    assert truth["view"] == "cross_section"
    assert truth["count"] > 2
    assert math.isnan(truth["areal_density_per_um2"]), "there is no area to count on"
    assert all(p["y_nm"] >= truth["surface_y_nm"] - 1e-6 for p in truth["particles"])


def test_a_ramp_drifts_the_lines_of_a_frame_apart_and_the_truth_says_how_far() -> None:
    with bench(thermal_drift="0.5 nm/°C", slow_drift="0 nm") as b:
        b.holder.ramp(725.0, 10.0)
        b.clock.sleep(10.0)
        frame = b.images(OVERVIEW)[0]
        truth = b.simulation.truth("scan", frame.index)
        b.clock.sleep(600.0)
        later = b.simulation.truth("scan", b.images(OVERVIEW)[0].index)
    across = math.hypot(*truth["drift_across_frame_nm"])
    # 5 nm/s, of which 0.3 follows slowly
    duration_s = frame.t_end_s - frame.t_start_s
    assert 0.7 * 5 * duration_s < across < 5 * duration_s
    assert math.hypot(*later["drift_across_frame_nm"]) < 1e-3
    assert truth["defocus_nm"] > 1.0 > later["defocus_nm"] >= 0.0


def test_truth_forgets_the_oldest_and_says_so() -> None:
    log = TruthLog("scan", remembered=3)
    for k in range(5):
        view = View((0.0, 0.0), (1, 1), 1.0)
        log.add(ImageFacts(k, float(k), view, 25.0, (0.0, 0.0), 0.0, blanked=False))
    assert log.find(4).index == 4
    with pytest.raises(KeyError, match="not remembered"):
        log.find(1)
    assert REMEMBERED >= 20_000
    with bench(draft=True) as b, pytest.raises(KeyError):
        b.simulation.truth("overview", 0)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"specimen": "gold"}, ValueError, "known are"),
        ({"probe_current": 50}, ValueError, "no unit"),
        ({"probe_current": "50 nm"}, ValueError, "right kind"),
        ({"probe_current": "0 pA"}, ValueError, "blank"),
        ({"drift": "no"}, TypeError, "true or false"),
        ({"viewing_area_offset": 3.0}, ValueError, "0 to 0.2"),
        ({"dome_diameters": "5 nm"}, TypeError, "list"),
        ({"dome_diameters": ["5 nm"]}, ValueError, "grows its own"),
        ({"seed": -1}, ValueError, "whole number"),
        ({"colour": "red"}, TypeError, "colour"),
        ({"texture": 0.9}, ValueError, "0 to 0.5"),
        ({"slope": "30 %"}, TypeError, "number is needed"),
        ({"slope": 1.5}, ValueError, "0 to 0.75"),
        ({"view": "side"}, ValueError, "cross_section"),
        ({"substrate": 1}, TypeError, "true or false"),
        ({"probe_size": "0 nm"}, ValueError, "probe_size"),
        ({"haadf_angles": ["70 mrad"]}, TypeError, "two angles"),
        ({"haadf_angles": "70 mrad"}, TypeError, "two angles"),
        ({"haadf_angles": 70}, TypeError, "two angles"),
        ({"haadf_angles": ["10 mrad", "60 mrad"]}, ValueError, "mix bright and dark"),
        ({"haadf_angles": ["5 mrad", "15 mrad"]}, ValueError, "outside"),
        ({"abf_angles": ["17 mrad", "7.5 mrad"]}, ValueError, "rising"),
        ({"line_jitter": "-1 nm"}, ValueError, "line_jitter"),
        ({"flyback": "1 s"}, ValueError, "flyback"),
        ({"afterglow": 1.0}, ValueError, "0 to 0.5"),
        ({"detector_bits": 12}, ValueError, "8 or 16"),
        ({"detector_bits": 8, "detector_offset": 200}, ValueError, "0 to 128"),
        ({"detector_gain": 0}, ValueError, "detector_gain"),
        ({"bulge": "1 nm"}, ValueError, "bulge"),
        ({"focus": "auto"}, ValueError, "focus"),
        ({"focus": "10 µm"}, ValueError, "-1000 nm to 1000 nm is allowed"),
        ({"bulge": "5 nm/°C"}, ValueError, "-1 nm/°C to 1 nm/°C is allowed"),
    ],
)
def test_options_are_refused_with_advice(
    options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        build(VirtualClock(), **{"seed": 1, **options})  # type: ignore[arg-type]


def test_a_bad_option_in_a_station_file_names_the_file() -> None:
    text = Station.load("simulated").text.replace("100 pA", "50 V")
    clock = VirtualClock()
    with (
        clock.enrolled("test"),
        pytest.raises(ConfigError, match=r"here\.toml: simulation\.options"),
    ):
        Station.parse(text, "here.toml").open(clock)


def test_truth_is_told_by_the_simulation_only() -> None:
    with bench() as b:
        assert isinstance(b.simulation, ExsolutionSimulation)
        for instrument in b.simulation.instruments.values():
            public = {name for name in dir(instrument) if not name.startswith("_")}
            assert not public & {"truth", "expected", "world", "specimen", "chip"}
            assert "ni" not in instrument.describe().details
        frame = b.images(OVERVIEW)[0]
        assert not frame.meta.scalars
