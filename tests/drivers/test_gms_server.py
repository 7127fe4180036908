"""Our server inside GMS, its logic in this process, with a hand-written DigitalMicrograph."""

from __future__ import annotations

import ast
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drivers.gms

SCRIPT = Path(drivers.gms.__file__).parent / "server.py"
SPECTRA = {
    "exposures": [
        {"name": "low_loss", "energy_loss_ev": 0.0, "exposure_s": 0.01},
        {"name": "core_loss", "energy_loss_ev": 402.25, "exposure_s": 0.02},
    ],
    "dispersion": 1,
    "processing": 3,
    "area": [2, 0, 6, 16],
    "points": None,
    "full_counts": None,
}
CLAIM = "0123456789abcdef" * 2


class FakeDm(types.ModuleType):
    """Records what it is told."""

    def __init__(self) -> None:
        super().__init__("DigitalMicrograph")
        self.scripts: list[str] = []
        self.exposures: list[tuple[Any, ...]] = []
        self.energy, self.dispersion, self.active = 0.0, 1.0, 0
        self.slit = 0.0
        self.eels = 1.0
        self.unknown: set[str] = set()
        self.slit_sticks = False
        self.late = 0
        """How often DigiScan says that it is not active before it begins."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What somebody else does during an exposure."""
        self.tags: dict[str, float] = {}
        self.stuck = threading.Event()
        self.stuck.set()
        self.fails = ""

    def ExecuteScriptString(self, text: str) -> None:
        self.scripts.append(text)
        if found := re.search(r"IFSetEnergyLoss\((.*?)\)", text):
            self.energy = float(found[1])
        if found := re.search(r"IFCSetActiveDispersions\((\d+)\)", text):
            self.dispersion = float(found[1])
        if "IFSetSlitIn(0)" in text and not self.slit_sticks:
            self.slit = 0.0
        values = {
            'DoesFunctionExist("IFGetSlitIn")': float("slit" not in self.unknown),
            'DoesFunctionExist("IFIsInEELSMode")': float("mode" not in self.unknown),
            "IFIsInEELSMode()": self.eels,
            "IFGetSlitIn()": self.slit,
            "IFGetEnergyLoss(0)": self.energy,
            "IFCGetActiveDispersion()": self.dispersion,
            "DSIsAcquisitionActive()": float(self.active > 0 and self.late <= 0),
        }
        if found := re.search(r"number value = (.*)\n", text):
            if found[1] == "DSIsAcquisitionActive()":
                self.late, self.active = self.late - 1, self.active - (self.late <= 0)
            self.tags["hotstage:value"] = values[found[1]]
        if "DSStopAcquisition" in text:
            self.active = 0

    def GetPersistentTagGroup(self) -> FakeDm:
        return self

    def GetTagAsFloat(self, label: str) -> tuple[bool, float]:
        return True, float(np.float32(self.tags[label]))

    def GetActiveCamera(self) -> FakeDm:
        return self

    def PrepareForAcquire(self) -> None:
        pass

    def CreateImageForAcquire(self, *arguments: int) -> FakeImage:
        top, left, bottom, right = arguments[3:]
        return FakeImage(np.zeros((bottom - top, right - left), np.int32))

    def AcquireInPlace(self, image: FakeImage, exposure: float, *arguments: int) -> None:
        self.stuck.wait(5)
        if self.fails:
            raise RuntimeError(self.fails)
        self.exposures.append((self.energy, exposure, *arguments))
        time.sleep(exposure / 10)
        image.array[...] = round(self.energy) + np.arange(image.array.shape[1])
        self.meanwhile()

    def CreateImage(self, array: Any) -> FakeImage:
        return FakeScan(self, array)

    def DS_CreateParameters(self, *arguments: Any) -> int:
        self.parameters = arguments
        return 5

    def DS_SetParametersSignal(self, *arguments: Any) -> None:
        self.signal = arguments

    def DS_StartAcquisition(self, parameters: int, continuous: bool, synchronous: bool) -> None:
        self.active = 1_000_000 if self.fails == "never ends" else 3

    def DS_DeleteParameters(self, parameters: int) -> None:
        self.deleted = parameters


class FakeImage:
    def __init__(self, array: Any) -> None:
        self.array = array

    def GetNumArray(self) -> Any:
        return self.array

    def GetID(self) -> int:
        return 11


class FakeScan(FakeImage):
    """An image that DigiScan fills."""

    def __init__(self, dm: FakeDm, array: Any) -> None:
        super().__init__(array)
        self.dm = dm

    def GetNumArray(self) -> Any:
        return self.array if self.dm.active > 0 else np.full_like(self.array, 7)


