"""What the command prints through: words for people on standard output, errors on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say_error(text: str) -> None:
    """Print an error, its lines as they are."""
    err.print(Text.assemble(("error: ", "bold red"), text))


def say_warning(text: str) -> None:
    """Print a warning."""
    err.print(Text.assemble(("warning: ", "yellow"), text))


def say(text: str, style: str = "") -> None:
    """Print plain text; brackets in it are just brackets."""
    out.print(Text(text, style=style))
