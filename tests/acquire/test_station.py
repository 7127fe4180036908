"""Station files are strict, and say what is wrong in terms of file, key, value and mend."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from acquire import plugins
from acquire.clock import VirtualClock
from acquire.errors import ConfigError, LimitError, PluginError
from acquire.instruments import RampRequest
from acquire.station import Station

GOOD = """
hotstage = 1
name = "bench"

[simulation]
seed = 3

[holder]
driver = "simulated"
limits = { temperature = "1300 °C", ramp_rate = "200 °C/s" }

[scan]
driver = "simulated"
"""


def test_a_station_opens_with_the_roles_it_names() -> None:
    with Station.parse(GOOD).open(VirtualClock(), draft=True) as station:
        assert set(station.instruments) == {"holder", "scan"}
        assert station.spectrometer is None


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        ('driver = "simulated"\nlimits', 'drver = "simulated"\nlimits', "drver.*did you mean"),
        ("1300 °C", "1300", "holder.limits.temperature.*has no unit"),
        ("1300 °C", "1300 nm", "not of the right kind"),
        ("hotstage = 1", "hotstage = 9", "hotstage = 9"),
        (
            "[scan]",
            '[channels.holder]\ndriver = "simulated"\n[scan]',
            "a channel cannot be called so",
        ),
        ("[scan]", '[server]\nlisten = "tls://:7746"\n[scan]', "write HOST:PORT"),
        ('name = "bench"', "", "'name' is missing"),
        ("[simulation]\nseed = 3", "", "needs a .simulation. table"),
        ("seed = 3", 'seed = 3\nsimulator = "nothing"', "no 'nothing'; known are: exsolution"),
        ("seed = 3", "seed = 3\noptions = { colour = 1 }", "colour"),
        ("hotstage = 1", "hotstage = ", "not valid TOML"),
        ("[scan]", '[server]\nlisten = "0.0.0.0:7000"\n[scan]', "beyond this machine"),
        ('[scan]\ndriver = "simulated"', '[scan]\ndriver = "keithley"', "no 'keithley'"),
    ],
)
def test_every_mistake_names_file_and_mend(change: str, to: str, words: str) -> None:
    assert change in GOOD
    with pytest.raises((ConfigError, PluginError), match=words) as refusal:
        Station.parse(GOOD.replace(change, to, 1), "bench.toml").open(VirtualClock()).close()
    assert "bench.toml" in str(refusal.value) or isinstance(refusal.value, PluginError)


def test_an_unknown_station_lists_the_installed_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'simulated'"):
        Station.load("simulatd")
    with pytest.raises(ConfigError, match="cannot be read"):
        Station.load(tmp_path / "missing.toml")


def test_the_station_refuses_what_its_chip_does_not_allow_and_names_the_key() -> None:
    with Station.parse(GOOD, "bench.toml").open(VirtualClock(), draft=True) as station:
        with pytest.raises(LimitError, match=r"1450 °C.*1300 °C.*bench.toml.*temperature"):
            station.holder.check(RampRequest(1450.0, 5.0))
        with pytest.raises(LimitError, match="ramp_rate"):
            station.holder.ramp(700.0, 500.0)
        with pytest.raises(LimitError, match="finite"):
            station.holder.ramp(float("nan"), 5.0)
        assert station.holder.read().setpoint_celsius == pytest.approx(25.0)


def test_a_broken_plugin_is_listed_with_its_error_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("broken", "no_such_module:thing", plugins.ESTIMATORS),
        EntryPoint("good", "acquire.measure.particles:ParticleEstimator", plugins.ESTIMATORS),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    broken, good = plugins.discover(plugins.ESTIMATORS)
    assert good.works
    assert not broken.works
    assert "No module named 'no_such_module'" in broken.error
    with pytest.raises(PluginError, match="no_such_module"):
        plugins.find(plugins.ESTIMATORS, "broken")
