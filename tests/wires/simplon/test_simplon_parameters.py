"""The far end's parameters as any client sees them: what can be set, when, and how far."""

from __future__ import annotations

from typing import Any

import pytest

from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation
from simulators.wires.simplon import serve
from tests.wires.simplon.conftest import Connect, Maker


def test_parameters_tell_value_type_range_and_access(make: Maker, connect: Connect) -> None:
    client = connect(make())
    assert client.value("detector/api/version/") == "1.8.0"
    assert client.get("detector/api/1.8.0/config/trigger_mode") == {
        "value": "ints",
        "value_type": "string",
        "access_mode": "rw",
        "allowed_values": ["ints", "inte", "exts", "exte"],
    }
    count = client.get("detector/api/1.8.0/config/count_time")
    assert (count["unit"], count["value_type"], count["max"]) == ("s", "float", 3600.0)
    assert client.get("detector/api/1.8.0/config/x_pixels_in_detector")["access_mode"] == "r"
    assert "threshold/1/energy" in client.get("detector/api/1.8.0/config/keys")
    assert client.value("detector/api/1.8.0/config/threshold/1/energy") > 0
    assert client.get("stream/api/1.8.0/config")["format"]["value"] == "legacy"
    assert client.state == "idle"


def test_frame_time_stays_longer_than_count_time_and_what_changed_is_told(
    make: Maker, connect: Connect
) -> None:
    client = connect(make())
    status, changed = client.put("detector/api/1.8.0/config/count_time", 0.5)
    assert (status, set(changed)) == (200, {"count_time", "frame_time"})
    assert client.value("detector/api/1.8.0/config/frame_time") == pytest.approx(0.5, abs=1e-6)
    status, changed = client.put("detector/api/1.8.0/config/frame_time", 0.5)
    assert set(changed) == {"count_time", "frame_time"}
    assert client.value("detector/api/1.8.0/config/count_time") < 0.5
    status, changed = client.put("detector/api/1.8.0/config/frame_time", 0.75)
    assert changed == ["frame_time"]


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("detector/api/1.8.0/config/count_time", "long", 400),
        ("detector/api/1.8.0/config/count_time", -1.0, 400),
        ("detector/api/1.8.0/config/count_time", True, 400),
        ("detector/api/1.8.0/config/nimages", 1.5, 400),
        ("detector/api/1.8.0/config/trigger_mode", "intz", 400),
        ("detector/api/1.8.0/config/description", "mine", 403),
        ("detector/api/1.8.0/config/no_such", 1, 404),
        ("detector/api/1.6.0/config/count_time", 1, 404),
        ("detector/api/1.8.0/status/state", 1, 405),
        ("detector/api/1.8.0/command/explode", None, 404),
        ("detector/api/1.8.0/command/trigger", None, 403),
        ("filewriter/api/1.8.0/config/mode", "enabled", 400),
        ("nothing/api/1.8.0/config/x", 1, 404),
    ],
)
def test_what_cannot_be_set_is_refused(
    make: Maker, connect: Connect, path: str, value: Any, status: int
) -> None:
    client = connect(make())
    found, reply = client.put(path, value)
    assert (found, set(reply)) == (status, {"error"})
    assert client.state == "idle"


def test_configuration_is_read_only_while_armed(make: Maker, connect: Connect) -> None:
    client = connect(make())
    assert client.command("arm") == (200, {"sequence id": 1})
    assert client.state == "ready"
    assert client.put("detector/api/1.8.0/config/count_time", 0.2)[0] == 403
    assert client.put("stream/api/1.8.0/config/mode", "enabled")[0] == 403
    assert client.command("arm")[0] == 403
    assert client.command("disarm") == (200, {"sequence id": 1})
    assert client.put("detector/api/1.8.0/config/count_time", 0.2)[0] == 200


def test_a_detector_that_is_not_initialized_cannot_be_armed(make: Maker, connect: Connect) -> None:
    client = connect(make(initialized=False))
    assert client.state == "na"
    assert client.command("arm")[0] == 403
    assert client.command("initialize")[0] == 200
    assert client.command("arm")[0] == 200


def test_options_that_cannot_be_are_refused(simulation: ExsolutionSimulation) -> None:
    context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
    bad: list[dict[str, Any]] = [
        {"bit_depth": 12},
        {"rows": 2},
        {"columns": 3.5},
        {"dispersion": "1 nm"},
        {"buffer": 0},
        {"initialized": 1},
        {"faults": {"fire": 1.0}},
    ]
    for options in bad:
        with pytest.raises((TypeError, ValueError)):
            serve(context, **options)
    with pytest.raises(ConfigError):
        serve(FarEndContext("ela", simulation.world.clock, simulation, {"rest": "127.0.0.1:0"}))
