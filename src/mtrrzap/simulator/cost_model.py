"""The shipped parameters of the cost model, and how far they are off on published figures."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from mtrrzap.simulator import Costs


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(
        files("mtrrzap").joinpath("data/cost-model.toml").read_text(encoding="utf-8")
    )


@cache
def costs() -> Costs:
    """Return the fitted parameters."""
    return Costs(**_file()["costs"])


def error_factor() -> float:
    """Return the geometric error that a modelled figure is printed with: of the held-out cells."""
    return float(_file()["error"]["held_out"])


def fitted_error() -> float:
    """Return the geometric error on the cells that the parameters were fitted on."""
    return float(_file()["error"]["fitted"])
