"""One run: a thread for each vCPU, a protocol between them, and a main thread that ends the run.

Before the first event every vCPU touches its pages, all memory is zapped once, and every vCPU
touches them again (``ZapProbe``). So entries exist, and a run shows whether zaps work on this host.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, Rule, replay
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.live.plan import Item, Plan
from mtrrzap.live.tally import Counters, Run, ZapLog, ZapProbe
from mtrrzap.live.target import Target
from mtrrzap.live.turns import Meetings, RunStoppedError, Turns
from mtrrzap.live.vcpu import BrokenVcpuError
from mtrrzap.protocol import Protocol, Range
from mtrrzap.threads import Runtime, ZapError

Progress = Callable[[list[int]], None]
"""Called from time to time with how many events each vCPU has done."""

_TICK = 0.1
"""Seconds between two looks at the clock, and between two calls of ``Progress``."""
_PATIENCE = 30.0
"""Seconds in which threads must end after they were told to."""
_SHOWN = 16
"""vCPUs named in an error."""
_FIRST, _PROBE, _SECOND, _SNAPSHOT, _START = range(5)
"""Phases before those of the trace; in ``_PROBE`` and ``_SNAPSHOT`` the main thread acts."""


@dataclass(frozen=True, slots=True)
class RunCase:
    """The policy that makes the requests, and the protocol by which vCPUs share them."""

    name: str
    policy: Policy
    protocol: Protocol


def run(
    case: RunCase,
    plan: Plan,
    host: Host,
    target: Target,
    *,
    timeout: float,
    meet: bool = True,
    progress: Progress | None = None,
) -> Run:
    """Run a plan once under a policy; its threads have ended afterwards.

    ``meet``: the vCPUs that act in one phase make their first requests together, then their second
    ones, and so on, as if each ran on a core of its own.

    Raises ``UserError`` after ``timeout`` seconds and when a vCPU fails, and any other exception of
    a thread. The caller closes ``target``, but not after ``StuckError``.
    """
    return _Running(case, plan, host, target, meet=meet).run(timeout, progress)


class StuckError(UserError):
    """Threads of the run are still alive: what they use must stay."""


class _Mine(threading.local):
    """What each vCPU's thread has of its own."""

    walked = 0.0
    """Seconds in walks of its own."""


class _Request(NamedTuple):
    """A request that has returned."""

    ranges: int
    waited: float
    unzapped: bool


