"""What a channel of numbers must pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

from acquire.errors import HotstageError
from acquire.instruments import Channel
from drivers.conformance.common import check_description
from drivers.conformance.links import check_together
from drivers.conformance.proxy import Disturbance
from drivers.conformance.rig import Rig

LIKE = 0.2
"""How far, relatively, two readings of a quiet channel may be from each other."""
SMALL = 1e-12


def check_channel(channel: Channel) -> None:
    """Numbers with names that stay, and a unit for each in the description."""
    description = check_description(channel)
    first, second = channel.read(), channel.read()
    assert first, "read() gives nothing."
    assert set(first) == set(second), f"read() gives {set(first)}, then {set(second)}."
    for name, value in first.items():
        assert isinstance(value, float), f"{name} is {value!r}; a channel gives floats."
        assert math.isfinite(value), f"{name} is {value}: a quiet channel reads a number."
    units = {name for name in first if any(name in key for key in description.details)}
    assert units == set(first), f"describe().details lacks units of {set(first) - units}."
    for _ in range(2):
        channel.make_safe("conformance")


def check_channel_loss(rig: Rig) -> None:
    """A lost link is told, and the channel reads again when it is back; threads do not disturb each other."""
    with rig.opened() as channel:
        reference = rig.until_works(channel.read, "read()")
        rig.unplug()
        lost = rig.call(channel.read, "read() on a lost link")
        assert isinstance(lost, HotstageError), f"a channel that is unplugged reads {lost}."
        rig.make_safe(channel, "conformance: the link is lost")
        rig.well()
        _expect_like(reference, rig.until_works(channel.read, "read()"), "after a lost link")

        def read() -> None:
            _expect_like(reference, channel.read(), "read by many threads")

        check_together(rig, [("read", read), ("read-too", read), ("describe", channel.describe)])


def check_channel_disturbed(rig: Rig, disturbance: Disturbance) -> None:
    """Disturbed replies are refused or understood, and never taken for others."""
    with rig.opened() as channel:
        reference = rig.until_works(channel.read, "read()")
        before = rig.suffered
        rig.next(disturbance)

        def disturbed() -> bool:
            found = rig.call(channel.read, f"read() with a reply {disturbance}")
            if not isinstance(found, HotstageError):
                _expect_like(reference, found, f"with a reply {disturbance}")
            return rig.suffered > before

        rig.until(disturbed, f"a reply is asked for, to be {disturbance}")
        rig.well()
        for _ in range(3):
            found = rig.until_works(channel.read, "read()")
            _expect_like(reference, found, f"after a reply that was {disturbance}")


def _expect_like(reference: Mapping[str, float], found: Mapping[str, float], what: str) -> None:
    assert set(found) == set(reference), f"{what} read() gives {set(found)}."
    for name, value in found.items():
        usual = reference[name]
        assert abs(value - usual) <= LIKE * abs(usual) + SMALL, (
            f"{what} {name} is {value:.4g}; it was {usual:.4g}."
        )
