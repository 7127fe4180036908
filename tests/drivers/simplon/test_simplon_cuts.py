"""An acquisition ends at once when it is told to, also while the detector says nothing to its commands."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError
from acquire.instruments import SpectrumExposure
from drivers.links import ExchangeCut
from drivers.spectrometers import simplon_http
from drivers.spectrometers.simplon import Simplon
from tests.drivers.simplon.conftest import SETTING, Opener, spectra
from tests.drivers.simplon_double import SHAPE, SimplonDouble, cbor_image, until

SOON_S = 1.5
"""Half of what a silent request takes by itself; 0.25 s are promised, the rest is a busy machine's."""
LONG_S = 30.0
ENDINGS = ("stop", "disarm", "make_safe", "close")
Answer = tuple[int, bytes] | None


class Silence:
    """Lets requests pass until one comes that ends with ``path``; that one is answered late."""

    def __init__(self, double: SimplonDouble, path: str, after: int = 0) -> None:
        self.came = threading.Event()
        self.over = threading.Event()
        self.late: Answer = None
        self._path, self._left = path, after
        double.answer = self._answer

    def _answer(self, method: str, path: str) -> Answer:
        if self.over.is_set() or not path.endswith(self._path):
            return None
        self._left -= 1
        if self._left >= 0:
            return None
        self.came.set()
        self.over.wait(LONG_S)
        return self.late


@pytest.fixture
def silent(double: SimplonDouble) -> Iterator[Callable[..., Silence]]:
    with ExitStack() as stack:

        def make(path: str, after: int = 0) -> Silence:
            made = Silence(double, path, after)
            stack.callback(made.over.set)
            return made

        yield make


class Caller:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result: object = None
        self.ended_s = 0.0
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001  it is what the call has come to
            self.result = error
        self.ended_s = time.monotonic()

    def end(self) -> object:
        self._thread.join(LONG_S)
        assert not self._thread.is_alive(), "it did not end"
        return self.result


def end(how: str, driver: Simplon, stop: Callable[[], None]) -> None:
    """End an acquisition; closing may take longer than the acquisition, which it ends first."""
    if how == "stop":
        stop()
    elif how == "make_safe":
        driver.make_safe("test")
    else:
        getattr(driver, how)()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("simplon")]


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("path", ["status/state", "config/nimages", "command/arm"])
def test_frames_end_while_a_command_is_not_answered(
    opened: Opener,
    clock: WallClock,
    silent: Callable[..., Silence],
    path: str,
    how: str,
) -> None:
    driver = opened(series_length=3)
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(0.005), 4)
    # of the second series, which is one image and so is set up anew
    silence = silent(path, after=int(path == "command/arm"))
    stop = clock.signal()
    reader = Caller(lambda: list(driver.frames(stop)))
    assert silence.came.wait(LONG_S)
    begun_s = time.monotonic()
    end(how, driver, stop.set)
    frames = reader.end()
    assert isinstance(frames, list)
    assert len(frames) == 3
    assert reader.ended_s - begun_s < SOON_S


@pytest.mark.parametrize("how", ["disarm", "make_safe", "close"])
def test_arming_ends_while_a_command_is_not_answered(
    opened: Opener, silent: Callable[..., Silence], how: str
) -> None:
    driver = opened()
    driver.tune(SETTING)
    silence = silent("config/count_time")
    armer = Caller(lambda: driver.arm(SpectrumExposure(0.01), 1))
    assert silence.came.wait(LONG_S)
    begun_s = time.monotonic()
    end(how, driver, lambda: None)
    assert isinstance(armer.end(), ExchangeCut)
    assert armer.ended_s - begun_s < SOON_S


def test_two_armings_never_set_the_detector_up_at_the_same_time(
    double: SimplonDouble, opened: Opener, clock: WallClock, silent: Callable[..., Silence]
) -> None:
    driver = opened()
    driver.tune(SETTING)
    silence = silent("config/count_time")
    armer = Caller(lambda: driver.arm(SpectrumExposure(0.3), 5))
    assert silence.came.wait(LONG_S)
    driver.disarm()
    silence.over.set()
    driver.arm(SpectrumExposure(0.01), 2)  # at once, while the other is still on its way out
    assert isinstance(armer.end(), ExchangeCut)
    frames = list(driver.frames(clock.signal()))
    assert [frame.t_end_s - frame.t_start_s for frame in frames] == pytest.approx([0.01] * 2)
    assert double.config["nimages"] == 2


