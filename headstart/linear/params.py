"""Params that every linear classifier has: the inverse regularisation strength and the weights of the classes."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from headstart.base.params import Name

# Scikit-learn's C: a smaller value regularises more. Outside these limits, rounding in float64 hides the effect of c.
InverseStrength = Annotated[float, Field(ge=1e-9, le=1e9)]


# Outside these limits, rounding in float64 hides the classes with small weights.
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]


def _names_in_quotes(value: object) -> object:
    if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
        raise ValueError("names of classes in quotes, as in {'1': 2.0}, in the file (-S takes no numbers as names)")
    return value


ClassWeights = Annotated[dict[Name, Weight] | Literal["none", "balanced"], BeforeValidator(_names_in_quotes)]
