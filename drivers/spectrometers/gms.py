"""Gatan's filter and camera as a DualEELS spectrometer, through our server in the Python that GMS embeds.

Sources: those of :mod:`drivers.gms.server`, which says what is unverified; nothing was tried on hardware. A dual
spectrum is one job of the server: low loss and core loss, each at its own energy loss and exposure, right
after each other without a command in between; each has its own time span. That is not the fast mode of GMS's
own DualEELS window, for which no call is public.

The server knows nobody by name, so it is spoken to on its own computer only. Where the station is on another
one, an instrument server (``hotstage serve``) runs beside GMS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from acquire.units import show
from drivers.acquisition import Acquisition, Cut
from drivers.spectrometers.gif_settings import Settings, limits_of, read, within
from drivers.spectrometers.gms_client import Done, GmsClient

CORE, LOW = "core_loss", "low_loss"
SCALARS = {"time_bound": ScalarSpec("s", "how far the times of the spectrum may be off")}
FILTER_S = 15.0
"""Wall seconds that the filter may need to go somewhere."""
IMAGE_S = 10.0
"""Wall seconds that an exposure may take beyond its own time."""
OFFSET_TOLERANCE_EV = 0.5
SAME_EV = 1e-3
"""The server tells energies with the digits of a 32-bit float."""
_MOST_COUNTS = np.iinfo(np.int32).max


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
        processing: ``unprocessed``, ``dark_subtracted`` or ``gain_normalized``.
        low_loss_offset: energy loss to set for low-loss spectra.
        energy_offset: range of the energy loss at a spectrum's first channel.
        shortest_exposure: of the camera.
        collection_semi_angle: for the metadata: ``33 mrad``.
        counts_per_electron: of the camera, for the metadata and for noise.
        readout_noise_electrons: of one spectrum.

    Raises:
        ConfigError: the address is on another computer.
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: it is another server.
    """
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
        self._limits = limits_of(settings)
        self._tuned: tuple[SpectrometerSetting, int, float] | None = None
        """What was taken, the index of its dispersion, the energy loss of the core loss."""
        self._exposure = SpectrumExposure(0.5)
        self._acquisition = Acquisition(context.clock, context.role)

    def describe(self) -> Description:
        """Identity, limits and camera."""
        camera = self._settings.camera
        return Description(
            role=self._role,
            model="Gatan imaging filter in GMS",
            driver="gms",
            limits=self._limits,
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
        offset, dispersion, channels, *_ = self._limits
        within(offset, setting.energy_offset_ev)
        within(dispersion, setting.dispersion_ev)
        within(channels, setting.channels)
        self._index(setting.dispersion_ev)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy loss; returns what the filter took.

        Raises:
            LimitError: beyond a limit, or a dispersion that the filter does not have.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        if self._acquisition.armed():
            raise InstrumentError("the spectrometer cannot be tuned while armed; disarm it first.")
        index = self._index(setting.dispersion_ev)
        dispersion = self._settings.dispersions_ev[index]
        self._tuned = None
        below_ev = self._settings.zero_channel * dispersion
        wanted = setting.energy_offset_ev + below_ev
        asked = {"dispersion": index, "energy_loss_ev": wanted}
        done = self._client.run("tune", asked, FILTER_S, lambda: False)
        if done is None or len(done.parts) != 1:
            raise LinkError("GMS did not say how the filter is tuned.")
        facts = done.parts[0].facts
        taken = float(facts.get("energy_loss_ev", np.nan))
        if facts.get("dispersion") != index or not abs(taken - wanted) <= OFFSET_TOLERANCE_EV:
            raise InstrumentError(
                f"the filter is at dispersion {facts.get('dispersion')} and {show(taken, 'eV', 7)} "
                f"instead of {index} and {show(wanted, 'eV', 7)}. Look whether it is in range and "
                "nobody else uses it, and tune it again."
            )
        core_ev = wanted if abs(taken - wanted) < SAME_EV else taken
        found = SpectrometerSetting(
            setting.energy_offset_ev + (core_ev - wanted),
            dispersion,
            int(setting.channels),
            setting.dual,
        )
        self._tuned = found, index, core_ev
        return found

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError."""
        setting, _, _ = self._demand_tuned()
        *_, dwell, low_dwell = self._limits
        within(dwell, exposure.dwell_time_s)
        if setting.dual:
            within(low_dwell, exposure.low_loss_dwell_time_s)
        self._acquisition.arm(frames)
        self._exposure = exposure
        return self._spec(setting, exposure)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the time spans hold the exposures.

        Raises:
            LinkError: the link was lost in a spectrum, which is not taken again.
            InstrumentError: not armed; or the filter is not as it was tuned any more.
            LeaseError: the server is in somebody else's hands.
        """
        exposure = self._exposure

        def expose(index: int, cut: Cut) -> Frame | None:
            return self._spectrum(exposure, index, cut)

        return self._acquisition.frames(stop, 0.0, expose)

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

    def _spectrum(self, exposure: SpectrumExposure, index: int, cut: Cut) -> Frame | None:
        setting, dispersion, core_ev = self._demand_tuned()
        wanted = [(CORE, core_ev, exposure.dwell_time_s)]
        if setting.dual:
            wanted.insert(0, (LOW, self._settings.low_loss_ev, exposure.low_loss_dwell_time_s))
        camera = self._settings.camera
        job = {
            "exposures": [
                {"name": name, "energy_loss_ev": energy, "exposure_s": dwell_s}
                for name, energy, dwell_s in wanted
            ],
            "dispersion": dispersion,
            "processing": camera.processing + 1,  # GMS counts from 1
            "area": [camera.top, 0, camera.bottom, camera.width],
            "points": None,
        }
        exposed_s = sum(dwell_s for _, _, dwell_s in wanted) / finite_rate(self._clock)
        within_s = 1.5 * exposed_s + len(wanted) * (FILTER_S + IMAGE_S)
        done = self._client.run("spectra", job, within_s, cut)
        return None if done is None else self._frame(index, setting, wanted, done)

    def _frame(
        self,
        index: int,
        setting: SpectrometerSetting,
        wanted: list[tuple[str, float, float]],
        done: Done,
    ) -> Frame:
        spans: dict[str, tuple[float, float]] = {}
        data: dict[str, NDArray[np.int32]] = {}
        for (name, _, dwell_s), part in zip(wanted, done.parts, strict=False):
            counts = done.arrays.get(name)
            shape = (1, self._settings.camera.width)
            if part.facts.get("name") != name or counts is None or counts.shape != shape:
                raise LinkError(f"GMS sent something else than the spectrum {name!r} of {shape}.")
            if part.end_s - part.start_s < dwell_s * (1 - 1e-6):
                raise InstrumentError(
                    f"the camera took an exposure of {show(dwell_s, 's')} in "
                    f"{show(part.end_s - part.start_s, 's')}: it has shortened it. "
                    "Look what exposures it allows (option shortest_exposure)."
                )
            spans[name] = part.start_s, part.end_s
            data[name] = _as_counts(counts[0, : setting.channels])
        if len(spans) != len(wanted):
            raise LinkError(f"GMS sent {len(spans)} spectra instead of {len(wanted)}.")
        meta = FrameMeta({"time_bound": done.bound_s}, spans)
        start_s = min(start for start, _ in spans.values())
        end_s = max(end for _, end in spans.values())
        return Frame(self._role, index, dict(data), start_s, end_s, meta)

    def _demand_tuned(self) -> tuple[SpectrometerSetting, int, float]:
        if self._tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return self._tuned

    def _index(self, dispersion_ev: float) -> int:
        for index, known in enumerate(self._settings.dispersions_ev):
            if abs(known - dispersion_ev) <= 1e-6 * known:
                return index
        shown = ", ".join(show(known, "eV") for known in self._settings.dispersions_ev)
        raise LimitError(
            f"dispersion {show(dispersion_ev, 'eV')} refused: the filter has {shown}. "
            "Choose one of them (option dispersions)."
        )

    def _spec(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> StreamSpec:
        offsets = {CORE: (setting.energy_offset_ev, "core-loss spectrum")}
        period_s = exposure.dwell_time_s
        if setting.dual:
            below_ev = self._settings.zero_channel * setting.dispersion_ev
            offsets[LOW] = (self._settings.low_loss_ev - below_ev, "low-loss spectrum")
            period_s += exposure.low_loss_dwell_time_s
        channels = {
            name: ChannelSpec(
                "int32",
                (setting.channels,),
                ("energy_loss",),
                {"energy_loss": Axis(offset, setting.dispersion_ev, "eV")},
                "counts",
                long_name,
            )
            for name, (offset, long_name) in offsets.items()
        }
        return StreamSpec(self._role, channels, SCALARS, period_s)


def _as_counts(spectrum: NDArray[np.float64]) -> NDArray[np.int32]:
    highest = np.abs(spectrum).max(initial=0.0)
    if not highest <= _MOST_COUNTS:
        raise InstrumentError(
            f"a channel has {highest:g} counts, which 32 bits do not hold. Expose more shortly, or sum "
            "fewer rows (option rows)."
        )
    return np.rint(spectrum).astype(np.int32)
