"""Takes spectra at points, for those that have the beam for themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

from acquire.clock import finite_rate
from acquire.engine.beamtime import BeamTime, field_corner_nm
from acquire.engine.dose import spot_dose
from acquire.engine.energy_offsets import beginning_at, carrying, first_ev
from acquire.engine.links import RETRY_S
from acquire.engine.resting import Rest, RestingProbe
from acquire.engine.scanning import disarm, disarm_lost, note_armed
from acquire.errors import LinkError, RecipeError
from acquire.instruments import (
    Frame,
    ScalarSpec,
    Spectrometer,
    SpectrumExposure,
    StreamSpec,
)
from acquire.measure.dose import Area
from acquire.recipe import SpectrumSettings

FLASH_S = 0.05
"""Between spectra of so long a dwell and more the beam is blanked: arming, readout and the way to the next
point expose nothing. Between shorter ones it stays on, and all of the time on a point counts."""
NO_SCALARS: Mapping[str, float] = {}
Attempt = Callable[[], bool]
"""Takes what a point is for; False if it was cut, or lost with the link."""


class Spectra:
    """The spectra of one stream, taken by one who has the beam.

    Within a step, for which it is made by :meth:`having_the_beam`, an exposure that a pause cuts, or
    that is lost with the link to its instrument, is taken again; what a lost link has cost is recorded
    as a gap of one frame.
    """

    def __init__(
        self,
        time: BeamTime,
        spectrometer: Spectrometer,
        name: str,
        settings: SpectrumSettings,
        spacing_nm: float,
        scalars: Mapping[str, ScalarSpec],
        period_s: float = 0.0,
    ) -> None:
        """``period_s``: how often one is due, of a series that goes on whatever is lost; 0 of a step's."""
        self.time = time
        self.run = time.run
        self.spectrometer = spectrometer
        self.name = name
        self.settings = settings
        self.spacing_nm = spacing_nm
        self.corner_nm = field_corner_nm(time.run.recipe)
        self.probe = RestingProbe(time.run, spacing_nm, self.corner_nm)
        self.kept: list[tuple[Frame, StreamSpec]] | None = None
        """What was recorded, for a step that measures on it."""
        self.newest: tuple[Frame, StreamSpec] | None = None
        """The last spectrum as the instrument gave it, and what was recorded with it."""
        self.nominal_ev: float | None = None
        """Where the axis of the stream begins, if its spectra tell where their own does."""
        self._scalars = scalars
        self._period_s = period_s
        self._armed: tuple[SpectrumExposure, StreamSpec] | None = None
        """How the spectrometer was armed when that was last written to the journal."""

    @classmethod
    @contextmanager
    def having_the_beam(
        cls,
        time: BeamTime,
        step: object,
        name: str,
        settings: SpectrumSettings,
        spacing_nm: float,
        scalars: Mapping[str, ScalarSpec] | None = None,
        *more_streams: str,
    ) -> Iterator[Spectra]:
        """Have the beam alone and the spectrometer tuned, to call :meth:`at` for every point.

        Args:
            time: of the run.
            step: what it is for, in words of the journal.
            name: of the stream.
            settings: of every spectrum.
            spacing_nm: side of the square over which the electrons of a point count as spread.
            scalars: numbers that :meth:`at` is given with every spectrum.
            more_streams: that the step records besides.

        Raises:
            RecipeError: the station has no spectrometer.
        """
        spectrometer = time.run.station.spectrometer
        if spectrometer is None:
            station = time.run.station.station.name
            raise RecipeError(f"'{step}' needs a spectrometer, and station {station!r} has none.")
        spectra = cls(time, spectrometer, name, settings, spacing_nm, scalars or {})
        with time.beam(str(step), dark=True), time.settled(name, *more_streams):
            spectra.tune()
            spectra.light()
            yield spectra

    @property
    def flash(self) -> bool:
        """Whether the beam is on for the exposures only."""
        return self.settings.dwell_time >= FLASH_S

    @property
    def dose_e_per_nm2(self) -> float:
        """What one spectrum gives its point."""
        return spot_dose(self.run.probe_current_pa, self.settings.exposed_s, self.spacing_nm)

    def tune(self, settings: SpectrumSettings | None = None) -> None:
        """Tune the spectrometer, to other settings from now on if they are given.

        The beam is off meanwhile and afterwards, for that may take long: see :meth:`light`.
        """
        if settings is not None:
            self.settings = settings
            self._armed = None
        self.put_out()
        self.time.spectrometer_link.insist(self._tune, self._wait_in_the_dark)

    def light(self) -> None:
        """Have the beam on from now on, unless it is on for the exposures only."""
        self.time.in_the_dark = self.flash
        if not self.flash and not self.time.loop.beam_on:
            self.time.loop.beam(on=True)

    def put_out(self) -> None:
        """Have the beam off for a moment in which nothing is exposed, until :meth:`light`."""
        self.time.in_the_dark = True
        if self.time.loop.beam_on:
            self.time.loop.beam(on=False, briefly=True)

    def at(
        self, position_nm: tuple[float, float], scalars: Mapping[str, float] = NO_SCALARS
    ) -> None:
        """Take one spectrum at a point (x, y), in nm from the corner; raises what ends the run."""
        dose = self.dose_e_per_nm2
        self.go_to(position_nm, dose)
        self.insist(lambda: self._one_spectrum(position_nm, scalars), position_nm, dose)
        self.probe.count(self.place(position_nm), dose)

    def once(self, position_nm: tuple[float, float], *, tune: bool) -> bool:
        """Take one spectrum if it comes at the first go; False if it was cut, or lost with the link.

        The beam is off to begin with. Raises what ends the run.

        Args:
            position_nm: the point (x, y), from the corner.
            tune: whether the spectrometer may be tuned to something else.
        """
        if (tune or self.time.spectrometer_link.lost) and not self.revived():
            return False
        self.light()
        dose = self.dose_e_per_nm2
        self.go_to(position_nm, dose)
        if not self._one_spectrum(position_nm, NO_SCALARS):
            return False
        self.probe.count(self.place(position_nm), dose)
        return True

    def revived(self) -> bool:
        """Tune the spectrometer; False if it does not answer. Raises LinkError if that lasts too long."""
        link = self.time.spectrometer_link
        try:
            if link.lost:
                self.spectrometer.disarm()
                self._armed = None
            self._tune()
        except LinkError as error:
            self._lost(error)
            return False
        return True

    # ------------------------------------------------------- what a block of spectra needs, too

    def place(self, position_nm: tuple[float, float]) -> tuple[float, float]:
        """A point in the scan's own frame."""
        return self.corner_nm[0] + position_nm[0], self.corner_nm[1] + position_nm[1]

    def area(self, position_nm: tuple[float, float]) -> Area:
        """Over which the electrons of a point count as spread."""
        if self.probe.tile_nm is None:
            return Area.spot(self.place(position_nm), self.spacing_nm)
        return Area(*self.place(position_nm), *self.probe.tile_nm)

    def go_to(self, position_nm: tuple[float, float], dose_e_per_nm2: float) -> None:
        """Park the probe on a point that bears so much more dose, before the way to it and after."""
        area = self.area(position_nm)
        self.time.demand_dose(dose_e_per_nm2, area)
        self._park(position_nm)
        self.time.demand_dose(dose_e_per_nm2, area)

    def insist(
        self, attempt: Attempt, position_nm: tuple[float, float], dose_e_per_nm2: float
    ) -> None:
        """Try until an attempt under the parked probe succeeds; pauses and lost links are waited out.

        Args:
            attempt: arms, exposes and records; tells lost links by ``time.note_lost``.
            position_nm: of the probe.
            dose_e_per_nm2: what the next attempt will give.
        """
        time, area = self.time, self.area(position_nm)
        while not attempt():
            if time.spectrometer_link.lost:
                with self.probe.resting(position_nm, on=time.loop.beam_on):
                    time.loop.beam(on=False)
                self._wait_in_the_dark(RETRY_S)
            else:
                time.demand_reason("spectrometer", self.name)
            time.loop.checkpoint()
            time.demand_dose(dose_e_per_nm2, area)

    def arm(self, frames: int) -> StreamSpec:
        """Arm the spectrometer, after it was lost tuned anew; raises LinkError."""
        if self.time.spectrometer_link.lost:
            self.spectrometer.disarm()
            self._tune()
            self._armed = None
        return self.spectrometer.arm(self.settings.exposure(), frames)

    def told(self, spec: StreamSpec) -> StreamSpec:
        """What is recorded of frames that were armed so; the journal has how, when it is new."""
        exposure = self.settings.exposure()
        if self._armed != (exposure, spec):
            note_armed(self.run, "spectrometer", self.name, exposure, spec)
            self._armed = exposure, spec
        if self.nominal_ev is not None:
            spec = beginning_at(self.nominal_ev, spec)
        return replace(spec, scalars={**spec.scalars, **self._scalars})

    def brighten(self, rest: Rest) -> None:
        """Have the beam on for an exposure, where it is not: it may be off since a link was lost."""
        loop = self.time.loop
        if not loop.beam_on and not self.run.stop.is_set():
            # a scan that is lost now is not taken for the spectrometer
            loop.beam(on=True)
            rest.begin(loop.beam_since_s)

    def darken(self, rest: Rest) -> None:
        """Blank until the next exposure, where this is done for each of them."""
        if self.time.in_the_dark:
            self.put_out()
            rest.end()

    # --------------------------------------------------------------------------- one spectrum

    def _tune(self) -> None:
        asked = self.settings.setting()
        taken = self.spectrometer.tune(asked)
        self.run.note(
            "tuned",
            f"spectrometer tuned for {self.name}",
            {"instrument": "spectrometer", "asked": asdict(asked), "taken": asdict(taken)},
        )

    def _wait_in_the_dark(self, timeout_s: float) -> None:
        # else the specimen would be exposed for as long as nobody looks
        if self.time.loop.beam_on:
            self.time.loop.beam(on=False)
        self.time.loop.wait(timeout_s)

    def _park(self, position_nm: tuple[float, float]) -> None:
        scan, link, loop = self.run.station.scan, self.time.scan_link, self.time.loop

        def park() -> None:
            scan.park(*self.place(position_nm))
            if link.lost:
                scan.blank(not loop.beam_on)

        # until it moves, the probe rests where it was before
        with self.probe.resting(self.probe.at or position_nm, on=loop.beam_on) as rest:
            link.insist(park, lambda t_s: rest.without(loop.wait(t_s)))
        self.probe.at = position_nm

    def _one_spectrum(self, position_nm: tuple[float, float], scalars: Mapping[str, float]) -> bool:
        """Take one spectrum; False if the exposure was cut, or lost with the link.

        For how long the beam was on beyond the exposure of one that was taken, and all of one that was
        not, counts as dose here.
        """
        time, run, link, loop = self.time, self.run, self.time.spectrometer_link, self.time.loop
        exposed_s, taken = self.settings.exposed_s, False
        with self.probe.resting(position_nm, on=loop.beam_on) as rest:
            try:
                spec = self.arm(1)
            except LinkError as error:
                self._lost(error)
                return False
            try:
                recorder = time.recorder("spectra", self.name, told := self.told(spec))
                self.brighten(rest)
                frame, lost = self._next(self.spectrometer.frames(run.stop))
                over_s = max(0.0, rest.duration_s - exposed_s)
                if frame is not None or lost is None:
                    self.darken(rest)
                if frame is not None and frame.t_end_s <= run.blanked_s:
                    # what machine and wires take beyond an exposure is wall time, which the faster
                    # clock of a simulation stretches: it counts as it would on a real station
                    rest.without(over_s * (1 - 1 / finite_rate(run.clock)))
                    on_s = max(exposed_s, rest.duration_s)
                    dose = spot_dose(run.probe_current_pa, on_s, self.spacing_nm)
                    if self.nominal_ev is not None:
                        scalars = {**scalars, **first_ev(spec)}
                    frame = carrying(frame, scalars)
                    own = recorder.record(frame, dose, position_nm)
                    self.newest = frame, told
                    if self.kept is not None:
                        self.kept.append((own, recorder.spec))
                    rest.without(exposed_s)  # that counts as the step's
                    taken = True
            except BaseException:
                disarm_lost(self.spectrometer)
                raise
            if lost is not None:
                disarm_lost(self.spectrometer)
                self._lost(lost)
                return False
            disarm(self.spectrometer, link)
        return taken

    def _lost(self, error: LinkError) -> None:
        time = self.time
        time.note_lost(time.spectrometer_link, self.name, error, self._period_s)

    def _next(self, frames: Iterator[Frame]) -> tuple[Frame | None, LinkError | None]:
        """The next spectrum, if it is not cut; or how it was lost."""
        try:
            for frame in frames:
                self.time.spectrometer_link.works()
                return frame, None
        except LinkError as error:
            return None, error
        return None, None
