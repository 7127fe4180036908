"""What a spectrometer must pass that hands over its spectra in blocks, too."""

from __future__ import annotations

import time
from typing import Protocol

from acquire.bursts import LONGEST_S, Bursts, SpectrumBlock
from acquire.clock import Clock
from acquire.instruments import Spectrometer, SpectrumExposure, StreamSpec
from drivers.conformance.common import AT_ONCE_WALL_S, grace_s

_SPECTRA = 12
_DWELL_S = 0.01
_GOING_ON_S = 0.5


class BurstSpectrometer(Spectrometer, Bursts, Protocol):
    """Both at once."""


def check_bursts(spectrometer: BurstSpectrometer, clock: Clock, after: int) -> None:
    """Blocks that hold every armed spectrum once, are short, and end when they are stopped.

    Args:
        spectrometer: tuned, and not armed.
        clock: of its station.
        after: number of the last frame that it took.
    """
    limits = [one for one in spectrometer.describe().limits if one.quantity == "dwell_time"]
    exposure = SpectrumExposure(max([_DWELL_S, *(limit.low for limit in limits)]))
    spec = spectrometer.arm(exposure, _SPECTRA)
    blocks = list(spectrometer.blocks(clock.signal()))
    spectrometer.disarm()
    last = _check_blocks(blocks, spec, exposure.dwell_time_s, after)
    count = last - after
    assert count == _SPECTRA, f"{_SPECTRA} spectra were armed, {count} came in blocks."
    assert float(blocks[-1].t_end_s[-1]) <= clock.now_s() + 0.05, (
        "a block came before its exposures had ended."
    )
    _check_stopped(spectrometer, clock, exposure, last)


def _check_stopped(
    spectrometer: BurstSpectrometer, clock: Clock, exposure: SpectrumExposure, after: int
) -> None:
    spec = spectrometer.arm(exposure, None)
    stop = clock.signal()
    stopped: list[tuple[float, float]] = []

    def cut() -> None:
        clock.sleep(_GOING_ON_S)
        stopped.append((time.monotonic(), clock.now_s()))
        stop.set()

    task = clock.spawn(cut, "conformance-stop")
    blocks = list(spectrometer.blocks(stop))
    assert stopped, "the blocks of an endless acquisition ended before they were stopped."
    wall_s, on_clock_s = time.monotonic() - stopped[0][0], clock.now_s() - stopped[0][1]
    task.join(10.0)
    spectrometer.disarm()
    assert wall_s <= AT_ONCE_WALL_S, f"stop took {wall_s:.3g} s to end the blocks."
    assert on_clock_s < LONGEST_S + grace_s(clock), f"stop took {on_clock_s:.3g} s of the clock."
    last = _check_blocks(blocks, spec, exposure.dwell_time_s, after)
    frame = next(iter(_one_more(spectrometer, clock, exposure)))
    assert frame > last, (
        f"frame {frame} follows frame {last} of a block: the index counts every frame taken."
    )


def _one_more(
    spectrometer: BurstSpectrometer, clock: Clock, exposure: SpectrumExposure
) -> list[int]:
    spectrometer.arm(exposure, 1)
    try:
        return [frame.index for frame in spectrometer.frames(clock.signal())]
    finally:
        spectrometer.disarm()


def _check_blocks(blocks: list[SpectrumBlock], spec: StreamSpec, dwell_s: float, after: int) -> int:
    """Number of the last spectrum."""
    last_end_s: float | None = None
    for block in blocks:
        assert block.stream == spec.name, f"block of {block.stream!r}, spec of {spec.name!r}."
        assert block.first_index == after + 1, (
            f"spectrum {block.first_index} follows {after}: blocks leave none out and repeat none."
        )
        assert set(block.data) == set(spec.channels), f"block {after + 1} lacks channels."
        for name, data in block.data.items():
            channel = spec.channels[name]
            shape = len(block), *channel.shape
            assert data.dtype == channel.dtype, f"{name}: {data.dtype}, spec says {channel.dtype}."
            assert data.shape == shape, f"{name} of a block: {data.shape}, not {shape}."
            assert not data.flags.writeable, f"{name}: the data of a block must be read-only."
        assert set(block.scalars) == set(spec.scalars), "scalars differ from the spec."
        begin, end = block.t_start_s, block.t_end_s
        assert ((end - begin) >= dwell_s * (1 - 1e-6)).all(), (
            "a spectrum is shorter than its dwell."
        )
        assert (begin[1:] >= end[:-1] - 1e-6).all(), "spectra of a block overlap in time."
        assert last_end_s is None or begin[0] >= last_end_s - 1e-6, "blocks overlap in time."
        for name, spans in block.spans.items():
            within = (spans[:, 0] >= begin - 1e-6) & (spans[:, 1] <= end + 1e-6)
            assert within.all(), f"a span of {name} lies outside its spectrum."
        took_s = float(end[-1] - begin[0])
        assert len(block) == 1 or took_s <= LONGEST_S + 1e-6, (
            f"a block of {len(block)} spectra takes {took_s:.3g} s; {LONGEST_S:g} s is allowed, so that "
            "whoever stops is heard."
        )
        last_end_s, after = float(end[-1]), block.last_index
    return after
