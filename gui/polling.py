"""Polls an engine host over a connection of its own, and reconnects when that breaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from acquire.engine.status import HostApi
from acquire.errors import HotstageError
from gui.orders import Connect, HostConnection, text_of

logger = logging.getLogger(__name__)

BACK_OFF_S = (0.05, 0.5)


def keep_polling(
    connect: Connect,
    stop: threading.Event,
    poll: Callable[[HostApi], None],
    lost: Callable[[str], None],
) -> None:
    """Call ``poll`` until ``stop`` is set; ``lost`` is told why the host does not answer."""
    name = threading.current_thread().name
    host: HostConnection | None = None
    back_off_s = BACK_OFF_S[0]
    while not stop.is_set():
        try:
            if host is None:
                host = connect()
            poll(host)
            back_off_s = BACK_OFF_S[0]
        except Exception as error:  # noqa: BLE001 - a watcher that ended would leave a dead picture
            log = logger.debug if isinstance(error, HotstageError | OSError) else logger.error
            log("%s: %s", name, error, exc_info=not isinstance(error, HotstageError | OSError))
            lost(text_of(error))
            _hang_up(host)
            host = None
            stop.wait(back_off_s)
            back_off_s = min(2 * back_off_s, BACK_OFF_S[1])
    _hang_up(host)


def _hang_up(host: HostConnection | None) -> None:
    if host is None:
        return
    try:
        host.close()
    except Exception as error:  # noqa: BLE001 - the connection is given up anyway
        logger.debug("closing a connection to the host: %s", error)
