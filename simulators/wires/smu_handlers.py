"""How commands of the source-meter are made from what they set and tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulators.wires import scpi
from simulators.wires.scpi import Tree
from simulators.wires.smu import SourceMeter


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take readings, which lasts; then perhaps tell them."""

    count: int
    tell: bool
    prepare: Callable[[], None] | None = None


Result = str | Acquire | None
Handler = Callable[[Sequence[str]], Result]


def text(value: float) -> str:
    """A number as the instrument writes settings."""
    return f"{value:.6E}"


def do(action: Callable[[], object]) -> Handler:
    """A command without parameters."""

    def handle(parameters: Sequence[str]) -> Result:
        scpi.none(parameters)
        action()
        return None

    return handle


def ask(query: Callable[[], str]) -> Handler:
    """A query without parameters."""

    def handle(parameters: Sequence[str]) -> Result:
        scpi.none(parameters)
        return query()

    return handle


def number(
    tree: Tree[Result],
    header: str,
    low: float,
    high: float,
    default: float,
    put: Callable[[float], object],
    get: Callable[[], float],
) -> None:
    """A setting with a range; its query also answers MIN, MAX and DEF."""

    def put_it(parameters: Sequence[str]) -> Result:
        put(scpi.number(parameters, low, high, default))
        return None

    def answer(parameters: Sequence[str]) -> Result:
        return text(scpi.number(parameters, low, high, default) if parameters else get())

    tree.add(header, put_it)
    tree.add(header + "?", answer)


def switch(
    tree: Tree[Result], header: str, put: Callable[[bool], object], get: Callable[[], bool]
) -> None:
    """A setting that is on or off."""

    def put_it(parameters: Sequence[str]) -> Result:
        put(scpi.switch(parameters))
        return None

    tree.add(header, put_it)
    tree.add(header + "?", ask(lambda: str(int(get()))))


def choice(
    tree: Tree[Result],
    header: str,
    names: Sequence[str],
    put: Callable[[str], object],
    get: Callable[[], str],
) -> None:
    """A setting that has names."""

    def put_it(parameters: Sequence[str]) -> Result:
        put(scpi.choice(scpi.one(parameters), names))
        return None

    tree.add(header, put_it)
    tree.add(header + "?", ask(get))


def kept(
    tree: Tree[Result], smu: SourceMeter, header: str, names: Sequence[str], default: str
) -> None:
    """A setting that is told and changes nothing here."""
    plain = [name.removesuffix("[1]") for name in names]
    choice(
        tree,
        header,
        plain,
        lambda value: smu.settings.plain.__setitem__(header, value),
        lambda: smu.settings.plain.get(header, default),
    )


def set_it(smu: SourceMeter, name: str, value: object) -> None:
    """Set one of the settings, and let the load feel it."""
    setattr(smu.settings, name, value)
    smu.apply()


def setting(
    tree: Tree[Result], smu: SourceMeter, header: str, name: str, low: float, high: float
) -> None:
    """One of the settings, with its range."""
    default = getattr(smu.settings, name)
    whole = isinstance(default, int)
    number(
        tree,
        header,
        low,
        high,
        default,
        lambda value: set_it(smu, name, round(value) if whole else value),
        lambda: getattr(smu.settings, name),
    )
    if whole:
        tree.add(header + "?", ask(lambda: str(getattr(smu.settings, name))))


def flag(tree: Tree[Result], smu: SourceMeter, header: str, name: str) -> None:
    """One of the settings, on or off."""
    switch(
        tree, header, lambda value: set_it(smu, name, value), lambda: getattr(smu.settings, name)
    )
