"""Commands that change the list of certificates at the same time lose none of each other's entries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from acquire.errors import ConfigError
from acquire.locking import take
from acquire.remote import Role, keys

PROGRAMS, EACH = 4, 6
ISSUE = """
import sys
from pathlib import Path
from acquire.remote import Role, keys

folder, me, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    keys.issue(folder, f"{me}-{number}", Role.OBSERVER)
    if number % 2:
        keys.revoke(folder, f"{me}-{number}")
"""


@pytest.mark.process
def test_programs_that_issue_and_revoke_at_once_leave_a_whole_list(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.new_authority(folder)
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", ISSUE, str(folder), f"program{number}", str(EACH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROGRAMS)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        with program:
            assert program.wait(120) == 0
    entries = {one.name: one for one in keys.listed(folder)}
    names = {f"program{p}-{number}": number for p in range(PROGRAMS) for number in range(EACH)}
    assert entries.keys() == names.keys()
    for name, number in names.items():
        assert bool(entries[name].revoked) == bool(number % 2)
        assert (folder / keys.ISSUED / name).exists() == (not number % 2)


def test_a_command_that_does_not_end_is_told_of_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    keys.new_authority(folder)
    keys.issue(folder, "alice", Role.OPERATOR)
    monkeypatch.setattr(keys, "_BUSY_S", 0.05)
    with (folder / keys.AUTHORITY).open("r+b", buffering=0) as held:
        take(held)
        with pytest.raises(ConfigError, match="another command"):
            keys.issue(folder, "bob", Role.OBSERVER)
        with pytest.raises(ConfigError, match="another command"):
            keys.revoke(folder, "alice")
    assert [(one.name, one.revoked) for one in keys.listed(folder)] == [("alice", "")]
    keys.issue(folder, "bob", Role.OBSERVER)


def test_a_folder_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    for change in (
        lambda: keys.issue(tmp_path, "alice", Role.OPERATOR),
        lambda: keys.revoke(tmp_path, "alice"),
    ):
        with pytest.raises(ConfigError, match="hotstage keys new"):
            change()
