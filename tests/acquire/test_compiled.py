"""Compiled loops are kept for every state of the sources, and cleared when nobody uses them any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching

from acquire import compiled

A_WEEK_S = 7 * 86400.0


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled code is kept, empty yet."""
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(compiled, "_CHOSEN", "")
    monkeypatch.setattr(compiled, "_kept_for", compiled._kept_for.__wrapped__)
    return tmp_path / "hotstage" / "compiled"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders a, b and c of compiled modules, of which a calls b, and b calls c."""
    root = tmp_path / "sources"
    for name, other in (("a", "b"), ("b", "c"), ("c", ""), ("d", "")):
        folder = root / "acquire" / name
        folder.mkdir(parents=True)
        calls = f"from acquire.{other}.loops import loop\n" if other else ""
        (folder / "loops.py").write_text(f"from acquire.compiled import compiled\n{calls}")
        (folder / "plain.py").write_text("import math\n")
    monkeypatch.setattr(compiled, "_SOURCES", root)
    return root / "acquire"


def make(kept: Path, name: str, age_s: float) -> None:
    folder = kept / name
    folder.mkdir(parents=True)
    (folder / "code.nbc").write_bytes(b"0")
    then = time.time() - age_s
    os.utime(folder, (then, then))


def test_code_is_kept_apart_when_what_it_calls_has_changed(kept: Path, sources: Path) -> None:
    def places() -> dict[str, Path | None]:
        return {name: compiled.kept_for(sources / name / "loops.py") for name in "abcd"}

    before = places()
    assert len(set(before.values())) == 4
    assert all(place is not None and place.parent == kept for place in before.values())
    (sources / "b" / "plain.py").write_text("import cmath\n")
    assert places() == before
    with (sources / "c" / "loops.py").open("a") as file:
        file.write("# another way\n")
    after = places()
    assert [name for name in "abcd" if after[name] != before[name]] == ["a", "b", "c"]


def test_many_checkouts_in_use_do_not_clear_each_others_code(kept: Path, sources: Path) -> None:
    for number in range(40):
        make(kept, f"in use {number}", age_s=60.0 * number)
    place = compiled.kept_for(sources / "a" / "loops.py")
    assert len(list(kept.iterdir())) == 41
    assert place in kept.iterdir()


def test_old_code_is_cleared_but_for_the_newest(kept: Path, sources: Path) -> None:
    for number in range(40):
        make(kept, f"old {number}", age_s=A_WEEK_S + number)
    mine = compiled.kept_for(sources / "a" / "loops.py")
    newest = {f"old {number}" for number in range(compiled._KEPT - 1)}
    assert mine is not None
    assert {path.name for path in kept.iterdir()} == {mine.name, *newest}


def test_a_place_that_somebody_chose_is_left(
    kept: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_CHOSEN", str(tmp_path / "chosen"))
    assert compiled.kept_for(sources / "a" / "loops.py") == tmp_path / "chosen"
    assert not kept.exists()


def test_where_numba_keeps_other_code_is_left_as_it_was() -> None:
    before = numba.config.CACHE_DIR
    compiled.compiled(lambda x: x)
    assert before == numba.config.CACHE_DIR


def test_what_is_compiled_ahead_in_a_process_of_its_own_is_not_compiled_twice(
    kept: Path, sources: Path, tmp_path: Path
) -> None:
    module, log = sources / "a" / "loops.py", tmp_path / "log"
    statement = f"open({str(log)!r}, 'a').write('once ')"
    compiled.compile_apart("a", module, statement)
    compiled.note_compiled("a", module)
    compiled.compile_apart("a", module, statement)
    assert log.read_text() == "once "


def test_threads_that_decorate_at_once_keep_their_code_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_CHOSEN", str(tmp_path))
    place_of = caching.UserProvidedCacheLocator.__init__

    delays_s = iter(np.arange(1, 9) * 0.02)

    def slowly(*asked: object) -> None:
        # those that came before set the place back meanwhile, unless one waits for the other
        time.sleep(next(delays_s))
        place_of(*asked)

    monkeypatch.setattr(caching.UserProvidedCacheLocator, "__init__", slowly)
    with ThreadPoolExecutor(4) as pool:
        made: list[Any] = list(pool.map(compiled.compiled, [twice] * 8))
    places = {Path(each._cache.cache_path).parent for each in made}
    assert places == {tmp_path}


def test_code_for_two_types_made_at_once_gets_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_CHOSEN", str(tmp_path))
    save_index = caching.IndexDataCacheFile._save_index
    names: list[dict[object, str]] = []

    def save_slowly(file: object, overloads: dict[object, str]) -> None:
        names.append(dict(overloads))
        time.sleep(0.3)  # the other looks at the index meanwhile, unless it has to wait
        save_index(file, overloads)

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_index", save_slowly)
    late: list[Callable[[], None]] = []
    for kind in ("float64", "int32"):
        made: Any = compiled.compiled(twice)
        save = made._cache.save_overload
        made._cache.save_overload = lambda *code, save=save: late.append(lambda: save(*code))
        assert made(np.full(3, 21, kind)) == 126.0
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda keep: keep(), late))
    assert [len(known) for known in names] == [1, 2]
    assert len(set(names[-1].values())) == 2


def twice(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += 2.0 * value
    return total
