"""Records whose contents follow from their number, so that any reader can tell whether they are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import (
    AnyArray,
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    StreamSpec,
)
from acquire.store import RunWriter
from acquire.stream import (
    Estimate,
    FrameBlock,
    FrameContext,
    Quantity,
    Row,
    RunHeader,
    Value,
)

IMAGES, SPECTRA, HOLDER, ESTIMATES = "images", "spectra", "holder", "estimates"
PLACES = {
    IMAGES: "images/overview/full",
    SPECTRA: "spectra/line",
    HOLDER: "holder",
    ESTIMATES: "estimates/particles",
}
"""Where in the Zarr group each kind of record lies."""

DETECTORS = {"haadf": 1, "abf": 2}
CHANNELS = {"core_loss": 3, "low_loss": 4}
ENERGIES = 512
BLOCK = 64
"""Spectra that come at once."""

_TURN = 1009
_STEP_CELSIUS = 0.25


class Records:
    """What a source of ``side`` x ``side`` images delivers.

    Some images are missing: of each forty one is announced as missing, of each ninety one just does
    not come.
    """

    def __init__(self, side: int = 64, frames_per_s: float = 100.0) -> None:
        self.side = side
        noise = np.random.default_rng(side)
        self._image = noise.poisson(900.0, (side, side)).astype(np.uint16)
        self._spectrum = noise.poisson(40.0, ENERGIES).astype(np.uint32)
        pixel = Axis(-8.0, 0.25, "nm")
        image = ChannelSpec("uint16", (side, side), ("y", "x"), {"y": pixel, "x": pixel})
        self.images = StreamSpec(
            "overview",
            dict.fromkeys(DETECTORS, image),
            {"drift_x": ScalarSpec("nm", "drift")},
            1 / frames_per_s,
        )
        self.spectra = StreamSpec(
            "line",
            {
                name: ChannelSpec(
                    "uint32",
                    (ENERGIES,),
                    ("energy_loss",),
                    {"energy_loss": Axis(450.0 if name == "core_loss" else -10.0, 0.5, "eV")},
                )
                for name in CHANNELS
            },
            frame_period_s=10 / frames_per_s / BLOCK,
        )

    def open(self, writer: RunWriter, epoch_unix_s: float) -> None:
        """Begin a run and declare all that comes; raises StoreError."""
        writer.open(run_header(epoch_unix_s))
        writer.declare_frames(IMAGES, self.images)
        writer.declare_frames(SPECTRA, self.spectra)
        writer.declare_rows(HOLDER, {"measured": "°C", "number": "", "state": "text"})
        quantity = Quantity("mean_diameter", "nm", "mean diameter")
        writer.declare_estimates("particles", (quantity,), {"x_nm": "nm", "diameter_nm": "nm"})

    def announced_missing(self, index: int) -> bool:
        """Whether image ``index`` is said to be missing."""
        return index % 40 == 17

    def missing(self, index: int) -> bool:
        """Whether image ``index`` never comes."""
        return self.announced_missing(index) or index % 90 == 60

    def image(self, index: int, t_s: float) -> Frame:
        """Image ``index``, exposed at ``t_s``."""
        data = {name: self._image + _shift(index, n) for name, n in DETECTORS.items()}
        meta = FrameMeta({"drift_x": float(index)})
        return Frame("overview", index, data, t_s, t_s + 0.001, meta)

    def context(self, index: int) -> FrameContext:
        """What the engine would add to image ``index``."""
        return FrameContext(20.0 + index, 21.0 + index, 1e3, index)

    def block(self, number: int, t_s: float) -> FrameBlock:
        """Block ``number`` of spectra, exposed at ``t_s``."""
        indexes = np.arange(number * BLOCK, (number + 1) * BLOCK)
        times = (t_s + np.arange(BLOCK) * 1e-6).astype(np.float64)
        return FrameBlock(
            "line",
            int(indexes[0]),
            {name: self._spectra(indexes, n) for name, n in CHANNELS.items()},
            times,
            (times + 1e-6).astype(np.float64),
            {"temperature_before_celsius": (20.0 + indexes).astype(np.float64)},
            int(indexes[0]),
        )

    def row(self, number: int, t_s: float) -> Row:
        """Reading ``number`` of the holder."""
        values: dict[str, float | str] = {
            "measured": _STEP_CELSIUS * number,
            "number": float(number),
            "state": _state(number),
        }
        return Row(HOLDER, t_s, values)

    def estimate(self, index: int, t_s: float) -> Estimate:
        """What an estimator says of image ``index``."""
        table = {"x_nm": np.arange(5.0) + index, "diameter_nm": np.full(5, 3.0)}
        values = {"mean_diameter": Value(3.0 + index, 0.1)}
        return Estimate("particles", "overview", index, t_s, values, (), table)

    def _spectra(self, indexes: NDArray[np.int64], n: int) -> NDArray[np.uint32]:
        return self._spectrum + _shift(indexes, n).astype(np.uint32)[:, np.newaxis]

    # ------------------------------------------------------------------------- checking

    def wrong(self, kind: str, columns: Mapping[str, AnyArray]) -> NDArray[np.bool_]:
        """Which of the rows that were read are not what was delivered; shape (rows,)."""
        check = {
            IMAGES: self._wrong_images,
            SPECTRA: self._wrong_spectra,
            HOLDER: self._wrong_rows,
            ESTIMATES: self._wrong_estimates,
        }
        return check[kind](columns)

    def _wrong_images(self, columns: Mapping[str, AnyArray]) -> NDArray[np.bool_]:
        index = columns["frame_index"]
        wrong: NDArray[np.bool_] = columns["drift_x"] != index
        wrong |= columns["temperature_before"] != 20.0 + index
        wrong |= columns["source_index"] != index
        wrong |= ~(columns["t_end"] > columns["time"])
        for name, n in DETECTORS.items():
            right = self._image + _shift(index, n)[:, np.newaxis, np.newaxis]
            wrong |= (columns[name] != right).any(axis=(1, 2))
        return wrong

    def _wrong_spectra(self, columns: Mapping[str, AnyArray]) -> NDArray[np.bool_]:
        index = columns["frame_index"]
        wrong: NDArray[np.bool_] = columns["temperature_before"] != 20.0 + index
        wrong |= ~np.isfinite(columns["time"])
        for name, n in CHANNELS.items():
            wrong |= (columns[name] != self._spectra(index, n)).any(axis=1)
        return wrong

    def _wrong_rows(self, columns: Mapping[str, AnyArray]) -> NDArray[np.bool_]:
        number = columns["number"]
        # a word is stored as a number of its own, 1 for the first that came
        wrong: NDArray[np.bool_] = columns["state"] != 1 + (number % 3 != 0)
        wrong |= columns["measured"] != _STEP_CELSIUS * number
        return wrong

    def _wrong_estimates(self, columns: Mapping[str, AnyArray]) -> NDArray[np.bool_]:
        wrong: NDArray[np.bool_] = columns["mean_diameter"] != 3.0 + columns["frame_index"]
        wrong |= columns["mean_diameter_sigma"] != 0.1
        return wrong

    def expected(self, kind: str) -> Iterator[int]:
        """The numbers of the records of a kind, in the order in which they are appended."""
        index = 0
        while True:
            absent = kind in (IMAGES, ESTIMATES) and self.missing(index)
            between = kind == ESTIMATES and index % ESTIMATE_EVERY
            if not (absent or between):
                yield index
            index += 1


ESTIMATE_EVERY = 5
"""Images from estimate to estimate."""


def run_header(epoch_unix_s: float) -> RunHeader:
    """What is known of a run of a bench before its first record."""
    return RunHeader(
        name="faults",
        recipe_yaml="hotstage: 1\nname: faults\n",
        station_toml="hotstage = 1\n",
        station="bench",
        instruments={"holder": Description("holder", "chip", "bench")},
        epoch_unix_s=epoch_unix_s,
        clock_rate=1.0,
    )


def _shift(index: int | NDArray[np.int64], n: int) -> NDArray[np.uint16]:
    return np.asarray((np.asarray(index) * 7 + n) % _TURN + 1).astype(np.uint16)


def _state(number: int) -> str:
    return "ramping" if number % 3 else "holding"
