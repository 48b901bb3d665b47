"""The verdicts for every number of vCPUs, of the shipped protocols and of others."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from helpers import broken_protocols, hasty_ticket, polling_protocols, unsound_protocols
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import PROPERTIES, Proof, check
from mtrrzap.checker.any_of import ways
from mtrrzap.checker.check import HOLDS, UNKNOWN, VIOLATED, Options, Verdict
from mtrrzap.checker.check import check as bounded
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.schedule import shows
from mtrrzap.checker.verifier import verify
from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    ALL_GFNS,
    PROTOCOLS,
    Atomic,
    Operation,
    Outcome,
    Protocol,
    Range,
    SharedObject,
    Spinlock,
    Steps,
    Vm,
)
from mtrrzap.protocol.registry import protocol

FIXED: Request = (Range(0, 0x100),)
VARIABLE: Request = (Range(0x80000, 0x100000),)
ALL: Request = (ALL_GFNS,)
LOST, DEADLOCK, UNLOCKED, CAPACITY, ORDERING, STARVATION = PROPERTIES


def verdicts(row: Protocol, *kinds: Request, **options: object) -> dict[str, Verdict]:
    found = check(Proof(row, kinds or (ALL,)), Options(**options))  # type: ignore[arg-type]
    for each in found:
        if each.verdict == VIOLATED:
            assert each.counterexample is not None
            assert shows(each.counterexample)
        else:
            assert each.counterexample is None
    return {each.prop: each for each in found}


@pytest.mark.parametrize(
    ("name", "violated"),
    [
        ("direct", {}),
        ("v3", {LOST: 13, ORDERING: 15, STARVATION: 29}),
        ("v4", {LOST: 20, ORDERING: 20, STARVATION: 29}),
        ("v4_patch10", {LOST: 13, ORDERING: 15, STARVATION: 29}),
        ("sketch", {ORDERING: 23, STARVATION: 34}),
        ("review", {ORDERING: 21, STARVATION: 32}),
        ("ticket", {}),
    ],
)
def test_the_shipped_protocols(name: str, violated: dict[str, int]) -> None:
    """What is not violated by the shortest schedule, of so many steps, holds."""
    found = verdicts(PROTOCOLS[name])
    assert found.keys() == set(PROPERTIES)
    for prop, verdict in found.items():
        assert verdict.verdict == (VIOLATED if prop in violated else HOLDS), prop
        if verdict.counterexample:
            shown = verdict.counterexample
            assert len(shown.schedule) + len(shown.loop) == violated[prop]
            assert shown.scenario.vcpus == 2


@pytest.mark.parametrize("name", ["direct", "sketch", "review"])
def test_three_kinds_of_requests(name: str) -> None:
    found = verdicts(PROTOCOLS[name], FIXED, VARIABLE, ALL)
    assert all(found[prop].verdict == HOLDS for prop in (LOST, DEADLOCK, UNLOCKED, CAPACITY))


@pytest.mark.parametrize(
    ("name", "kinds", "most"),
    [
        ("direct", (ALL,), 1),
        ("direct", (FIXED, (FIXED[0], VARIABLE[0])), 2),
        ("ticket", (ALL,), 2),
    ],
)
def test_how_many_zaps_a_call_sits_through(
    name: str, kinds: tuple[Request, ...], most: int
) -> None:
    """``ticket``: what is left of one batch, and its own, which is one zap each with one kind."""
    proof = Proof(PROTOCOLS[name], kinds)
    proof.run()
    assert STARVATION in proof.proved
    assert proof.bound == most


def test_kinds_that_are_alike_are_one() -> None:
    assert Proof(PROTOCOLS["direct"], (ALL, FIXED, ALL)).kinds == (ALL, FIXED)


def test_hasty_ticket_loses_its_order_with_several_ranges_only() -> None:
    """It needs two batches; a schedule with few vCPUs and one request each does not show it."""
    row = protocol(hasty_ticket.hasty, "test")
    found = verdicts(row, FIXED, ALL, properties=(LOST, ORDERING))
    assert found[LOST].verdict == HOLDS
    assert found[ORDERING].verdict != HOLDS


class Rude(SharedObject):
    """Asks who uses it."""

    verbs = {"use": 0}  # noqa: RUF012

    @property
    def initial(self) -> int:
        return 0

    def use(self) -> Operation:
        return self._operation("use")

    def effect(self, value: int, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        return ((vcpu, None),)


class RudeVm(Vm):
    rude = Rude()


def rude(vm: RudeVm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.rude.use()
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


def test_who_uses_an_object_must_not_matter() -> None:
    found = verdicts(protocol(rude, "test", allocates=False))
    assert {each.verdict for each in found.values()} == {UNKNOWN}
    assert "depends on which vCPU uses it" in found[LOST].detail
    assert "no schedule found with 3 vCPUs" in found[LOST].detail


class FlagVm(Vm):
    lock = Spinlock()
    flag = Atomic(0)


def keeps_the_lock(vm: FlagVm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.lock.lock()
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


def test_a_call_that_returns_with_a_lock() -> None:
    found = verdicts(protocol(keeps_the_lock, "test", allocates=False))
    assert found[DEADLOCK].verdict == VIOLATED
    assert found[LOST].verdict == UNKNOWN
    assert "a call returns while its vCPU holds lock" in found[LOST].detail


def first_only(vm: FlagVm, ranges: tuple[Range, ...]) -> Steps:
    """Blocked at its very first step once anybody has been here: the idle ones wait, too."""
    yield vm.flag.wait_until(0)
    yield vm.flag.store(1)
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


def test_an_idle_vcpu_that_cannot_begin_its_call() -> None:
    assert verdicts(protocol(first_only, "test", allocates=False))[DEADLOCK].verdict == VIOLATED


def goes_round_under_the_lock(vm: FlagVm, ranges: tuple[Range, ...]) -> Steps:
    """Bounded, as the count leaves out who queues for a lock; so it must be refused otherwise."""
    yield vm.flag.store(1)
    yield vm.lock.lock()
    while (yield vm.flag.cmpxchg(1, 0)) == 1:
        for start, end in ranges:
            yield vm.mmu.zap(start, end)
    for start, end in ranges:
        yield vm.mmu.zap(start, end)
    yield vm.lock.unlock()


def waits_under_the_lock(vm: FlagVm, ranges: tuple[Range, ...]) -> Steps:
    """The flag is always 0 here, so it never waits for long; but it might."""
    yield vm.lock.lock()
    if (yield vm.flag.cmpxchg(0, 1)) == 0:
        yield vm.flag.store(0)
    yield vm.flag.wait_until(0)
    for start, end in ranges:
        yield vm.mmu.zap(start, end)
    yield vm.lock.unlock()


@pytest.mark.parametrize(
    ("call", "why"),
    [(goes_round_under_the_lock, "a call may go round"), (waits_under_the_lock, "")],
)
def test_starvation_rests_on_more_than_a_bound(call: Any, why: str) -> None:
    proof = Proof(protocol(call, "test", allocates=False))
    proof.run()
    assert proof.why[LOST] == ""
    assert proof.why[DEADLOCK] == ""
    assert proof.why[STARVATION].startswith(why)
    assert bool(proof.why[STARVATION]) == bool(why)


def never_gets_far(vm: FlagVm, ranges: tuple[Range, ...]) -> Steps:
    """Needs more vCPUs than are tried: the fourth to come in at the same time zaps nothing."""
    inside = yield vm.flag.load()
    while (seen := (yield vm.flag.cmpxchg(inside, inside + 1))) != inside:
        inside = seen
    if inside < 3:
        for start, end in ranges:
            yield vm.mmu.zap(start, end)
    while (seen := (yield vm.flag.cmpxchg(inside, inside - 1))) != inside:
        inside = seen


def test_what_only_more_vcpus_show_is_unknown_not_violated_and_never_holds() -> None:
    found = verdicts(
        protocol(never_gets_far, "test", allocates=False),
        properties=(LOST,),
        limits=Limits(seconds=2),
    )
    assert found[LOST].verdict == UNKNOWN


CALLS = [
    call
    for module in (broken_protocols, unsound_protocols, polling_protocols)
    for call in vars(module).values()
    if inspect.isgeneratorfunction(call) and call.__module__ == module.__name__
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("kinds", [(ALL,), (FIXED, ALL)], ids=["one", "two"])
def test_what_few_vcpus_refute_never_holds(call: Any, kinds: tuple[Request, ...]) -> None:
    """Of the odd protocols that other tests need; what is refused is refused here, too.

    What is proved, the verifier finds proved.
    """
    try:
        row = protocol(call, "test")
        proof = Proof(row, kinds)
        proof.run(Limits(seconds=10))
        shown = certificate.certified(proof)
        assert not shown or verify(certificate.written(proof, "x"), row) == shown
        for vcpus, requests in ((2, 1), (2, 2), (3, 1)):
            limits = Limits(seconds=3, states=20_000)
            options = Options(properties=proof.proved, limits=limits, first=True)
            for world in ways(row, kinds, vcpus, requests):
                refuted = [
                    each.prop for each in bounded(world, options) if each.verdict == VIOLATED
                ]
                assert not refuted
    except UserError:
        return


def test_a_limit_gives_unknown() -> None:
    for limits in (Limits(seconds=0), Limits(states=3), Limits(bytes=1)):
        found = verdicts(PROTOCOLS["ticket"], properties=(LOST,), limits=limits)
        assert found[LOST].verdict == UNKNOWN
        assert "limit of" in found[LOST].detail
        assert "not closed" in found[LOST].detail


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="a request without a range"):
        Proof(PROTOCOLS["v4"], ((),))
    with pytest.raises(UserError, match="'work' is not decided for every number"):
        Proof(PROTOCOLS["v4"], properties=("work",))


def test_the_world_is_named() -> None:
    assert Proof(PROTOCOLS["v4"], (ALL, FIXED)).title() == (
        "any number of vCPUs that ask for ever, each time for any of 2 requests, "
        "allocation may fail"
    )
