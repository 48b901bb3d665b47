"""The runtime: real threads that wait for each other, are woken in turn, and can all be ended."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from helpers.broken_protocols import ListVm, crossed_locks, raises, rubbish
from helpers.crew import Crew, parked, reached
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Operation, Range, Spinlock, Steps
from mtrrzap.protocol.registry import protocol
from mtrrzap.threads import ClosedError, Runtime, ZapError, ZapInterruptedError, runtime

ONE: tuple[Range, ...] = ((0x1000, 0x2000),)


def counting(monkeypatch: pytest.MonkeyPatch, *, locks: bool) -> threading.Semaphore:
    """Count the threads that have come to wait: for a lock, or for anything else."""
    semaphore = threading.Semaphore(0)
    wait = runtime._Parked.wait

    def counted(each: Any) -> Any:
        if isinstance(each.operation.target, Spinlock) == locks:
            semaphore.release()
        return wait(each)

    monkeypatch.setattr(runtime._Parked, "wait", counted)
    return semaphore


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    return counting(monkeypatch, locks=False)


@pytest.fixture
def queueing(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    return counting(monkeypatch, locks=True)


class Gate:
    """A zap function that stays in its first zap until let go, and may raise in the next of ONE."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.error = error
        self.zaps: list[Range] = []

    def zap(self, start: int, end: int) -> None:
        self.zaps.append((start, end))
        if len(self.zaps) == 1:
            self.entered.set()
            reached(self.leave)
        elif self.zaps.count(ONE[0]) == 2 and (start, end) == ONE[0] and self.error:
            raise self.error


@pytest.mark.parametrize(
    ("name", "zaps"),
    [
        ("direct", 33),
        ("v3", 2),
        ("v4", 2),
        ("v4_patch10", 2),
        ("sketch", 2),
        ("review", 2),
        ("ticket", 2),
    ],
)
def test_those_who_ask_during_a_zap_share_the_next(
    waiting: threading.Semaphore, name: str, zaps: int
) -> None:
    gate, crew = Gate(), Crew()
    under_test = Runtime(PROTOCOLS[name], gate.zap)
    crew.start(under_test.call, 0, ONE)
    reached(gate.entered)
    for vcpu in range(1, 33):
        crew.start(under_test.call, vcpu, ONE)
    if name != "direct":
        parked(waiting, 32)
    gate.leave.set()
    crew.join()
    assert gate.zaps == [ONE[0]] * zaps


@pytest.mark.parametrize("name", ["sketch", "review", "ticket"])
def test_a_zap_that_raises_reaches_all_that_it_covered_and_no_other(
    waiting: threading.Semaphore, name: str
) -> None:
    """The first zap succeeds: its caller is not told of the second, which fails."""
    error = OSError("injected")
    gate, crew = Gate(error), Crew()
    under_test = Runtime(PROTOCOLS[name], gate.zap)
    first = crew.start(under_test.call, 0, ONE)
    reached(gate.entered)
    for vcpu in range(1, 9):
        crew.start(under_test.call, vcpu, ONE)
    crew.start(under_test.call, 9, ((0x8000, 0x9000),))
    parked(waiting, 9)
    gate.leave.set()
    crew.join(errors=8)
    assert not first.is_alive()
    assert all(isinstance(told, ZapError) and told.ranges == ONE for told in crew.errors)
    assert [told.exceptions for told in crew.errors if isinstance(told, ZapError)] == [(error,)] * 8
    assert len({id(told) for told in crew.errors}) == 8
    Crew().start(under_test.call, 0, ONE).join(60)
    assert len(gate.zaps) == 4


def test_what_is_no_exception_ends_its_own_thread_and_is_told_to_others(
    waiting: threading.Semaphore,
) -> None:
    gate, crew = Gate(KeyboardInterrupt()), Crew()
    under_test = Runtime(PROTOCOLS["ticket"], gate.zap)
    crew.start(under_test.call, 0, ONE)
    reached(gate.entered)
    for vcpu in range(1, 4):
        crew.start(under_test.call, vcpu, ONE)
    parked(waiting, 3)
    gate.leave.set()
    crew.join(errors=3)
    kinds = sorted(type(error).__name__ for error in crew.errors)
    assert kinds == ["KeyboardInterrupt", "ZapError", "ZapError"]
    for error in crew.errors:
        if isinstance(error, ZapError):
            (inner,) = error.exceptions
            assert isinstance(inner, ZapInterruptedError)
            assert inner.__cause__ is gate.error
    last = Crew()
    last.start(under_test.call, 0, ONE)
    last.join()
    assert len(gate.zaps) == 3


