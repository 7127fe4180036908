"""What the tour says, and of which parts of the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6 import QtWidgets

from acquire.engine.status import EngineStatus
from gui.words import tr

if TYPE_CHECKING:
    from gui.window import OperatorWindow

EXAMPLE = "short_look"
"""The example recipe that is offered: about two minutes of run time, on every station."""

_EXAMPLE_S = 120.0


@dataclass(frozen=True, slots=True)
class Card:
    """One card; ``parts`` are what it speaks of, and are ringed."""

    title: str
    words: str
    parts: tuple[QtWidgets.QWidget, ...]
    example: bool = False
    """Whether its button opens the example."""


def cards_of(window: OperatorWindow, status: EngineStatus) -> tuple[Card, ...]:
    """The cards for a station, which is simulated or not."""
    bar, live = window.topbar, window.live
    plots = (live.temperature, *live.decks.values())
    return (
        _station(window, status),
        Card(
            tr("What is going on"),
            tr(
                "On the left, what the run does: a sign, a word and a colour. Run starts the recipe that "
                "is open. Pause and Hold T act at once; Abort must be held until its bar is full, so that "
                "no stray click ends a run. Every button has its key written on it."
            ),
            (bar.state, bar.run, bar.pause, bar.hold, bar.abort),
        ),
        Card(
            tr("Heater off"),
            tr(
                "One press, at any time, whatever else is open; F12 does the same. It goes straight to the "
                "instruments as well as through the engine, and the button says when it has arrived. "
                "Nothing else in this window is red but this and faults."
            ),
            (bar.heater_off,),
        ),
        Card(
            tr("The recipe"),
            tr(
                "What is done: ramps, holds, images, spectra, and what they wait for. Steps are ticked off "
                "here as the run goes on. Opening a recipe moves nothing; only Run does."
            ),
            (live.recipe,),
        ),
        Card(
            tr("The image"),
            tr(
                "The newest image, with the particles as they are measured. Click one to follow its "
                "diameter; the wheel zooms, dragging moves. “Show” has contrast, trails, regions, profiles "
                "and more."
            ),
            (live.image,),
        ),
        Card(
            tr("The plots"),
            tr(
                "Temperature as planned, as set and as measured; below it sizes of particles, and spectra. "
                "Rest the mouse on a plot: the others show the same moment. A dashed frame with STALE means "
                "that what you see is old."
            ),
            plots,
        ),
        Card(
            tr("Pages"),
            tr(
                "Recipe: write and check what shall be done. Instruments: look and heat by hand between "
                "runs. Runs: go through stored runs, at any moment of their time. No page holds up a run, "
                "nor does closing the window. F1 lists all keys."
            ),
            (window.tabs,),
        ),
        _example(window, status),
    )


def opened(window: OperatorWindow) -> Card:
    """What follows when the example has been opened."""
    return Card(
        tr("Press Run"),
        tr(
            "The example is open. Press Run, or F5; it says what follows, and starts when pressed again. When it has ended, “Look at this run” over its steps "
            "shows what was recorded; on the page Recipe you can change it and run it again."
        ),
        (window.topbar.run, window.live.recipe),
    )


def _station(window: OperatorWindow, status: EngineStatus) -> Card:
    name = status.station or "?"
    if status.simulated:
        words = tr(
            "A station is a microscope with its heating holder, its scan and its spectrometer. This one, "
            "“{name}”, is simulated: computed, with no wire to anything. Nothing here can hurt a specimen, "
            "so try whatever you like."
        )
        return Card(tr("Welcome"), words.format(name=name), (window.notices.simulated,))
    words = tr(
        "A station is a microscope with its heating holder, its scan and its spectrometer. This one, "
        "“{name}”, is real: what you send from here moves something. To practise, close this window and "
        "open one with: hotstage gui --station simulated"
    )
    return Card(tr("Welcome"), words.format(name=name), (window.topbar.state,))


def _example(window: OperatorWindow, status: EngineStatus) -> Card:
    if status.simulated:
        words = tr(
            "The example heats the film to 700 °C, watches it for a minute, takes a few spectra and cools: "
            "about two minutes."
        )
        if status.clock_rate > 1:
            faster = tr("Time runs {rate:g} times as fast here, so that it takes {wall_s:.0f} s.")
            wall_s = _EXAMPLE_S / status.clock_rate
            words += " " + faster.format(rate=status.clock_rate, wall_s=wall_s)
        return Card(
            tr("Run the example"),
            words,
            (window.topbar.run,),
            example=True,
        )
    return Card(
        tr("Your first run"),
        tr(
            "Open a recipe (Ctrl+O). On the page Recipe you see its course, and what the station objects "
            "to; nothing moves before Run."
        ),
        (window.live.recipe, window.topbar.run),
    )
