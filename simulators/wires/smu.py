"""A source-meter of the Keithley 2400 class: source, compliance, ranges, readings, status. No wire.

Sources: Keithley 2400S-900-01, sections 6, 15 and 18 and table B-1 (ranges, *RST defaults of tables
18-6 and 18-8, STATUS word of p. 18-51, measurement event register, error numbers), read on public
manual sites. From memory, unverified: resolution of the sources (range/20000 and /40000), 9.9E37 for
an overflow beside 9.91E37 for what was not measured, that auto zero makes a reading three times as
long, and 1 ms of automatic source delay.
"""

from __future__ import annotations

import math
import threading

from acquire.clock import Clock
from simulators.circuit import Load, Point, Source
from simulators.noise import generator
from simulators.wires.scpi import ErrorQueue, ScpiError
from simulators.wires.smu_settings import (
    FUNCTIONS,
    HIGHEST,
    NOT_MEASURED,
    OVERFLOW,
    POWER_CURRENT_A,
    POWER_VOLT,
    SMALLEST_LIMIT,
    STEPS,
    Function,
    Reading,
    Settings,
    smallest_range,
)

FLOOR_VOLT = 1e-6
_RELATIVE_NOISE = 2e-6
_AUTO_DELAY_S = 1e-3
_OVERHEAD_S = 4e-4
_AUTO_ZERO = 3  # signal, reference and zero are each integrated

# measurement event register
READING, READING_OVERFLOW, BUFFER_SOME, BUFFER_FULL = 1 << 6, 1 << 7, 1 << 8, 1 << 9
INTERLOCK, OVER_TEMPERATURE, COMPLIANCE = 1 << 11, 1 << 12, 1 << 14


