"""What a scan or a spectrometer must do when its link does not do what it should."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from acquire.clock import Signal
from acquire.errors import HotstageError, InstrumentError
from acquire.instruments import (
    Frame,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from drivers.conformance.links import check_together
from drivers.conformance.proxy import Disturbance
from drivers.conformance.rig import Rig

CUT_S = 0.5
"""Wall seconds in which ``stop`` ends the frames; 0.25 s are promised, the rest is this machine's."""
LIKE = 0.3
"""How far, relatively, the mean of a channel may be from what it was without disturbances."""
OUTAGE_S = 0.5
LONG_S = 4.0
"""Wall seconds of an exposure in the middle of which something happens."""


class Step(StrEnum):
    """Where in an acquisition the link is lost."""

    IDLE = "idle"
    ARMED = "armed"
    EXPOSING = "exposing"
    BETWEEN = "between frames"


@dataclass(frozen=True)
class Exposing:
    """How frames of a device are taken: quickly, slowly, and far apart."""

    device: Any
    short: Callable[[int | None], StreamSpec]
    """Arms so many short exposures."""
    long: Callable[[int | None], StreamSpec]
    """Arms so many exposures that take some wall seconds."""
    beam: Scan | None = None

    def frames(self, stop: Signal, number: int) -> list[Frame]:
        """The frames of what is armed."""
        found = []
        for frame in self.device.frames(stop):
            found.append(frame)
            if len(found) == number:
                break
        return found


def scanning(scan: Scan, rig: Rig, size: int = 64, field_nm: float = 40.0) -> Exposing:
    """Exposures of a scan: 2 µs a pixel, and some wall seconds a frame."""
    detectors = scan.describe().detectors

    def arm(dwell_s: float, frames: int | None) -> StreamSpec:
        return scan.arm(ScanExposure(detectors, (size, size), field_nm, dwell_s), frames)

    slowest = min(li.high for li in scan.describe().limits if li.quantity == "dwell_time")
    slow = min(slowest, LONG_S * rig.clock.rate / size**2)
    return Exposing(scan, lambda n: arm(2e-6, n), lambda n: arm(slow, n), scan)


def dispersing(spectrometer: Spectrometer, rig: Rig, setting: SpectrometerSetting) -> Exposing:
    """Exposures of a spectrometer: 50 ms, and some wall seconds."""
    spectrometer.tune(setting)
    return Exposing(
        spectrometer,
        lambda n: spectrometer.arm(SpectrumExposure(0.05), n),
        lambda n: spectrometer.arm(SpectrumExposure(LONG_S * rig.clock.rate), n),
    )


def check_loss(rig: Rig, exposing: Exposing, step: Step) -> None:
    """The link is lost and comes back: no frame is made up or repeated, and the next acquisition is whole."""
    device, stop = exposing.device, rig.clock.signal()
    reference = _reference(rig, exposing)
    last = reference[-1]
    if step is not Step.IDLE:
        exposing.long(None) if step is Step.EXPOSING else exposing.short(None)
    got: list[Frame] = []
    task = None
    if step in (Step.EXPOSING, Step.BETWEEN):
        task = threading.Thread(
            target=lambda: rig.call(
                lambda: _take_all(exposing, stop, got), "frames()", exposure_s=LONG_S
            ),
            name="conformance-frames",
            daemon=True,
        )
        task.start()
        if step is Step.EXPOSING:
            time.sleep(0.2)
        else:
            rig.until(lambda: bool(got), "a frame comes")
    rig.unplug()
    if exposing.beam is not None:
        blanked = exposing.beam.blanked
        # a device with one thread answers when its exposure has ended
        rig.call(blanked, "blanked() while the link is lost", exposure_s=LONG_S)
    time.sleep(OUTAGE_S)
    stop.set()
    if task is not None:
        task.join(CUT_S + OUTAGE_S)
        assert not task.is_alive(), f"stop did not end frames() on a lost link ({step})."
    rig.call(device.disarm, "disarm()")
    rig.well()
    for frame in got:
        _expect_like(reference, frame, f"after a lost link ({step})")
        assert frame.index > last.index, f"frame {frame.index} came twice."
        last = frame
    _expect_whole(rig, exposing, reference, last, f"lost link: {step}")


def check_disturbance(rig: Rig, exposing: Exposing, disturbance: Disturbance) -> None:
    """Disturbed replies are refused or understood, and never taken for others."""
    reference = _reference(rig, exposing)
    last = reference[-1]
    before = rig.suffered
    rig.next(disturbance)
    until = time.monotonic() + rig.subject.longest_call_s
    while rig.suffered == before and time.monotonic() < until:
        frames = rig.call(lambda: _some(rig, exposing, 2), "frames()", exposure_s=1.0)
        for frame in [] if isinstance(frames, HotstageError) else frames:
            _expect_like(reference, frame, f"with a reply {disturbance}")
            assert frame.index > last.index, f"frame {frame.index} came twice."
            last = frame
    assert rig.suffered > before, "no reply was asked for."
    rig.well()
    _expect_whole(rig, exposing, reference, last, f"a reply was {disturbance}")


