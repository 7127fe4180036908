"""The example oven's driver passes the conformance suite on its far end."""

from __future__ import annotations

from example_oven.driver import open_oven
from example_oven.far_end import OvenEnd, serve

from acquire.clock import Clock
from acquire.farends import FarEnd, FarEndContext
from drivers.conformance.suite import HolderSuite, Subject
from simulators.instruments import build


def _start(clock: Clock) -> OvenEnd:
    simulation = build(clock, seed=1, draft=True, specimen="blank_film")
    return serve(FarEndContext("oven", clock, simulation))


def _is_safe(end: FarEnd) -> bool:
    assert isinstance(end, OvenEnd)
    return end.heater.read().measured_celsius < 30


class TestOven(HolderSuite):
    """Every trial of the suite."""

    subject = Subject(
        "example_oven",
        start=_start,
        open=lambda context, addresses: open_oven(
            context, port=addresses["lines"], maximum_temperature="1000 °C"
        ),
        is_safe=_is_safe,
    )
