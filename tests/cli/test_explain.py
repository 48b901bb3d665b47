"""The timeline of one policy, and the modelled columns of ``compare``."""

import json

import pytest

from helpers.cli import Run
from mtrrzap.errors import UserError
from mtrrzap.gfn import parse_size
from mtrrzap.guest.open import shipped
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.simulator import cost_model
from mtrrzap.study.compare import rows
from mtrrzap.study.units import millions


def test_explain_says_who_waits_for_whom(run: Run) -> None:
    text = run("explain", "seabios-8", "-p", "+9").out
    assert "waited for" in text
    assert "Base2+9: modelled" in text
    data = json.loads(run("explain", "seabios-8", "-p", "+9", "--json").out)
    assert len(data["requests"]) == 42
    waiting = [r for r in data["requests"] if r["spent"]["waiting"]]
    assert waiting
    assert all(r["waited_for"] is not None for r in waiting)


def test_explain_takes_another_size(run: Run) -> None:
    options = ("-p", "ticket", "--vcpus", "12", "--memory", "64G", "--json")
    assert len(json.loads(run("explain", "seabios-8", *options).out)["requests"]) == 62


def test_compare_keeps_modelled_figures_apart() -> None:
    (row,) = rows([shipped()[1]], [by_name("Base2")], Host(), 1)
    modelled = [name for name in row._fields if name.startswith("modelled_")]
    assert modelled == list(row._fields[-4 - len(modelled) : -4])
    (bare,) = rows([shipped()[1]], [by_name("Base2")], Host(), 1, modelled=False)
    assert bare.modelled_mcycles is None
    assert bare[:10] == row[:10]
    assert row.needed is not None
    assert row.entries is not None
    assert row.needed < row.entries
    assert row.modelled_error_factor == cost_model.error_factor()


def test_millions_have_three_digits() -> None:
    assert [millions(c) for c in (0.0, 1_234_567.0, 98_765_432_100.0)] == [0.0, 1.23, 98800.0]


@pytest.mark.parametrize(("text", "expected"), [("512M", 1 << 29), ("64g", 1 << 36)])
def test_size(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "12", "-1G", "1.5G"])
def test_no_size(text: str) -> None:
    with pytest.raises(UserError, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize("policy", ["Base2", "ticket", "Base2+12"])
def test_many_vcpus_and_12_tib(run: Run, policy: str) -> None:
    options = ("-p", policy, "--vcpus", "128", "--memory", "12T", "--json")
    data = json.loads(run("explain", "seabios-8", *options).out)
    assert len(data["requests"]) == 5 * 128 + 2


def test_every_policy_is_priced() -> None:
    name, trace = shipped()[1]
    found = {row.policy: row for row in rows([(name, trace)], POLICIES, Host(), 1)}
    assert found["v6.11"].modelled_mcycles == 0
    assert all(row.modelled_mcycles > 0 for row in found.values() if row.requests)
