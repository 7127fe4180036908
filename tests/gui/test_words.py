"""Another language: every caption of the window goes through the catalogue, and keeps its figures."""

from __future__ import annotations

import ast
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import gui
from acquire.recipe.steps import KINDS
from gui.panels.image import tints
from gui.recipes.fields import about

NOT_WORDS = re.compile(
    r"^(hotstage|haadf|abf|F\d+|(Ctrl|Shift|Alt)\+.*|\W*(nm|eV|°C|µs|px|Esc|Space)\W*|Export(\.\.\.)?)$"
)
"""What is the same in every language: names, units, keys; and a menu of pyqtgraph's that is never shown."""


def words_in_code() -> set[str]:
    """Every literal that is given to ``tr``."""
    found = set()
    for path in Path(gui.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "tr"
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


def words_from_elsewhere() -> set[str]:
    """Names that the window is told, and what the steps of the recipe language say of themselves."""
    named = {*tints.MAPS, "heater", "spectra taken", "count", "mean diameter"}
    return named | {about(kind) for kind in KINDS.values()}


def write_catalogue(path: Path, words: set[str]) -> None:
    """A gettext file (GNU gettext manual, "The Format of GNU MO Files") that puts every word in brackets."""
    header = "Content-Type: text/plain; charset=UTF-8\n"
    pairs = [("", header), *((word, f"⟦{word}⟧") for word in sorted(words))]
    keys, values = ([pair[i].encode() for pair in pairs] for i in (0, 1))
    tables, texts = b"", b""
    begin = 28 + 16 * len(pairs)
    for text in (*keys, *values):
        tables += struct.pack("<2I", len(text), begin + len(texts))
        texts += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, begin)
    path.parent.mkdir(parents=True)
    path.write_bytes(head + tables + texts)


def test_all_that_is_read_can_be_translated(tmp_path: Path) -> None:
    words = words_in_code() | words_from_elsewhere()
    assert len(words) > 300
    write_catalogue(tmp_path / "xx" / "LC_MESSAGES" / "hotstage.mo", words)
    told = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("words_child.py"))],
        env={
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "XDG_CONFIG_HOME": str(tmp_path),
            "HOTSTAGE_LANGUAGE": "xx",
            "HOTSTAGE_LOCALE": str(tmp_path),
        },
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
        cwd=tmp_path,
    ).stdout
    seen: dict[str, list[str]] = json.loads(told)
    left = [
        f"{part}: {one!r}"
        for part, captions in seen.items()
        for one in captions
        if "⟦" not in one and is_words(one)
    ]
    assert not left, "\n".join(left)
    assert all(sum("⟦" in one for one in captions) >= 3 for captions in seen.values()), seen


def is_words(caption: str) -> bool:
    """Whether a person of another language would not understand it."""
    plain = re.sub(r"<[^>]*>|&\w+;|[\d/.]+", " ", caption).strip()
    if plain in KINDS or Path(caption).is_absolute() or "/runs" in caption:
        return False
    return bool(re.search(r"[^\W\d_]{2,}", plain)) and not NOT_WORDS.match(plain)