@pytest.fixture
def dm(monkeypatch: pytest.MonkeyPatch) -> FakeDm:
    made = FakeDm()
    monkeypatch.setitem(sys.modules, "DigitalMicrograph", made)
    return made


@pytest.fixture
def server(dm: FakeDm) -> Any:
    made = types.ModuleType("gms_server")
    exec(compile(SCRIPT.read_text(encoding="utf-8"), str(SCRIPT), "exec"), made.__dict__)
    return made


@pytest.fixture
def service(server: Any) -> Iterator[Any]:
    made, stop = server.Service(), threading.Event()
    microscope = server.Microscope()

    def work() -> None:
        while not stop.is_set():
            try:
                job = made.work.get(timeout=0.02)
            except server.queue.Empty:
                continue
            server.carry_out(made, microscope, job)

    thread = threading.Thread(target=work)
    thread.start()
    yield made
    stop.set()
    thread.join()


def run(service: Any, token: str, kind: str, settings: Any) -> tuple[str, dict[str, Any]]:
    job = service.begin(token, kind, settings)["job"]
    while True:
        state = service.wait(token, job, 1.0)
        if state["state"] != "running":
            return job, state


def test_the_script_is_python_37_and_needs_nothing_of_ours() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"DigitalMicrograph", "numpy", "Pyro5"}
    assert not imported & {"pickle", "marshal", "subprocess", "os"}


