"""Compiled loops are kept for every state of the sources, and cleared when nobody uses them any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numba
import pytest

from acquire import compiled

A_WEEK_S = 7 * 86400.0


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled code is kept, empty yet."""
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    return tmp_path / "hotstage" / "compiled"


def make(kept: Path, name: str, age_s: float) -> None:
    folder = kept / name
    folder.mkdir(parents=True)
    (folder / "code.nbc").write_bytes(b"0")
    then = time.time() - age_s
    os.utime(folder, (then, then))


def test_many_checkouts_in_use_do_not_clear_each_others_code(kept: Path) -> None:
    for number in range(12):
        make(kept, f"in use {number}", age_s=60.0 * number)
    compiled._keep_apart()
    assert len(list(kept.iterdir())) == 13
    assert numba.config.CACHE_DIR in map(str, kept.iterdir())


def test_old_code_is_cleared_but_for_the_newest(kept: Path) -> None:
    for number in range(12):
        make(kept, f"old {number}", age_s=A_WEEK_S + number)
    compiled._keep_apart()
    mine = Path(numba.config.CACHE_DIR).name
    assert {path.name for path in kept.iterdir()} == {mine, "old 0", "old 1", "old 2"}


def test_a_place_that_somebody_chose_is_left(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = str(tmp_path / "chosen")
    monkeypatch.setattr(numba.config, "CACHE_DIR", chosen)
    compiled._keep_apart()
    assert str(numba.config.CACHE_DIR) == chosen
    assert not kept.exists()
