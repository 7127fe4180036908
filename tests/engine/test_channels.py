"""A recorded channel is read at its period and decided by; whatever becomes of it, the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import acquire
from acquire.engine import channels, preflight
from acquire.engine.experiment import prepare, run_stored, write_pages
from acquire.engine.history import past_steps
from acquire.errors import LinkError
from acquire.export.job import Format, export_run
from acquire.instruments import Description
from acquire.recipe import Plan, Recipe, hold, when
from acquire.report import summarise, to_markdown
from acquire.station import Station
from acquire.store import recover_run, verify_run, words_of

HEAD = """
hotstage: 1
name: film
record:
  chip: {holder: {every: 500 ms}}
  film: {channel: {name: resistance, every: 1 s}}
steps:
"""
HOLD = "  - hold: {for: 20 s, until: film.resistance <= 5 kΩ for 3 readings}\n"


class Scripted:
    """A channel that says what a test wants."""

    def __init__(self, says: Callable[[int], Mapping[str, float]]) -> None:
        self._says = says
        self.reads = 0

    def describe(self) -> Description:
        return Description("resistance", "scripted", "test", details={"resistance": "Ω", "n": 3.0})

    def make_safe(self, reason: str) -> None:
        pass

    def read(self) -> Mapping[str, float]:
        self.reads += 1
        return self._says(self.reads - 1)


def recipe(steps: str = HOLD) -> Recipe:
    return Recipe.parse(HEAD + steps)


def put(bench: Any, says: Callable[[int], Mapping[str, float]]) -> Scripted:
    channel = Scripted(says)
    bench.station.channels = {"resistance": channel}
    return channel


def rows(bench: Any) -> list[Any]:
    return [row for row in bench.sink.table_rows if row.table == "channels/film"]


def test_it_is_read_at_its_period_from_beginning_to_end(bench: Any) -> None:
    report = bench.run(recipe("  - hold: {for: 10 s}\n"))
    assert report.outcome == "completed", report.cause
    times = [row.t_s for row in rows(bench)]
    assert np.diff(times) == pytest.approx(1.0)
    assert times[0] < 0.1
    assert len(times) in (10, 11), "at 10 s the run may have ended"
    first = rows(bench)[0].values
    assert first["resistance"] == pytest.approx(1.1e6, rel=0.05), "the fresh film"
    assert first["voltage"] == pytest.approx(first["resistance"] * first["current"])
    assert (first["fault"], first["time_bound"]) == ("", 0.0)


def test_a_condition_is_met_by_its_readings_in_succession(bench: Any) -> None:
    ohm = [9e3, 4e3, 4e3, 9e3, 4e3, 4e3, 4e3, 9e3]
    put(bench, lambda n: {"resistance": ohm[min(n, 7)]})
    report = bench.run(recipe())
    assert report.steps[0]["outcome"] == "met"
    assert report.steps[0]["t_end_s"] == pytest.approx(6.0, abs=0.1)
    (note,) = [note for note in bench.sink.notes if note.kind == "condition"]
    assert "met by reading 6, 4000 Ω" in note.text
    assert note.details["grounds"][0]["reading"] == 6


def test_a_reading_that_fails_is_a_row_that_says_why_and_ends_a_succession(bench: Any) -> None:
    def says(n: int) -> Mapping[str, float]:
        if n == 2:
            raise LinkError("nobody answers")
        if n == 3:
            raise ZeroDivisionError
        return {"resistance": 4e3}

    put(bench, says)
    report = bench.run(recipe())
    assert (report.outcome, report.steps[0]["outcome"]) == ("completed", "met")
    assert report.steps[0]["t_end_s"] == pytest.approx(6.0, abs=0.1)
    faults = [row.values["fault"] for row in rows(bench)]
    assert faults[1:5] == ["", "nobody answers", "ZeroDivisionError: ", ""]
    told = bench.texts("channel")
    assert "'resistance' (record.film) cannot be read: nobody answers" in told[0]
    assert "is read again after 2 s" in told[1]
    assert len(bench.texts("warning")) == 1


def test_a_value_that_is_no_number_fails_the_reading(bench: Any) -> None:
    odd: list[Any] = [{"resistance": "many"}, {"resistance": None}, {"fault": 1.0}, {"a b": 1.0}]
    put(bench, lambda n: odd[n] if n < len(odd) else {"resistance": np.float32(2.0), "more": 1})
    report = bench.run(recipe("  - hold: {for: 6 s}\n"))
    assert report.outcome == "completed", report.cause
    told = [row.values for row in rows(bench)]
    assert all(values["fault"] and "resistance" not in values for values in told[:4])
    assert (told[5]["resistance"], told[5]["more"]) == (2.0, 1.0)


def test_a_decision_and_a_ramp_rest_on_it(bench: Any) -> None:
    put(bench, lambda n: {"resistance": 9e3 - 100 * n})
    steps = """
  - when: {condition: film.resistance > 8 kΩ and film.resistance < 1 MΩ, then: [{mark: yes}]}
  - ramp: {to: 500 °C, rate: 10 °C/s, until: film.resistance <= 7 kΩ}
