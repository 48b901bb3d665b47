"""Rescaled guests ask for what recorded ones of that size ask for; the rest is refused."""

from dataclasses import replace

import pytest

from helpers.traces import CLEAR, HEADER, cr0, wrmsr
from mtrrzap.errors import UserError
from mtrrzap.guest.open import shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import POLICIES
from mtrrzap.kvm.replay import replay, total
from mtrrzap.study.rescale import with_memory, with_vcpus

RECORDINGS = dict(shipped())


@pytest.mark.parametrize("family", ["seabios", "ovmf"])
@pytest.mark.parametrize(("recorded", "wanted"), [(8, 16), (16, 8)])
def test_vcpus_against_a_recording(family: str, recorded: int, wanted: int) -> None:
    made = with_vcpus(RECORDINGS[f"{family}-{recorded}"], wanted)
    real = RECORDINGS[f"{family}-{wanted}"]
    for policy in POLICIES:
        assert total(replay(made, policy)) == total(replay(real, policy))
    assert "recorded with" in made.header.notes[-1]


def test_vcpus_that_differ_are_not_extrapolated() -> None:
    events = (*(e._replace(vcpu=1) for e in (cr0(CLEAR), wrmsr(0x2FF, 0xC06))),)
    trace = Trace(replace(HEADER, vcpus=3), (*events, cr0(CLEAR)._replace(vcpu=2)))
    with pytest.raises(UserError, match="vCPUs 1 and 2 differ"):
        with_vcpus(trace, 4)
    with pytest.raises(UserError, match="the trace does not show"):
        with_vcpus(Trace(replace(HEADER, vcpus=1), (cr0(CLEAR),)), 4)


def test_memory_grows_at_the_top() -> None:
    made = with_memory(RECORDINGS["seabios-8"], 12 << 40)
    assert made.header.maxphyaddr == 46
    assert made.header.memslots[-1].end == (12 << 28) + 0x40000
    real = RECORDINGS["seabios-8"]
    for policy in POLICIES:
        assert total(replay(made, policy)).requests == total(replay(real, policy)).requests, (
            policy.name
        )


def test_memory_under_a_variable_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"covers \[0xe000000000, 0x10000000000\)"):
        with_memory(RECORDINGS["ovmf-8"], 12 << 40)
    with pytest.raises(UserError, match="only memory above 4 GiB"):
        with_memory(RECORDINGS["seabios-8"], 1 << 30)