class _Running:
    def __init__(
        self, case: RunCase, plan: Plan, host: Host, target: Target, *, meet: bool
    ) -> None:
        self._plan, self._target = plan, target
        self._vcpus = len(plan.items)
        everyone, main = frozenset(range(self._vcpus)), frozenset({self._vcpus})
        before = [everyone, main, everyone, main, everyone]
        self._turns = Turns([*before, *plan.waits_for])
        self._rule = Rule(case.policy, host, plan.trace.header)
        self._meeting_of = _meetings(case, plan, host) if meet else {}
        self._meetings = Meetings(self._meeting_of.values())
        self._runtime = Runtime(case.protocol, self._zap)
        self._mmu_lock = threading.Lock()
        self._mine = _Mine()
        self._done = [0] * self._vcpus
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._ended = threading.Semaphore(0)
        self._requests: list[list[_Request]] = [[] for _ in range(self._vcpus)]
        self._zaps = ZapLog()
        self._last = 0.0

    # -- the main thread

    def run(self, timeout: float, progress: Progress | None) -> Run:
        threads = [
            threading.Thread(target=self._vcpu, args=(vcpu,), name=f"vCPU {vcpu}", daemon=True)
            for vcpu in range(self._vcpus)
        ]
        started: list[threading.Thread] = []
        deadline = monotonic() + timeout
        error: BaseException | None = None
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            probe, before, begin = self._prepare(deadline)
            self._watch(deadline, progress)
        except BaseException as caught:
            error = caught
        alive = self._end(started, error)
        if self._failure is not None:
            told = _explained(self._failure, timeout, self._where())
            raise StuckError(f"{alive} cannot be stopped; {told}") if alive else told
        return self._result(probe, before, begin)

    def _prepare(self, deadline: float) -> tuple[ZapProbe, Counters, float]:
        """Zap everything once, between two touches of all pages."""
        main = self._vcpus
        self._turns.wait(_PROBE, deadline - monotonic())
        full = self._target.counters()
        self._target.zap(0, self._target.frames)
        empty = self._target.counters()
        self._turns.leave(_PROBE, main)
        self._turns.wait(_SNAPSHOT, deadline - monotonic())
        before = self._target.counters()
        begin = perf_counter()
        self._turns.leave(_SNAPSHOT, main)
        again = before.faults - empty.faults
        return ZapProbe(full.entries, full.large, empty.entries, again), before, begin

    def _watch(self, deadline: float, progress: Progress | None) -> None:
        """Wait until every vCPU has ended."""
        left = self._vcpus
        while left:
            if self._ended.acquire(timeout=_TICK):
                left -= 1
                continue
            if progress is not None:
                progress(list(self._done))
            if monotonic() > deadline:
                raise TimeoutError

    def _where(self) -> str:
        behind = [
            f"vCPU {vcpu} {done}/{len(self._plan.items[vcpu])}"
            for vcpu, done in enumerate(self._done)
            if done < len(self._plan.items[vcpu])
        ]
        return f"events done: {_some(behind) or 'all'}"

    def _failed(self, error: BaseException) -> None:
        """End the run because of a vCPU's thread, unless it is ending already."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
        self._stop(error)

    def _stop(self, error: BaseException) -> None:
        """Keep the first error, and make every thread end."""
        with self._lock:
            if self._failure is None:
                self._failure = error
        self._turns.stop()
        self._meetings.stop()
        self._runtime.abort(RunStoppedError())
        self._target.kick()

    def _end(self, threads: list[threading.Thread], error: BaseException | None) -> str:
        """Wait for the threads, even if Ctrl-C is pressed again: their guest's memory must stay.

        Return the names of those that do not end.
        """
        while True:
            try:
                if error is not None:
                    self._stop(error)
                return self._join(threads)
            except KeyboardInterrupt as again:
                error = error or again

    def _join(self, threads: list[threading.Thread]) -> str:
        deadline = monotonic() + _PATIENCE
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(_TICK)
            if self._failure is not None and monotonic() > deadline:
                return _some([thread.name for thread in alive])
        return ""

    def _result(self, probe: ZapProbe, before: Counters, begin: float) -> Run:
        after = self._target.counters()
        requests = [request for mine in self._requests for request in mine]
        waits = [request.waited for request in requests]
        return Run(
            requests=len(requests),
            ranges=sum(request.ranges for request in requests),
            zaps=self._zaps.count,
            outside=self._zaps.outside,
            frames=self._zaps.frames,
            unzapped=sum(request.unzapped for request in requests),
            refaults=after.faults - before.faults,
            flushes=after.flushes - before.flushes,
            wall=self._last - begin,
            waited=sum(waits),
            longest_wait=max(waits, default=0.0),
            probe=probe,
            lost=tuple(self._target.lost()),
        )

    # -- a vCPU's thread

    def _vcpu(self, vcpu: int) -> None:
        try:
            self._target.enter(vcpu)
            try:
                self._live(vcpu)
            finally:
                self._target.leave(vcpu)
        except BaseException as error:
            self._failed(error)
        finally:
            self._ended.release()

    def _live(self, vcpu: int) -> None:
        for phase in (_FIRST, _SECOND):
            self._turns.wait(phase)
            self._target.warm(vcpu)
            self._turns.leave(phase, vcpu)
        self._turns.wait(_START)
        self._turns.leave(_START, vcpu)
        self._events(vcpu, self._plan.items[vcpu])
        self._target.finish(vcpu)
        with self._lock:
            self._last = max(self._last, perf_counter())

    def _events(self, vcpu: int, items: tuple[Item, ...]) -> None:
        state = power_on(self._plan.trace.header.maxphyaddr)
        phase: int | None = None
        for item in items:
            if item.phase != phase:
                self._change(vcpu, phase, item.phase)
                phase = item.phase
            self._target.perform(vcpu, item, state)
            after, refused = step(state, item.event)
            ask = None if refused else self._rule.asks(state, item.event, after)
            if ask is not None:
                self._meetings.join(self._meeting_of.get(item.position))
                self._request(vcpu, ask[1])
            state = after
            self._done[vcpu] += 1
        self._change(vcpu, phase, None)

    def _change(self, vcpu: int, old: int | None, new: int | None) -> None:
        if old is not None:
            self._turns.leave(_START + 1 + old, vcpu)
        if new is not None:
            self._turns.wait(_START + 1 + new)

    def _request(self, vcpu: int, ranges: tuple[Range, ...]) -> None:
        """Make a request as the vCPU that exited, which stays out of the guest meanwhile."""
        asked = self._zaps.asked()
        walked, begin = self._mine.walked, perf_counter()
        self._runtime.call(vcpu, ranges)
        waited = perf_counter() - begin - (self._mine.walked - walked)
        unzapped = bool(self._zaps.missing(asked, ranges))
        self._requests[vcpu].append(_Request(len(ranges), waited, unzapped))

    def _zap(self, start: int, end: int) -> None:
        """Zap the part inside guest memory, under one lock for all vCPUs, as KVM does."""
        began = self._zaps.now()
        inside = min(end, self._target.frames)
        with self._mmu_lock:
            begin = perf_counter()
            if start < inside:
                self._target.zap(start, inside)
            self._mine.walked += perf_counter() - begin
        self._zaps.ended(began, start, end, max(0, inside - start))


def _meetings(case: RunCase, plan: Plan, host: Host) -> dict[int, tuple[int, int]]:
    """Return each request's meeting: its phase, and its number in that phase on its vCPU."""
    phase_of = {item.position: item.phase for mine in plan.items for item in mine}
    passed: Counter[tuple[int, int]] = Counter()
    found = {}
    for request in replay(plan.trace, case.policy, host):
        phase = phase_of[request.event]
        if phase is not None:
            found[request.event] = (phase, passed[phase, request.vcpu])
            passed[phase, request.vcpu] += 1
    return found


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _explained(error: BaseException, timeout: float, where: str) -> BaseException:
    """Return a thread's error as one that a user can act on."""
    match error:
        case BrokenVcpuError():
            return UserError(str(error))
        case ZapError():
            return UserError(f"a zap failed: {error.exceptions[0]}", place="mprotect()")
        case TimeoutError():
            return UserError(f"not done after {timeout:g} s; {where}", place="timeout")
        case RuntimeError() if "thread" in str(error):
            return UserError(f"{error}", place="vcpus", mend="give fewer")
    return error
