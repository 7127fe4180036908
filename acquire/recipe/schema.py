"""What a recipe may say: strict models of its header, records, estimates and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from acquire.instruments import SafeState, ScanExposure, SpectrometerSetting, SpectrumExposure
from acquire.units import (
    Bytes,
    Celsius,
    CelsiusPerSecond,
    ElectronsPerNm2,
    ElectronVolts,
    Milliradians,
    Nanometres,
    Seconds,
    show,
    show_duration,
)

if TYPE_CHECKING:
    from acquire.store import StoreSettings

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Point = tuple[Nanometres, Nanometres]


class Strict(BaseModel):
    """Base of everything in a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Specimen(Strict):
    """What is in the holder."""

    id: str
    description: str = ""


class Limits(Strict):
    """What this experiment allows, within what the station allows."""

    temperature: Celsius | None = None
    ramp_rate: CelsiusPerSecond | None = Field(default=None, gt=0)
    dose: ElectronsPerNm2 | None = Field(default=None, gt=0)
    run_time: Seconds | None = Field(default=None, gt=0)
    disk: Bytes | None = Field(default=None, gt=0)
    """What the frames of the run may take on the disk."""


class Cool(Strict):
    """A controlled way down."""

    to: Celsius = 25.0
    rate: CelsiusPerSecond = Field(gt=0)


class CoolDown(Strict):
    """Heater cools linearly, then switches off."""

    cool: Cool


class SafeStateSettings(Strict):
    """How the instruments are left, however the run ends."""

    heater: Literal["off"] | CoolDown = "off"
    beam: Literal["blanked"] = "blanked"

    @field_validator("heater", mode="before")
    @classmethod
    def _off_or_cool(cls, value: Any) -> Any:
        if value == "off" or isinstance(value, Mapping | CoolDown):
            return value
        raise ValueError("write off, or {cool: {to: 25 °C, rate: 20 °C/s}}")

    def holder(self) -> SafeState:
        """The heater's part, for the instrument."""
        if self.heater == "off":
            return SafeState()
        return SafeState(self.heater.cool.rate, self.heater.cool.to)


class PauseSettings(Strict):
    """What a pause does with the temperature and with the exposure under way."""

    temperature: Literal["hold", "continue"] = "hold"
    exposure: Literal["finish", "cut"] = "finish"


class StoreChoices(Strict):
    """How the run is written; see :class:`acquire.store.StoreSettings`."""

    codec: Literal["lz4", "zstd", "none"] = "lz4"
    sync_every: Seconds = 1.0
    when_behind: Literal["wait", "fail"] = "wait"

    @field_validator("sync_every")
    @classmethod
    def _often(cls, value: float) -> float:
        if not 0.05 <= value <= 60:
            raise ValueError("must be from 0.05 s to 60 s: a power cut costs so much of the data")
        return value

    def settings(self) -> StoreSettings:
        """The same for the writer."""
        # a window that only shows a recipe need not load the store
        from acquire.store import StoreSettings

        return StoreSettings(self.codec, self.sync_every, self.when_behind)


class LinkLossSettings(Strict):
    """What is done when the scan or the spectrometer does not answer."""

    retry_for: Seconds = Field(default=0.0, ge=0)
    """Try again for so long, in run time; 0 s: the run fails at once."""


