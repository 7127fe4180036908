"""The far end of the SerialEMCCD socket: the camera of the energy filter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from acquire.clock import WallClock
from simulators.instruments import ExsolutionSimulation, build
from simulators.spectra import COUNTS_PER_ELECTRON
from simulators.wires.serialemccd import SerialEmccd
from tests.wires.emccd_client import RATE, Client, frames_taken, listening


@pytest.fixture(scope="module")
def world_of_all() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=3, drift=False)


@pytest.fixture
def simulation(world_of_all: ExsolutionSimulation) -> ExsolutionSimulation:
    world = world_of_all.world
    world.column.blank(False)
    world.column.park(0.0, 0.0)
    world.column.shift_by(*(-shift for shift in world.column.shift()))
    world.field_of_view = None
    return world_of_all


@pytest.fixture
def far_end(simulation: ExsolutionSimulation) -> Iterator[SerialEmccd]:
    made = listening(simulation)
    yield made
    made.close()


@pytest.fixture
def client(far_end: SerialEmccd) -> Iterator[Client]:
    made = Client(far_end.addresses["socket"])
    yield made
    made.close()


# -------------------------------------------------------------------------- camera


def test_the_columns_of_the_camera_add_up_to_the_spectrum(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.script("IFCSetActiveDispersions(1)\nIFSetEnergyLoss(440)\nIFWaitForFilter()")
    began = simulation.world.clock.now_s()
    raw = client.image(client.camera(2.0, processing=0))
    assert simulation.world.clock.now_s() - began >= 2.0
    assert raw.shape == (256, 2048)
    electrons = (raw.astype(float) - 100).sum(axis=0) / COUNTS_PER_ELECTRON
    truth = simulation.truth("spectrometer", frames_taken(simulation, "spectrometer") - 1)
    energy = 440 + (np.arange(2048) - 100) * 0.1
    edge = energy[np.argmax(np.diff(np.convolve(electrons, np.ones(20), "valid"))) + 10]
    assert edge == pytest.approx(457.5 + truth["zlp_shift_ev"], abs=4.0)
    expected = simulation.world.column.beam.electrons_per_s * 2.0
    assert 0 < electrons.sum() < expected


def test_the_zero_loss_peak_lies_on_its_channel_and_can_be_centred(client: Client) -> None:
    client.script("IFCSetActiveDispersions(0)")

    def peak() -> int:
        image = client.image(client.camera(1e-4, processing=0))
        return int((image.astype(float) - 100).sum(axis=0).argmax())

    client.script("GT_CenterZLP()")
    assert peak() == pytest.approx(100, abs=8)  # its jitter is 0.06 eV
    client.script("IFSetEnergyLoss(-10)\nIFWaitForFilter()")
    assert peak() == pytest.approx(300, abs=8)


def test_the_filter_takes_a_while_to_go_elsewhere(client: Client) -> None:
    client.script("IFSetEnergyLoss(700)")
    assert client.value("IFGetEnergyLoss(0)") == 700.0
    too_early = client.image(client.camera(1e-4, processing=0)).sum()
    client.script("IFWaitForFilter()")
    then = client.image(client.camera(1e-4, processing=0)).sum()
    assert too_early > then  # the first one still shows the zero-loss peak


def test_the_energy_that_was_taken_is_told(client: Client) -> None:
    client.script("IFSetEnergyLoss(400.13)")
    assert client.value("IFGetEnergyLoss()") == pytest.approx(400.15)
    client.script("IFCSetActiveDispersions(2)")
    assert client.value("IFCGetActiveDispersion()") == 2.0
    assert client.value("IFGetActiveDispersion()") == 0.25


def test_the_slit_cuts_the_spectrum(client: Client) -> None:
    client.script("IFCSetActiveDispersions(1)\nIFSetSlitWidth(10)\nIFSetSlitIn(1)")
    image = client.image(client.camera(1e-3, processing=2)).astype(float)
    lit = image.sum(axis=0) > 1000
    assert lit.any()
    assert not lit[:45].any()
    assert not lit[155:].any()


def test_processed_images_lose_their_sign_unless_halved(client: Client) -> None:
    client.script("EMSetBeamBlanked(1)")
    truncated = client.image(client.camera(0.01, processing=1)).astype(float)
    halved = client.image(client.camera(0.01, processing=1, divide=1)).view(np.int16)
    raw = client.image(client.camera(0.01, processing=0)).astype(float)
    assert truncated.min() == 0.0
    assert truncated.mean() > 0.05
    assert halved.min() >= -1
    assert raw.mean() == pytest.approx(100.0, abs=0.01)
    dark = client.call(
        7, (2048 * 256, 2048, 256, 1, 0, 0, 256, 2048, 0, 0, 0), (), (0.01, 0.0), results="4i"
    )
    assert client.image(dark).astype(float).mean() == pytest.approx(100.0, abs=0.01)


def test_a_part_of_the_camera_is_read_and_binned(client: Client) -> None:
    image = client.image(client.camera(0.01, binning=4, region=(96, 0, 160, 1024)))
    assert image.shape == (16, 256)


@pytest.mark.parametrize(
    "wrong",
    [
        {"exposure_s": 0.0},
        {"exposure_s": float("inf")},
        {"region": (0, 0, 300, 2048)},
        {"region": (10, 0, 10, 2048)},
        {"processing": 64},
    ],
)
def test_an_image_that_cannot_be_taken_fails_as_a_script(
    client: Client, wrong: dict[str, object]
) -> None:
    if wrong.get("region") == (10, 0, 10, 2048):
        reply = client.call(
            6, (2048, 2048, 1, 2, 1, 10, 0, 10, 2048, 0, 0, 0, 0), (), (0.1, 0.0), results="4i"
        )
    else:
        reply = client.camera(**wrong)  # type: ignore[arg-type]
    assert reply[0] == 26
    assert client.value("1") == 1.0


def test_a_camera_that_is_out_takes_no_image(client: Client) -> None:
    assert client.call(13, (0,), (0,))[0] == 0
    assert client.call(12, (0,), results="i") == (0, 0)
    assert client.camera()[0] == 26
    assert client.call(13, (0,), (1,)) == (0,)
    assert client.camera(0.01)[0] == 0


def test_a_queued_script_runs_before_the_next_image(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    text = b"EMSetBeamBlanked(1)\0"
    assert client.call(5, (len(text) // 4,), array=text) == (0,)
    blanked = [simulation.world.column.blanked()]
    client.image(client.camera(0.01))
    blanked.append(simulation.world.column.blanked())
    assert blanked == [False, True]
