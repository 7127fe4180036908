"""Names spectra in a NeXus file as NXem has them: NXspectrum in measurement events, NXem_eels for what was done.

Classes and fields are those of nexusformat/definitions (base classes NXem_measurement,
NXem_event_data, NXspectrum, NXem_eels). Arrays are links to what the file holds already.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from acquire._version import __version__
from acquire.export.energies import energies_of
from acquire.export.source import SPECTRA, Channel, began

_SHIFT = "energy_shift"


def describe_eels(
    entry: Any, channels: list[tuple[Channel, Any]], estimates: dict[str, Any]
) -> None:
    """Add an event for every stream of spectra.

    Args:
        entry: the file's NXentry.
        channels: with the NXdata that each was written to.
        estimates: NXdata of estimators by the stream that they look at.
    """
    spectra = [(c, g) for c, g in channels if c.kind == SPECTRA and len(c.data.shape) == 2]
    if not spectra:
        return
    measurement = _group(entry, "measurement", "NXem_measurement")
    for number, stream in enumerate(dict.fromkeys(c.stream for c, _ in spectra), 1):
        mine = [(c, g) for c, g in spectra if c.stream == stream]
        event = _group(measurement, f"event{number}", "NXem_event_data")
        _event(event, mine[0][0])
        made = [_spectrum(event, k, c, g) for k, (c, g) in enumerate(mine, 1)]
        eels = _group(_group(entry, f"roi{number}", "NXroi_process"), "eels", "NXem_eels")
        indexing = _group(eels, "indexing", "NXprocess")
        for spectrum in made:
            indexing[spectrum.name.rpartition("/")[2]] = spectrum
        told = estimates.get(stream)
        if told is not None and _SHIFT in told:
            zero_loss = _group(eels, "zlp_correction", "NXprocess")
            program = _group(zero_loss, "program1", "NXprogram")
            program["program"] = "hotstage"
            program["program"].attrs["version"] = __version__
            # what was taken off the nominal axis of each spectrum; the data are as they were recorded
            zero_loss[_SHIFT] = told[_SHIFT]


def _event(event: Any, channel: Channel) -> None:
    start = began(channel.run)
    times = channel.times_s
    ends = np.asarray(channel.frames["t_end"].values, np.float64)
    if np.isfinite(times).any():
        event["start_time"] = (start + timedelta(seconds=float(np.nanmin(times)))).isoformat()
    if np.isfinite(ends).any():
        event["end_time"] = (start + timedelta(seconds=float(np.nanmax(ends)))).isoformat()
    event["type"] = "EELS"
    event.attrs["stream"] = channel.stream


def _spectrum(event: Any, number: int, channel: Channel, written: Any) -> Any:
    """A stack of spectra in the order of time, whatever the shape of what they were taken of."""
    spectrum = _group(event, f"spectrum{number}", "NXspectrum")
    spectrum.attrs["channel"] = channel.name
    process = _group(spectrum, "process", "NXprocess")
    process["detector_identifier"] = "/entry/instrument/spectrometer"
    process["mode"] = "EELS, STEM"
    stack = _group(spectrum, "stack_0d", "NXdata")
    stack["intensity"] = written["data"]
    stack["indices_spectrum"] = written["frame_index"]
    nominal = channel.axes[-1]
    energies = energies_of(channel.frames, channel.name, nominal)
    if energies.text and energies.first is None:
        axis = energies.axis
        stack["axis_energy"] = axis.offset + axis.step * np.arange(axis.size)
        stack["axis_energy"].attrs["units"] = axis.unit
        stack["axis_energy"].attrs["long_name"] = f"energy loss; {energies.text}"
    else:
        stack["axis_energy"] = written[nominal.name]
    stack.attrs["signal"] = "intensity"
    stack.attrs["axes"] = ["indices_spectrum", "axis_energy"]
    stack.attrs["indices_spectrum_indices"] = 0
    stack.attrs["axis_energy_indices"] = 1
    for place in ("position_x", "position_y", "map_pass", "map_row", "map_column"):
        if place in written:
            stack[place] = written[place]
            stack.attrs[f"{place}_indices"] = 0
    return spectrum


def _group(parent: Any, name: str, nx_class: str) -> Any:
    while name in parent:  # a stream of the recipe may be called so
        name = f"{name}_"
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