class ScanSettings(Strict):
    """How images are scanned."""

    detectors: tuple[str, ...] = Field(min_length=1)
    size: int | tuple[int, int]
    """Pixels: one number for a square image, or [rows, columns]."""
    field_of_view: Nanometres = Field(gt=0)
    dwell_time: Seconds = Field(gt=0)

    @field_validator("size", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        numbers = list(value) if isinstance(value, list | tuple) else [value, value]
        if len(numbers) == 2 and all(type(number) is int for number in numbers):
            return value
        raise ValueError("write a whole number of pixels, or [rows, columns]")

    @field_validator("size")
    @classmethod
    def _positive(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if min(value if isinstance(value, tuple) else (value,)) < 1:
            raise ValueError("must be at least 1 pixel, for example 512 or [512, 1024]")
        return value

    @field_validator("detectors")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a detector twice")
        return value

    def exposure(self, every_s: float = 0.0) -> ScanExposure:
        """The exposure for the instrument."""
        shape = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        return ScanExposure(self.detectors, shape, self.field_of_view, self.dwell_time, every_s)

    def __str__(self) -> str:
        rows, columns = self.exposure().shape
        return f"{' + '.join(self.detectors)} {rows} × {columns}, {show(self.field_of_view, 'nm')}"


class SpectrumSettings(Strict):
    """How spectra are taken."""

    range: tuple[ElectronVolts, ElectronVolts]
    """First and last energy loss of the core-loss spectrum."""
    dispersion: ElectronVolts = Field(gt=0)
    dwell_time: Seconds = Field(gt=0)
    dual: bool = True
    low_loss_dwell_time: Seconds = Field(default=1e-3, gt=0)
    """Of every low-loss read."""
    low_loss_reads: int = Field(default=1, ge=1, strict=True)
    """Low-loss spectra that are read in turn with equal parts of the core-loss dwell."""
    off_axis: Milliradians = Field(default=0.0, ge=0)
    """Angle between the probe's axis and the entrance aperture's."""

    @model_validator(mode="after")
    def _possible(self) -> SpectrumSettings:
        if self.low_loss_reads > 1 and not self.dual:
            raise ValueError(
                f"low_loss_reads = {self.low_loss_reads} needs dual spectra: write dual: true, or leave it out"
            )
        low, high = self.range
        if high <= low:
            raise ValueError(
                f"range [{low:g} eV, {high:g} eV] must rise, for example [400 eV, 600 eV]"
            )
        return self

    def beginning_at(self, first_ev: float) -> SpectrumSettings:
        """The same with a range that is as long and begins at an energy loss."""
        low, high = self.range
        return self.model_copy(update={"range": (first_ev, first_ev + high - low)})

    def setting(self) -> SpectrometerSetting:
        """Where the spectrometer shall look."""
        low, high = self.range
        return SpectrometerSetting(
            low,
            self.dispersion,
            round((high - low) / self.dispersion),
            self.dual,
            self.off_axis,
        )

    @property
    def exposed_s(self) -> float:
        """How long a spectrum exposes the specimen: every read of its low loss counts, too."""
        low_loss_s = self.low_loss_reads * self.low_loss_dwell_time if self.dual else 0.0
        return self.dwell_time + low_loss_s

    def exposure(self) -> SpectrumExposure:
        """How long it shall look."""
        return SpectrumExposure(self.dwell_time, self.low_loss_dwell_time, self.low_loss_reads)


class HolderRecord(Strict):
    """Holder readings throughout the run."""

    every: Seconds = Field(gt=0)


class ChannelRecord(Strict):
    """Readings of a channel throughout the run."""

    name: str = Field(min_length=1)
    """Of the channel, as the station file has it under ``channels``."""
    every: Seconds = Field(gt=0)


class SpectrumRecord(Strict):
    """Spectra of one point throughout the run, each as that of a ``spectrum`` step."""

    at: Point
    """Position (x, y) as in steps: in the field of view of the recorded scan, from its top left corner."""
    spectra: SpectrumSettings

    def __str__(self) -> str:
        low, high = self.spectra.range
        return f"spectra of {low:g}–{high:g} eV, {show_duration(self.spectra.dwell_time)}"


class Record(Strict):
    """A stream that is recorded throughout, beside the steps: images, spectra, or readings of holder or channel."""

    scan: ScanSettings | None = None
    spectrum: SpectrumRecord | None = None
    every: Seconds = Field(default=0.0, ge=0)
    """Time from start to start of images or spectra; images without it are taken back to back."""
    holder: HolderRecord | None = None
    channel: ChannelRecord | None = None

    @model_validator(mode="after")
    def _one(self) -> Record:
        if [self.scan, self.spectrum, self.holder, self.channel].count(None) != 3:
            raise ValueError(
                "say one of 'scan' and 'spectrum' (each with 'every'), 'holder' and 'channel'"
            )
        if self.spectrum is not None:
            self._in_time(self.spectrum)
        elif self.scan is None and "every" in self.model_fields_set:
            raise ValueError(
                "write 'every' inside 'holder': {holder: {every: 100 ms}}"
                if self.channel is None
                else "write 'every' inside 'channel': {channel: {name: resistance, every: 1 s}}"
            )
        return self

    def _in_time(self, spectrum: SpectrumRecord) -> None:
        if not self.every > 0:
            raise ValueError(
                "say how often a spectrum is taken, beside 'spectrum': {spectrum: {…}, every: 30 s}"
            )
        exposed_s = spectrum.spectra.exposed_s
        if exposed_s > self.every:
            raise ValueError(
                f"a spectrum takes {show_duration(exposed_s)}, longer than 'every' = "
                f"{show_duration(self.every)}: take them less often, or with a shorter dwell_time"
            )


class EstimateSettings(BaseModel):
    """An estimator and where its frames come from; further keys are the estimator's own.

    The entry's name is the estimator's, unless ``use`` names it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    source: str = Field(alias="from", pattern=r"^\w+\.\w+$")
    """``stream.detector``, or ``stream.auto`` for the one that shows most."""
    use: str | None = Field(default=None, pattern=r"^\w+$")
    """The estimator's name, where the entry is called differently; for two of the same kind."""
    prefix: str = Field(default="", pattern=r"^([A-Za-z]\w*)?$")
    """Goes before the names of its quantities, so that two may give the same ones."""

    @property
    def stream(self) -> str:
        """The stream that it looks at."""
        return self.source.split(".")[0]

    @property
    def channel(self) -> str:
        """The detector that it looks at, or ``auto`` where it chooses one."""
        return self.source.split(".")[1]

    @property
    def options(self) -> dict[str, Any]:
        """The keys that the estimator itself understands."""
        return dict(self.model_extra or {})
