"""Whole simulations: sums by hand, and what holds for any parameters and any guest."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.costs import COSTS
from helpers.traces import CD, CLEAR, HEADER, cr0, wrmsr
from mtrrzap.guest.event import Event
from mtrrzap.guest.open import shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.simulator import Costs, Guest, Result, Spent, by_phase, cost_model, expected, simulate
from mtrrzap.simulator.arrivals import PATTERNS, gaps
from mtrrzap.simulator.zaps import ROUNDING

RECORDINGS = dict(shipped())


def run(trace: Trace, policy: str, costs: Costs = COSTS) -> Result:
    guest = Guest.of(trace, Host(), 1, costs)
    return simulate(guest, by_name(policy), replay(trace, by_name(policy)))


def boot(*more: Event) -> Trace:
    """One vCPU without memslots: 1 MiB at 0."""
    header = replace(HEADER, vcpus=1, memslots=(), memory=1 << 20)
    return Trace(header, (cr0(CLEAR), wrmsr(0x2FF, 0xC06), *more))


def test_one_zap_by_hand() -> None:
    """The toggle walks the root, and one table a level below, and takes what the vCPU uses."""
    found = run(boot(), "Base2")
    toggle, write = found.served
    visits = 128 + 512 + 512 + 512
    assert toggle.spent == Spent(walking=10 * visits, flushing=20, operating=100)
    assert write.spent == toggle.spent
    out = 25  # half of an exit
    assert toggle.begin == out
    assert write.begin == toggle.end + (3 + 2) * 1000 + out  # page faults first
    assert found.cycles == 2 * (10 * visits + 120)
    assert found.longest == 0


def test_a_policy_that_asks_for_nothing_costs_nothing() -> None:
    found = run(boot(), "v6.11")
    assert (found.cycles, found.later, found.served) == (0, 0, ())


def test_lazy_marks_the_root_and_pays_later() -> None:
    found = run(boot(), "lazy")
    assert found.served[0].spent == Spent(walking=10 * 128, flushing=20, operating=100)
    # One block, four page-table pages of 512 entries each: after each zap, and at the end.
    once = 50 + 4 * 512 * 10
    assert found.last == once
    assert found.later >= 2 * once


def test_subtrees_are_cleared_from_the_top() -> None:
    found = run(boot(cr0(CD)), "Base2+12")
    # 128 of the root, 512 below; one entry of 1 GiB with its two page-table pages; two holds.
    expected = Spent(walking=6400, flushing=20 + 2 * 500, operating=200)
    assert found.served[0].spent == expected


@pytest.mark.parametrize("policy", ["Base2", "+9", "+9+10", "review", "ticket", "Base2+12", "lazy"])
@pytest.mark.parametrize("name", ["seabios-8", "ovmf-8"])
def test_every_request_is_served_and_its_parts_add_up(name: str, policy: str) -> None:
    trace = RECORDINGS[name]
    found = run(trace, policy)
    asked = list(replay(trace, by_name(policy)))
    assert sorted(s.event for s in found.served) == [r.event for r in asked]
    for s in found.served:
        assert s.end >= s.begin
        assert min(s.spent) >= 0
        assert s.spent.total == pytest.approx(s.end - s.begin)
    assert found.cycles == pytest.approx(sum(p.spent.total for p in found.phases))
    assert found.cycles == pytest.approx(sum(part.total for part in found.by_vcpu().values()))


def test_serialised_zaps_are_walked_less_often() -> None:
    walks = {
        policy: sum(s.zaps for s in run(RECORDINGS["ovmf-8"], policy).served)
        for policy in ("Base2", "+9")
    }
    assert walks["Base2"] == 74
    assert walks["+9"] < 74


@settings(max_examples=15, deadline=None)
@given(
    policy=st.sampled_from([p.name for p in POLICIES]),
    visit=st.floats(1, 500),
    handoff=st.floats(1, 5000),
    retry=st.floats(100, 20_000),
    stagger=st.floats(0, 1e6),
)
def test_any_parameters_give_the_same_answer_twice(
    policy: str, visit: float, handoff: float, retry: float, stagger: float
) -> None:
    costs = replace(COSTS, visit=visit, handoff=handoff, retry=retry, stagger=stagger)
    trace = RECORDINGS["seabios-8"]
    first, second = run(trace, policy, costs), run(trace, policy, costs)
    assert first == second
    assert len(first.served) == len(list(replay(trace, by_name(policy))))
    assert first.longest <= first.cycles


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_ticket_costs_at_most_what_the_list_and_the_review_cost(name: str) -> None:
    trace = RECORDINGS[name]
    guest = Guest.of(trace, Host(), 1, cost_model.costs())
    cost = {
        row: expected(guest, by_name(row), replay(trace, by_name(row))).cycles
        for row in ("+9", "+9+10", "review", "ticket")
    }
    assert cost["ticket"] == min(cost.values())


def test_a_figure_is_a_mean_over_patterns_and_no_accident_of_one() -> None:
    trace, policy = RECORDINGS["ovmf-8"], by_name("+9")
    guest = Guest.of(trace, Host(), 1, cost_model.costs())
    requests = list(replay(trace, policy))
    each = [simulate(guest, policy, requests, pattern) for pattern in range(PATTERNS)]
    assert len({found.cycles for found in each}) == PATTERNS
    mean = expected(guest, policy, requests)
    assert mean.cycles == pytest.approx(sum(found.cycles for found in each) / PATTERNS)
    assert mean.zaps == sum(found.zaps for found in each) / PATTERNS


def test_gaps_have_their_mean() -> None:
    every = [
        [gap for _, gap in zip(range(2000), gaps(100.0, 3, pattern), strict=False)]
        for pattern in range(PATTERNS)
    ]
    assert sum(map(sum, every)) / (2000 * PATTERNS) == pytest.approx(100, rel=0.02)
    assert min(map(min, every)) >= 0
    assert len({gap for each in every for gap in each}) == 2000 * PATTERNS


@pytest.mark.parametrize("trace", RECORDINGS.values(), ids=RECORDINGS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda each: each.name)
def test_no_part_of_a_request_is_a_rounding_error(trace: Trace, policy: Policy) -> None:
    guest = Guest.of(trace, Host(), 1, cost_model.costs())
    requests = list(replay(trace, policy))
    for pattern in (0, 1):
        for request in simulate(guest, policy, requests, pattern).served:
            assert not [part for part in request.spent if part and not part >= ROUNDING]


@pytest.mark.parametrize("policy", ["v6.1", "Base2+9", "ticket", "lazy"])
def test_phase_after_phase_is_the_same_as_all_at_once(policy: str) -> None:
    trace = RECORDINGS["ovmf-8"]
    guest = Guest.of(trace, Host(), 1, cost_model.costs())
    requests = list(replay(trace, by_name(policy)))
    whole = simulate(guest, by_name(policy), requests)
    costs, served = zip(*by_phase(guest, by_name(policy), iter(requests)), strict=True)
    assert costs == whole.phases
    assert tuple(each for part in served for each in part) == whole.served
