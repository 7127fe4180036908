"""What the simulated spectrometer can be asked for, and what the frames of a setting look like."""

from __future__ import annotations

from acquire.errors import LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Limit,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.units import show
from simulators.spectra.band import Band
from simulators.spectra.geometry import LIMIT_MRAD
from simulators.spectra.pattern import Pattern

CORE, LOW, LOW_TIME = "core_loss", "low_loss", "low_loss_time"
_DRIVER = "driver"
_OFFSET = Limit("energy_offset", -200.0, 3000.0, "eV", _DRIVER)
_DISPERSION = Limit("dispersion", 5e-4, 1.0, "eV", _DRIVER)
_CHANNELS = Limit("channels", 64, 4096, "", _DRIVER)
_DWELL = Limit("dwell_time", 1e-5, 100.0, "s", _DRIVER)
_LOW_LOSS_DWELL = Limit("low_loss_dwell_time", 1e-6, 1.0, "s", _DRIVER)
_READS = Limit("low_loss_reads", 1, 1000, "", _DRIVER)
_OFF_AXIS = Limit("off_axis", 0.0, LIMIT_MRAD, "mrad", _DRIVER)
_OFFSET_STEP_EV, _FINE_STEP_EV = 0.05, 0.0005
_FINE_BELOW_EV = 0.01
LIMITS = (_OFFSET, _DISPERSION, _CHANNELS, _DWELL, _LOW_LOSS_DWELL, _READS, _OFF_AXIS)


def check_setting(setting: SpectrometerSetting) -> None:
    """Raise LimitError for a setting that cannot be taken."""
    _within(_OFFSET, setting.energy_offset_ev)
    _within(_DISPERSION, setting.dispersion_ev)
    _within(_CHANNELS, setting.channels)
    _within(_OFF_AXIS, setting.off_axis_mrad)


def check_exposure(exposure: SpectrumExposure, *, dual: bool) -> None:
    """Raise LimitError for an exposure that cannot be armed."""
    _within(_DWELL, exposure.dwell_time_s)
    if dual:
        _within(_LOW_LOSS_DWELL, exposure.low_loss_dwell_time_s)
    reads = exposure.low_loss_reads
    _within(_READS, reads)
    if reads != int(reads):
        raise LimitError(f"low loss reads {reads} refused: give a whole number.")
    if reads > 1 and not dual:
        raise LimitError(
            f"{reads} low-loss reads refused: the spectra are not dual. Ask for dual ones, or for 1 read."
        )


def taken(setting: SpectrometerSetting) -> SpectrometerSetting:
    """What the device takes: the offset moves in steps of 0.05 eV; of 0.5 meV for dispersions below 10 meV."""
    step = _OFFSET_STEP_EV if setting.dispersion_ev >= _FINE_BELOW_EV else _FINE_STEP_EV
    return SpectrometerSetting(
        round(round(setting.energy_offset_ev / step) * step, 9),
        setting.dispersion_ev,
        int(setting.channels),
        setting.dual,
        float(setting.off_axis_mrad),
    )


def core_band(setting: SpectrometerSetting) -> Band:
    """Channels of the core loss."""
    return Band(setting.energy_offset_ev, setting.dispersion_ev, setting.channels)


def low_band(setting: SpectrometerSetting) -> Band:
    """The low loss begins a tenth of its range, at most 20 eV, below zero."""
    below = min(20.0, setting.channels * setting.dispersion_ev / 10)
    return Band(-below, setting.dispersion_ev, setting.channels)


def stream_spec(
    stream: str, setting: SpectrometerSetting, exposure: SpectrumExposure, when: Pattern
) -> StreamSpec:
    """What frames look like."""
    channels = {CORE: _channel(core_band(setting), "core-loss spectrum")}
    if setting.dual:
        reads = exposure.low_loss_reads
        channels[LOW] = _channel(low_band(setting), "low-loss spectrum", reads)
        if reads > 1:
            channels[LOW_TIME] = ChannelSpec(
                "float64",
                (reads, 2),
                ("low_loss_read", "span"),
                {"low_loss_read": Axis(0.0, 1.0, "1"), "span": Axis(0.0, 1.0, "1")},
                "s",
                "begin and end of the low-loss reads since the spectrum began",
            )
    return StreamSpec(stream, channels, frame_period_s=when.frame_s)


def _channel(band: Band, long_name: str, reads: int = 1) -> ChannelSpec:
    energy = Axis(band.offset_ev, band.dispersion_ev, "eV")
    if reads == 1:
        shape: tuple[int, ...] = (band.channels,)
        return ChannelSpec(
            "int32", shape, ("energy_loss",), {"energy_loss": energy}, "counts", long_name
        )
    return ChannelSpec(
        "int32",
        (reads, band.channels),
        ("low_loss_read", "energy_loss"),
        {"low_loss_read": Axis(0.0, 1.0, "1"), "energy_loss": energy},
        "counts",
        long_name,
    )


def _within(limit: Limit, value: float) -> None:
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the spectrometer "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)}. "
            "Choose a value in between."
        )