"""
    report = bench.run(recipe(steps))
    assert [step["outcome"] for step in report.steps] == ["met", "done", "met"]
    assert 20 <= report.steps[2]["t_end_s"] <= 20.6
    assert bench.readings[-1].values["target"] < 300


def test_a_reading_of_before_the_step_does_not_meet_its_condition(bench: Any) -> None:
    put(bench, lambda n: {"resistance": 4e3 if n < 3 else 9e3})
    report = bench.run(recipe("  - hold: {for: 3.5 s}\n" + HOLD.replace(" for 3 readings", "")))
    assert report.steps[1]["outcome"] == "time_up"


def test_a_script_sees_the_values_and_decides(bench: Any) -> None:
    seen: list[Any] = []

    def plan() -> Plan:
        outcome = yield hold("3 s")
        seen.append(outcome.estimates["film.resistance"].value)
        decided = yield when("film.resistance >= 1 kΩ for 2 readings")
        seen.append(decided.result)

    put(bench, lambda n: {"resistance": 4e3})
    with bench.clock.enrolled("test"):
        report = bench.engine.run(recipe("  []\n"), bench.sink, plan())
    assert report.outcome == "completed", report.cause
    assert seen == [4e3, "met"]
    assert bench.engine.status.estimates["film.resistance"].unit == "Ω"
    assert bench.engine.live.series((0, 0, 0)).estimates["film.resistance"][0] == 4e3


@pytest.fixture
def hanging(wall_bench: Any) -> Iterator[tuple[Any, threading.Event]]:
    """A channel whose second reading hangs until it is let go."""
    free = threading.Event()

    def says(n: int) -> Mapping[str, float]:
        if n == 1:
            free.wait(20)
        return {"resistance": 9e3}

    put(wall_bench, says)
    yield wall_bench, free
    free.set()


def test_one_that_hangs_holds_up_nothing_and_is_told(
    hanging: Any, run_behind: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, free = hanging
    monkeypatch.setattr(channels, "HANG_WALL_S", 0.3)
    run = run_behind(bench, recipe("  - hold: {for: 10 s}\n"))
    until(lambda: bench.engine.status.warnings)
    assert "'resistance' (record.film) hangs" in bench.engine.status.warnings[0]
    report = run.end()
    assert report.outcome == "completed", report.cause
    assert report.steps[0]["t_end_s"] - report.steps[0]["t_start_s"] < 11
    assert sum(row.t_s > report.steps[0]["t_start_s"] for row in bench.readings) > 12, (
        "of the holder"
    )
    assert [row.values["resistance"] for row in rows(bench)] == [9e3]
    free.set()  # what it gives now is not heard
    assert bench.engine.status.cause == ""


def test_one_that_answers_late_goes_on_without_catching_up(
    hanging: Any, run_behind: Any, until: Any
) -> None:
    bench, free = hanging
    run = run_behind(bench, recipe("  - hold: {for: 10 s}\n"))
    until(lambda: len(bench.readings) > 10)
    free.set()
    run.end()
    late = rows(bench)[1]
    assert late.values["time_bound"] > 1.5, "it was measured at some time of these"
    assert len(rows(bench)) < 11


def test_a_channel_that_a_station_has_not_is_refused(bench: Any) -> None:
    text = HEAD.replace("name: resistance", "name: pressure") + "  - hold: {for: 1 s}\n"
    report = bench.run(Recipe.parse(text))
    assert report.outcome == "failed"
    assert "has no channel 'pressure'; it has: resistance" in report.cause
    assert "[channels.pressure]" in report.cause


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("film.pressure <= 1 Pa", "given are: film.current, film.resistance, film.voltage"),
        ("resistance <= 1 kΩ", "do you mean film.resistance?"),
        ("film.resistance <= 5 nm", "cannot be read in Ω"),
    ],
)
def test_a_condition_on_what_is_not_read_is_refused(condition: str, words: str) -> None:
    found = preflight(recipe(f"  - hold: {{for: 1 s, until: {condition}}}\n"), simulated())
    assert words in found.problems[0]


def simulated() -> Station:
    return Station.load("simulated")


def real(channel: str) -> Station:
    text = simulated().text.partition("[simulation]")[0].replace('"simulated"', '"real"')
    roles = (
        "[holder]\ndriver = 'a'\n[holder.limits]\ntemperature = '900 °C'\nramp_rate = '90 °C/s'\n"
    )
    return Station.parse(f"{text}{roles}[scan]\ndriver = 'b'\n[channels.{channel}]\ndriver = 'c'\n")


def test_a_preflight_reads_a_channel_that_the_simulator_has() -> None:
    steps = "  - ramp: {to: 800 °C, rate: 50 °C/s}\n" + HOLD.replace("20 s", "5 min")
    found = preflight(recipe(steps), real("resistance"))
    assert found.good, found.problems
    assert found.twin
    assert found.results == ("done", "met")


def test_a_preflight_foresees_nothing_of_any_other() -> None:
    text = HEAD.replace("resistance", "gas")
    steps = "  - hold: {for: 5 s, until: film.pressure <= 2 mbar, else: abort}\n"
    found = preflight(Recipe.parse(text + steps), real("gas"))
    assert found.good, found.problems
    assert found.results == ("time_up",)
    assert "rests on film.pressure, of which the simulation says nothing" in found.warnings[0]
    odd = steps.replace("mbar", "bananas")
    assert "bananas" in preflight(Recipe.parse(text + odd), real("gas")).problems[0]


def test_nor_of_what_a_script_asks_of_it() -> None:
    def plan() -> Plan:
        decided = yield when("film.pressure <= 2 mbar", wait="3 s")
        assert decided.result == "unknown"
        yield hold("2 s", until="film.pressure <= 200 Pa")

    found = preflight(Recipe.parse(HEAD.replace("resistance", "gas") + "  []\n"), real("gas"), plan)
    assert found.good, found.problems
    assert found.results == ("unknown", "time_up")


def test_a_stored_run_has_it_everywhere(bench: Any, tmp_path: Path) -> None:
    def says(n: int) -> Mapping[str, float]:
        if n == 4:
            raise LinkError("nobody answers")
        return {"resistance": 1e6 / (1 + n) ** 3}

    put(bench, says)
    with bench.clock.enrolled("test"):
        experiment = prepare(bench.engine, recipe(), tmp_path / "run")
        report = run_stored(bench.engine, experiment)
    assert report.steps[0]["outcome"] == "met"
    run = acquire.open_run(tmp_path / "run")
    assert (run.channels, "film" in run.tables) == (("film",), False)
    film = run.channel("film")
    assert film.resistance.attrs["units"] == "ohm"
    assert np.isnan(film.resistance.values[4])
    assert words_of(film.fault)[4] == "nobody answers"
    assert run.at(3.5).channels["film"].resistance == pytest.approx(1e6 / 64)
    assert run.tree()["channels/film"].sizes["time"] == film.sizes["time"]
    found = summarise(run).channels["film.resistance"]
    assert (found.unit, found.first, found.failed) == ("Ω", 1e6, 1)
    assert "film.resistance | " in to_markdown(summarise(run))
    assert write_pages(run)[1].stat().st_size > 10_000
    told = past_steps([run])[0].estimates["film.resistance"]
    assert told.value == film.resistance.sel(time=report.steps[0]["t_end_s"], method="ffill")
    export_run(run, Format.CSV, output=tmp_path / "csv")
    lines = (tmp_path / "csv" / "channels_film.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split(",") == ["time [s]", "fault", "resistance [ohm]", "time_bound [s]"]
    assert len(lines) == 1 + film.sizes["time"]
    assert verify_run(tmp_path / "run").good
    assert recover_run(tmp_path / "run").changes == ()
