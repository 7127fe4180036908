"""The small plots below the image, which take room only while one is in use."""

from __future__ import annotations

from PySide6 import QtWidgets

from gui.panels.image.following import Following
from gui.panels.image.profile import Profile

_HEIGHT = 150


class Strip(QtWidgets.QWidget):
    """Line profile and followed particle side by side."""

    def __init__(self, profile: Profile, following: Following) -> None:
        super().__init__()
        self._profile, self._following = profile, following
        self.setMinimumHeight(_HEIGHT)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(profile, 1)
        row.addWidget(following, 1)
        self.hide()

    def follow_use(self) -> None:
        """Show it while there is a line or somebody is followed."""
        self.setVisible(self._profile.on or self._following.on)
