"""A cell of ``kind = "simulate"``: replay a guest under a policy, and model what it costs."""

import random
from collections.abc import Mapping
from functools import lru_cache

from mtrrzap.errors import UserError
from mtrrzap.guest.trace import Trace
from mtrrzap.guest.trace_reader import parse
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.simulator import Costs, Guest, cost_model, expected
from mtrrzap.study.rescale import with_memory, with_vcpus
from mtrrzap.sweep.columns import DONE, REFUSED, Row
from mtrrzap.sweep.grid import PAGE_SIZES, SimulateCell

Made = tuple[Trace, None] | tuple[None, str]
"""A rescaled guest, or why there is none."""


class Simulator:
    """Runs cells; neighbours share a guest, so the last few are kept."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """``texts`` has the traces' texts by name."""
        self._texts = texts
        self._host = Host()
        self._trace = lru_cache(maxsize=8)(self._read)
        self._wide = lru_cache(maxsize=2)(self._with_vcpus)
        self._made = lru_cache(maxsize=2)(self._with_memory)
        self._guest = lru_cache(maxsize=2)(self._looked_up)

    def run(self, cell: SimulateCell) -> Row:
        """Return a cell's row: the same whenever and wherever it runs."""
        header = self._trace(cell.trace).header
        row: Row = cell.described() | {
            "guest": header.family,
            "vcpus": cell.vcpus or header.vcpus,
            "memory_bytes": cell.memory or header.memory,
        }
        trace, why = self._made(cell.trace, cell.vcpus, cell.memory)
        if trace is None:
            return {**row, "status": REFUSED, "reason": why}
        guest = self._guest(
            *(cell.trace, cell.vcpus, cell.memory, cell.page_size, cell.seed, cell.spread)
        )
        policy = by_name(cell.policy)
        requests = list(replay(trace, policy, self._host))
        asked, cost = total(requests), expected(guest, policy, requests)
        spent = {f"modelled_{part}_cycles": round(n) for part, n in cost.spent._asdict().items()}
        return {
            **row,
            "status": DONE,
            "requests": asked.requests,
            "ranges": asked.ranges,
            "frames": asked.frames,
            **spent,
            "modelled_cycles": sum(spent.values()),
            "modelled_longest_cycles": round(cost.longest),
            "modelled_later_cycles": round(cost.later),
            "modelled_error_factor": cost_model.error_factor(),
        }

    def _read(self, name: str) -> Trace:
        return parse(self._texts[name].splitlines(keepends=True), name)

    def _with_vcpus(self, name: str, vcpus: int | None) -> Made:
        trace = self._trace(name)
        try:
            return (trace if vcpus is None else with_vcpus(trace, vcpus)), None
        except UserError as error:
            return None, f"vcpus: {error.problem}"

    def _with_memory(self, name: str, vcpus: int | None, memory: int | None) -> Made:
        trace, why = self._wide(name, vcpus)
        if trace is None:
            return None, str(why)
        if not trace.header.memory_known:
            return None, "memory: unknown, and the figures depend on it; give it when importing"
        if memory is None:
            return trace, None
        try:
            return with_memory(trace, memory), None
        except UserError as error:
            return None, f"memory: {error.problem}"

    def _looked_up(
        self,
        name: str,
        vcpus: int | None,
        memory: int | None,
        page_size: str,
        seed: int,
        spread: float,
    ) -> Guest:
        trace, why = self._made(name, vcpus, memory)
        assert trace is not None, why
        return Guest.of(trace, self._host, PAGE_SIZES[page_size], drawn(seed, spread))


def drawn(seed: int, spread: float) -> Costs:
    """Return the fitted parameters, or for a seed other than 0 a neighbour of them.

    Each is multiplied by a factor of its own between ``1 / spread`` and ``spread``, even in its
    logarithm: what comes out the same for many seeds does not hang on the fit.
    """
    fitted = cost_model.costs()
    if seed == 0:
        return fitted
    return Costs(
        **{
            name: getattr(fitted, name) * spread ** random.Random(f"{seed}/{name}").uniform(-1, 1)
            for name in Costs.names()
        }
    )
