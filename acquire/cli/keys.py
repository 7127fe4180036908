"""`hotstage keys`: certificates for programs on other computers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.table import Table

from acquire.cli.console import out, say
from acquire.remote.tls import ALLOWED, IDENTITY_VARIABLE, Role

keys_app = typer.Typer(
    name="keys",
    help="""Certificates for mutual TLS: needed as soon as anything listens beyond this machine.

    \b
    hotstage keys new                                  an authority of your own
    hotstage keys issue microscope --role server --host 192.168.1.5
    hotstage keys issue alice --role operator          may command
    hotstage keys issue bob --role observer            may only look
    hotstage keys revoke bob                           opens nothing any more, at once

    Copy the folder that `issue` prints to its owner's computer, by a way that nobody else can read:
    a server's goes into server.identity of the station file, a person's into the folder that
    HOTSTAGE_IDENTITY names. The server also needs server.allowed, the list that is kept here.""",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _default() -> Path:
    return Path(platformdirs.user_config_dir("hotstage", appauthor=False)) / "keys"


FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Of the authority; default in your configuration.", show_default=False
    ),
]


@keys_app.command()
def new(folder: FolderOption = None) -> int:
    """Make an authority and an empty list of those allowed."""
    from acquire.remote.keys import new_authority

    where = folder or _default()
    new_authority(where)
    say(f"An authority is in {where}. Whoever can read authority.key can let anybody in.")
    say(f"The list for server.allowed is {where / ALLOWED}.")
    return 0


@keys_app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Of a person or a computer.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do.")],
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="Under which a server is reached; may be given often."),
    ] = None,
    days: Annotated[float, typer.Option("--days", help="How long it is valid.")] = 365.0,
    folder: FolderOption = None,
) -> int:
    """Make a certificate and list it as allowed."""
    from acquire.remote.keys import issue as make

    made = make(folder or _default(), name, role, hosts=host or (), days=days)
    if role is Role.SERVER:
        say(f"{made}\nPut this folder into server.identity of the station file.")
    else:
        say(f"{made}\nCopy this folder to {name}, who sets {IDENTITY_VARIABLE} to where it lies.")
    return 0


@keys_app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose certificate.")], folder: FolderOption = None
) -> int:
    """Let a certificate open nothing any more, at once where the server reads this list."""
    from acquire.remote.keys import revoke as end

    ended = end(folder or _default(), name)
    if ended.role == Role.SERVER.value:
        say(
            f"{name} cannot be used as a client. Programs that connect to it read no list: they "
            f"trust its certificate until {ended.until}. If its key was stolen, make a new authority."
        )
        return 0
    say(f"{name} is refused from now on, wherever {(folder or _default()) / ALLOWED} is the list.")
    return 0


@keys_app.command("list")
def show(folder: FolderOption = None) -> int:
    """Tell which certificates were issued."""
    from acquire.remote.keys import listed

    shown = Table("name", "role", "valid until (UTC)", "revoked (UTC)")
    for one in listed(folder or _default()):
        shown.add_row(one.name, one.role, _to_the_minute(one.until), _to_the_minute(one.revoked))
    out.print(shown)
    return 0


def _to_the_minute(time: str) -> str:
    return time[:16].replace("T", " ")
