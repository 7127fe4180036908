"""The recipe language: what an experiment does, from YAML or from Python."""

from acquire.recipe.amounts import Amount
from acquire.recipe.conditions import (
    AnyCondition,
    Condition,
    Conditions,
    ConditionsWatch,
    ConditionWatch,
    parse_condition,
)
from acquire.recipe.model import STEPS_AT_MOST, Recipe
from acquire.recipe.regulate import Regulate
from acquire.recipe.schema import (
    ChannelRecord,
    EstimateSettings,
    Limits,
    Record,
    SafeStateSettings,
    ScanSettings,
    SpectrumSettings,
)
from acquire.recipe.scripting import (
    hold,
    image,
    line_scan,
    mark,
    ramp,
    regulate,
    spectrum,
    wait_for_operator,
    when,
)
from acquire.recipe.step import Step
from acquire.recipe.steps import (
    Hold,
    Image,
    LineScan,
    Mark,
    Outcome,
    Plan,
    Ramp,
    Repeat,
    Spectrum,
    WaitForOperator,
    When,
)

__all__ = [
    "STEPS_AT_MOST",
    "Amount",
    "AnyCondition",
    "ChannelRecord",
    "Condition",
    "ConditionWatch",
    "Conditions",
    "ConditionsWatch",
    "EstimateSettings",
    "Hold",
    "Image",
    "Limits",
    "LineScan",
    "Mark",
    "Outcome",
    "Plan",
    "Ramp",
    "Recipe",
    "Record",
    "Regulate",
    "Repeat",
    "SafeStateSettings",
    "ScanSettings",
    "Spectrum",
    "SpectrumSettings",
    "Step",
    "WaitForOperator",
    "When",
    "hold",
    "image",
    "line_scan",
    "mark",
    "parse_condition",
    "ramp",
    "regulate",
    "spectrum",
    "wait_for_operator",
    "when",
]
