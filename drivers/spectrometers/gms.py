"""Gatan's filter and camera as a DualEELS spectrometer, through our server in the Python that GMS embeds.

Sources: those of :mod:`drivers.gms.server`, which says what is unverified; nothing was tried on hardware. A dual
spectrum is one job of the server: low loss and core loss, each at its own energy loss and exposure, right
after each other without a command in between; each has its own time span. That is not the fast mode of GMS's
own DualEELS window, for which no call is public. Tuning goes to both energy losses, takes the energy slit out,
and tells where the filter went; a spectrum during which somebody moved it is none. The filter stays where it
was last.

The server knows nobody by name, so it is spoken to on its own computer only. Where the station is on another
one, an instrument server (``hotstage serve``) runs beside GMS.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from drivers.spectrometers.gatan_filter import (
    BOUND,
    SATURATED,
    Part,
    Ranges,
    Tuned,
    as_counts,
    expect_whole,
)
from drivers.spectrometers.gif_settings import Settings, read
from drivers.spectrometers.gms_client import Done, GmsClient

FILTER_S = 15.0
"""Wall seconds that the filter may need to go somewhere."""
IMAGE_S = 10.0
"""Wall seconds that an exposure may take beyond its own time."""


def open_gms(
    context: DriverContext,
    *,
    address: str,
    dispersions: Sequence[str],
    zero_loss_channel: float,
    camera_size: Sequence[int] = (2048, 256),
    rows: Sequence[int] | None = None,
    processing: str = "gain_normalized",
    low_loss_offset: str = "0 eV",
    energy_offset: Sequence[str] = ("-100 eV", "3000 eV"),
    shortest_exposure: str = "0.1 ms",
    collection_semi_angle: str | None = None,
    counts_per_electron: float | None = None,
    readout_noise_electrons: float | None = None,
    saturation_counts: float | None = None,
) -> Gms:
    """Connect to our server inside GMS: the entry point ``gms`` of ``hotstage.drivers``.

    Args:
        context: the station's.
        address: ``HOST:PORT`` of the server, on this computer.
        dispersions: energy per channel of the filter's settings, in the order of their index in
            DigitalMicrograph.
        zero_loss_channel: where the zero-loss peak lies on the camera at an energy loss of 0.
        camera_size: channels and rows of the camera.
        rows: first row and the one after the last that are summed; default: all.
        processing: ``dark_subtracted`` or ``gain_normalized``, by GMS.
        low_loss_offset: energy loss to set for low-loss spectra.
        energy_offset: range of the energy loss at a spectrum's first channel.
        shortest_exposure: of the camera.
        collection_semi_angle: for the metadata: ``33 mrad``.
        counts_per_electron: of the camera, for the metadata and for noise.
        readout_noise_electrons: of one spectrum.
        saturation_counts: of a pixel, as it is processed, from which on it is full; default: not known.

    Raises:
        ConfigError: the address is on another computer.
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: it is another server.
    """
    if processing == "unprocessed":
        raise ValueError(
            "processing = 'unprocessed' refused: nothing here would take the camera's dark level away. "
            "Write dark_subtracted or gain_normalized."
        )
    settings = read(
        dispersions=dispersions,
        zero_loss_channel=zero_loss_channel,
        camera=0,
        camera_size=camera_size,
        rows=rows,
        processing=processing,
        settling="0 s",
        low_loss_offset=low_loss_offset,
        energy_offset=energy_offset,
        shortest_exposure=shortest_exposure,
        longest_exposure="1 s",
        collection_semi_angle=collection_semi_angle,
        counts_per_electron=counts_per_electron,
        readout_noise_electrons=readout_noise_electrons,
        saturation_counts=saturation_counts,
    )
    client = GmsClient(address, f"hotstage {context.role}", context.clock)
    try:
        return Gms(context, client, settings, client.identify())
    except BaseException:
        client.close()
        raise


class Gms:
    """Spectra of a camera in GMS; see :func:`open_gms`. Frames are int32 counts."""

    def __init__(
        self,
        context: DriverContext,
        client: GmsClient,
        settings: Settings,
        facts: dict[str, str | float],
    ) -> None:
        self._role = context.role
        self._clock: Clock = context.clock
        self._client = client
        self._settings = settings
        self._facts = facts
        self._ranges = Ranges(settings)
        self._lock = threading.Lock()
        """Held while it is tuned or armed, so that spectra are what was said when they were armed."""
        self._tuned: Tuned | None = None
        self._exposure = SpectrumExposure(0.5)
        self._acquisition = Acquisition(context.clock, context.role)

    def describe(self) -> Description:
        """Identity, limits and camera."""
        camera = self._settings.camera
        return Description(
            role=self._role,
            model="Gatan imaging filter in GMS",
            driver="gms",
            limits=self._ranges.limits,
            details={
                "camera_rows": float(camera.bottom - camera.top),
                "zero_loss_channel": self._settings.zero_channel,
                **self._settings.facts,
                "dual": "one after the other, in one command",
                **self._facts,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        self._ranges.check(setting)

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if spectra of such a setting cannot be exposed so."""
        self._ranges.check_exposure(setting, exposure)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy losses, take the slit out; returns what the filter took.

        Raises:
            LimitError: beyond a limit, or a dispersion that the filter does not have.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        with self._lock:
            if self._acquisition.armed():
                raise InstrumentError(
                    "the spectrometer cannot be tuned while armed; disarm it first."
                )
            self._tuned = None
            index = self._ranges.index(setting.dispersion_ev)
            found_ev = {
                name: self._go_to(index, loss_ev)
                for name, loss_ev in self._ranges.losses_ev(setting).items()
            }
            tuned = self._tuned = self._ranges.taken(setting, found_ev)
            return tuned.setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError."""
        with self._lock:
            tuned = self._demand_tuned()
            self._ranges.check_exposure(tuned.setting, exposure)
            self._acquisition.arm(frames)
            self._exposure = exposure
            return self._ranges.spec(self._role, tuned, exposure)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the time spans hold the exposures.

        Raises:
            LinkError: the link was lost in a spectrum, which is not taken again.
            InstrumentError: not armed; or the filter is not as it was tuned any more.
            LeaseError: the server is in somebody else's hands.
        """

        def expose(index: int, cut: Cut) -> Frame | None:
            return self._spectrum(tuned, exposure, index, cut)

        with self._lock:
            frames = self._acquisition.frames(stop, 0.0, expose)
            # what was armed; another thread may tune it anew after this acquisition
            tuned, exposure = self._demand_tuned(), self._exposure
            return frames

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; a spectrometer does no harm. Idempotent."""
        self._acquisition.disarm()

    def close(self) -> None:
        """Let go of the server; idempotent."""
        self._acquisition.disarm()
        self._client.close()

    # --------------------------------------------------------------------------- spectra

    def _go_to(self, dispersion: int, loss_ev: float) -> float:
        """Tune; the energy loss that the filter took, in eV."""
        asked = {"dispersion": dispersion, "energy_loss_ev": loss_ev}
        done = self._client.run("tune", asked, FILTER_S, lambda: False)
        if done is None or len(done.parts) != 1:
            raise LinkError("GMS did not say how the filter is tuned.")
        facts = done.parts[0].facts
        self._ranges.expect_dispersion(dispersion, _number(facts, "dispersion"))
        return _number(facts, "energy_loss_ev")

    def _spectrum(
        self, tuned: Tuned, exposure: SpectrumExposure, index: int, cut: Cut
    ) -> Frame | None:
        wanted = tuned.parts(exposure)
        camera = self._settings.camera
        full = camera.full_counts
        job = {
            "exposures": [
                {"name": part.name, "energy_loss_ev": part.loss_ev, "exposure_s": part.dwell_s}
                for part in wanted
            ],
            "dispersion": tuned.index,
            "processing": camera.processing + 1,  # GMS counts from 1
            "area": [camera.top, 0, camera.bottom, camera.width],
            "points": None,
            "full_counts": None if math.isnan(full) else full,
        }
        exposed_s = sum(part.dwell_s for part in wanted) / finite_rate(self._clock)
        within_s = 1.5 * exposed_s + len(wanted) * (FILTER_S + IMAGE_S)
        done = self._client.run("spectra", job, within_s, cut)
        return None if done is None else self._frame(index, tuned, wanted, done)

    def _frame(self, index: int, tuned: Tuned, wanted: list[Part], done: Done) -> Frame:
        if [part.facts.get("name") for part in done.parts] != [part.name for part in wanted]:
            raise LinkError(f"GMS sent other spectra than {[part.name for part in wanted]}.")
        spans: dict[str, tuple[float, float]] = {}
        data: dict[str, NDArray[np.int32]] = {}
        late_s, full = 0.0, 0.0
        for asked, part in zip(wanted, done.parts, strict=True):
            counts = done.arrays.get(asked.name)
            shape = (1, self._settings.camera.width)
            if counts is None or counts.shape != shape:
                raise LinkError(f"GMS sent something else than {asked.name!r} of {shape}.")
            expect_whole(part.end_s - part.start_s, asked.dwell_s)
            tuned.expect_loss(asked.name, _number(part.facts, "energy_loss_ev"))
            late_s = max(late_s, part.end_s - part.start_s - asked.dwell_s)
            full += math.nan if part.facts.get("full") is None else _number(part.facts, "full")
            spans[asked.name] = part.start_s, part.end_s
            data[asked.name] = as_counts(counts[0, : tuned.setting.channels])
        meta = FrameMeta({SATURATED: full, BOUND: done.bound_s + late_s}, spans)
        start_s = min(start for start, _ in spans.values())
        end_s = max(end for _, end in spans.values())
        return Frame(self._role, index, dict(data), start_s, end_s, meta)

    def _demand_tuned(self) -> Tuned:
        if self._tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return self._tuned


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LinkError(f"GMS sent {value!r} as {name}.")
    return value
