"""A listening socket that no other program can share or steal."""

from __future__ import annotations

import os
import socket

from acquire.errors import LinkError

ACCEPT_S = 0.25
"""An accept wakes so often, on systems where closing does not wake it."""


def listen_on(host: str, port: int) -> socket.socket:
    """Listen on a port, 0 for any; raises LinkError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "nt":  # elsewhere the port could be shared with, and stolen by, another program
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", -5), 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise LinkError(
            f"cannot listen on {host}:{port}: {error.strerror}. "
            "Is another server running there? Stop it, or choose another port."
        ) from error
    listener.settimeout(ACCEPT_S)
    return listener
