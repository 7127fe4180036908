"""What the processes behind a station did is found in a file afterwards, and the files stay few and small."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from acquire.remote import log_to_file, logs


@pytest.fixture(autouse=True)
def _same_logging_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_what_happened_is_in_a_file_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSTAGE_LOG_DIR", str(tmp_path / "logs"))
    file = log_to_file("serve", "my/station")
    assert file is not None
    assert file.parent == tmp_path / "logs"
    logging.getLogger("acquire.remote.lease").info("alice has control")
    logging.getLogger("acquire.remote.tls").debug("a detail")
    text = file.read_text(encoding="utf-8")
    assert "alice has control" in text
    assert "a detail" not in text


def test_a_flood_of_messages_and_of_processes_leaves_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSTAGE_LOG_DIR", str(tmp_path))
    monkeypatch.setattr(logs, "FILE_BYTES", 10_000)
    monkeypatch.setattr(logs, "KEPT_FILES", 5)
    for number in range(20):
        (tmp_path / f"serve-old-{number}.log").write_text("old", encoding="utf-8")
    log_to_file("serve", "station")
    for number in range(1000):
        logging.getLogger("acquire.remote.tls").warning("connection %d was refused", number)
    files = list(tmp_path.iterdir())
    assert len(files) <= 7
    assert sum(file.stat().st_size for file in files) < 25_000


def test_a_folder_that_cannot_be_written_to_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HOTSTAGE_LOG_DIR", str(tmp_path / "file"))
    assert log_to_file("serve", "station") is None
    assert "nothing is logged to a file" in caplog.text
