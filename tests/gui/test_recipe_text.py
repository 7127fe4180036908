"""A recipe's text under small edits, its form, its script and its file, without a window."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from acquire.errors import RecipeError
from acquire.recipe import Outcome, Recipe
from acquire.recipe.reading import read_yaml
from acquire.recipe.steps import KINDS
from gui.recipes import edits, files, templates
from gui.recipes.fields import Shape, fields_of, short_key
from gui.recipes.files import ChangedOnDisk, Drafts
from gui.recipes.reading import read
from gui.recipes.rows import rows_of
from gui.recipes.script import as_script

EXAMPLES = {path.stem: path.read_text(encoding="utf-8") for path in templates.examples()}
IN_BRACKETS = (
    "hotstage: 1\nname: x\n"
    "steps: [{repeat: {times: 2, steps: [{hold: {for: 1 s}}, {mark: b}]}}, {mark: c}] # all\n"
)


def lists_of(plain, at=("steps",)):
    """The paths of all lists of steps."""
    yield at
    for index, step in enumerate(edits._inside(plain, at)):
        ((kind, body),) = step.items()
        for key in ("steps", "then", "else") if isinstance(body, dict) else ():
            if isinstance(body.get(key), list):
                yield from lists_of(plain, (*at, index, kind, key))


def test_a_change_touches_nothing_but_what_was_meant() -> None:
    text = EXAMPLES["steered_growth"]
    assert edits.put(text, ("steps", 0, "ramp", "rate"), "7 °C/s") == text.replace(
        "rate: 5 °C/s", "rate: 7 °C/s"
    )
    assert edits.put(text, ("limits", "disk"), "5 GB") == text.replace(
        "run_time: 1 h}", "run_time: 1 h, disk: 5 GB}"
    )
    paused = edits.put(text, ("pause", "temperature"), "continue")
    assert "beam: blanked}\npause: {temperature: continue}\n\nrecord:" in paused
    assert edits.remove(paused, ("pause",)) == text
    words = edits.put(text, ("name",), "50 nm: a film, or #2")
    assert Recipe.parse(words).name == "50 nm: a film, or #2"
    with pytest.raises(RecipeError, match="itself"):
        edits.move(text, ("steps", 2), ("steps", 2, "when", "then"), 0)
    with pytest.raises(RecipeError, match="there already"):
        edits.rename(text, ("record", "overview"), "chip")
    shared = "hotstage: 1\nname: x\nsteps:\n  - ramp: &a {to: 5 °C, rate: 1 °C/s}\n  - ramp: *a\n"
    with pytest.raises(RecipeError, match="in the text"):
        edits.put(shared, ("steps", 1, "ramp", "to"), "7 °C")
    explained = (
        "name: x # not 'a#b'\nrecord:\n  overview:\n    scan:\n      detectors:\n"
        "        - haadf # dark field\n        - abf\n      size: 512 # px\n"
    )
    scan = ("record", "overview", "scan")
    with pytest.raises(RecipeError, match="in the text"):  # a word of explanation would be lost
        edits.put(explained, (*scan, "detectors"), ["haadf"])
    assert edits.put(explained, (*scan, "size"), 256) == explained.replace("512", "256")


def test_steps_can_be_put_anywhere_with_their_comments() -> None:
    rng = random.Random(1)
    for text in (EXAMPLES["steered_growth"], EXAMPLES["first_light"], IN_BRACKETS):
        for _ in range(6):
            plain, comments = read_yaml(text, "recipe")[0], text.count("#")
            source = rng.choice([p for p in lists_of(plain) if edits._inside(plain, p)])
            target = rng.choice(list(lists_of(plain)))
            path = (*source, rng.randrange(len(edits._inside(plain, source))))
            if target[: len(path)] == path:
                continue
            index = rng.randint(0, len(edits._inside(plain, target)))
            step = edits._inside(plain, path)
            text, new = edits.move(text, path, target, index)
            moved = read_yaml(text, "recipe")[0]
            assert edits._inside(moved, new) == step
            assert text.count("#") == comments
            text = edits.duplicate(text, new) if rng.random() < 0.3 else text


def test_every_kind_of_step_has_a_form_a_beginning_and_a_function_in_python() -> None:
    text = templates.NEW
    for index, kind in enumerate(KINDS):
        text = edits.insert(text, ("steps",), index, templates.new_step(kind))
    reading = read(text)
    assert reading.problems == ()
    assert reading.course.duration_s > 0
    for index, (kind, model) in enumerate(KINDS.items()):
        asked = [row.label for row in rows_of(reading, ("steps", index))]
        if not short_key(kind):
            keys = [f.key for f in fields_of(model) if f.shape is not Shape.STEPS]
            assert set(keys) <= set(asked), kind
        assert isinstance(templates.required_of(model), dict)  # what a step of tomorrow begins with


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_script_does_the_same_steps(name: str) -> None:
    reading = read(EXAMPLES[name])
    assert reading.recipe is not None
    made: dict[str, object] = {"__name__": "script"}
    exec(compile(as_script(reading), "script", "exec"), made)

    def steps(plan, decided: str):
        result, found = None, []
        while True:
            try:
                step = next(plan) if result is None else plan.send(result)
            except StopIteration:
                return found
            if step.kind == "when":
                step = step.model_copy(update={"then": (), "else_": ()})
            found.append(step)
            result = Outcome(decided if step.kind == "when" else "done", 0.0, 1.0)

    for decided in ("met", "not_met", "unknown"):
        assert steps(made["experiment"](), decided) == steps(reading.recipe.plan(), decided)
    header = made["RECIPE"].model_copy(update={"steps": ()})
    assert header == reading.recipe.model_copy(update={"steps": ()})


def test_a_file_is_written_whole_and_nobody_elses_words_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes("name: µ\r\n".encode())
    stored = files.load(path)
    assert stored.text == "name: µ\n"
    again = files.save(path, "name: b\n", stored.mark, stored.newline)
    assert path.read_bytes() == b"name: b\r\n"
    path.write_text("theirs", encoding="utf-8")
    with pytest.raises(ChangedOnDisk, match="somebody else"):
        files.save(path, "mine", again.mark)
    assert path.read_text(encoding="utf-8") == "theirs"
    with pytest.raises(RecipeError, match="elsewhere"):
        files.save(tmp_path / "no" / "such.yaml", "mine", None)
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_draft_is_found_when_its_window_is_gone_and_not_before(tmp_path: Path) -> None:
    keep = (
        "import sys; from pathlib import Path; from gui.recipes.files import Drafts; "
        "d = Drafts(Path(sys.argv[1])); d.keep('lost?', Path('r.yaml')); print('kept', flush=True); "
        "sys.stdin.read()"
    )
    mine = Drafts(tmp_path)
    mine.keep("mine", None)
    with subprocess.Popen(
        [sys.executable, "-c", keep, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"kept\n"
        assert mine.left_behind() == []
        other.kill()
    (found,) = mine.left_behind()
    assert (found.text, found.path) == ("lost?", Path("r.yaml"))
    Drafts.discard(found)
    assert mine.left_behind() == []
    mine.forget()
    assert list(tmp_path.iterdir()) == []