def take(vm: ListVm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.lock.lock()
    yield vm.mmu.zap(*ranges[0])
    yield vm.lock.unlock()


def test_a_lock_is_handed_on_in_the_order_of_arrival(queueing: threading.Semaphore) -> None:
    gate, crew = Gate(), Crew()
    under_test = Runtime(protocol(take, "test"), gate.zap)
    crew.start(under_test.call, 0, ((0, 1),))
    reached(gate.entered)
    for vcpu in range(1, 40):
        crew.start(under_test.call, vcpu, ((vcpu, vcpu + 1),))
        parked(queueing)
    gate.leave.set()
    crew.join()
    assert gate.zaps == [(vcpu, vcpu + 1) for vcpu in range(40)]


def flip(vm: ListVm, ranges: tuple[Range, ...]) -> Steps:
    if ranges[0][0] == 0:
        yield vm.flag.wait_until(1)
        return
    yield vm.flag.store(1)
    yield vm.flag.store(0)


def test_no_waiter_misses_a_value_however_short(waiting: threading.Semaphore) -> None:
    crew = Crew()
    under_test = Runtime(protocol(flip, "test"), print)
    for vcpu in range(5):
        crew.start(under_test.call, vcpu, ((0, 1),))
    parked(waiting, 5)
    under_test.call(5, ((1, 2),))
    crew.join()


@pytest.mark.parametrize("cause", [None, ZeroDivisionError("a vCPU failed")])
def test_closing_ends_all_who_wait_and_all_who_come(
    waiting: threading.Semaphore, cause: BaseException | None
) -> None:
    gate, crew = Gate(), Crew()
    under_test = Runtime(PROTOCOLS["ticket"], gate.zap)
    crew.start(under_test.call, 0, ONE)
    reached(gate.entered)
    waiters = Crew()
    for vcpu in range(1, 9):
        waiters.start(under_test.call, vcpu, ONE)
    parked(waiting, 8)
    under_test.abort(cause) if cause else under_test.close()
    waiters.join(errors=8)
    gate.leave.set()
    crew.join(errors=1)
    with pytest.raises(ClosedError) as late:
        under_test.call(0, ONE)
    for error in (*waiters.errors, *crew.errors, late.value):
        assert isinstance(error, ClosedError)
        assert error.__cause__ is cause
    assert gate.zaps == [ONE[0]]


def test_a_protocol_that_breaks_ends_its_waiters(queueing: threading.Semaphore) -> None:
    """vCPU 0 waits for a lock whose holder meets an error."""
    entered, leave, crew = threading.Event(), threading.Event(), Crew()

    def hook(vcpu: int, operation: Operation) -> None:
        if vcpu == 1 and operation.verb == "zap":
            entered.set()
            reached(leave)
            raise ZeroDivisionError

    under_test = Runtime(protocol(take, "test"), print, hook=hook)
    crew.start(under_test.call, 1, ONE)
    reached(entered)
    crew.start(under_test.call, 0, ONE)
    parked(queueing)
    leave.set()
    crew.join(errors=2)
    kinds = sorted(type(error).__name__ for error in crew.errors)
    assert kinds == ["ClosedError", "ZeroDivisionError"]


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (rubbish, UserError, r"broken_protocols.py:\d+: the protocol yielded 42"),
        (raises, ZeroDivisionError, "oops"),
    ],
)
def test_a_wrong_protocol_says_so(function: Any, error: type[Exception], text: str) -> None:
    under_test = Runtime(protocol(function, "test"), print)
    with pytest.raises(error, match=text):
        under_test.call(0, ONE)
    with pytest.raises(ClosedError):
        under_test.call(0, ONE)


def test_runtimes_share_nothing() -> None:
    """One is stuck with its lock held; the other works."""
    gate, crew, zaps = Gate(), Crew(), []
    stuck = Runtime(protocol(crossed_locks, "test"), gate.zap)
    crew.start(stuck.call, 0, ONE)
    reached(gate.entered)
    Runtime(protocol(crossed_locks, "test"), lambda *zap: zaps.append(zap)).call(0, ONE)
    gate.leave.set()
    crew.join()
    assert zaps == [ONE[0]]


def allocates(vm: ListVm, ranges: tuple[Range, ...]) -> Steps:  # noqa: ARG001
    got = yield vm.memory.alloc()
    yield vm.mmu.zap(0, 2 if got else 1)


def test_allocations_fail_where_asked_to() -> None:
    zaps: list[Range] = []
    asked: list[int] = []

    def alloc(vcpu: int) -> bool:
        asked.append(vcpu)
        return vcpu != 3

    under_test = Runtime(protocol(allocates, "test"), lambda *zap: zaps.append(zap), alloc=alloc)
    for vcpu in (2, 3, 4):
        under_test.call(vcpu, ONE)
    assert zaps == [(0, 2), (0, 1), (0, 2)]
    assert asked == [2, 3, 4]
