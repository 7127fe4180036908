"""The SCPI commands of the source-meter: headers, parameters, replies (Keithley 2400S-900-01, section 18)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from simulators.wires import scpi
from simulators.wires.scpi import ScpiError, Tree
from simulators.wires.smu import SourceMeter
from simulators.wires.smu_handlers import (
    Result,
    ask,
    choice,
    do,
    flag,
    kept,
    number,
    set_it,
    setting,
    switch,
)
from simulators.wires.smu_measuring import LONG, MEASURABLE, add_buffer, add_measuring
from simulators.wires.smu_settings import FUNCTIONS, HIGHEST, Function

IDENTITY = "KEITHLEY INSTRUMENTS INC.,MODEL {model},{serial},C30   Mar 17 2006 09:29:29/A02  /K/J"
_KEPT = {
    # header, names that it takes, what *RST makes of it: they are told, and change nothing here
    ":TRIGger:SOURce": (("IMMediate", "TLINk"), "IMM"),
    ":TRIGger:OUTPut": (("SOURce", "DELay", "SENSe", "NONE"), "NONE"),
    ":ARM:SOURce": (("IMMediate", "TLINk", "TIMer", "MANual", "BUS", "NSTest", "PSTest"), "IMM"),
    ":ARM:OUTPut": (("TENTer", "TEXit", "NONE"), "NONE"),
    ":FORMat[:DATA]": (("ASCii",), "ASC"),
    ":TRACe:FEED": (("SENSe[1]", "CALCulate[1]", "CALCulate2"), "SENS"),
    ":SOURce[1]:CURRent:MODE": (("FIXed",), "FIX"),
    ":SOURce[1]:VOLTage:MODE": (("FIXed",), "FIX"),
}


def build(smu: SourceMeter, identity: str) -> Tree[Result]:
    """All commands of a source-meter."""
    tree: Tree[Result] = Tree()
    _common(tree, smu, identity)
    _output(tree, smu)
    for function in FUNCTIONS:
        _source(tree, smu, function)
    for name in MEASURABLE:
        _sense(tree, smu, name)
    add_measuring(tree, smu)
    add_buffer(tree, smu)
    _status(tree, smu)
    _system(tree, smu)
    for header, (names, default) in _KEPT.items():
        kept(tree, smu, header, names, default)
    return tree


# --------------------------------------------------------------------------- commands


def _common(tree: Tree[Result], smu: SourceMeter, identity: str) -> None:
    def esr() -> str:
        value, smu.errors.standard_event = smu.errors.standard_event, 0
        return str(value)

    def complete() -> None:
        smu.errors.standard_event |= 1

    for star in ("*", ":*"):  # clients in the field send ":*CLS", and the instrument takes it
        tree.add(f"{star}CLS", do(smu.clear_status))
    tree.add("*IDN?", ask(lambda: identity))
    tree.add("*RST", do(smu.reset))
    tree.add("*ESR?", ask(esr))
    tree.add("*OPC", do(complete))
    tree.add("*OPC?", ask(lambda: "1"))
    tree.add("*OPT?", ask(lambda: "0"))
    tree.add("*TST?", ask(lambda: "0"))
    tree.add("*WAI", do(lambda: None))
    tree.add("*STB?", ask(lambda: str(smu.status_byte())))
    for name in ("ESE", "SRE"):
        _enable(tree, smu, f"*{name}", name, 255)


def _enable(tree: Tree[Result], smu: SourceMeter, header: str, name: str, high: int) -> None:
    def set_it(parameters: Sequence[str]) -> Result:
        smu.enables[name] = round(scpi.number(parameters, 0, high))
        return None

    tree.add(header, set_it)
    tree.add(header + "?", ask(lambda: str(smu.enables[name])))


def _output(tree: Tree[Result], smu: SourceMeter) -> None:
    switch(tree, ":OUTPut[1][:STATe]", smu.switch, lambda: smu.output)
    choice(
        tree,
        ":OUTPut[1]:SMODe",
        ("HIMPedance", "NORMal", "ZERO", "GUARd"),
        lambda name: set_it(smu, "output_off", name),
        lambda: smu.settings.output_off,
    )
    switch(tree, ":OUTPut[1]:ENABle[:STATe]", smu.enable_line, lambda: smu.settings.output_enable)
    tree.add(":OUTPut[1]:ENABle:TRIPped?", ask(lambda: str(int(not smu.interlocked))))
    tree.add(":SOURce[1]:CLEar[:IMMediate]", do(partial(smu.switch, False)))
    flag(tree, smu, ":SOURce[1]:CLEar:AUTO", "clear_auto")


def _source(tree: Tree[Result], smu: SourceMeter, function: Function) -> None:
    path = f":SOURce[1]:{LONG[function]}"
    highest = HIGHEST[function]
    number(
        tree,
        f"{path}[:LEVel][:IMMediate][:AMPLitude]",
        -highest,
        highest,
        0.0,
        partial(smu.set_level, function),
        lambda: smu.settings.level[function],
    )
    number(
        tree,
        f"{path}:RANGe",
        -highest,
        highest,
        smu.settings.source_range[function],
        partial(smu.set_source_range, function),
        lambda: smu.settings.source_range[function],
    )
    switch(
        tree,
        f"{path}:RANGe:AUTO",
        lambda auto: smu.settings.source_auto.__setitem__(function, auto),
        lambda: smu.settings.source_auto[function],
    )


def _sense(tree: Tree[Result], smu: SourceMeter, name: str) -> None:
    path = f"[:SENSe[1]]:{LONG[name]}" + ("" if name == "RES" else "[:DC]")
    highest = HIGHEST[name]
    number(
        tree,
        f"{path}:RANGe[:UPPer]",
        0.0 if name == "RES" else -highest,
        highest,
        smu.settings.sense_range[name],
        partial(smu.set_sense_range, name),
        lambda: smu.settings.sense_range[name],
    )
    switch(
        tree,
        f"{path}:RANGe:AUTO",
        partial(smu.set_sense_auto, name),
        lambda: smu.settings.sense_auto[name],
    )
    setting(tree, smu, f"{path}:NPLCycles", "nplc", 0.01, 10)
    if name == "RES":
        choice(
            tree,
            f"{path}:MODE",
            ("MANual", "AUTO"),
            lambda mode: set_it(smu, "auto_ohms", mode == "AUTO"),
            lambda: "AUTO" if smu.settings.auto_ohms else "MAN",
        )
        return
    function = cast(Function, name)
    number(
        tree,
        f"{path}:PROTection[:LEVel]",
        -highest,
        highest,
        smu.settings.limit[function],
        partial(smu.set_limit, function),
        lambda: smu.settings.limit[function],
    )
    tree.add(f"{path}:PROTection:TRIPped?", ask(lambda: str(int(smu.in_compliance(function)))))


def _status(tree: Tree[Result], smu: SourceMeter) -> None:
    def preset() -> None:
        smu.enables.update(MEAS=0, OPER=0, QUES=0)

    measurement = ":STATus:MEASurement"
    tree.add(f"{measurement}[:EVENt]?", ask(lambda: str(smu.take_event())))
    tree.add(f"{measurement}:CONDition?", ask(lambda: str(smu.measurement_condition())))
    _enable(tree, smu, f"{measurement}:ENABle", "MEAS", 32767)
    for long, name, condition in (("OPERation", "OPER", 1 << 10), ("QUEStionable", "QUES", 0)):
        tree.add(f":STATus:{long}[:EVENt]?", ask(lambda: "0"))
        tree.add(f":STATus:{long}:CONDition?", ask(partial(str, condition)))
        _enable(tree, smu, f":STATus:{long}:ENABle", name, 32767)
    tree.add(":STATus:PRESet", do(preset))
    tree.add(":STATus:QUEue:CLEar", do(smu.errors.clear_queue))
    tree.add(":STATus:QUEue[:NEXT]?", ask(smu.errors.take))


def _system(tree: Tree[Result], smu: SourceMeter) -> None:
    def auto_zero(parameters: Sequence[str]) -> Result:
        if scpi.one(parameters).upper() != "ONCE":
            set_it(smu, "auto_zero", scpi.switch(parameters))
        return None

    def line(parameters: Sequence[str]) -> Result:
        hertz = scpi.number(parameters, 50, 60)
        if hertz not in (50, 60):
            raise ScpiError(-222)
        set_it(smu, "line_hz", int(hertz))
        return None

    def beep(parameters: Sequence[str]) -> Result:
        if len(parameters) != 2:
            raise ScpiError(-109 if len(parameters) < 2 else -108)
        scpi.number(parameters[:1], 65, 2e6)
        scpi.number(parameters[1:], 0, 7.9)
        return None

    tree.add(":SYSTem:ERRor[:NEXT]?", ask(smu.errors.take))
    tree.add(":SYSTem:VERSion?", ask(lambda: "1996.0"))
    tree.add(":SYSTem:PRESet", do(smu.reset))
    tree.add(":SYSTem:BEEPer[:IMMediate]", beep)
    switch(
        tree,
        ":SYSTem:BEEPer:STATe",
        lambda on: smu.settings.plain.__setitem__("beeper", str(int(on))),
        lambda: smu.settings.plain.get("beeper", "1") == "1",
    )
    tree.add(":SYSTem:LFRequency", line)
    tree.add(":SYSTem:LFRequency?", ask(lambda: str(smu.settings.line_hz)))
    tree.add(":SYSTem:AZERo[:STATe]", auto_zero)
    tree.add(":SYSTem:AZERo[:STATe]?", ask(lambda: str(int(smu.settings.auto_zero))))
    for name in ("LOCal", "REMote", "RWLock"):
        tree.add(f":SYSTem:{name}", do(lambda: None))
    flag(tree, smu, ":SYSTem:RSENse", "four_wire")
    choice(
        tree,
        ":ROUTe:TERMinals",
        ("FRONt", "REAR"),
        lambda name: set_it(smu, "front", name == "FRON"),
        lambda: "FRON" if smu.settings.front else "REAR",
    )
    switch(
        tree,
        ":DISPlay:ENABle",
        lambda on: smu.settings.plain.__setitem__("display", str(int(on))),
        lambda: smu.settings.plain.get("display", "1") == "1",
    )
