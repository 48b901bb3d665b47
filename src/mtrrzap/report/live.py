"""What ``mtrrzap run`` prints: a row for each policy, measured and modelled, and how to read it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.live.environment import Environment
from mtrrzap.live.measure import Engine, Settings
from mtrrzap.live.result import Run, middle
from mtrrzap.live.run import Case
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.simulator import Guest, cost_model, expected
from mtrrzap.study.units import millions


class Prediction(NamedTuple):
    """The simulator's answer for the recorded guest (not the test guest). All of it is modelled."""

    zaps: int
    """Walks."""
    mcycles: float
    """Of all vCPUs in requests, millions."""
    longest_mcycles: float
    """The longest that one request waits, millions."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One policy: its runs, what ``compare`` counts, and what the simulator says."""

    case: Case
    runs: Sequence[Run]
    requests: int
    """As ``compare`` counts them; those of each run must be as many."""
    ranges: int
    modelled: Prediction | None
    """None for a protocol that the simulator does not know."""

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
    trace: Trace, host: Host, page_level: int, made: Sequence[tuple[Case, Sequence[Run]]]
) -> list[Measured]:
    """Put each case's runs, one or more, beside what the other engines say of the same requests."""
    guest = Guest.of(trace, host, page_level, cost_model.costs())
    found = []
    for case, runs in made:
        requests = list(replay(trace, case.policy, host))
        sums = total(requests)
        prediction = None
        if PROTOCOLS.get(case.policy.protocol) is case.protocol:
            cost = expected(guest, case.policy, requests)
            prediction = Prediction(round(cost.zaps), millions(cost.cycles), millions(cost.longest))
        found.append(Measured(case, runs, sums.requests, sums.ranges, prediction))
    return found


COUNTED = ("policy", "requests", "ranges", "zaps", "frames zapped", "refaults")
TIMED = ("wall", "longest wait")
MODELLED = ("modelled zaps", "modelled Mcycles", "modelled longest wait")


def line(row: Measured) -> tuple[object, ...]:
    """Return the cells of ``COUNTED``, ``TIMED`` and ``MODELLED``: medians."""
    counted = (middle(row.runs, name) for name in ("requests", "ranges", "zaps", "frames"))
    timed = (f"{1e3 * middle(row.runs, name):.1f}" for name in ("wall", "longest_wait"))
    modelled: tuple[object, ...] = row.modelled or (None,) * len(MODELLED)
    return (row.case.name, *counted, middle(row.runs, "refaults"), *timed, *modelled)


def as_data(row: Measured) -> dict[str, object]:
    """Return a row as plain data: every run, times in seconds."""
    return {
        "policy": row.case.name,
        "requests_of": row.case.policy.name,
        "protocol": row.case.protocol.name,
        "compare": {"requests": row.requests, "ranges": row.ranges},
        "median": {name: middle(row.runs, name) for name in _NUMBERS},
        "runs": [asdict(run) | {"probe": run.probe._asdict()} for run in row.runs],
        "modelled": None
        if row.modelled is None
        else row.modelled._asdict() | {"error_factor": cost_model.error_factor()},
        "findings": list(row.findings),
    }


_NUMBERS = (
    *("requests", "ranges", "zaps", "outside", "frames", "unzapped", "refaults", "flushes"),
    *("wall", "waited", "longest_wait"),
)


def remarks(
    name: str, trace: Trace, settings: Settings, around: Environment, rows: Sequence[Measured]
) -> Iterator[str]:
    """Yield what a reader of the table must know."""
    if trace.incomplete is not None:
        yield f"{name}: INCOMPLETE ({trace.incomplete}): figures are of what was recorded."
    findings = [finding for row in rows for finding in row.findings]
    yield from findings
    runs = [run for row in rows for run in row.runs]
    if not findings:
        yield f"In each of {len(runs)} runs requests and ranges are those that compare counts."
    if settings.engine is Engine.LIVE:
        yield from _of_kvm(settings, around, runs)
    else:
        yield (
            "Threads and protocols are real; page table, entries and faults are modelled, times "
            "are Python's."
        )
    outside = sum(run.outside for run in runs)
    if outside:
        yield (
            f"Zaps and frames are cut at the test guest's memory: {outside:,} of "
            f"{sum(run.zaps for run in runs):,} zaps held none of it."
        )
    yield _of_cores(trace.header.vcpus, around.cores, meet=settings.meet)
    yield (
        "Modelled: the recorded guest on the published host, millions of cycles, wrong by a "
        f"factor of {cost_model.error_factor():.2f} (docs/validation.md)."
    )


def _of_kvm(settings: Settings, around: Environment, runs: Sequence[Run]) -> Iterator[str]:
    if not any(run.lost for run in runs):
        yield "Guest memory: every data page held at the end of each run what it must."
    probes = [run.probe for run in runs]
    worked = sum(probe.works for probe in probes)
    on = f"KVM on Linux {around.kernel}, {around.second_stage}"
    if worked == len(probes):
        least = min(probes, key=lambda probe: probe.refaults)
        yield (
            f"{on}: before each run one zap of all memory dropped entries "
            f"({least.before:,} to {least.after:,}), and accesses faulted again "
            f"({least.refaults:,} times at least)."
        )
        if settings.huge and not all(probe.large for probe in probes):
            yield "NO ENTRY OF 2 MiB WAS SEEN: the host backs the guest by pages of 4 KiB."
        return
    yield (
        f"{on}: NO REFAULTS SEEN after a zap of all memory in {len(probes) - worked} of "
        f"{len(probes)} runs. KVM's counters show no entry dropped and made again, so "
        "'refaults' says nothing here, and times are without faults."
    )


def _of_cores(vcpus: int, cores: int, *, meet: bool) -> str:
    if vcpus <= cores:
        return f"{vcpus} vCPUs on {cores} cores."
    how = (
        "those that act at once were brought together before each request"
        if meet
        else "they took turns as the scheduler had it"
    )
    return f"{vcpus} vCPUs on {cores} cores: {how}."
