"""Records, streams and the ways they travel inside one process."""

from acquire.stream.choice import DetectorChoice
from acquire.stream.mailbox import Mailbox
from acquire.stream.records import (
    Estimate,
    Estimator,
    EstimatorFactory,
    MeasuresBlocks,
    Note,
    Prepares,
    Quantity,
    Row,
    Value,
)
from acquire.stream.sink import Continues, FrameBlock, FrameContext, RunHeader, RunReport, Sink

__all__ = [
    "Continues",
    "DetectorChoice",
    "Estimate",
    "Estimator",
    "EstimatorFactory",
    "FrameBlock",
    "FrameContext",
    "Mailbox",
    "MeasuresBlocks",
    "Note",
    "Prepares",
    "Quantity",
    "Row",
    "RunHeader",
    "RunReport",
    "Sink",
    "Value",
]
