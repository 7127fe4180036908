"""Blocks of spectra come through a server whole and in order, and only from instruments that give some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from acquire.bursts import Bursts, SpectrumBlock, block_of, gathered
from acquire.errors import FaultError, LinkError
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure
from acquire.remote import attach
from acquire.remote import ring as ring_module
from acquire.remote.blocks import pack_block, unpack_block
from acquire.remote.proxies import RemoteSpectrometer
from acquire.remote.server import InstrumentServer
from acquire.station import OpenStation

EXPOSURE = SpectrumExposure(1e-4)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(ring_module, "_MEMORY", folder)


@pytest.fixture
def inside(rig: ModuleType) -> OpenStation:
    """The rig with a spectrometer that gives blocks, of 5 ms."""

    class Bursting(rig.Spectrometer):  # type: ignore[misc,name-defined]
        def arm(self, exposure: Any, frames: int | None = None) -> Any:
            spec = super().arm(exposure, frames)
            self.given = 0
            return spec

        def blocks(self, stop: Any) -> Iterator[SpectrumBlock]:
            for block in gathered(self.frames(stop), 0.005):
                self.given += len(block)
                yield block

    opened: OpenStation = rig.open_rig()
    opened.spectrometer = Bursting(opened.clock)
    return opened


@pytest.fixture
def spectrometer(outside: OpenStation) -> Any:
    outside.control.take("a test")
    assert outside.spectrometer is not None
    outside.spectrometer.tune(SpectrometerSetting(400.0, 0.1))
    return outside.spectrometer


@pytest.fixture(params=["shared", "socket"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "socket":
        monkeypatch.setattr("acquire.remote.receiving.LEAST_BYTES", 1 << 40)
    return str(request.param)


def _right(block: SpectrumBlock) -> bool:
    """Whether every channel is the one that the rig put there."""
    rows = block.first_index + np.arange(len(block))[:, None]
    return all(
        (array == (rows * 7 + n) % 65521).all() for n, array in enumerate(block.data.values())
    )


def test_all_come_once_and_in_order_on_the_local_clock(
    spectrometer: Any, outside: OpenStation, way: str
) -> None:
    spectrometer.arm(EXPOSURE, 300)
    blocks = list(spectrometer.blocks(outside.clock.signal()))
    assert len(blocks) > 1, "they came in more than one"
    indexes = [n for block in blocks for n in range(block.first_index, block.last_index + 1)]
    assert indexes == list(range(300))
    assert all(map(_right, blocks))
    starts = np.concatenate([block.t_start_s for block in blocks])
    assert (np.diff(starts) > 0).all()
    assert starts[-1] == pytest.approx(outside.clock.now_s(), abs=2.0)
    for block in blocks:
        assert np.isinf(block.scalars["dose"]).all()
        assert (block.spans["core_loss"][:, 0] == block.t_start_s).all()
        assert not block.data["low_loss"].flags.writeable
    shared = spectrometer._receivers[-1].shared
    assert shared == (way == "shared")
    serial, newest, _ = spectrometer.latest(0)
    assert serial
    assert newest.data["core_loss"].shape == (2048,), "observers see single spectra"
    spectrometer.disarm()
    spectrometer.arm(EXPOSURE, 3)
    assert [frame.index for frame in spectrometer.frames(outside.clock.signal())] == [300, 301, 302]


def test_a_stop_ends_the_exposure_at_the_server(
    spectrometer: Any, inside: Any, outside: OpenStation
) -> None:
    spectrometer.arm(EXPOSURE, None)
    stop = outside.clock.signal()
    for _ in spectrometer.blocks(stop):
        stop.set()
    given = inside.spectrometer.given
    spectrometer.disarm()
    assert inside.spectrometer.given == given


def test_what_ends_the_exposure_comes_after_the_blocks_before_it(
    spectrometer: Any, inside: Any, outside: OpenStation
) -> None:
    inside.spectrometer.fail_at = 100
    spectrometer.arm(EXPOSURE, 300)
    seen: list[int] = []
    coming = (len(block) for block in spectrometer.blocks(outside.clock.signal()))
    with pytest.raises(FaultError, match="the beam was lost"):
        seen.extend(coming)
    assert sum(seen) == 100


def test_a_proxy_offers_blocks_only_if_the_instrument_gives_them(
    rig: ModuleType, spectrometer: Any
) -> None:
    assert isinstance(spectrometer, Bursts)
    server = InstrumentServer(rig.open_rig())
    server.start()
    with attach(server.address) as plain:
        assert isinstance(plain.spectrometer, RemoteSpectrometer)
        assert not isinstance(plain.spectrometer, Bursts)
    server.close()


def test_what_is_no_block_is_refused() -> None:
    data = {"core_loss": np.zeros(8, np.uint16)}
    block = block_of([Frame("s", n, data, n / 10, n / 10 + 0.1) for n in range(4)])
    packed = pack_block(block)
    assert unpack_block(packed).t_end_s == pytest.approx(block.t_end_s)
    for wrong in (
        {"t_end_s": None},
        {"t_end_s": np.zeros(3)},
        {"t_start_s": np.zeros((4, 1))},
        {"t_start_s": np.zeros(4, np.float32)},
        {"data core_loss": np.zeros((3, 8), np.uint16)},
        {"span core_loss": np.zeros((4, 3))},
        {"scalar late": np.zeros(4, "i8")},
        {"else": np.zeros(4)},
    ):
        arrays = {**packed.data, **wrong}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        with pytest.raises(LinkError, match="block of spectra"):
            unpack_block(Frame("s", 0, arrays, 0.0, 1.0))
