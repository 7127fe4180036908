"""What all steps of a recipe share: their base, and conditions and amounts as they are written."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import PlainSerializer
from pydantic.functional_validators import BeforeValidator

from acquire.errors import RecipeError
from acquire.recipe.amounts import Amount
from acquire.recipe.conditions import AnyCondition, Condition, Conditions, parse_condition
from acquire.recipe.schema import Strict


class Step(Strict):
    """Base of all steps."""

    kind: ClassVar[str]


def _read_condition(value: Any) -> Any:
    if value is None or isinstance(value, Condition | Conditions):
        return value
    try:
        return parse_condition(str(value))
    except RecipeError as error:
        raise ValueError(str(error)) from error


def _read_amount(value: Any) -> Any:
    if value is None or isinstance(value, Amount):
        return value
    try:
        return Amount.parse(value)
    except RecipeError as error:
        raise ValueError(str(error)) from error


ConditionText = Annotated[AnyCondition, BeforeValidator(_read_condition), PlainSerializer(str)]
AmountText = Annotated[Amount, BeforeValidator(_read_amount), PlainSerializer(str)]
