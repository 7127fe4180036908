"""What the window remembers, and what it does with a settings file that somebody has spoilt."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from gui import theme
from gui.settings import Settings

Key = QtCore.Qt.Key


def test_theme_and_layout_are_as_they_were_left(qtbot: QtBot, open_window) -> None:
    window = open_window()
    assert theme.now() is theme.NIGHT
    qtbot.keyClick(window, Key.Key_T, QtCore.Qt.KeyboardModifier.ControlModifier)
    assert theme.now() is theme.DAY
    window.live.splitters["across"].setSizes([300, 800, 400])
    sizes = window.live.splitters["across"].sizes()
    window.close()
    again = open_window()
    assert theme.now() is theme.DAY
    assert again.live.splitters["across"].sizes() == pytest.approx(sizes, abs=3)
    again.change_theme()
    assert theme.now() is theme.NIGHT


def test_curves_and_text_take_the_colours_of_the_theme(qtbot: QtBot, open_window) -> None:
    window = open_window()
    for _ in theme.THEMES:
        window.change_theme()
        pen = window.live.temperature.measured.opts["pen"]
        assert pen.color().name() == theme.now().measured.lower()
        assert theme.now().measured in window.live.temperature.head.itemAt(1).widget().text()


@pytest.mark.parametrize("colours", theme.THEMES.values(), ids=list(theme.THEMES))
def test_what_must_be_read_has_the_contrast_that_standards_ask(colours: theme.Colours) -> None:
    """WCAG 2.2, level AA: 4.5 for text."""
    grounds = (colours.background, colours.panel, colours.sunken)
    for name in ("text", "muted", "orange", "sky", "green", "yellow", "pink"):
        for ground in grounds:
            assert _contrast(getattr(colours, name), ground) >= 4.5, (name, ground)
    for ground in (*grounds, colours.raised):
        assert _contrast(colours.sky, ground) >= 3, "what has the keys is ringed"
    for ground in (colours.background, colours.panel):
        assert _contrast(colours.edge, ground) >= 3, "one sees what can be pressed or written in"
    assert _contrast(colours.error_text, colours.error_ground) >= 4.5
    assert _contrast(colours.good_text, colours.good_ground) >= 4.5
    for badge in (*theme.STATES.values(), theme.NO_CONTACT, theme.REPLAY):
        assert _contrast(badge.foreground, badge.background) >= 4.5, badge


def test_a_spoilt_settings_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "window.ini"
    path.write_text("[General]\ntheme=plaid\nscale=much\nlayout=@ByteArray(\n", encoding="utf-8")
    settings = Settings(path)
    assert settings.choice("theme", ("night", "day")) == "night"
    assert settings.number("scale", 1.0, 0.5, 3.0) == 1.0
    assert settings.paths("recent") == []
    for number in range(12):
        settings.put_recent("recent", Path(f"/data/{number}.yaml"))
    settings.put_recent("recent", Path("/data/3.yaml"))
    settings.save()
    recent = Settings(path).paths("recent")
    assert len(recent) == 10
    assert recent[:2] == [Path("/data/3.yaml"), Path("/data/11.yaml")]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
