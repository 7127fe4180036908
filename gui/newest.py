"""The newest image, spectrum and map of a host: fetched by threads of their own, taken by the UI thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from acquire.clock import WallClock
from acquire.engine.live_maps import LiveMap
from acquire.engine.status import HostApi, LiveImage, LiveSpectrum
from acquire.stream import Mailbox
from gui.orders import Connect
from gui.polling import keep_polling

SPECTRUM_PERIOD_S = 0.05
MAP_PERIOD_S = 0.2
LONG_POLL_S = 0.2


class Newest:
    """Whatever lies here was not taken yet; what is newer replaces it."""

    def __init__(self, connect: Connect, stop: threading.Event) -> None:
        self._connect = connect
        self._stop = stop
        self.stream = ""
        """The stream whose images are fetched; ``""`` is any."""
        self.map_stream = ""
        """The map that is fetched; ``""`` is the one that changed last."""
        self._run = 0  # rises when serial numbers have begun anew
        self._images: Mailbox[LiveImage] = Mailbox(WallClock())
        self._image_wanted = threading.Event()
        self._image_wanted.set()
        self._spectra: Mailbox[LiveSpectrum] = Mailbox(WallClock())
        self._maps: Mailbox[LiveMap] = Mailbox(WallClock())
        targets: dict[str, Callable[[], None]] = {
            "window-image": self._watch_images,
            "window-spectrum": self._watch_spectra,
            "window-map": self._watch_maps,
        }
        self.threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in targets.items()
        ]
        for thread in self.threads:
            thread.start()

    def begin_anew(self) -> None:
        """Another run is on, whose serial numbers begin anew."""
        self._run += 1

    def look_again(self) -> None:
        """Fetch what is newest also where it was taken already; what lies here is forgotten."""
        self._run += 1
        for mailbox in (self._images, self._spectra, self._maps):
            mailbox.take(0.0)
        self._image_wanted.set()

    def take_image(self) -> LiveImage | None:
        """The newest image that was not taken yet; the next is fetched when this is taken."""
        image = self._images.take(0.0)
        if image is not None:
            self._image_wanted.set()
        return image

    def take_spectrum(self) -> LiveSpectrum | None:
        """The newest spectrum that was not taken yet."""
        return self._spectra.take(0.0)

    def take_map(self) -> LiveMap | None:
        """The newest state of a map that was not taken yet."""
        return self._maps.take(0.0)

    # every watcher forgets only its own serial number when its connection breaks: another's trouble
    # must not show what was shown already as if it were new

    def _watch_images(self) -> None:
        after, seen = -1, (-1, "")

        def poll(host: HostApi) -> None:
            nonlocal after, seen
            asked = (self._run, self.stream)
            if seen != asked:
                after, seen = -1, asked
            # one that nobody would see costs as much as one that is shown
            if not self._image_wanted.wait(LONG_POLL_S) and seen == (self._run, self.stream):
                return
            image = host.image(asked[1], after, LONG_POLL_S)
            if image is None:
                self._stop.wait(0.005)  # a host that answers at once is not asked without pause
            elif seen == (self._run, self.stream):
                after = image.serial
                self._image_wanted.clear()
                self._images.put(image)

        def lost(error: str) -> None:
            nonlocal seen
            seen = (-1, "")

        keep_polling(self._connect, self._stop, poll, lost)

    def _watch_spectra(self) -> None:
        after, seen = -1, -1

        def poll(host: HostApi) -> None:
            nonlocal after, seen
            if seen != self._run:
                after, seen = -1, self._run
            spectrum = host.spectrum(after, LONG_POLL_S)
            if spectrum is not None:
                after = spectrum.serial
                self._spectra.put(spectrum)
            self._stop.wait(SPECTRUM_PERIOD_S)

        def lost(error: str) -> None:
            nonlocal seen
            seen = -1

        keep_polling(self._connect, self._stop, poll, lost)

    def _watch_maps(self) -> None:
        after, seen = -1, (-1, "")

        def poll(host: HostApi) -> None:
            nonlocal after, seen
            asked = (self._run, self.map_stream)
            if seen != asked:
                after, seen = -1, asked
            found = host.map(asked[1], after, LONG_POLL_S)
            if found is not None:
                after = found.serial
                self._maps.put(found)
            self._stop.wait(MAP_PERIOD_S)

        def lost(error: str) -> None:
            nonlocal seen
            seen = (-1, "")

        keep_polling(self._connect, self._stop, poll, lost)
