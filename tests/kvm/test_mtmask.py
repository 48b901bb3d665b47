"""The type of a new leaf: each test of vmx_get_mt_mask, in its order, for each column."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ranges import GIB, UC, with_ranges
from helpers.strategies import WIDTH, mtrrs
from mtrrzap.kvm.lookup import lookup
from mtrrzap.kvm.mtmask import BEYOND, MtMask
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.mtrr import Mtrrs

CD, CLEAR = 0x60000010, 0x80050033
HOLE = with_ranges((UC, 3 * GIB, GIB)).write(0x2FF, 0x806)


def bits(policy: str, *, cd: bool = False, mmio: bool = False, host: Host | None = None) -> int:
    """Bits 6:3 of the entry that a fault in the UC hole makes."""
    mask = MtMask(by_name(policy), host or Host())
    kind = mask.at(Vcpu(HOLE, CD if cd else CLEAR), 3 << 18, host_mmio=mmio)
    return 0 if kind is None else kind.type << 3 | kind.ipat << 6


@pytest.mark.parametrize("cd", [False, True])
@pytest.mark.parametrize("policy", [p.name for p in POLICIES])
def test_host_mmio_comes_first_then_coherent_dma(policy: str, cd: bool) -> None:
    assert bits(policy, cd=cd, mmio=True) == 0x00
    assert bits(policy, cd=cd, host=Host(noncoherent_dma=False)) == 0x70


@pytest.mark.parametrize(
    ("policy", "quirk_on", "quirk_off", "cd_clear"),
    [
        ("v6.1", 0x70, 0x40, 0x00),
        ("v6.7", 0x30, 0x40, 0x00),
        ("v6.11", 0x30, 0x30, 0x30),
        ("Base1", 0x70, 0x40, 0x00),
        ("Base2", 0x30, 0x40, 0x00),
        ("review", 0x30, 0x40, 0x00),
    ],
)
def test_cd_then_the_mtrrs(policy: str, quirk_on: int, quirk_off: int, cd_clear: int) -> None:
    assert bits(policy, cd=True) == quirk_on
    assert bits(policy, cd=True, host=Host(quirk_cd_nw_cleared=False)) == quirk_off
    assert bits(policy) == cd_clear


def test_npt_has_no_types() -> None:
    mask = MtMask(by_name("v6.1"), Host(ept=False))
    assert mask.at(Vcpu(HOLE, CLEAR), 0) is None
    assert mask.at(Vcpu(HOLE, CD), 0, host_mmio=True) is None


@settings(max_examples=50, deadline=None)
@given(mtrrs(), st.sampled_from(POLICIES))
def test_stretches_are_the_lookup_and_whole(state: Mtrrs, policy: Policy) -> None:
    found = list(MtMask(policy, Host()).stretches(Vcpu(state, CLEAR)))
    assert [s.start for s in found] == [0, *(s.end for s in found[:-1])]
    assert found[-1].end == BEYOND
    assert all(a.type != b.type for a, b in itertools.pairwise(found))
    if policy.honours_mtrrs:
        for gfn in range(0, 1 << WIDTH - 12, 7):
            kind = next(s.type for s in found if gfn < s.end)
            assert kind == EptType(lookup(state, gfn << 12))
