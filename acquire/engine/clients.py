"""How the clients of an engine host are called: windows and scripts, so that a person knows whom to ask."""

from __future__ import annotations

import getpass
import os
import platform

LENGTH = 80
UNNAMED = "an unnamed program"


def client_name(kind: str) -> str:
    """What this process calls itself as a client, for example ``window 4711, anna@scope``.

    ``kind`` is what a person would call it: window, script, terminal.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # nobody is logged in under this number
        user = "somebody"
    # the number first: what is cut off must not make two windows alike
    return f"{kind} {os.getpid()}, {user}@{platform.node() or 'this computer'}"[:LENGTH]


def plain_name(who: str, certificate: str = "") -> str:
    """A client's own name, fit for one line of a log, with that on its certificate if it showed one."""
    name = "".join(sign if sign.isprintable() else " " for sign in who[:LENGTH]).strip() or UNNAMED
    return f"{name} ({certificate})" if certificate else name


def person_of(who: str) -> str:
    """The person in a client's name, and where: ``anna@scope``."""
    return who.rpartition(", ")[2]


def is_client(told: str, who: str) -> bool:
    """Whether a host means the client that calls itself ``who`` by a name that it tells."""
    name = plain_name(who)
    return bool(who) and (told == name or told.startswith(f"{name} ("))