def check_stop_in_silence(rig: Rig, exposing: Exposing) -> None:
    """``stop`` ends an exposure within its time also when the device says nothing any more."""
    device, stop = exposing.device, rig.clock.signal()
    reference = _reference(rig, exposing)
    exposing.long(None)
    stopped: list[float] = []

    def end() -> None:
        time.sleep(0.3)
        rig.silence()
        time.sleep(0.3)
        stopped.append(time.monotonic())
        stop.set()

    task = threading.Thread(target=end, name="conformance-stop", daemon=True)
    task.start()
    frames = rig.call(lambda: _all(exposing, stop), "frames() on a silent wire", exposure_s=LONG_S)
    took_s = time.monotonic() - stopped[0] if stopped else 0.0
    task.join()
    rig.well()
    assert took_s <= CUT_S, f"stop took {took_s:.2f} s on a silent wire; 0.25 s are allowed."
    assert not frames or isinstance(frames, HotstageError), "a cut exposure yields nothing."
    rig.call(device.disarm, "disarm()")
    _expect_whole(rig, exposing, reference, reference[-1], "a silent wire")


def check_safe_without_link(rig: Rig, exposing: Exposing, silent: bool) -> None:
    """Told to blank while the column cannot be reached: says that it does not know, and blanks when it can."""
    beam = exposing.beam
    assert beam is not None
    beam.blank(False)
    assert not rig.is_safe(), "the far end's beam is blanked though the driver has un-blanked it."
    rig.silence() if silent else rig.unplug()
    rig.make_safe(beam, "conformance: the link is lost")
    blanked = rig.call(beam.blanked, "blanked() after make_safe() on a lost link")
    assert isinstance(blanked, HotstageError) or rig.is_safe(), (
        f"blanked() says {blanked}, but the link is lost, and the beam is not."
    )
    time.sleep(OUTAGE_S)
    rig.well()
    rig.until_safe("make_safe() while the link was lost")
    assert rig.until_works(beam.blanked, "blanked()"), "the beam is blanked; blanked() denies it."
    rig.until_works(lambda: beam.blank(False), "blank()")


def check_many_threads(rig: Rig, exposing: Exposing) -> None:
    """Frames come whole while other threads ask, tune and make safe; two acquisitions never mix."""
    device, stop = exposing.device, rig.clock.signal()
    reference = _reference(rig, exposing)

    def disarm_late() -> None:
        time.sleep(0.1)
        device.disarm()

    calls: list[tuple[str, Callable[[], object]]] = [
        ("take", lambda: _some(rig, exposing, 1)),
        ("take-too", lambda: _some(rig, exposing, 1)),
        ("describe", device.describe),
        ("disarm", disarm_late),
    ]
    if exposing.beam is not None:
        calls.append(("blanked", exposing.beam.blanked))
    check_together(rig, calls)
    stop.set()
    rig.call(device.disarm, "disarm()")
    _expect_whole(rig, exposing, reference, None, "calls of many threads")


# ------------------------------------------------------------------------------- helpers


def _reference(rig: Rig, exposing: Exposing) -> list[Frame]:
    """Two frames on a wire that is well, the beam on the specimen."""
    if exposing.beam is not None:
        exposing.beam.blank(False)
    exposing.device.disarm()
    # the first frames of a simulated specimen may take their time
    frames = rig.until_works(lambda: _some(rig, exposing, 2), "an acquisition")
    assert len(frames) == 2, f"2 frames were armed, {len(frames)} came."
    return frames


def _some(rig: Rig, exposing: Exposing, number: int) -> list[Frame]:
    exposing.short(number)
    try:
        return exposing.frames(rig.clock.signal(), number)
    finally:
        exposing.device.disarm()


def _take_all(exposing: Exposing, stop: Signal, into: list[Frame]) -> None:
    for frame in exposing.device.frames(stop):
        into.append(frame)  # noqa: PERF402  what has come counts, however it ends


def _all(exposing: Exposing, stop: Signal) -> list[Frame]:
    return list(exposing.device.frames(stop))


def _expect_like(reference: list[Frame], frame: Frame, what: str) -> None:
    pattern = reference[0]
    assert set(frame.data) == set(pattern.data), f"{what} a frame has {set(frame.data)}."
    for name, data in frame.data.items():
        usual = pattern.data[name]
        assert (data.shape, data.dtype) == (usual.shape, usual.dtype), (
            f"{what} {name} is {data.shape} of {data.dtype}, not {usual.shape} of {usual.dtype}."
        )
        found, expected = float(np.mean(data)), float(np.mean(usual))
        assert abs(found - expected) <= LIKE * expected + 2.0, (
            f"{what} the mean of {name} is {found:.4g}, it was {expected:.4g}: this is no image of it."
        )


def _expect_whole(
    rig: Rig, exposing: Exposing, reference: list[Frame], last: Frame | None, what: str
) -> None:
    """The next acquisition is whole, and its frames are counted on."""

    def whole() -> list[Frame]:
        if exposing.beam is not None:
            exposing.beam.blank(False)
        found = _some(rig, exposing, 2)
        if len(found) != 2:
            raise InstrumentError(f"2 frames were armed, {len(found)} came.")
        return found

    frames = rig.until_works(whole, "an acquisition")
    for frame in frames:
        _expect_like(reference, frame, f"after {what}")
    if last is not None:
        assert frames[0].index > last.index, f"after {what}, frame {frames[0].index} came twice."
