"""`hotstage consolidate` and `hotstage upload`: what is done with a run when it has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from acquire.cli.console import err, say, say_warning
from acquire.errors import ConfigError
from acquire.store import ZARR_NAME
from acquire.store.after import consolidate_run, upload_run
from acquire.units import show_bytes

_MOST_TOLD = 10
_WORDS = frozenset({"key", "secret", "token", "username", "password"})
"""Options whose values are never numbers, even if they look like one."""


def consolidate(folder: Path) -> int:
    """Make smaller images and statistics of a run; returns 1 if some frames cannot be read."""
    with _progress(TextColumn("{task.percentage:>3.0f} %")) as shown:
        task = shown.add_task("Consolidating", total=1.0)
        done = consolidate_run(folder, progress=lambda part: shown.update(task, completed=part))
    if not done.made:
        say(f"{folder} has smaller images and statistics already.")
    else:
        say(f"Made {len(done.made)} arrays from {done.frames} frames.")
    for text in done.unreadable[:_MOST_TOLD]:
        say_warning(f"{text} cannot be read; it has no smaller image and no statistics.")
    if len(done.unreadable) > _MOST_TOLD:
        say_warning(f"{len(done.unreadable) - _MOST_TOLD} more cannot be read.")
    if done.unreadable:
        say_warning(f"Run `hotstage verify {folder}` for the whole list.")
    return int(bool(done.unreadable))


def upload(folder: Path, url: str, options: Sequence[str], *, verify: bool, read_back: bool) -> int:
    """Copy a run to a storage by URL."""
    storage = storage_options(options)
    with _progress(DownloadColumn(), TimeRemainingColumn()) as shown:
        task = shown.add_task("Verifying" if verify else "Looking", total=None)
        done = upload_run(
            folder,
            url,
            options=storage,
            verify=verify,
            read_back=read_back,
            progress=lambda there, total: shown.update(
                task, description="Uploading", completed=there, total=total
            ),
        )
    kept = done.files - len(done.sent)
    say(
        f"{done.files} files, {show_bytes(done.nbytes)}, are at {done.url} and checked: "
        f"{len(done.sent)} sent, {kept} were there."
    )
    for name in done.mended[:_MOST_TOLD]:
        say_warning(f"{name} was there, but not as it is here; it was sent again.")
    if len(done.mended) > _MOST_TOLD:
        say_warning(f"{len(done.mended) - _MOST_TOLD} more were sent again.")
    say(f'Open it with xarray.open_datatree("{done.url}/{ZARR_NAME}", engine="zarr").')
    return 0


def storage_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of a storage from ``KEY=VALUE``; dots in KEY nest, JSON in VALUE is read as such.

    Raises:
        ConfigError: one of them is not of this form, or contradicts another.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        *above, last = key.split(".")
        if not equals or not all((*above, last)):
            raise ConfigError(f"--option {text!r}: write KEY=VALUE, such as endpoint_url=http://…")
        place = found
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"--option {text!r}: {part!r} was given a value of its own before."
                )
        if isinstance(place.get(last), Mapping):
            raise ConfigError(f"--option {text!r}: {last!r} was given parts before.")
        place[last] = value if last in _WORDS else _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _progress(*columns: Any) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=err,
        disable=not err.is_terminal,
    )
