"""Live runs beside what ``compare`` counts and what the simulator models for the same requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.live.running import RunCase
from mtrrzap.live.tally import Run
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.simulator import Guest, cost_model, expected
from mtrrzap.study.units import millions


class Prediction(NamedTuple):
    """The simulator's answer for the recorded guest, not the test guest: all of it is modelled."""

    zaps: int
    """Walks."""
    mcycles: float
    """Of all vCPUs in requests, millions."""
    longest_mcycles: float
    """The longest wait of one request, millions."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of one case, beside what the same requests are elsewhere."""

    case: RunCase
    runs: Sequence[Run]
    requests: int
    """As ``compare`` counts them; each run must have as many."""
    ranges: int
    modelled: Prediction | None
    """None for a protocol that the simulator does not know, or if the guest's memory is unknown."""

    @property
    def findings(self) -> Iterator[str]:
        """Yield what is wrong: lost data, a lost zap, another number of requests."""
        for number, run in enumerate(self.runs, start=1):
            where = f"{self.case.name}, run {number}"
            if run.lost:
                yield f"{where}: guest memory LOST data in {len(run.lost)} places: {run.lost[0]}"
            if run.unzapped:
                yield (
                    f"{where}: LOST ZAP: {run.unzapped} requests returned before all of their "
                    "frames were zapped (see 'mtrrzap check')"
                )
            if (run.requests, run.ranges) != (self.requests, self.ranges):
                yield (
                    f"{where}: {run.requests} requests for {run.ranges} ranges, "
                    f"compare counts {self.requests} for {self.ranges}"
                )


def measured(
    trace: Trace, host: Host, page_level: int, made: Sequence[tuple[RunCase, Sequence[Run]]]
) -> list[Measured]:
    """Put each case's runs, one or more, beside the counts and the model of the same requests."""
    guest = Guest.of(trace, host, page_level, cost_model.costs())
    found = []
    for case, runs in made:
        requests = list(replay(trace, case.policy, host))
        sums = total(requests)
        prediction = None
        known = trace.header.memory_known
        if known and PROTOCOLS.get(case.policy.protocol) is case.protocol:
            cost = expected(guest, case.policy, requests)
            prediction = Prediction(round(cost.zaps), millions(cost.cycles), millions(cost.longest))
        found.append(Measured(case, runs, sums.requests, sums.ranges, prediction))
    return found