class SourceMeter:
    """The instrument on its load; safe for use by threads. Commands raise ScpiError, and then nothing changed."""

    def __init__(self, clock: Clock, load: Load, seed: int) -> None:
        self.lock = threading.RLock()
        self.errors = ErrorQueue()
        self.settings = Settings()
        self.enables = {"MEAS": 0, "OPER": 0, "QUES": 0, "ESE": 0, "SRE": 0}
        self.buffer: list[Reading] = []
        self.latest: Reading | None = None
        self._clock = clock
        self._load = load
        self._seed = seed
        self._taken = 0
        self._on_s = clock.now_s()
        self._output = False
        self._event = 0
        self._hot = False
        self._interlocked = False

    # ------------------------------------------------------------------------- output

    @property
    def output(self) -> bool:
        """Whether the output is on."""
        return self._output

    def switch(self, on: bool) -> None:
        """Output on or off; raises +802, +810."""
        with self.lock:
            if on and self._interlocked and self.settings.output_enable:
                raise ScpiError(802)
            if on and self._hot:
                raise ScpiError(810)
            self._output = on
            self.apply()

    def overheat(self, hot: bool = True) -> None:
        """The instrument gets too hot: its output opens, and stays so until it has cooled (a defect for tests)."""
        with self.lock:
            self._hot = hot
            if hot:
                self._event |= OVER_TEMPERATURE
                self.switch(False)

    def interlock(self, open_circuit: bool = True) -> None:
        """Somebody opens the lid: where that line is enabled, the output goes off and stays so (for tests)."""
        with self.lock:
            self._interlocked = open_circuit
            self._heed_interlock()

    @property
    def interlocked(self) -> bool:
        """Whether the output-enable line is open."""
        return self._interlocked

    def enable_line(self, enabled: bool) -> None:
        """Heed the output-enable line, or do not."""
        with self.lock:
            self.settings.output_enable = enabled
            self._heed_interlock()

    def _heed_interlock(self) -> None:
        if self._interlocked and self.settings.output_enable:
            self.switch(False)

    def reset(self) -> None:
        """``*RST``: defaults, output off."""
        with self.lock:
            plain_line = self.settings.line_hz
            self.settings = Settings(line_hz=plain_line)
            self.buffer = []
            self.switch(False)

    def apply(self) -> None:
        """Let the load feel the settings."""
        with self.lock:
            self._load.connect(self._clock.now_s(), self._source() if self._output else None)

    def _source(self) -> Source:
        settings = self.settings
        return Source(
            "current" if settings.function == "CURR" else "voltage",
            settings.level[settings.function],
            self._effective_limit(),
            settings.four_wire,
        )

    def _other(self) -> Function:
        return "VOLT" if self.settings.function == "CURR" else "CURR"

    def _effective_limit(self) -> float:
        """Compliance, or the measuring range where that is smaller (range compliance)."""
        settings, other = self.settings, self._other()
        limit = settings.limit[other]
        if settings.sense_auto[other]:
            return limit
        return min(limit, settings.sense_range[other])

    # ----------------------------------------------------------------------- settings

    def set_function(self, function: Function) -> None:
        """Force current or voltage; the output goes off when that changes (2400 manual, section 3)."""
        with self.lock:
            if function != self.settings.function:
                self._output = False
            self.settings.function = function
            self.apply()

    def set_level(self, function: Function, level: float) -> None:
        """Set a source's level, as fine as its range allows; raises -222, +826."""
        with self.lock:
            settings = self.settings
            if settings.source_auto[function]:
                chosen = smallest_range(function, level)
            else:
                chosen = settings.source_range[function]
                if abs(level) > chosen * (1 + 1e-9):
                    raise ScpiError(-222)
            self._check_power(function, level, settings.limit)
            settings.source_range[function] = chosen
            step = chosen / STEPS[function]
            settings.level[function] = round(level / step) * step
            self.apply()

    def set_source_range(self, function: Function, value: float) -> None:
        """Choose the smallest range that covers a value; raises -221 if the present level does not fit."""
        with self.lock:
            chosen = smallest_range(function, value)
            if abs(self.settings.level[function]) > chosen * (1 + 1e-9):
                raise ScpiError(-221)
            self.settings.source_range[function] = chosen
            self.settings.source_auto[function] = False
            self.apply()

    def set_limit(self, function: Function, limit: float) -> None:
        """Set compliance, a magnitude; raises -222, +822, +826."""
        with self.lock:
            settings, limit = self.settings, abs(limit)
            if limit < SMALLEST_LIMIT[function]:
                raise ScpiError(-222)
            chosen = settings.sense_range[function]
            if not settings.sense_auto[function] and limit < 1e-3 * chosen:
                raise ScpiError(822)
            if function != settings.function:
                level = settings.level[settings.function]
                self._check_power(settings.function, level, {**settings.limit, function: limit})
            settings.limit[function] = limit
            self.apply()

    def set_sense_range(self, function: str, value: float) -> None:
        """Choose the smallest range that covers a value; raises -221, +824."""
        with self.lock:
            settings = self.settings
            if function == settings.function or (function == "RES" and not settings.auto_ohms):
                raise ScpiError(-221)
            chosen = smallest_range(function, value)
            if function in FUNCTIONS and chosen > smallest_range(
                function, settings.limit[function]
            ):
                raise ScpiError(824)
            settings.sense_range[function] = chosen
            settings.sense_auto[function] = False
            self.apply()

    def set_sense_auto(self, function: str, auto: bool) -> None:
        """Let the instrument choose the range; raises -221 for what is sourced."""
        with self.lock:
            if auto and function == "RES" and not self.settings.auto_ohms:
                return  # the ranges of V and I decide
            self.settings.sense_auto[function] = auto
            self.apply()

    def _check_power(self, function: Function, level: float, limits: dict[str, float]) -> None:
        other: Function = "VOLT" if function == "CURR" else "CURR"
        both = {function: abs(level), other: limits[other]}
        if both["CURR"] > POWER_CURRENT_A * (1 + 1e-9) and both["VOLT"] > POWER_VOLT * (1 + 1e-9):
            raise ScpiError(826)

    # ----------------------------------------------------------------------- readings

    def begin(self) -> float:
        """Start one reading; returns how many clock seconds it takes. Raises +803."""
        with self.lock:
            settings = self.settings
            if not self._output:
                if not settings.clear_auto:
                    raise ScpiError(803)
                self.switch(True)
            phases = _AUTO_ZERO if settings.auto_zero else 1
            return self._delay_s() + phases * self._integration_s() + _OVERHEAD_S

    def finish(self, begin_s: float, end_s: float) -> Reading:
        """The reading that was begun at a time and has taken its time."""
        with self.lock:
            settings = self.settings
            point = self._load.mean(begin_s + self._delay_s(), end_s)
            if settings.clear_auto:
                self.switch(False)
            reading = self._reading(point, end_s)
            self.latest = reading
            self._event |= READING
            if point.limited:
                self._event |= COMPLIANCE
            if reading.ohm == OVERFLOW:
                self._event |= READING_OVERFLOW
            return reading

    def store(self, reading: Reading) -> None:
        """Feed a reading to the buffer, if it is on and not full."""
        with self.lock:
            settings = self.settings
            if settings.buffer_feeds and len(self.buffer) < settings.buffer_points:
                self.buffer.append(reading)
                self._event |= BUFFER_SOME
                if len(self.buffer) == settings.buffer_points:
                    self._event |= BUFFER_FULL
                    settings.buffer_feeds = False

    def _delay_s(self) -> float:
        settings = self.settings
        source = _AUTO_DELAY_S if settings.delay_auto else settings.delay_s
        return source + settings.trigger_delay_s

    def _integration_s(self) -> float:
        settings = self.settings
        repeats = settings.average_count if settings.average and settings.average_repeat else 1
        return repeats * settings.nplc / settings.line_hz

    def _reading(self, point: Point, t_s: float) -> Reading:
        settings = self.settings
        self._taken += 1
        random = generator(self._seed, "source meter", self._taken)
        noise = random.standard_normal(3)
        cycles = math.sqrt(max(self._integration_s() * settings.line_hz, 1e-3))
        ohm = abs(point.volt / point.ampere) if point.ampere else math.inf
        spread = self._load.noise_ohm(ohm) if math.isfinite(ohm) and ohm < HIGHEST["RES"] else 0.0
        # noise is seen in the quantity that is not regulated
        relative = float(noise[0]) * spread / ohm / cycles if spread else 0.0
        regulates_volt = (settings.function == "VOLT") is not point.limited
        volt = point.volt * (1.0 if regulates_volt else 1 + relative)
        ampere = point.ampere * (1 - relative if regulates_volt else 1.0)
        volt += float(noise[1]) * (FLOOR_VOLT + _RELATIVE_NOISE * abs(point.volt)) / cycles
        ampere *= 1 + float(noise[2]) * _RELATIVE_NOISE / cycles
        resistance = NOT_MEASURED
        if "RES" in settings.measured:
            resistance = volt / ampere if ampere else OVERFLOW
            if abs(resistance) > HIGHEST["RES"]:
                resistance = OVERFLOW
        sees_both = "RES" in settings.measured
        told = {
            name: name in settings.measured or name == settings.function or sees_both
            for name in FUNCTIONS
        }
        return Reading(
            volt if told["VOLT"] else NOT_MEASURED,
            ampere if told["CURR"] else NOT_MEASURED,
            resistance,
            t_s - self._on_s,
            self._status(point.limited, resistance == OVERFLOW),
        )

    def _status(self, limited: bool, overflow: bool) -> int:
        settings = self.settings
        by_range = self._effective_limit() < settings.limit[self._other()]
        bits = {
            0: overflow,
            1: settings.average,
            2: settings.front,
            3: limited and not by_range,
            10: settings.auto_ohms and "RES" in settings.measured,
            11: "VOLT" in settings.measured,
            12: "CURR" in settings.measured,
            13: "RES" in settings.measured,
            14: settings.function == "VOLT",
            15: settings.function == "CURR",
            16: limited and by_range,
            22: settings.four_wire,
        }
        return sum(1 << bit for bit, is_set in bits.items() if is_set)

    # ------------------------------------------------------------------------- status

    def in_compliance(self, function: Function) -> bool:
        """Whether compliance of a quantity limits now."""
        with self.lock:
            now_s = self._clock.now_s()
            return (
                self._output
                and function != self.settings.function
                and self._load.mean(now_s, now_s).limited
            )

    def measurement_condition(self) -> int:
        """The measurement condition register."""
        with self.lock:
            return (
                (READING if self.latest is not None else 0)
                | (BUFFER_SOME if self.buffer else 0)
                | (BUFFER_FULL if len(self.buffer) >= self.settings.buffer_points else 0)
                # p. 15-14: set while the interlock line is asserted, which allows output
                | (0 if self._interlocked else INTERLOCK)
                | (OVER_TEMPERATURE if self._hot else 0)
                | (COMPLIANCE if self.in_compliance(self._other()) else 0)
            )

    def take_event(self) -> int:
        """The measurement event register, which reading clears."""
        with self.lock:
            event, self._event = self._event, 0
            return event

    def clear_status(self) -> None:
        """``*CLS``: errors and events."""
        with self.lock:
            self.errors.clear()
            self._event = 0

    def status_byte(self) -> int:
        """What ``*STB?`` answers."""
        with self.lock:
            byte = 1 if self._event & self.enables["MEAS"] else 0
            byte |= 4 if len(self.errors) else 0
            byte |= 32 if self.errors.standard_event & self.enables["ESE"] else 0
            return byte | (64 if byte & self.enables["SRE"] else 0)
