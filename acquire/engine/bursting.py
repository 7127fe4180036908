"""Takes bursts: many short spectra at one point as one armed acquisition, recorded block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator

from acquire.bursts import Bursts, SpectrumBlock, gathered
from acquire.clock import finite_rate
from acquire.engine.beamtime import Show
from acquire.engine.dose import spot_dose
from acquire.engine.recording import FrameRecorder
from acquire.engine.resting import Rest
from acquire.engine.scanning import disarm, disarm_lost
from acquire.engine.spectra import Spectra
from acquire.errors import LinkError
from acquire.measure.dose import Area


class Burst:
    """The spectra of one point, one right after the other; the beam stays on between them.

    A spectrometer that gives no blocks (:class:`~acquire.bursts.Bursts`) is armed once for all the
    same. A pause ends the acquisition after the block at hand, or within it if it cuts; what is missing
    is taken as another one afterwards. With a lost link goes what was on its way: a gap says how many
    the instrument had taken, and they are taken again.
    """

    def __init__(
        self, spectra: Spectra, position_nm: tuple[float, float], count: int, show: Show
    ) -> None:
        self._spectra = spectra
        self._run = spectra.run
        self._time = spectra.time
        self._position_nm = position_nm
        self._area = Area.spot(spectra.place(position_nm), spectra.spacing_nm)
        self._count = count
        self._show = show
        self._taken = 0
        self._each_s = spectra.settings.exposed_s
        """How long each has the beam."""

    def take(self) -> None:
        """Take all of them; raises what ends the run."""
        spectra = self._spectra
        spectra.go_to(self._position_nm, self._dose(1))
        while self._taken < self._count:
            spectra.insist(self._attempt, self._position_nm, self._dose(1))
            self._time.loop.checkpoint()

    def _attempt(self) -> bool:
        """Take what is missing, until an end or a pause; False if none came, or the link was lost."""
        time, run, spectra = self._time, self._run, self._spectra
        link, before = time.spectrometer_link, self._taken
        with spectra.probe.resting(self._position_nm, on=time.loop.beam_on) as rest:
            armed = self._allowed(self._count - before)
            if armed < 1:
                time.demand_dose(self._dose(1), self._area)
                return False
            try:
                spec = spectra.arm(armed)
            except LinkError as error:
                time.note_lost(link, spectra.name, error)
                return False
            self._each_s = max(spectra.settings.exposed_s, spec.frame_period_s)
            try:
                recorder = time.recorder("spectra", spectra.name, spectra.told(spec))
                spectra.brighten(rest)
                lost = self._record(recorder, rest, armed)
            except BaseException:
                disarm_lost(spectra.spectrometer)
                raise
            if lost is not None:
                disarm_lost(spectra.spectrometer)
                time.note_lost(link, spectra.name, lost)
                return False
            disarm(spectra.spectrometer, link)
            if self._taken - before == armed:
                # as of a single spectrum: what machine and wires take is wall time
                rest.without(rest.duration_s * (1 - 1 / finite_rate(run.clock)))
        return self._taken > before

    def _record(self, recorder: FrameRecorder, rest: Rest, armed: int) -> LinkError | None:
        """Record what comes, until an end or a pause; returns how the link was lost, if it was."""
        run, time, end = self._run, self._time, self._taken + armed
        try:
            for block in self._blocks():
                time.spectrometer_link.works()
                lit = _lit(block, run.blanked_s)
                if lit is None:
                    return None
                took_s = max(
                    len(lit) * self._spectra.settings.exposed_s,
                    float(lit.t_end_s[-1] - lit.t_start_s[0]),
                )
                recorder.record_block(lit, self._dose(1, took_s / len(lit)), self._position_nm)
                run.dose.add_spot(
                    self._spectra.place(self._position_nm),
                    self._dose(1, took_s),
                    self._spectra.spacing_nm,
                )
                rest.without(took_s)
                self._taken += len(lit)
                self._show(self._taken / self._count)
                if time.loop.interrupted or len(lit) < len(block):
                    return None
                self._demand_dose(rest, lit, end - self._taken)
        except LinkError as error:
            return error
        return None

    def _blocks(self) -> Iterator[SpectrumBlock]:
        spectrometer, stop = self._spectra.spectrometer, self._run.stop
        if isinstance(spectrometer, Bursts):
            return spectrometer.blocks(stop)
        return gathered(spectrometer.frames(stop))

    # -------------------------------------------------------------------------------- dose

    def _dose(self, spectra: int, each_s: float | None = None) -> float:
        each_s = self._each_s if each_s is None else each_s
        return spectra * spot_dose(self._run.probe_current_pa, each_s, self._spectra.spacing_nm)

    def _allowed(self, wanted: int) -> int:
        """How many of the wanted spectra the dose limit bears."""
        run, limit = self._run, self._run.recipe.limits.dose
        each = self._dose(1)
        if limit is None or not run.enforce or not each > 0:
            return wanted
        left = limit - run.dose.highest_in(self._area)
        return max(0, min(wanted, math.floor(left / each * (1 + 1e-9))))

    def _demand_dose(self, rest: Rest, block: SpectrumBlock, left: int) -> None:
        """End the run before a block of as many spectras would exceed its dose limit, with all beside.

        The armed spectra alone never do; what the beam was on for beside them may add to that.
        """
        if not left:
            return
        now_s, rate = self._run.clock.now_s(), finite_rate(self._run.clock)
        under_way_s = max(0.0, now_s - float(block.t_end_s[-1]))
        beside_s = max(0.0, rest.duration_s - under_way_s) / rate
        more = self._dose(min(left, len(block))) + self._dose(1, beside_s)
        self._time.demand_dose(more, self._area)


def _lit(block: SpectrumBlock, blanked_s: float) -> SpectrumBlock | None:
    """Its spectra from before the beam was blanked at a run's end, if there are any."""
    count = int((block.t_end_s <= blanked_s).sum())
    return block.first(count) if count else None
