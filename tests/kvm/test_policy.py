"""The policies as data, and the documentation made from them."""

from dataclasses import fields

import pytest

from helpers.paths import ROOT
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import OLDER, POLICIES, Ask, Lock, by_name
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.report.policies import markdown

DOCS = ROOT / "docs"


def test_names() -> None:
    assert [policy.name for policy in POLICIES] == [
        "v6.1",
        "v6.7",
        "v6.11",
        "Base1",
        "Base2",
        "Base2+9",
        "Base2+9+10",
        "Base2+9+10+11",
        "Base2+9+10+11+12",
        "Base2+12",
        "Base2+9+10+12",
        "review",
        "ticket",
        "lazy",
    ]


def test_by_name() -> None:
    assert by_name("+9+10+12") is by_name("Base2+9+10+12")
    with pytest.raises(UserError, match=r"policy: no policy 'v9'; known are: v6\.1, "):
        by_name("v9")


def test_what_the_rows_of_the_series_change() -> None:
    assert {p.name for p in POLICIES if p.mmu_lock is Lock.READ} == {
        "Base2+12",
        "Base2+9+10+12",
        "Base2+9+10+11+12",
    }
    assert {p.name for p in POLICIES if p.by_memslot} == {"Base2+9+10+11", "Base2+9+10+11+12"}
    assert {p.protocol for p in POLICIES} == {"direct", "v4", "v4_patch10", "review", "ticket"}


@pytest.mark.parametrize(
    ("ask", "asks"),
    [
        (Ask.NEVER, [False] * 4),
        (Ask.WITHOUT_QUIRK, [True, False, True, False]),
        (Ask.WHILE_CD_CLEAR, [True, True, False, False]),
        (Ask.ALWAYS, [True] * 4),
    ],
)
def test_ask(ask: Ask, asks: list[bool]) -> None:
    cases = [(cd, quirk) for cd in (False, True) for quirk in (False, True)]
    assert [ask.holds(cd=cd, quirk=quirk) for cd, quirk in cases] == asks


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("v4.2", {"cd_toggle"}),
        ("v4.4", set()),
        ("v5.13", {"mmu_lock", "walk"}),
        ("v5.15", {"walk"}),
    ],
)
def test_how_kernels_before_v61_differ_from_it(name: str, changed: set[str]) -> None:
    old, new = by_name(name), by_name("v6.1")
    told = {"name", "says", "source"}
    assert {
        field.name for field in fields(old) if getattr(old, field.name) != getattr(new, field.name)
    } == changed | told
    assert [policy.name for policy in OLDER].count(name) == 1


def test_cd_types() -> None:
    assert str(by_name("Base1").cd_type(quirk=True)) == "WB+IPAT"
    assert str(by_name("Base2").cd_type(quirk=True)) == "WB"
    assert str(by_name("Base2").cd_type(quirk=False)) == "UC+IPAT"
    assert by_name("v6.11").cd_type(quirk=False) is None


def test_the_documentation_is_generated_from_the_rows() -> None:
    assert (DOCS / "policies.md").read_text(encoding="utf-8") == markdown((*POLICIES, *OLDER))


def test_every_policy_names_a_protocol_that_exists() -> None:
    assert {policy.protocol for policy in POLICIES} <= set(PROTOCOLS)
