"""What a scan and a spectrometer must pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from acquire.bursts import Bursts
from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Description,
    Frame,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from drivers.conformance.bursts import check_bursts
from drivers.conformance.common import AT_ONCE_WALL_S, check_description, grace_s, highest, refuses

JITTER_WALL_S = 0.02
"""By so much two exposures may differ in what precedes them: un-blanking, a request on its way."""
_LONG_S = 60.0
_DTYPE_OF_IMAGES = "uint16"

# --------------------------------------------------------------------------------- scan


def check_scan(scan: Scan, clock: Clock, exposure: ScanExposure | None = None) -> None:
    """Limits, arming, frames, pacing, cuts, blanking; the beam is left as it was found."""
    description = check_description(scan)
    assert description.detectors, "describe().detectors is empty: a scan has at least one detector."
    asked = exposure or ScanExposure(description.detectors, (64, 64), 40.0, 2e-6)
    blanked = scan.blanked()
    scan.disarm()
    scan.blank(False)
    assert not scan.blanked(), "blank(False) leaves the beam blanked."
    _check_scan_limits(scan, description, asked)
    spec = scan.arm(asked, 3)
    _check_spec(spec, asked.detectors)
    for name, channel in spec.channels.items():
        assert channel.dtype == _DTYPE_OF_IMAGES, f"{name}: images are uint16, not {channel.dtype}."
        assert tuple(channel.shape) == tuple(asked.shape), (
            f"{name}: {channel.shape} was not asked for."
        )
    refuses(lambda: scan.arm(asked, 1), InstrumentError, "arm() while armed")
    signal = clock.signal()
    bright = list(scan.frames(signal))
    _check_frames(bright, spec, 3, clock, asked.scan_time_s)
    _disarm_twice(scan.disarm)

    paced = replace(asked, frame_period_s=asked.scan_time_s + 2.0)
    spec = scan.arm(paced, 2)
    pair = list(scan.frames(clock.signal()))
    _check_frames(pair, spec, 2, clock, asked.scan_time_s, after=bright[-1])
    gap = pair[1].t_start_s - pair[0].t_start_s
    assert gap >= paced.frame_period_s - 1e-3 - JITTER_WALL_S * finite_rate(clock), (
        f"frames began {gap:.4g} s apart, frame_period_s is {paced.frame_period_s:.4g} s."
    )
    scan.disarm()

    pixels = asked.shape[0] * asked.shape[1]
    slowest = highest(description, "dwell_time")
    slow = replace(asked, dwell_time_s=min(_LONG_S / pixels, slowest))
    _check_cut(clock, lambda: scan.arm(slow, None), scan.frames, scan.disarm)
    _check_blanking(scan, clock, asked)
    scan.blank(blanked)


def _check_scan_limits(scan: Scan, description: Description, asked: ScanExposure) -> None:
    bad = [
        replace(asked, detectors=("no such detector",)),
        replace(asked, detectors=()),
        replace(asked, dwell_time_s=math.nan),
        replace(asked, field_of_view_nm=0.0),
        replace(asked, dwell_time_s=highest(description, "dwell_time") * 1.01),
        replace(asked, field_of_view_nm=highest(description, "field_of_view") * 1.01),
    ]
    for request in bad:
        refuses(partial(scan.check, request), LimitError, f"check({request})")
        refuses(partial(scan.arm, request, 1), LimitError, f"arm({request})")
    scan.check(asked)


def _check_blanking(scan: Scan, clock: Clock, asked: ScanExposure) -> None:
    means = {}
    for blanked in (True, False):
        scan.blank(blanked)
        assert scan.blanked() is blanked, f"blank({blanked}) had no effect on blanked()."
        scan.arm(asked, 1)
        frame = next(iter(scan.frames(clock.signal())))
        scan.disarm()
        means[blanked] = {name: float(data.mean()) for name, data in frame.data.items()}
    for name, dark in means[True].items():
        light = means[False][name]
        assert dark < light or light == 0, (
            f"{name}: mean {dark:.4g} with the beam blanked, {light:.4g} without: blank() must blank."
        )
    scan.arm(asked, None)
    for _ in range(2):
        scan.make_safe("conformance")
    assert scan.blanked(), "make_safe() of a scan must blank the beam."
    scan.disarm()


# ------------------------------------------------------------------------- spectrometer


def check_spectrometer(
    spectrometer: Spectrometer, clock: Clock, setting: SpectrometerSetting | None = None
) -> None:
    """Limits, tuning, arming, spectra, cuts."""
    description = check_description(spectrometer)
    asked = setting or SpectrometerSetting(400.0, 0.1, 2000, dual=True)
    spectrometer.disarm()
    bad = (
        replace(asked, dispersion_ev=highest(description, "dispersion") * 1.01),
        replace(asked, dispersion_ev=0.0),
        replace(asked, energy_offset_ev=math.nan),
        replace(asked, channels=0),
    )
    for request in bad:
        refuses(partial(spectrometer.check, request), LimitError, f"check({request})")
        refuses(partial(spectrometer.tune, request), LimitError, f"tune({request})")
    taken = spectrometer.tune(asked)
    assert taken.dual is asked.dual, "tune() must say whether low loss is recorded as asked."
    exposure = SpectrumExposure(0.05)
    spec = spectrometer.arm(exposure, 3)
    names = ("core_loss", "low_loss") if taken.dual else ("core_loss",)
    _check_spec(spec, names)
    axis = spec.channels["core_loss"].axes["energy_loss"]
    assert (axis.offset, axis.step) == (taken.energy_offset_ev, taken.dispersion_ev), (
        f"the core-loss axis is {axis}, but tune() took {taken}."
    )
    refuses(lambda: spectrometer.arm(exposure, 1), InstrumentError, "arm() while armed")
    spectra = list(spectrometer.frames(clock.signal()))
    _check_frames(spectra, spec, 3, clock, exposure.dwell_time_s)
    for frame in spectra:
        for name, (start, end) in frame.meta.spans.items():
            assert frame.t_start_s - 1e-6 <= start <= end <= frame.t_end_s + 1e-6, (
                f"the span of {name} lies outside its frame."
            )
    _disarm_twice(spectrometer.disarm)
    _check_cut(
        clock,
        lambda: spectrometer.arm(SpectrumExposure(_LONG_S), None),
        spectrometer.frames,
        spectrometer.disarm,
    )
    if isinstance(spectrometer, Bursts):
        check_bursts(spectrometer, clock, spectra[-1].index)
    for _ in range(2):
        spectrometer.make_safe("conformance")


# --------------------------------------------------------------------------- both


def _check_spec(spec: StreamSpec, names: tuple[str, ...]) -> None:
    assert spec.name, "StreamSpec.name is empty."
    assert set(spec.channels) == set(names), f"channels are {set(spec.channels)}, not {set(names)}."
    for name, channel in spec.channels.items():
        assert len(channel.dims) == len(channel.shape), f"{name}: a dim for every axis is needed."
        assert set(channel.axes) == set(channel.dims), f"{name}: an Axis for every dim is needed."
        assert channel.unit, f"{name}: the unit is missing."


def _check_frames(
    frames: list[Frame],
    spec: StreamSpec,
    number: int,
    clock: Clock,
    exposure_s: float,
    after: Frame | None = None,
) -> None:
    assert len(frames) == number, f"{number} frames were armed, {len(frames)} came."
    previous = after
    for frame in frames:
        assert frame.stream == spec.name, f"frame of {frame.stream!r}, spec of {spec.name!r}."
        assert set(frame.data) == set(spec.channels), f"frame {frame.index} lacks channels."
        for name, data in frame.data.items():
            channel = spec.channels[name]
            assert data.dtype == channel.dtype, f"{name}: {data.dtype}, spec says {channel.dtype}."
            assert data.shape == tuple(channel.shape), f"{name}: {data.shape}, not {channel.shape}."
            assert not data.flags.writeable, f"{name}: frame data must be read-only."
        assert set(frame.meta.scalars) == set(spec.scalars), "scalars differ from the spec."
        assert frame.t_end_s - frame.t_start_s >= exposure_s * (1 - 1e-6), (
            f"frame {frame.index} lasted {frame.t_end_s - frame.t_start_s:.4g} s, less than its "
            f"exposure of {exposure_s:.4g} s."
        )
        assert frame.t_end_s <= clock.now_s() + 0.05, "a frame came before its exposure had ended."
        if previous is not None:
            assert frame.index == previous.index + 1, (
                f"frame {frame.index} follows {previous.index}: the index counts every frame taken, "
                "over all acquisitions."
            )
            assert frame.t_start_s >= previous.t_end_s - 1e-6, "frames overlap in time."
        previous = frame


def _check_cut(
    clock: Clock,
    arm: Callable[[], StreamSpec],
    frames: Callable[[Signal], Iterator[Frame]],
    disarm: Callable[[], None],
) -> None:
    arm()
    stop = clock.signal()
    stopped: list[tuple[float, float]] = []

    def cut() -> None:
        clock.sleep(1.0)
        stopped.append((time.monotonic(), clock.now_s()))
        stop.set()

    task = clock.spawn(cut, "conformance-cut")
    got = sum(1 for _ in frames(stop))
    wall_s = time.monotonic() - stopped[0][0] if stopped else -1.0
    on_clock_s = clock.now_s() - stopped[0][1] if stopped else -1.0
    task.join(10.0)
    disarm()
    assert stopped, "the frames of an endless acquisition ended before they were stopped."
    assert got == 0, f"a cut exposure of {_LONG_S:g} s must yield nothing; {got} frames came."
    assert wall_s <= AT_ONCE_WALL_S, (
        f"stop took {wall_s:.3g} s to cut an exposure; 0.25 s is allowed."
    )
    assert on_clock_s < 1.0 + grace_s(clock), f"stop took {on_clock_s:.3g} s of the clock."


def _disarm_twice(disarm: Callable[[], None]) -> None:
    for _ in range(2):
        disarm()
