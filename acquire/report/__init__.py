"""What people are handed after a run: a one-page summary and a picture."""

from acquire.report.page import plot_run
from acquire.report.profile import RunProfile, run_profiles
from acquire.report.summary import RunSummary, StepSummary, summarise
from acquire.report.text import to_markdown, to_rich

__all__ = [
    "RunProfile",
    "RunSummary",
    "StepSummary",
    "plot_run",
    "run_profiles",
    "summarise",
    "to_markdown",
    "to_rich",
]
