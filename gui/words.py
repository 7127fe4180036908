"""Where the window's words can be given in another language: gettext, domain ``hotstage``.

``HOTSTAGE_LANGUAGE=de`` takes ``<folder>/de/LC_MESSAGES/hotstage.mo`` from the folder that
``HOTSTAGE_LOCALE`` names. Words that contain figures are whole sentences with ``{names}``, so that
another language can order them its own way.
"""

from __future__ import annotations

import gettext
import os

DOMAIN = "hotstage"


def _catalogue() -> gettext.NullTranslations:
    language = os.environ.get("HOTSTAGE_LANGUAGE", "")
    if not language:
        return gettext.NullTranslations()
    folder = os.environ.get("HOTSTAGE_LOCALE")
    return gettext.translation(DOMAIN, folder, languages=[language], fallback=True)


def tr(words: str) -> str:
    """The words in the operator's language; as they are where nobody has translated them."""
    return _FOUND.gettext(words)


_FOUND = _catalogue()
