"""Random traces: the same from the same seed, and all kinds of events in them."""

from collections import Counter

import pytest

from mtrrzap.guest.event import Kind
from mtrrzap.guest.trace import dumps
from mtrrzap.guest.trace_reader import parse
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.x86 import msr as m


def test_a_seed_gives_one_trace() -> None:
    assert random_trace(7, 100) == random_trace(7, 100) != random_trace(8, 100)


@pytest.mark.parametrize("maxphyaddr", [36, 39, 40, 52])
def test_everything_is_in_it(maxphyaddr: int) -> None:
    trace = random_trace(1, 5000, 4, maxphyaddr)
    assert parse(dumps(trace).splitlines(keepends=True), "x") == trace
    kinds = Counter(event.kind for event in trace.events)
    assert kinds.keys() == {Kind.WRMSR, Kind.HOST_WRMSR, Kind.CR0, Kind.INIT, Kind.RESET}
    assert {event.msr for event in trace.events} > m.MTRR_MSRS
    states = [power_on(maxphyaddr)] * 4
    refused: Counter[Kind] = Counter()
    for event in trace.events:
        states[event.vcpu], rule = step(states[event.vcpu], event)
        refused[event.kind] += rule is not None
    assert all(refused[kind] > 5 for kind in (Kind.WRMSR, Kind.HOST_WRMSR, Kind.CR0))
    assert sum(refused.values()) < len(trace.events) // 5
