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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Cut
from acquire.clock import finite_rate
from acquire.errors import LinkError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    SpectrumExposure,
)
from acquire.station import DriverContext
from drivers.spectrometers.gatan_filter import (
    BOUND,
    SATURATED,
    Part,
    Tuned,
    as_counts,
    expect_whole,
)
from drivers.spectrometers.gatan_spectrometer import GatanSpectrometer
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


class Gms(GatanSpectrometer):
    """Spectra of a camera in GMS; see :func:`open_gms`. Frames are int32 counts."""

    def __init__(
        self,
        context: DriverContext,
        client: GmsClient,
        settings: Settings,
        facts: dict[str, str | float],
    ) -> None:
        super().__init__(context, settings)
        self._client = client
        self._facts = facts

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

    def close(self) -> None:
        """Let go of the server; idempotent."""
        super().close()
        self._client.close()

    # --------------------------------------------------------------------------- spectra

    def _go_through(self, dispersion: int, losses_ev: dict[str, float]) -> dict[str, float]:
        return {name: self._go_to(dispersion, loss_ev) for name, loss_ev in losses_ev.items()}

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


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LinkError(f"GMS sent {value!r} as {name}.")
    return value
