"""Particles over time, from tables alone: tracks and events, growth, motion, the ripening exponent."""

from acquire.measure.tracking.events import EventKind, TrackEvent
from acquire.measure.tracking.growth import GrowthWindow, PairedGrowth, paired_growth
from acquire.measure.tracking.linking import link, view_shift
from acquire.measure.tracking.motion import MeanSquareDisplacement, mean_square_displacement
from acquire.measure.tracking.options import TrackerOptions
from acquire.measure.tracking.population import Sightings
from acquire.measure.tracking.ripening import RipeningExponent, ripening_exponent
from acquire.measure.tracking.tracked import Tracked
from acquire.measure.tracking.tracker import Tracker
from acquire.measure.tracking.trajectories import Trajectories, track_series

__all__ = [
    "EventKind",
    "GrowthWindow",
    "MeanSquareDisplacement",
    "PairedGrowth",
    "RipeningExponent",
    "Sightings",
    "TrackEvent",
    "Tracked",
    "Tracker",
    "TrackerOptions",
    "Trajectories",
    "link",
    "mean_square_displacement",
    "paired_growth",
    "ripening_exponent",
    "track_series",
    "view_shift",
]
