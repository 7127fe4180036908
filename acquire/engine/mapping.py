"""Takes maps: spectra at the points of a grid, with images of the same field, and the field kept on the specimen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from acquire.engine.beamtime import BeamTime, Show
from acquire.engine.dose import as_taken
from acquire.engine.foretaking import foretake, grouped
from acquire.engine.imaging import Images
from acquire.engine.live_maps import MapGrid
from acquire.engine.map_drift import OFFSET_SCALARS, MapDrift
from acquire.engine.spectra import Spectra
from acquire.instruments import ScalarSpec
from acquire.recipe import MapPoint, SpectrumImage
from acquire.store.maps import MAP_NOTE

PLACE_SCALARS = {
    "map_pass": ScalarSpec("1", "pass of the map, from 0"),
    "map_row": ScalarSpec("1", "row of the map, from 0 at the top"),
    "map_column": ScalarSpec("1", "column of the map, from 0 at the left"),
}
"""Of every spectrum of a map."""


class Maps:
    """Takes the maps of one run."""

    def __init__(self, time: BeamTime, images: Images) -> None:
        self._time = time
        self._images = images

    def take(self, step: SpectrumImage, show: Show) -> None:
        """Take what is left of a map; raises what ends the run."""
        time = self._time
        grid = self._grid(step)
        time.run.note(
            MAP_NOTE,
            f"{step.name}: {step.shape[0]} × {step.shape[1]}",
            {**grid.details(), "done": step.done},
        )
        time.run.live.begin_map(grid)
        drift = self._drift(step)
        if drift is not None:
            self._tell_shifts(step)
        scalars = PLACE_SCALARS if drift is None else {**PLACE_SCALARS, **OFFSET_SCALARS}
        streams = () if step.images is None else (step.images_name,)
        taken = 0
        with Spectra.having_the_beam(
            time, step, step.name, step.spectra, step.spacing_nm, scalars, *streams
        ) as spectra:
            spectra.probe.tile_nm = step.spacing_xy_nm
            groups = grouped(
                step.places(),
                step.points - step.done,
                apart=time.run.enforce,
                begins=lambda place: drift is not None and step.begins(place),
            )
            for group in groups:
                place = group[0]
                if drift is not None and (step.begins(place) or not taken):
                    self._picture(step, spectra, drift)
                if len(group) == 1:
                    spectra.at(place.position_nm, _scalars(place, drift))
                else:
                    foretake(spectra, [place.position_nm for place in group])
                taken += len(group)
                show((step.done + taken) / step.points)
                time.loop.checkpoint()
            if drift is not None and taken:
                self._picture(step, spectra, drift, last=True)

    def _grid(self, step: SpectrumImage) -> MapGrid:
        (left, top), (width, height) = step.from_, step.spacing_xy_nm
        return MapGrid(
            step.name,
            (step.passes, *step.shape),
            (left + width / 2, top + height / 2),
            (width, height),
        )

    def _drift(self, step: SpectrumImage) -> MapDrift | None:
        if step.images is None:
            return None
        began = self._time.run.earlier.map_began
        return MapDrift(
            self._time,
            step.name,
            step.images.detectors[0],
            correct=step.drift_correct != "never",
            max_shift_nm=step.max_shift,
            began=began if step.done and began and began.stream == step.name else None,
        )

    def _tell_shifts(self, step: SpectrumImage) -> None:
        """From now on streams that begin have the scan shift beside their frames."""
        run = self._time.run
        if step.drift_correct == "never" or run.steered:
            return
        run.steered = True
        if run.recipe.record:
            # a script's steps are not known before the run, when recorded streams are declared
            run.warn(
                f"the scan is shifted for {step.name!r}; images that are recorded beside the steps of "
                "a script do not say by how much. The journal does."
            )

    def _picture(
        self, step: SpectrumImage, spectra: Spectra, drift: MapDrift, *, last: bool = False
    ) -> None:
        """Take the images that are due, and keep the field where it belongs."""
        time = self._time
        exposure = step.image_exposure(spectra.corner_nm)
        with self._lit(spectra):
            frame = self._images.take(exposure, 1, step.images_name, lambda progress: None)
        spectra.probe.at = None  # it was all over the field
        if frame is not None:
            # placing it takes a while, and to shift the field would expose what is beside it
            pixel_nm = as_taken(exposure, time.image_spec(step.images_name)).pixel_size_nm
            drift.look(frame, pixel_nm, last=last)
        spectra.light()

    @contextmanager
    def _lit(self, spectra: Spectra) -> Iterator[None]:
        """Have the beam on for images, and off afterwards."""
        time = self._time
        time.in_the_dark = False
        if not time.loop.beam_on:
            time.loop.beam(on=True)
        yield
        # an error leaves the beam to the end of the run
        spectra.put_out()


def _scalars(place: MapPoint, drift: MapDrift | None) -> dict[str, float]:
    values = (place.pass_, place.row, place.column)
    found = dict(zip(PLACE_SCALARS, map(float, values), strict=True))
    return found if drift is None else {**found, **drift.scalars}
