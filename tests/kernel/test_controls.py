"""The controls of a comparison: all pass for the right kernel, and each can fail."""

from dataclasses import replace
from functools import cache

import pytest

from helpers.kernel_records import FRAMES, V61, WIDE, record, walked
from mtrrzap.kernel.controls import HUGE, Control, Seen, controls, walks
from mtrrzap.kernel.program import Case, cases, of
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kernel.storm import Storm
from mtrrzap.kvm.replay import Host

DIRECT = Storm(4, requests=400, zaps=400, shared=0, lost=0, overlaps=240, first_lost=(), kernel="")
SHARED = DIRECT._replace(zaps=300, shared=100, overlaps=0)
RANDOM = random_trace(1, 120)


@cache
def _walk(*, quirk: bool, types: bool) -> tuple:  # type: ignore[type-arg]
    case = Case(f"quirk {quirk}", quirk, of(random_trace(5, 24, vcpus=2), FRAMES << 12))
    return case, case.task("x", walks=True), walked(case.program, quirk=quirk, types=types)


def _seen(storm: Storm | None = DIRECT, *, types: bool = True) -> Seen:
    made = cases([("random", RANDOM)])
    hosts = [Host(maxphyaddr=WIDE, ept=False, quirk_cd_nw_cleared=case.quirk) for case in made]
    records = [record(case.program, V61, host) for case, host in zip(made, hosts, strict=True)]
    quiet = records[0]._replace(trace="", coherent=True)
    rows = list(zip(made, records, strict=True))
    return Seen(rows, [_walk(quirk=quirk, types=types) for quirk in (True, False)], storm, quiet)


def _failed(seen: Seen, found: list[Control] | None = None) -> set[str]:
    made = found if found is not None else controls(seen, V61)
    return {control.name for control in made if not control.passed}


@pytest.mark.parametrize("types", [False, True])
def test_the_right_kernel_passes_them_all(types: bool) -> None:
    found = list(controls(_seen(types=types), V61))
    assert _failed(_seen(), found) == set()
    wrong = [control.name for control in found if control.name.startswith("wrong: ")]
    assert len(wrong) == (18 if types else 14)


def test_a_kernel_that_shares_is_not_direct() -> None:
    assert _failed(_seen(SHARED)) == {"vCPUs at once", "wrong: protocol = ticket"}
    ticket = replace(V61, protocol="ticket")
    found = list(controls(_seen(SHARED), ticket))
    assert {c.name: c.passed for c in found if "vCPUs" in c.name or "protocol" in c.name} == {
        "vCPUs at once": True,
        "wrong: protocol = direct": True,
    }


@pytest.mark.parametrize(
    "storm",
    [
        DIRECT._replace(zaps=399, shared=1),  # one request was served by another's zap
        DIRECT._replace(overlaps=0),  # one vCPU at a time
        DIRECT._replace(zaps=401),
    ],
)
def test_a_storm_that_is_not_direct(storm: Storm) -> None:
    made = controls(_seen(storm), V61)
    assert not next(control.passed for control in made if control.name == "vCPUs at once")


def test_a_call_with_snoop_control() -> None:
    seen = _seen()
    loud = seen._replace(quiet=seen.quiet._replace(trace=seen.rows[0][1].trace))
    assert _failed(loud) == {"snoop control on"}


def test_a_leaf_of_a_wrong_type() -> None:
    seen = _seen()
    case, task, right = seen.walks[0]
    wrong = right._replace(trace=right.trace.replace("gfn=0x5 bits=0x", "gfn=0x5 bits=0x4"))
    failed = _failed(seen._replace(walks=[(case, task, wrong), seen.walks[1]]))
    assert failed == {f"zaps and what is mapped, {case.trace}", f"stale types, {case.trace}"}


def test_a_guests_own_trace_is_walked_where_types_are_known() -> None:
    guest = replace(RANDOM, header=replace(RANDOM.header, firmware="SeaBIOS"))
    wanted = cases([("a/name.trace", guest), ("random", RANDOM)])
    assert [case.trace for case in walks(wanted, types=False)] == ["4K pages", HUGE]
    assert [case.trace for case in walks(wanted, types=True)][2:] == ["a/name.trace"]
    assert len(walks(cases([("random", RANDOM)]), types=True)) == 2
