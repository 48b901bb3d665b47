"""A kernel that follows the policy is acquitted; one that does not is found out."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.kernel_records import WIDE, call, line, record
from helpers.traces import ENABLED, RESET, trace, wrmsr
from mtrrzap.guest import open as traces
from mtrrzap.guest.event import Kind
from mtrrzap.kernel import program
from mtrrzap.kernel.judge import Difference, judge
from mtrrzap.kernel.mutants import DEEP, mutants, unseen
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.policy import POLICIES, Needs, Policy, ToggleRange, by_name
from mtrrzap.kvm.replay import Host, replay

V61 = by_name("v6.1")
ON, OFF = (Host(maxphyaddr=WIDE, ept=False, quirk_cd_nw_cleared=quirk) for quirk in (True, False))
ELSEWHERE = DEEP | {"protocol"}
"""Fields that calls alone do not show."""
RANDOM = program.of(random_trace(1, 400), 4 << 20)


@pytest.mark.parametrize("host", [ON, OFF], ids=["quirk", "no quirk"])
@given(seed=st.integers(0, 1000))
def test_the_right_kernel(host: Host, seed: int) -> None:
    made = program.of(random_trace(seed, 60, vcpus=2), 2 << 20)
    verdict = judge(made.trace, record(made, V61, host), V61, host)
    assert verdict.differences == ()
    assert verdict.calls == verdict.requests


@pytest.mark.parametrize("name", ["ovmf-8", "seabios-8"])
def test_every_policy_of_a_recording(name: str) -> None:
    made = program.of(dict(traces.shipped())[name], 4 << 20)
    host = Host(maxphyaddr=WIDE)
    for policy in POLICIES:
        assert judge(made.trace, record(made, policy, host), policy, host).differences == ()


@pytest.mark.parametrize(
    "mutant", [m for m in mutants(V61) if m.field not in ELSEWHERE], ids=lambda mutant: mutant.name
)
def test_every_wrong_field_is_found(mutant: object) -> None:
    verdicts = [
        judge(RANDOM.trace, record(RANDOM, V61, host), mutant.policy, host)  # type: ignore[attr-defined]
        for host in (ON, OFF)
    ]
    assert any(verdict.differences for verdict in verdicts)


ALL = [*POLICIES, *(replace(p, name=f"{p.name} on NPT", needs=Needs.TDP) for p in POLICIES)]


@pytest.mark.parametrize("policy", ALL, ids=lambda policy: policy.name)
def test_every_mutant_of_every_policy_is_found(policy: Policy) -> None:
    recorded = program.of(dict(traces.shipped())["ovmf-8"], 4 << 20)
    records = [
        (made.trace, record(made, policy, host), host)
        for made in (RANDOM, recorded)
        for host in (ON, OFF)
    ]
    for mutant in mutants(policy):
        if mutant.field not in ELSEWHERE:
            found = (judge(trace, made, mutant.policy, host) for trace, made, host in records)
            assert any(verdict.differences for verdict in found), mutant.name


def test_every_field_is_judged() -> None:
    """toggle_range has no wrong value: see the next test."""
    judged = {mutant.field for mutant in mutants(V61, types=True)}
    fields = {field.name for field in dataclasses.fields(Policy)}
    assert fields - judged == {"name", "says", "source", "toggle_range"}
    assert not unseen(V61, types=True)
    assert unseen(V61).keys() == {"cd_type_with_quirk", "honours_mtrrs"}


@given(seed=st.integers(0, 1000))
def test_toggle_range_means_the_same_where_only_the_quirk_off_zaps(seed: int) -> None:
    other = replace(V61, toggle_range=ToggleRange.FINE_GRAINED)
    for host in (ON, OFF):
        made = random_trace(seed, 60, vcpus=2)
        assert list(replay(made, other, host)) == list(replay(made, V61, host))


def _right() -> tuple[program.Program, str]:
    return RANDOM, record(RANDOM, V61, ON).trace


def test_a_call_too_many() -> None:
    made, text = _right()
    last = len(made.ops) - 1
    wrong = record(made, V61, ON)._replace(trace=text + call(last, 0, 1))
    (found,) = judge(made.trace, wrong, V61, ON).differences
    assert found.event == last
    assert "1 calls for [0x0, 0x1)" in found.what


def test_a_call_for_the_page_of_an_apic_is_not_the_policys() -> None:
    made, text = _right()
    by = "__kvm_set_or_clear_apicv_inhibit"
    other = record(made, V61, ON)._replace(
        trace=text + call(len(made.ops) - 1, 0xFEE00, 0xFEE01, by)
    )
    assert judge(made.trace, other, V61, ON).differences == ()


def test_a_call_before_the_first_event() -> None:
    made, text = _right()
    wrong = record(made, V61, ON)._replace(trace=call(0, 0, 1) + text)
    assert judge(made.trace, wrong, V61, ON).differences == (
        Difference(None, "1 calls before the first event"),
    )


def test_a_call_too_few() -> None:
    made, text = _right()
    lines = text.splitlines(keepends=True)
    at = next(n for n, each in enumerate(lines) if " zap: " in each)
    wrong = record(made, V61, ON)._replace(trace="".join(lines[:at] + lines[at + 2 :]))
    (found,) = judge(made.trace, wrong, V61, ON).differences
    assert "the kernel no call" in found.what


def test_an_empty_request_must_be_a_call_all_the_same() -> None:
    host = ON
    made = program.of(trace(wrmsr(0x2FF, 0x800), wrmsr(0x200, 0x1000006)), 2 << 20)
    right = record(made, V61, host)
    assert judge(made.trace, right, V61, host).differences == ()
    without = "".join(line(n, f"tracing_mark_write: e {n}") for n in range(2))
    (_, found) = judge(made.trace, right._replace(trace=without), V61, host).differences
    assert found.what.endswith("the policy makes a request for no frame, the kernel no call")


def test_a_refusal_that_is_not_the_models() -> None:
    made, _ = _right()
    right = record(made, V61, ON)
    at = right.refused.index("1")
    accepts = right._replace(refused=right.refused[:at] + "0" + right.refused[at + 1 :])
    (found,) = judge(made.trace, accepts, V61, ON).differences
    assert (found.event, "the kernel accepts it" in found.what) == (at, True)
    at = right.refused.index("0")
    refuses = right._replace(refused=right.refused[:at] + "1" + right.refused[at + 1 :])
    (found,) = judge(made.trace, refuses, V61, ON).differences
    assert (found.event, "the kernel refuses it" in found.what) == (at, True)


def test_a_register_at_the_end_and_memory() -> None:
    made, _ = _right()
    right = record(made, V61, ON)
    registers = [list(each) for each in right.registers]
    registers[1][0] ^= 1 << 30
    registers[2][1] ^= 0x400
    wrong = right._replace(registers=registers, lost=["gfn 0x5: is gone"])
    said = [str(each) for each in judge(made.trace, wrong, V61, ON).differences]
    assert said[0].startswith("vCPU 1 ends with CR0.CD and NW")
    assert said[1].startswith("vCPU 2 ends with DEF_TYPE")
    assert said[2] == "memory is not intact: gfn 0x5: is gone"
    assert len(said) == 3


def test_a_run_that_ended_early() -> None:
    made, _ = _right()
    right = record(made, V61, ON)
    short = right._replace(refused=right.refused[:-1])
    assert "ended early" in str(judge(made.trace, short, V61, ON).differences[-1])


def test_a_reset_is_what_user_space_writes() -> None:
    made = program.of(trace(*ENABLED, RESET, RESET), 2 << 20)
    assert [event.kind for event in made.trace.events] == [
        Kind.RESET,  # at power-on nothing has been written yet
        *(Kind.CR0, Kind.WRMSR),
        *(Kind.HELD_CR0, *[Kind.HOST_WRMSR] * 29) * 2,
    ]
    assert judge(made.trace, record(made, V61, ON), V61, ON).differences == ()


def test_what_the_recorded_guest_was_refused_is_left_out() -> None:
    made = program.of(trace(*ENABLED, wrmsr(0x2FF, 0xC06)._replace(refused=True)), 2 << 20)
    assert (len(made.ops), made.skipped) == (3, 1)