def test_a_dual_spectrum_sets_each_energy_waits_and_sums_rows(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    job, state = run(service, token, "spectra", SPECTRA)
    assert [part["name"] for part in state["parts"]] == ["low_loss", "core_loss"]
    low, core = state["parts"]
    assert low["start_s"] < low["end_s"] <= core["start_s"] < core["end_s"] <= state["now_s"]
    assert dm.exposures == [(0.0, 0.01, 1, 1, 3, 2, 0, 6, 16), (402.25, 0.02, 1, 1, 3, 2, 0, 6, 16)]
    setting = next(text for text in dm.scripts if "IFSetEnergyLoss" in text)
    assert setting.index("IFSetEnergyLoss") < setting.index("IFWaitForFilter")
    counts = np.frombuffer(service.fetch(token, job, "core_loss", 0), "<f8")
    np.testing.assert_array_equal(counts, 4 * (402 + np.arange(16)))
    assert state["arrays"]["core_loss"] == {"dtype": "<f8", "shape": [1, 16]}


def test_long_exposures_are_made_of_pieces(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    one = {**SPECTRA, "exposures": [{**SPECTRA["exposures"][0], "exposure_s": 2.5}]}  # type: ignore[index, dict-item]
    job, _ = run(service, token, "spectra", one)
    assert [item[1] for item in dm.exposures] == pytest.approx([2.5 / 3] * 3)
    counts = np.frombuffer(service.fetch(token, job, "low_loss", 0), "<f8")
    assert counts[1] == 3 * 4 * 1


def test_a_spectrum_image_moves_the_beam(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    job, state = run(service, token, "spectra", {**SPECTRA, "points": [[0, 0], [100.5, -20]]})
    assert state["arrays"]["low_loss"]["shape"] == [2, 16]
    moves = [text for text in dm.scripts if "DSSetBeamDSPosition" in text]
    assert "DSSetBeamDSPosition(100.5, -20)" in moves[1]
    assert [part["point"] for part in state["parts"]] == [0, 0, 1, 1]
    assert len(service.fetch(token, job, "low_loss", 128)) == 128


def test_a_frame_of_digiscan(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    settings = {"signals": [1], "shape": [4, 8], "pixel_time_us": 2.0, "rotation_deg": 0.0}
    job, state = run(service, token, "scan", settings)
    assert state["arrays"] == {"1": {"dtype": "<u4", "shape": [4, 8]}}
    assert dm.parameters == (8, 4, 0.0, 2.0, False)
    assert dm.signal == (5, 1, 4, True, 11)
    assert dm.deleted == 5
    assert np.frombuffer(service.fetch(token, job, "1", 0), "<u4").tolist() == [7] * 32


def test_a_frame_can_be_aborted(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    dm.fails = "never ends"
    settings = {"signals": [1], "shape": [4, 8], "pixel_time_us": 1e5, "rotation_deg": 0.0}
    job = service.begin(token, "scan", settings)["job"]
    assert service.wait(token, job, 0.05) == {"state": "running"}
    service.abort(token, job)
    assert service.wait(token, job, 1.0)["state"] == "cut"
    assert any("DSStopAcquisition(5)" in text for text in dm.scripts)


def test_a_frame_that_begins_late_is_waited_for(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    dm.late = 3
    settings = {"signals": [1], "shape": [4, 8], "pixel_time_us": 2.0, "rotation_deg": 0.0}
    job, _ = run(service, token, "scan", settings)
    assert np.frombuffer(service.fetch(token, job, "1", 0), "<u4").tolist() == [7] * 32


@pytest.mark.parametrize(
    ("what", "to", "words"),
    [
        ("energy", 350.0, "350 eV instead of"),
        ("dispersion", 2.0, "dispersion"),
        ("slit", 1.0, "slit"),
        ("eels", 0.0, "spectroscopy"),
    ],
)
@pytest.mark.parametrize("points", [None, [[0, 0], [10, 10]]])
def test_a_filter_that_somebody_moves_in_an_exposure_gives_no_spectrum(
    service: Any, server: Any, dm: FakeDm, what: str, to: float, words: str, points: Any
) -> None:
    token = service.take("me", CLAIM)
    single = {**SPECTRA, "exposures": SPECTRA["exposures"][1:], "points": points}  # type: ignore[index]
    dm.meanwhile = lambda: setattr(dm, what, to)
    with pytest.raises(server.Refused, match=words):
        run(service, token, "spectra", single)


def test_tuning_takes_the_slit_out_and_spectra_are_refused_while_it_is_in(
    service: Any, server: Any, dm: FakeDm
) -> None:
    token = service.take("me", CLAIM)
    dm.slit = 1.0
    with pytest.raises(server.Refused, match="slit"):
        run(service, token, "spectra", SPECTRA)
    assert dm.exposures == []
    run(service, token, "tune", {"dispersion": 1, "energy_loss_ev": 532.0})
    assert dm.slit == 0.0
    dm.slit, dm.slit_sticks = 1.0, True
    with pytest.raises(server.Refused, match="slit"):
        run(service, token, "tune", {"dispersion": 1, "energy_loss_ev": 532.0})


def test_a_filter_in_its_image_mode_is_refused(service: Any, server: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    dm.eels = 0.0
    for kind, settings in (
        ("tune", {"dispersion": 2, "energy_loss_ev": 532.0}),
        ("spectra", SPECTRA),
    ):
        with pytest.raises(server.Refused, match="spectroscopy"):
            run(service, token, kind, settings)
    assert (dm.energy, dm.dispersion, dm.exposures) == (0.0, 1.0, [])


def test_a_filter_that_tells_neither_slit_nor_mode_is_asked_for_none(
    service: Any, dm: FakeDm
) -> None:
    token = service.take("me", CLAIM)
    dm.unknown, dm.slit, dm.eels = {"mode", "slit"}, 1.0, 0.0
    assert run(service, token, "spectra", SPECTRA)[1]["state"] == "done"


def test_full_pixels_are_counted_where_it_is_known_what_that_is(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    _, state = run(service, token, "spectra", SPECTRA)
    assert [part["full"] for part in state["parts"]] == [None, None]
    _, state = run(service, token, "spectra", {**SPECTRA, "full_counts": 405.0})
    assert [part["full"] for part in state["parts"]] == [0, 4 * 13]  # 402 to 417 in every row


def test_only_the_job_that_is_meant_is_aborted(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    earlier, _ = run(service, token, "tune", {"dispersion": 1, "energy_loss_ev": 532.0})
    dm.stuck.clear()
    job = service.begin(token, "spectra", SPECTRA)["job"]
    service.abort(token, earlier)
    dm.stuck.set()
    state = {"state": "running"}
    while state["state"] == "running":
        state = service.wait(token, job, 1.0)
    assert state["state"] == "done"


def test_a_lease_whose_answer_was_lost_is_there_all_the_same(service: Any, server: Any) -> None:
    assert service.take("me", CLAIM) == CLAIM
    assert service.take("me", CLAIM) == CLAIM
    with pytest.raises(server.Refused, match="hands of me"):
        service.take("me", "f" * 32)
    with pytest.raises(server.Refused, match="token"):
        service.take("me", "short")


def test_tuning_tells_what_was_taken(service: Any, dm: FakeDm) -> None:
    token = service.take("me", CLAIM)
    _, state = run(service, token, "tune", {"dispersion": 2, "energy_loss_ev": 532.0})
    assert state["parts"] == [{"name": "tuned", "dispersion": 2, "energy_loss_ev": 532.0}]
    with pytest.raises(Exception, match="not at dispersion 1 any more"):
        run(service, token, "spectra", SPECTRA)


def test_one_owner_at_a_time(service: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = service.take("Maria", CLAIM)
    with pytest.raises(server.Refused, match="hands of Maria") as refused:
        service.take("Ilse", "f" * 32)
    assert refused.value.kinds == ["LeaseError"]
    for call in (
        lambda: service.begin("another", "tune", {}),
        lambda: service.abort(None, "1"),
        lambda: service.wait("", "1", 0),
        lambda: service.fetch("x", "1", "a", 0),
    ):
        with pytest.raises(server.Refused, match="lease"):
            call()
    service.release("another")
    assert service.status()["owner"] == "Maria"
    service.release(token)
    assert service.status()["owner"] == ""
    server.LEASE_S = 0.05
    service.take("Ilse", "f" * 32)
    time.sleep(0.1)
    service.take("Maria", CLAIM)


def test_a_job_ends_when_nobody_owns_it_any_more(service: Any, server: Any, dm: FakeDm) -> None:
    server.LEASE_S = 0.2
    token = service.take("me", CLAIM)
    long = {**SPECTRA, "exposures": [{**SPECTRA["exposures"][0], "exposure_s": 100.0}]}  # type: ignore[index, dict-item]
    service.begin(token, "spectra", long)
    give_up = time.monotonic() + 5
    while service.status()["busy"]:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert len(dm.exposures) < 50


def test_a_call_that_hangs_keeps_nobody_waiting_and_nothing_else_begins(
    service: Any, server: Any, dm: FakeDm
) -> None:
    token = service.take("me", CLAIM)
    dm.stuck.clear()
    job = service.begin(token, "spectra", SPECTRA)["job"]
    begun = time.monotonic()
    assert service.wait(token, job, 0.1) == {"state": "running"}
    assert service.status()["busy"]
    with pytest.raises(server.Refused, match="busy"):
        service.begin(token, "spectra", SPECTRA)
    assert time.monotonic() - begun < 1
    dm.stuck.set()


def test_what_digitalmicrograph_raises_is_told_and_the_server_lives_on(
    service: Any, server: Any, dm: FakeDm
) -> None:
    token = service.take("me", CLAIM)
    dm.fails = "no beam"
    with pytest.raises(server.Refused, match="RuntimeError: no beam"):
        run(service, token, "spectra", SPECTRA)
    dm.fails = ""
    assert run(service, token, "spectra", SPECTRA)[1]["state"] == "done"


def _exposure(**change: Any) -> dict[str, Any]:
    return {**SPECTRA, "exposures": [{**SPECTRA["exposures"][0], **change}]}  # type: ignore[index, dict-item]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("dance", {}),
        ("spectra", None),
        ("spectra", {}),
        ("spectra", {**SPECTRA, "more": 1}),
        ("spectra", {**SPECTRA, "exposures": []}),
        ("spectra", {**SPECTRA, "exposures": SPECTRA["exposures"] * 2}),  # type: ignore[operator]
        ("spectra", _exposure(exposure_s=float("nan"))),
        ("spectra", _exposure(exposure_s=1e9)),
        ("spectra", _exposure(energy_loss_ev="0); Quit(")),
        ("spectra", _exposure(energy_loss_ev=float("inf"))),
        ("spectra", _exposure(name="middle_loss")),
        ("spectra", {**SPECTRA, "dispersion": 1.5}),
        ("spectra", {**SPECTRA, "dispersion": True}),
        ("spectra", {**SPECTRA, "area": [0, 0, 0, 16]}),
        ("spectra", {**SPECTRA, "area": [0, 0, 1 << 20, 16]}),
        ("spectra", {**SPECTRA, "points": [[0, 0]] * 5000}),
        ("spectra", {**SPECTRA, "points": [["x", 0]]}),
        ("spectra", {**SPECTRA, "points": [[1e9, 0]]}),
        ("tune", {"dispersion": -1, "energy_loss_ev": 0.0}),
        ("scan", {"signals": [], "shape": [4, 4], "pixel_time_us": 1.0, "rotation_deg": 0.0}),
        ("scan", {"signals": [0], "shape": [4, 1 << 30], "pixel_time_us": 1, "rotation_deg": 0}),
        (
            "scan",
            {"signals": [0] * 8, "shape": [8192, 8192], "pixel_time_us": 1, "rotation_deg": 0},
        ),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_done(
    service: Any, server: Any, dm: FakeDm, kind: str, settings: Any
) -> None:
    token = service.take("me", CLAIM)
    with pytest.raises(server.Refused):
        service.begin(token, kind, settings)
    assert dm.scripts == []
    assert dm.exposures == []


def test_it_listens_on_this_computer_only(server: Any) -> None:
    with pytest.raises(ValueError, match="hotstage serve"):
        server.serve("0.0.0.0", 0)
    _: Callable[..., None] = server.main
