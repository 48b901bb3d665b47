"""How fast the Python tools of this kind are on the same protocol: minicheck and frontrun.

minicheck is given the checker's own step relation (v4, 4 vCPUs, one request each, no symmetry), so
what is measured is its search. frontrun runs real threads: v4's list, lock and flag written with
``threading``, the flag a lock that is tried, its waiters blocking on it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.stepper import Stepper
from mtrrzap.protocol.load import load

SECONDS = 20.0


def lines() -> Iterator[str]:
    """Yield one line a measurement, or why there is none."""
    yield from _minicheck()
    for threads in (2, 3):
        yield from _frontrun(threads)


def _minicheck() -> Iterator[str]:
    try:
        import minicheck
    except ImportError:
        yield "minicheck is not installed"
        return
    explored = scenario(load("v4"), 4, 1)
    stepper = Stepper(Model(explored, LostZap(explored)), symmetry=False)
    first = stepper.model.initial
    model = minicheck.Protocol(
        name="v4",
        candidate=False,
        fields=tuple(f"f{i}" for i in range(len(first))),
        initial=first,
        transitions=lambda state: [("", move.after) for move in stepper.moves(state)],
        invariants={"true": lambda _: True},
    )
    started = time.perf_counter()
    minicheck.check_safety(model)
    seconds = time.perf_counter() - started
    rate = 61_591 / seconds / 1e6
    yield f"minicheck: 61,591 states (v4, 4 x 1) in {seconds:.2f} s: {rate:.2f} M/s"


class _Vm:
    """v4 with threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queued: list[Any] = []
        self.zapping = threading.Lock()

    def request(self) -> None:
        """Queue, then drain or wait."""
        with self.lock:
            if not self.queued:
                self.queued.append(1)
        if self.zapping.acquire(blocking=False):
            while True:
                with self.lock:
                    if not self.queued:
                        break
                    self.queued.pop()
            self.zapping.release()
        else:
            with self.zapping:
                pass


def _frontrun(threads: int) -> Iterator[str]:
    command = Path(sys.executable).with_name("frontrun")
    if not command.exists():
        yield "frontrun is not installed"
        return
    done = subprocess.run(
        [str(command), sys.executable, __file__, str(threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    yield done.stdout.strip() or f"frontrun failed: {done.stderr.strip()[-200:]}"


def explore(threads: int) -> None:
    """Run under the ``frontrun`` command, and print what it did."""
    import frontrun

    runs = 0

    def setup() -> _Vm:
        nonlocal runs
        runs += 1
        return _Vm()

    started = time.perf_counter()
    frontrun.explore(
        setup=setup,
        workers=_Vm.request,
        count=threads,
        invariant=lambda _: True,
        stop_on_first=False,
        max_executions=1_000_000,
        total_timeout=SECONDS,
    )
    seconds = time.perf_counter() - started
    ended = "all seen" if seconds < SECONDS else "not finished"
    rate = runs / seconds
    print(f"frontrun: {threads} threads, {runs} executions, {rate:.0f}/s, {ended}")


if __name__ == "__main__":
    explore(int(sys.argv[1]))
