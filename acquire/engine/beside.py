"""What records beside the steps of a run and needs the beam for that: the scan, and spectra between its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from acquire.engine.scanning import ScanRecorder
from acquire.engine.spectra_recording import SpectraRecorder


class Beside:
    """The recorders of one run, as those see them before whom they rest."""

    def __init__(self) -> None:
        self.scans: list[ScanRecorder] = []
        self.spectra: SpectraRecorder | None = None

    @property
    def lit(self) -> bool:
        """Whether they have the beam on when nobody else has it: only a scan does."""
        return bool(self.scans)

    def suspend(self, reason: str, *, cut: bool) -> None:
        """Stop exposing, after the present frames or within them, and wait until that is so."""
        # first those before whom the scan rests: they let it go on when they are done
        if self.spectra is not None:
            self.spectra.suspend(reason)
        for scan in self.scans:
            scan.suspend(reason, cut=cut)

    def resume(self) -> None:
        """Begin to record, or go on with it."""
        for scan in self.scans:
            scan.resume()
        if self.spectra is not None:
            self.spectra.resume()

    def closers(self) -> Iterator[Callable[[], None]]:
        """What ends each of them, whatever becomes of the others."""
        if self.spectra is not None:
            yield self.spectra.close
        for scan in self.scans:
            yield scan.close


class BetweenFrames:
    """Recorded scans, as recorded spectra see them: they give way for a moment."""

    def __init__(self, scans: Sequence[ScanRecorder]) -> None:
        self._scans = scans

    @property
    def lit(self) -> bool:
        """As :attr:`Beside.lit`."""
        return bool(self._scans)

    @property
    def fed(self) -> bool:
        """Whether each has had a frame since it gave way last."""
        return all(scan.fed for scan in self._scans)

    def suspend(self, reason: str, *, cut: bool) -> None:
        """Wait for the end of the frame that is being exposed, if one is."""
        for scan in self._scans:
            scan.give_way()

    def resume(self) -> None:
        """Go on with the next frame when it is due."""
        for scan in self._scans:
            scan.go_on()
