"""Says what `hotstage run --continue` will do, before it does it."""

from __future__ import annotations

from acquire.cli.console import say
from acquire.engine.continuation import Continuation
from acquire.units import show, show_duration

MOST_LINES = 10
"""Of a list of steps."""


def tell(continuation: Continuation) -> None:
    """Print where a run was cut off, which steps are done, and with which it goes on."""
    earlier = continuation.earlier
    say(f"Continues {continuation.run} as {continuation.folder.name}", "bold")
    say(f"So far: {continuation.ended}. It was at {continuation.was} then.")
    for change in continuation.recovered:
        say(f"Recovered: {change}", "dim")
    say(
        f"{show_duration(earlier.run_time_s)} of run time and "
        f"{show(earlier.dose_e_per_nm2, 'e/nm²')} count on."
    )
    done = [f"{n:>5}  {s.text}: {s.outcome.result}" for n, s in enumerate(continuation.done, 1)]
    if done:
        say("Done, and not repeated:")
        for line in [*_more(done), *done[-MOST_LINES:]]:
            say(line)
    following = list(map(str, continuation.remaining))
    if continuation.rest:
        following[0] += f"  (what is left of: {continuation.past[-1].text})"
    lines = [f"{n:>5}  {text}" for n, text in enumerate(following, len(done) + 1)]
    say("Goes on with:")
    for line in [*lines[:MOST_LINES], *_more(lines)]:
        say(line)
    if continuation.script is not None:
        say("       … as the script says")


def _more(lines: list[str]) -> list[str]:
    hidden = len(lines) - MOST_LINES
    return [f"       … {hidden} more"] if hidden > 0 else []
