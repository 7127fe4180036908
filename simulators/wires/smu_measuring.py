"""SCPI commands of the source-meter that take readings and tell them (2400S-900-01, sections 17 and 18)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from simulators.wires import scpi
from simulators.wires.scpi import ScpiError, Tree
from simulators.wires.smu import SourceMeter
from simulators.wires.smu_handlers import Acquire, Result, ask, choice, do, flag, set_it, setting
from simulators.wires.smu_settings import BUFFER, NOT_MEASURED, Function, Reading

LONG = {"CURR": "CURRent", "VOLT": "VOLTage", "RES": "RESistance"}
MEASURABLE = ("CURR", "VOLT", "RES")
_ELEMENTS = ("VOLTage", "CURRent", "RESistance", "TIME", "STATus")
_ORDER = ("VOLT", "CURR", "RES", "TIME", "STAT")


def tell(reading: Reading, elements: Sequence[str]) -> str:
    """A reading with the chosen elements, always in the order V, I, R, time, status."""
    values = {
        "VOLT": reading.volt,
        "CURR": reading.ampere,
        "RES": reading.ohm,
        "TIME": reading.t_s,
        "STAT": float(reading.status),
    }
    return ",".join(f"{values[name]:+.6E}" for name in _ORDER if name in elements)


def _functions(parameters: Sequence[str]) -> set[str]:
    if not parameters:
        raise ScpiError(-109)
    names = [scpi.unquoted(p).upper().removesuffix(":DC") for p in parameters]
    return {scpi.choice(name, tuple(LONG.values())) for name in names}


def add_measuring(tree: Tree[Result], smu: SourceMeter) -> None:
    """What is measured and told, readings, averages, delays."""
    path = "[:SENSe[1]]:FUNCtion"

    def source(name: str) -> None:
        smu.set_function(cast(Function, name))

    def on(parameters: Sequence[str]) -> Result:
        wanted = _functions(parameters)
        settings = smu.settings
        if not settings.concurrent and len(wanted) > 1:
            raise ScpiError(-221)
        settings.measured = settings.measured | wanted if settings.concurrent else wanted
        return None

    def off(parameters: Sequence[str]) -> Result:
        smu.settings.measured -= _functions(parameters)
        return None

    def told() -> str:
        names = {"CURR": '"CURR:DC"', "VOLT": '"VOLT:DC"', "RES": '"RES"'}
        return ",".join(names[n] for n in ("VOLT", "CURR", "RES") if n in smu.settings.measured)

    def elements(parameters: Sequence[str]) -> Result:
        if not parameters:
            raise ScpiError(-109)
        smu.settings.elements = tuple(scpi.choice(p, _ELEMENTS) for p in parameters)
        return None

    choice(
        tree,
        ":SOURce[1]:FUNCtion[:MODE]",
        ("VOLTage", "CURRent"),
        source,
        lambda: smu.settings.function,
    )
    tree.add(f"{path}[:ON]", on)
    tree.add(f"{path}[:ON]?", ask(told))
    tree.add(f"{path}[:ON]:ALL", do(lambda: set_it(smu, "measured", set(MEASURABLE))))
    tree.add(f"{path}:OFF", off)
    tree.add(f"{path}:OFF:ALL", do(lambda: set_it(smu, "measured", set())))
    flag(tree, smu, f"{path}:CONCurrent", "concurrent")
    tree.add(":FORMat:ELEMents[:SENSe[1]]", elements)
    tree.add(
        ":FORMat:ELEMents[:SENSe[1]]?",
        ask(lambda: ",".join(n for n in _ORDER if n in smu.settings.elements)),
    )
    _reading(tree, smu)
    _averaging(tree, smu)


def _reading(tree: Tree[Result], smu: SourceMeter) -> None:
    def count() -> int:
        readings = smu.settings.arm_count * smu.settings.trigger_count
        if readings > BUFFER:
            raise ScpiError(-221)
        return readings

    def read(parameters: Sequence[str]) -> Result:
        scpi.none(parameters)
        return Acquire(count(), tell=True)

    def initiate(parameters: Sequence[str]) -> Result:
        scpi.none(parameters)
        return Acquire(count(), tell=False)

    def latest() -> str:
        reading = smu.latest
        if reading is None:
            reading = Reading(NOT_MEASURED, NOT_MEASURED, NOT_MEASURED, 0.0, 0)
        return tell(reading, smu.settings.elements)

    def measure(name: str | None, parameters: Sequence[str]) -> Result:
        scpi.none(parameters)

        def configure() -> None:
            if name is not None:
                smu.settings.measured = {name}
            smu.settings.trigger_count = smu.settings.arm_count = 1
            smu.switch(True)

        return Acquire(1, tell=True, prepare=configure)

    tree.add(":READ?", read)
    tree.add(":FETCh?", ask(latest))
    tree.add("[:SENSe[1]]:DATA[:LATest]?", ask(latest))
    tree.add(":INITiate[:IMMediate]", initiate)
    tree.add("*TRG", do(lambda: None))
    tree.add(":ABORt", do(lambda: None))
    tree.add(":TRIGger:CLEar", do(lambda: None))
    tree.add(":MEASure?", partial(measure, None))
    for name in MEASURABLE:
        tree.add(f":MEASure:{LONG[name]}[:DC]?", partial(measure, name))


def _averaging(tree: Tree[Result], smu: SourceMeter) -> None:
    path = "[:SENSe[1]]:AVERage"
    flag(tree, smu, f"{path}[:STATe]", "average")
    setting(tree, smu, f"{path}:COUNt", "average_count", 1, 100)
    choice(
        tree,
        f"{path}:TCONtrol",
        ("REPeat", "MOVing"),
        lambda name: set_it(smu, "average_repeat", name == "REP"),
        lambda: "REP" if smu.settings.average_repeat else "MOV",
    )
    setting(tree, smu, ":SOURce[1]:DELay", "delay_s", 0, 999.9999)
    tree.add(":SOURce[1]:DELay", partial(_delay, smu))
    flag(tree, smu, ":SOURce[1]:DELay:AUTO", "delay_auto")
    setting(tree, smu, ":TRIGger:DELay", "trigger_delay_s", 0, 999.9999)
    setting(tree, smu, ":TRIGger:COUNt", "trigger_count", 1, BUFFER)
    setting(tree, smu, ":ARM:COUNt", "arm_count", 1, BUFFER)


def _delay(smu: SourceMeter, parameters: Sequence[str]) -> Result:
    smu.settings.delay_s = scpi.number(parameters, 0, 999.9999, 0.0)
    smu.settings.delay_auto = False
    return None


def add_buffer(tree: Tree[Result], smu: SourceMeter) -> None:
    """The buffer of readings."""

    def clear() -> None:
        smu.buffer = []

    def control(name: str) -> None:
        smu.settings.buffer_feeds = name == "NEXT"

    def data() -> str:
        return ",".join(tell(reading, smu.settings.elements) for reading in smu.buffer)

    for trace in (":TRACe", ":DATA"):
        tree.add(f"{trace}:CLEar", do(clear))
        setting(tree, smu, f"{trace}:POINts", "buffer_points", 1, BUFFER)
        tree.add(f"{trace}:POINts:ACTual?", ask(lambda: str(len(smu.buffer))))
        tree.add(f"{trace}:DATA?", ask(data))
    choice(
        tree,
        ":TRACe:FEED:CONTrol",
        ("NEVer", "NEXT"),
        control,
        lambda: "NEXT" if smu.settings.buffer_feeds else "NEV",
    )
