"""One run is one folder with a Zarr v3 group: written while it happens, readable at every moment."""

from acquire.store.cf import flags_of, unit_for_people, words_of
from acquire.store.journal import Journal, JournalEntry, read_journal
from acquire.store.layout import JOURNAL_NAME, LOSS_WINDOW_S, PUBLISH_PERIOD_S, ZARR_NAME
from acquire.store.memory import ASSUMED_COMPRESSION, CountingSink, MemorySink
from acquire.store.run import Run, open_run
from acquire.store.settings import StoreSettings
from acquire.store.writer import RunWriter

__all__ = [
    "ASSUMED_COMPRESSION",
    "JOURNAL_NAME",
    "LOSS_WINDOW_S",
    "PUBLISH_PERIOD_S",
    "ZARR_NAME",
    "CountingSink",
    "Journal",
    "JournalEntry",
    "MemorySink",
    "Run",
    "RunWriter",
    "StoreSettings",
    "flags_of",
    "open_run",
    "read_journal",
    "unit_for_people",
    "words_of",
]
