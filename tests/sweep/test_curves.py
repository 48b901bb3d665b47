"""Crossings against curves whose crossing is known."""

import pytest

from mtrrzap.sweep.curves import crossing_points, pays, spread, vcpus

AT = (8, 16, 32, 64)


def power(factor: float, exponent: float) -> dict[int, float]:
    return {n: factor * n**exponent for n in AT}


def test_two_powers_cross_where_they_are_equal() -> None:
    """a n = b n^2 at n = a / b: straight lines in the logarithms."""
    curves = {"flat": power(20, 1), "steep": power(1, 2)}
    (crossing,) = crossing_points(curves)
    assert crossing[:2] == ("steep", "flat")
    assert crossing.at == pytest.approx(20)
    assert crossing.cost == pytest.approx(400)
    assert crossing.between == (16, 32)
    assert pays(curves["steep"], curves["flat"], 1) == "from 32 on"
    assert pays(curves["steep"], curves["flat"], 2) == "from 64 on"
    assert pays(curves["flat"], curves["steep"], 1) == "up to 16"


def test_there_and_back() -> None:
    old, new = power(1, 1), {8: 4.0, 16: 32.0, 32: 32.0, 64: 32.0}
    found = crossing_points({"old": old, "new": new})
    assert [c[:2] for c in found] == [("new", "old"), ("old", "new")]
    assert pays(old, new, 1) == "up to 8, from 64 on"
    assert pays(new, old, 1) == "16"
    assert pays({**old, 128: 1.0}, {n: n * (1 + (n not in (16, 32))) for n in (*AT, 128)}, 0.9) == (
        "16 to 32"
    )


def test_equal_costs_are_no_crossing() -> None:
    same = power(3, 1)
    assert crossing_points({"a": same, "b": dict(same)}) == []
    touching = {8: 10.0, 16: 48.0, 32: 90.0, 64: 100.0}
    assert crossing_points({"a": same, "b": touching}) == []
    assert pays(same, power(2, 1), 1) == "everywhere"
    assert pays(same, power(2, 1), 1.5) == "nowhere"
    assert pays({}, same, 1) == "unknown"


def test_numbers_of_vcpus_have_two_digits() -> None:
    assert (vcpus(23.4), vcpus(1234)) == ("23", "1,200")
    assert spread([], 0) == ""
    assert spread([], 2) == " (with no other seed)"
    assert spread([30.2, 12.1], 2) == " (12 to 30)"
    assert spread([30.2, 30.1], 3) == " (30; 2 of 3 seeds)"
