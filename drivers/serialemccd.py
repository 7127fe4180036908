"""The socket of the SerialEMCCD plug-in in Gatan's DigitalMicrograph: packets, scripts, images.

Sources, read and re-implemented (GPL-2, no code taken): mastcu/SerialEMCCD ``SocketPathway.cpp`` (packets,
``sFuncTable``, chunks, one thread for everything), ``SEMCCDDefines.h`` (codes), ``TemplatePlugIn.cpp``
(what the functions do), and mastcu/SerialEM ``GatanSocket.cpp`` (the order of arguments). Nothing of it was
tried on hardware.

The plug-in has one thread and one client. While a function runs, an exposure for example, it neither
answers nor notices that a client has gone; a new connection ends the old one when it is taken. So every
new connection first stops what DigiScan may still be doing, and its first reply may take as long as an
exposure that was cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock
from drivers.links import Link, MalformedReply, TcpTransport, Wire, parse_address
from drivers.serialemccd_packets import (
    CONTINUOUS_ENDED,
    Function,
    Refusal,
    Reply,
    pack,
    read_image,
    read_reply,
    text_words,
)

COMMAND_S = 5.0
"""Wall seconds for a command that exposes nothing, waiting for the end of a cut exposure included."""
GREETING_S = 4.0
IMAGE_S = 15.0
"""Wall seconds that an image may take beyond its exposure: the camera cools, a detector is inserted."""
SLOWEST_BYTES_PER_S = 5e6
"""The plug-in itself gives up on a client that is slower."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the device, and when (on the station's clock) it was asked for and announced."""

    data: NDArray[np.uint16]
    asked_s: float
    announced_s: float


class Emccd:
    """The link to one plug-in, for all drivers of a station that use it; any thread may call.

    Args:
        address: ``HOST:PORT``; the port is what SERIALEMCCD_PORT says on the Gatan PC.
        clock: the station's, for time stamps.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, address: str, clock: Clock) -> None:
        parse_address(address)
        self._clock = clock
        self.address = address
        self.dm_version = 0
        """As GetDMVersion tells it, 50500 for 3.5.0."""
        self._link = Link(
            lambda by: TcpTransport(address, by),
            what=f"DigitalMicrograph at {address}",
            mend="See that it runs with the SerialEMCCD plug-in, that SERIALEMCCD_PORT is the port, "
            "and that no other program is connected: the plug-in has one client.",
            greet=self._greet,
            connect_s=GREETING_S,
        )

    @property
    def connections(self) -> int:
        """How many connections were made; what the device is set to must be looked at after each."""
        return self._link.connections

    def open(self) -> None:
        """Connect now; raises LinkError, InstrumentError."""
        self._link.open()

    def close(self) -> None:
        """End the connection for good; idempotent."""
        self._link.close()

    def call(
        self,
        function: Function,
        *,
        longs: Sequence[int] = (),
        bools: Sequence[bool] = (),
        doubles: Sequence[float] = (),
        array: bytes = b"",
        within_s: float = COMMAND_S,
        doing: str,
        cut: Callable[[], bool] | None = None,
    ) -> Reply:
        """Call a function that returns numbers; raises Refusal, LinkError, and ExchangeCut as :meth:`image`."""
        packet = pack(function, longs, bools, doubles, array)

        def exchange(wire: Wire) -> Reply:
            wire.send(packet)
            return read_reply(wire, function)

        return self._link.talk(exchange, within_s=within_s, doing=doing, cut=cut)

    def image(
        self,
        function: Function,
        *,
        longs: Sequence[int],
        doubles: Sequence[float] = (),
        array: bytes = b"",
        shape: tuple[int, int],
        within_s: float,
        doing: str,
        cut: Callable[[], bool] | None = None,
    ) -> Image:
        """Call a function that returns an image of ``shape`` (rows, columns).

        ``longs`` are those after the number of pixels, which is always the first. ``within_s`` are
        wall seconds that the device may take before it sends. ``cut`` ends the exchange within
        0.1 s; the device goes on until it is done.

        Raises:
            Refusal, InstrumentError: no image, or one of another size.
            LinkError, ExchangeCut: see :meth:`drivers.links.Link.talk`.
        """
        pixels = shape[0] * shape[1]
        packet = pack(function, (pixels, *longs), doubles=doubles, array=array)
        asked_s = announced_s = math.nan

        def announced() -> None:
            nonlocal announced_s
            announced_s = self._clock.now_s()

        def exchange(wire: Wire) -> NDArray[np.uint16]:
            nonlocal asked_s
            asked_s = self._clock.now_s()
            wire.send(packet)
            return read_image(wire, function, shape, announced)

        within_s += IMAGE_S + 2 * pixels / SLOWEST_BYTES_PER_S
        data = self._link.talk(exchange, within_s=within_s, doing=doing, cut=cut)
        return Image(data, asked_s, announced_s)

    def script(
        self,
        text: str,
        *,
        doing: str,
        within_s: float = COMMAND_S,
        cut: Callable[[], bool] | None = None,
    ) -> float:
        """Run DM script code and return what it gives to ``Exit``; raises as :meth:`call`."""
        words = text_words(text)
        reply = self.call(
            Function.EXECUTE_SCRIPT,
            longs=(len(words) // 4,),
            bools=(False,),
            array=words,
            within_s=within_s,
            doing=doing,
            cut=cut,
        )
        return reply.doubles[0]

    def value(
        self,
        expression: str,
        *,
        doing: str,
        within_s: float = COMMAND_S,
        cut: Callable[[], bool] | None = None,
    ) -> float:
        """The number that a script function returns."""
        return self.script(
            f"number value = {expression}\nExit(value)\n", doing=doing, within_s=within_s, cut=cut
        )

    def has(self, name: str) -> bool:
        """Whether this DigitalMicrograph knows a script function."""
        text = f'if ( DoesFunctionExist("{name}") ) {{ Exit(1.0); }} else {{ Exit(-1.0); }}\n'
        return self.script(text, doing=f"the search for {name}") > 0

    def stop_scan(self, within_s: float = COMMAND_S) -> None:
        """End a continuous acquisition of DigiScan at once, if one runs."""
        try:
            self.call(Function.STOP_DS_ACQUISITION, within_s=within_s, doing="the end of the scan")
        except Refusal as refusal:
            if refusal.code != CONTINUOUS_ENDED:
                raise

    def _greet(self, wire: Wire) -> None:
        # asking for the version also tells the plug-in itself, which does several things by it
        wire.send(pack(Function.STOP_DS_ACQUISITION))
        try:
            read_reply(wire, Function.STOP_DS_ACQUISITION)
        except Refusal as refusal:
            if refusal.code != CONTINUOUS_ENDED:
                raise
        wire.send(pack(Function.GET_DM_VERSION))
        (version,) = read_reply(wire, Function.GET_DM_VERSION).longs
        if version <= 0:
            raise MalformedReply(f"version {version} is none of DigitalMicrograph's.")
        self.dm_version = version
