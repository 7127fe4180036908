"""The station of the fake host: instruments that answer, and hands that command them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from acquire.engine.station_view import (
    ContinuationView,
    InstrumentView,
    LinkState,
    ManualView,
    ReadingView,
    StationView,
)
from acquire.instruments import Limit, ScanExposure

FILE = "/home/lab/stations/microscope.toml"
HOLDER = InstrumentView(
    "holder",
    "holder",
    LinkState.CONNECTED,
    age_s=0.1,
    model="MEMS heating chip",
    driver="simulated",
    serial="WF-7",
    simulated=True,
    limits=(
        Limit("temperature", 25.0, 1300.0, "°C", "driver"),
        Limit("temperature", -273.15, 900.0, "°C", f"{FILE}, holder.limits"),
        Limit("ramp_rate", 0.0, 50.0, "°C/s", f"{FILE}, holder.limits"),
    ),
    facts={"chip": "WF-7", "r0_ohm": 120.0},
    readings=(
        ReadingView("heater", word="off"),
        ReadingView("measured", 25.2, "°C"),
        ReadingView("set", 25.0, "°C"),
        ReadingView("power", 0.0, "mW"),
        ReadingView("resistance", 120.1, "Ω"),
    ),
)
SCAN = InstrumentView(
    "scan",
    "scan",
    LinkState.CONNECTED,
    age_s=0.1,
    model="scan generator",
    driver="simulated",
    detectors=("haadf", "abf"),
    limits=(
        Limit("field_of_view", 2.0, 5000.0, "nm", "driver"),
        Limit("dwell_time", 1e-7, 1e-2, "s", "driver"),
    ),
    facts={"probe_current_pa": 50.0, "beam_energy_kev": 300.0},
    readings=(ReadingView("beam", word="blanked"),),
)
OTHERS = (
    InstrumentView(
        "server",
        "server",
        LinkState.CONNECTED,
        age_s=0.1,
        facts={"address": "127.0.0.1:49000", "process": "4711", "clock": "10 × the wall's"},
        readings=(ReadingView("control", word="nobody"),),
    ),
    HOLDER,
    SCAN,
    InstrumentView(
        "spectrometer",
        "spectrometer",
        LinkState.LOST,
        "no answer on the camera's port",
        "It is asked again all the time. Look at its power and its cable.",
        age_s=12.0,
        model="EELS filter",
        driver="simulated",
    ),
    InstrumentView(
        "resistance",
        "channel",
        LinkState.CONNECTED,
        age_s=0.2,
        model="source-meter",
        driver="simulated",
        readings=(ReadingView("resistance", 1234.5, "Ω"),),
    ),
)


@dataclass
class FakeStation:
    """What a fake host has of a station; ``_command`` notes and refuses, ``_call`` may fail."""

    manual: ManualView = field(default_factory=ManualView)
    station: tuple[InstrumentView, ...] = OTHERS
    beats: int = 0
    driven_by: str = ""
    """Who has control; what a window commands is carried out whoever it is."""

    def _call(self) -> None:
        raise NotImplementedError

    def _command(self, name: str, *arguments: object) -> None:
        raise NotImplementedError

    def instruments(self) -> StationView:
        self._call()
        return StationView(
            "microscope", "a fake one", FILE, self.station, self.manual, self.driven_by
        )

    def attend(self, who: str) -> bool:
        self._call()
        self.beats += 1
        return who == self.driven_by

    def take_control(self, who: str) -> None:
        self._command("take_control")
        self.driven_by = who

    def give_control(self, who: str) -> None:
        self._command("give_control")
        self.driven_by, self.manual = "", ManualView()

    def manual_end(self, who: str) -> None:
        self._command("manual_end")
        self.manual = ManualView()

    def manual_heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        self._command("manual_heat", target_celsius, rate_celsius_per_s)
        words = f"to {target_celsius:g} °C at {rate_celsius_per_s:g} °C/s"
        self.manual = replace(self.manual, of=who, heat=words)
        self.driven_by = who

    def manual_cool(self, who: str, rate_celsius_per_s: float) -> None:
        self._command("manual_cool", rate_celsius_per_s)

    def manual_hold(self, who: str) -> None:
        self._command("manual_hold")
        self.manual = replace(self.manual, of=who, heat="held at 123 °C")

    def manual_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        self._command("manual_beam", for_s, x_nm, y_nm)
        self.manual = replace(self.manual, of=who, beam_left_s=for_s)

    def manual_blank(self, who: str) -> None:
        self._command("manual_blank")
        nan = float("nan")
        self.manual = replace(self.manual, beam_left_s=nan, view_left_s=nan)

    def manual_view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        self._command("manual_view", exposure, frames, for_s)
        self.manual = replace(
            self.manual, of=who, view_left_s=for_s, view_frames=3, sharpness=0.0421
        )

    def manual_shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        self._command("manual_shift", dx_nm, dy_nm)

    def note(self, text: str, who: str = "") -> None:
        self._command("note", text)

    def continuation(self, folder: str) -> ContinuationView:
        self._call()
        self._command("continuation", folder)
        return ContinuationView(
            folder,
            "it failed: the scan was lost",
            ("ramp to 700 °C at 5 °C/s",),
            ("hold for 12 min", "ramp to 850 °C at 2 °C/s"),
            850.0,
        )

    def continue_run(self, folder: str, who: str = "") -> None:
        self._command("continue_run", folder)