def test_what_a_cut_command_is_told_late_is_not_taken_for_the_next_reply(
    double: SimplonDouble, opened: Opener, clock: WallClock, silent: Callable[..., Silence]
) -> None:
    driver = opened()
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(0.01), 1)
    silence = silent("command/arm")
    silence.late = (200, b'{"sequence id": 3}')
    stop = clock.signal()
    reader = Caller(lambda: list(driver.frames(stop)))
    assert silence.came.wait(LONG_S)
    stop.set()
    assert reader.end() == []
    driver.disarm()
    double.push([cbor_image(3, 0, np.full(SHAPE, 999, np.uint16), 0.0, 30.0)])
    silence.over.set()
    frames = spectra(driver, clock, 0.01, 2)
    assert [frame.data["core_loss"][0] for frame in frames] == [4, 8]


def test_a_trigger_that_is_never_answered_leaves_no_thread_behind(
    opened: Opener, clock: WallClock, silent: Callable[..., Silence]
) -> None:
    driver = opened()
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(LONG_S), 1)
    silence = silent("command/trigger")
    stop = clock.signal()
    reader = Caller(lambda: list(driver.frames(stop)))
    assert silence.came.wait(LONG_S)
    assert "simplon-trigger" in threads()
    stop.set()
    assert reader.end() == []
    until(lambda: not threads())


def test_closing_aborts_what_a_reader_that_went_away_has_left_running(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    driver = opened()
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(0.01), 1000)
    frames = driver.frames(clock.signal())
    assert next(frames).index == 0
    driver.close()
    assert double.commands()[-1] == "abort"
    assert list(frames) == []
    assert not threads()
    assert double.commands().count("abort") == 1


def test_the_wait_for_a_silent_stream_ends_too(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        driver = opened(stream=f"127.0.0.1:{nobody.getsockname()[1]}")
        driver.tune(SETTING)
        driver.arm(SpectrumExposure(0.01), 1)
        stop = clock.signal()
        reader = Caller(lambda: list(driver.frames(stop)))
        nobody.settimeout(LONG_S)
        connection, _ = nobody.accept()
        with connection:
            begun_s = time.monotonic()
            stop.set()
            assert reader.end() == []
            assert reader.ended_s - begun_s < SOON_S
        driver.disarm()
    assert "arm" not in double.commands()


# ---------------------------------------------------------------------------- requests


def ask(port: int, cut: Callable[[], bool]) -> object:
    return simplon_http.request(
        ("127.0.0.1", port), "PUT", "/x", b"{}", time.monotonic() + LONG_S, cut
    )


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse when their queue is full")
def test_a_request_is_cut_while_nobody_takes_the_connection() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        port = full.getsockname()[1]
        for _ in range(8):  # more than any queue of length 0 holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        caller = Caller(lambda: ask(port, stop.is_set))
        stop.set()
        assert isinstance(caller.end(), ExchangeCut)


def test_a_request_that_was_cut_is_taken_back() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        caller = Caller(lambda: ask(server.getsockname()[1], stop.is_set))
        server.settimeout(LONG_S)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1 << 16).startswith(b"PUT /x")
            stop.set()
            assert isinstance(caller.end(), ExchangeCut)
            # not an end in good order, after which what was under way would still be delivered
            connection.settimeout(LONG_S)
            with pytest.raises(ConnectionResetError):
                connection.recv(1 << 16)


def test_a_reply_that_drips_is_late_in_all(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{" * 2:
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(0.02)

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        deadline = time.monotonic() + 0.3
        with pytest.raises(TimeoutError):
            simplon_http.request(
                server.getsockname()[:2], "GET", "/x", None, deadline, lambda: False
            )
        dripping.join(LONG_S)


def test_versions_that_would_change_the_request_are_refused(opened: Opener) -> None:
    with pytest.raises(ValueError, match="api"):
        opened(api="1.8.0 HTTP/1.1\r\nX: y")
    with pytest.raises(InstrumentError, match="option api"):
        opened(api="1.6.0")
