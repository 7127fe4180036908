"""What is done with a run that has ended: smaller images and statistics, a copy in a storage."""

from acquire.store.after.overviews import (
    WORK_NAME,
    Consolidation,
    consolidate_run,
    consolidate_within,
)
from acquire.store.after.upload import Upload, upload_run

__all__ = [
    "WORK_NAME",
    "Consolidation",
    "Upload",
    "consolidate_run",
    "consolidate_within",
    "upload_run",
]
