"""One run is one folder with a Zarr v3 group: written while it happens, readable at every moment."""

from acquire.store.after import Consolidation, Upload, consolidate_run, upload_run
from acquire.store.cf import flags_of, unit_for_people, words_of
from acquire.store.journal import Journal, JournalEntry, read_journal
from acquire.store.keeping import Finding, Recovery, Verification, recover_run, verify_run
from acquire.store.later import LaterNote, add_later_note, read_later_notes
from acquire.store.layout import CHANNELS, JOURNAL_NAME, LOSS_WINDOW_S, PUBLISH_PERIOD_S, ZARR_NAME
from acquire.store.map_sums import sum_passes
from acquire.store.maps import as_map, map_names, map_of_estimates
from acquire.store.memory import ASSUMED_COMPRESSION, CountingSink, MemorySink
from acquire.store.run import Run, open_run
from acquire.store.segments import segments, time_offsets_s
from acquire.store.settings import StoreSettings
from acquire.store.writer import RunWriter

__all__ = [
    "ASSUMED_COMPRESSION",
    "CHANNELS",
    "JOURNAL_NAME",
    "LOSS_WINDOW_S",
    "PUBLISH_PERIOD_S",
    "ZARR_NAME",
    "Consolidation",
    "CountingSink",
    "Finding",
    "Journal",
    "JournalEntry",
    "LaterNote",
    "MemorySink",
    "Recovery",
    "Run",
    "RunWriter",
    "StoreSettings",
    "Upload",
    "Verification",
    "add_later_note",
    "as_map",
    "consolidate_run",
    "flags_of",
    "map_names",
    "map_of_estimates",
    "open_run",
    "read_journal",
    "read_later_notes",
    "recover_run",
    "segments",
    "sum_passes",
    "time_offsets_s",
    "unit_for_people",
    "upload_run",
    "verify_run",
    "words_of",
]
