"""What people are handed after a run: a one-page summary and a picture."""

from acquire.report.maps import MapSummary, plot_maps, summarise_maps
from acquire.report.page import plot_run
from acquire.report.profile import RunProfile, run_profiles
from acquire.report.summary import RunSummary, StepSummary, summarise
from acquire.report.text import to_markdown, to_rich

__all__ = [
    "MapSummary",
    "RunProfile",
    "RunSummary",
    "StepSummary",
    "plot_maps",
    "plot_run",
    "run_profiles",
    "summarise",
    "summarise_maps",
    "to_markdown",
    "to_rich",
]
