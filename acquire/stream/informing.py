"""What an estimator may want to know of the instrument whose frames it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Informed(Protocol):
    """An estimator that takes from an instrument's details what its options leave open."""

    def inform(self, details: Mapping[str, Any]) -> None:
        """Called once, before the first frame; ConfigError if they cannot be used."""
