"""Two vCPUs on two threads that take turns: every schedule with a bounded number of switches.

vCPU 0 runs until its stop ``p``, vCPU 1 until its stop ``q``, then each until it waits or returns.
Stops are before every operation and in the middle of every zap. Only one thread runs at a time, so
a schedule gives the same result whenever it is run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from helpers.crew import LIMIT, Crew
from helpers.zap_log import Call, Clock, Verdict, Zap, judge
from mtrrzap.protocol import PROTOCOLS, Operation
from mtrrzap.threads import Runtime, ZapError, runtime

Ask = tuple[int, int]


class Run:
    """One schedule of one protocol."""

    def __init__(
        self,
        protocol: str,
        stops: tuple[int, int],
        *,
        asks: tuple[Ask, Ask] = ((0x1000, 0x2000), (0x1000, 0x2000)),
        alloc: Callable[[int], bool] | None = None,
        raises: int | None = None,
    ) -> None:
        """The zap with the ordinal ``raises`` raises."""
        self.asks, self.stops, self.raises = asks, stops, raises
        self.clock = Clock()
        self.calls: list[Call] = []
        self.zaps: list[Zap] = []
        self.stopped: list[str | None] = [None, None]
        """What each vCPU was about to do at its stop; None if it returned before."""
        self._ordinal = 0
        self._seen = [0, 0]
        self._returned: set[int] = set()
        self._blocked: set[int] = set()
        self._turn = 0
        self._condition = threading.Condition()
        self._vcpus: dict[int, int] = {}
        self.runtime = Runtime(PROTOCOLS[protocol], self._zap, hook=self._hook, alloc=alloc)

    def go(self, monkeypatch: pytest.MonkeyPatch) -> Verdict:
        wait, wake = runtime._Parked.wait, runtime._Parked.wake

        def in_turn(parked: Any) -> Any:
            me = self._vcpus[threading.get_ident()]
            self._blocked.add(me)
            self._pass(me)
            result = wait(parked)
            self._await(me)
            return result

        def woken(parked: Any) -> None:
            self._blocked.discard(parked.vcpu)
            wake(parked)

        crew = Crew()
        with monkeypatch.context() as patch:
            patch.setattr(runtime._Parked, "wait", in_turn)
            patch.setattr(runtime._Parked, "wake", woken)
            for vcpu in range(2):
                crew.start(self._vcpu, vcpu)
            crew.join()
        self._vcpus.clear()  # from now on threads run as they like
        return judge(self.calls, self.zaps)

    def _vcpu(self, me: int) -> None:
        self._vcpus[threading.get_ident()] = me
        self._await(me)
        begin, raised = self.clock.tick(), False
        try:
            self.runtime.call(me, (self.asks[me],))
        except ZapError:
            raised = True
        self.calls.append(Call(begin, self.clock.tick(), *self.asks[me], raised))
        self._returned.add(me)
        self._pass(me)

    def _zap(self, start: int, stop: int) -> None:
        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        begin = self.clock.tick()
        if (vcpu := self._vcpus.get(threading.get_ident())) is not None:
            self._stop(vcpu, f"within zap {ordinal}")
        self.zaps.append(Zap(begin, self.clock.tick(), start, stop, ordinal == self.raises))
        if ordinal == self.raises:
            raise OSError("injected")

    def _hook(self, vcpu: int, operation: Operation) -> None:
        if threading.get_ident() in self._vcpus:
            self._await(vcpu)
            self._stop(vcpu, str(operation))

    def _stop(self, vcpu: int, where: str) -> None:
        self._seen[vcpu] += 1
        if self._seen[vcpu] == self.stops[vcpu]:
            self.stopped[vcpu] = where
            self._pass(vcpu)
            self._await(vcpu)

    def _pass(self, me: int) -> None:
        with self._condition:
            if 1 - me not in self._returned | self._blocked:
                self._turn = 1 - me
                self._condition.notify_all()

    def _await(self, me: int) -> None:
        with self._condition:
            assert self._condition.wait_for(
                lambda: self._turn == me or 1 - me in self._returned, LIMIT
            ), "its turn never comes"


def schedules(
    monkeypatch: pytest.MonkeyPatch, protocol: str, **kind: Any
) -> Iterator[tuple[Run, Verdict]]:
    """Run every pair of stops."""
    for first in count(1):
        for second in count(1):
            run = Run(protocol, (first, second), **kind)
            yield run, run.go(monkeypatch)
            if run.stopped[1] is None:
                break
        if run.stopped[0] is None:
            break
