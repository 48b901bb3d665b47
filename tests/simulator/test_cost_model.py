"""The shipped parameters and errors belong together."""

import math
import tomllib

import pytest

from helpers.paths import ROOT
from mtrrzap.guest.open import shipped
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.simulator import Costs, Guest, cost_model, expected, published

DATA = tomllib.loads((ROOT / "src/mtrrzap/data/cost-model.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("vcpus", "error"), [(8, "fitted"), (16, "held_out")])
def test_the_shipped_errors_are_those_of_the_shipped_parameters(vcpus: int, error: str) -> None:
    squares = []
    for _, trace in shipped():
        if trace.header.vcpus != vcpus:
            continue
        guest = Guest.of(trace, Host(), 1, cost_model.costs())
        for (family, _, row), mcycles in published.mcycles(vcpus).items():
            if family == trace.header.family:
                found = expected(guest, by_name(row), replay(trace, by_name(row)))
                squares.append(math.log(found.cycles / 1e6 / mcycles) ** 2)
    assert len(squares) == 16
    factor = math.exp(math.sqrt(sum(squares) / 16))
    assert factor == pytest.approx(DATA["error"][error], abs=6e-4)


def test_parameters_say_what_they_mean() -> None:
    for name in Costs.names():
        says, unit = Costs.about(name)
        assert says
        assert unit in {"cycles", "pages", "blocks", "blocks/GiB"}


def test_a_modelled_figure_has_the_error_of_cells_in_no_fit() -> None:
    assert cost_model.error_factor() == DATA["error"]["held_out"]
