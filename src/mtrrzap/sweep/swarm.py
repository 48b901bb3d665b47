"""A cell of ``kind = "check"``: executions of a protocol, and the first violation made small."""

import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from mtrrzap.checker.check import VIOLATED as VERDICT_VIOLATED
from mtrrzap.checker.check import Counterexample, Options, Verdict, check
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.schedule import written
from mtrrzap.checker.shrink import shrunk
from mtrrzap.checker.strategies import Pct, RandomWalk, Strategy
from mtrrzap.protocol import Protocol
from mtrrzap.sweep.columns import DONE, NOT_SEEN, VIOLATED, Row
from mtrrzap.sweep.grid import CheckCell

Load = Callable[[str, str | None], Protocol]
"""Gives the protocol of a name, made of its source where it is a user's."""

FEW, MANY = 16, 1024
"""Executions of one search, at first and at most: a search keeps the states that it has seen."""
STEPS = 1_000_000
"""Steps that are meant to be enough for one."""


class Swarm:
    """Runs cells; a protocol is loaded once."""

    def __init__(self, texts: Mapping[str, str], load: Load) -> None:
        """``texts`` has the sources of the user's protocols by name."""
        self._protocol = lru_cache(maxsize=None)(lambda name: load(name, texts.get(name)))

    def run(self, cell: CheckCell) -> Row:
        """Return a cell's row: the same wherever it runs, if its budget is in executions."""
        protocol = self._protocol(cell.protocol)
        row: Row = cell.described() | {"status": DONE}
        scenario = _scenario(cell, protocol)
        executions, steps, found = _search(cell, scenario)
        row |= {"executions": executions, "steps": steps, "verdict": NOT_SEEN}
        if found is not None:
            small = shrunk(found)
            row |= {
                "verdict": VIOLATED,
                "property": found.prop,
                "found_steps": len(found.schedule),
                "schedule_steps": len(small.schedule),
                "schedule": written(small, cell.protocol),
            }
        return row


class _Offset:
    """A strategy whose executions are numbered on over several searches; counts them."""

    def __init__(self, inner: Strategy) -> None:
        self.name = inner.name
        self._inner = inner
        self.offset = self.made = 0

    def begin(self, execution: int, vcpus: int) -> None:
        self.made = execution + 1
        self._inner.begin(self.offset + execution, vcpus)

    def choose(self, step: int, enabled: list[int]) -> int:
        return self._inner.choose(step, enabled)


def _scenario(cell: CheckCell, protocol: Protocol) -> Scenario:
    each = (cell.ranges[i % len(cell.ranges)] for i in range(cell.vcpus))
    return Scenario(
        protocol=protocol,
        requests=tuple((request,) * cell.requests for request in each),
        alloc_fails=cell.alloc_fails and protocol.allocates,
        memory=cell.memory_model,
    )


def _search(cell: CheckCell, scenario: Scenario) -> tuple[int, int, Counterexample | None]:
    """Return the executions and steps made, and the first violation, if any."""
    started = time.perf_counter()
    strategy = _Offset(_strategy(cell, scenario))
    done = steps = 0
    batch = FEW
    while (size := min(batch, (cell.executions or batch + done) - done)) > 0:
        left = None if cell.seconds is None else cell.seconds - (time.perf_counter() - started)
        if left is not None and left <= 0:
            break
        strategy.offset = done
        verdicts = _checked(cell, scenario, strategy, size, left)
        done += strategy.made
        steps += verdicts[0].transitions
        for prop in cell.properties:
            for verdict in verdicts:
                if verdict.prop == prop and verdict.verdict == VERDICT_VIOLATED:
                    return done, steps, verdict.counterexample
        batch = min(2 * batch, MANY, max(1, STEPS * done // max(steps, 1)))
    return done, steps, None


def _checked(
    cell: CheckCell, scenario: Scenario, strategy: _Offset, runs: int, seconds: float | None
) -> list[Verdict]:
    strategy.made = 0
    options = Options(
        properties=cell.properties,
        strategy=strategy,
        runs=runs,
        first=True,
        limits=Limits(seconds=seconds),
    )
    return check(scenario, options)


def _strategy(cell: CheckCell, scenario: Scenario) -> Strategy:
    """Return the strategy; ``pct`` is told how long an execution is, by a random one."""
    walk = RandomWalk(cell.seed)
    if cell.strategy == "random":
        return walk
    length = max(verdict.depth for verdict in _checked(cell, scenario, _Offset(walk), 1, None))
    return Pct(cell.seed, depth=cell.depth, steps=length)
