"""The whole comparison: which runs, on how many emulated hosts, and what they show."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtrrzap.guest.trace import Trace
from mtrrzap.kernel import boot, controls, guests, storm
from mtrrzap.kernel.controls import Control, Seen
from mtrrzap.kernel.judge import Verdict, verdict
from mtrrzap.kernel.mutants import unseen
from mtrrzap.kernel.perform import Record, Task
from mtrrzap.kernel.program import Case
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host

_AT_ONCE = 12_000
"""Events that are worth another emulated host."""


class Row(NamedTuple):
    """What a case, or the boot of a whole guest, showed."""

    name: str
    trace: Trace
    quirk: bool
    verdict: Verdict


class Outcome(NamedTuple):
    """The whole comparison."""

    kernel: str
    second_stage: str
    policy: Policy
    rows: tuple[Row, ...]
    controls: tuple[Control, ...]
    unseen: dict[str, str]
    """Fields of the policy that were not judged, and why."""

    @property
    def same(self) -> bool:
        """The kernel did what the policy says, and every control passed."""
        controls = all(control.passed for control in self.controls)
        return controls and not any(row.verdict.differences for row in self.rows)


def compare(
    wanted: Sequence[Case],
    policy: Policy,
    host: boot.Host,
    *,
    whole: Sequence[int] = (),
    timeout: float,
    progress: boot.Progress = lambda _: None,
) -> Outcome:
    """Run the cases, the whole guests and the controls. Raises ``UserError``.

    ``whole`` has a number of vCPUs for each whole guest.
    """
    tasks = [case.task(str(number)) for number, case in enumerate(wanted)]
    walks = controls.walks(wanted, types=host.types)
    deep = [
        case.task(f"walk-{number}", huge=case.trace == controls.HUGE, walks=True)
        for number, case in enumerate(walks)
    ]
    quiet = controls.shortest(wanted).task("coherent")._replace(coherent=True)
    jobs = [boot.Job(host, part) for part in _shared(tasks, deep)]
    jobs.append(boot.Job(host.with_snoop_control(), [quiet]))
    if "protocol" not in unseen(policy):
        jobs.append(storm.job(host, controls.STORM))
    if whole:
        jobs.append(boot.guest_job(host, whole, timeout))
    done = boot.run(jobs, timeout=timeout, progress=progress)
    results = {name: data for each in done for name, data in each.items()}
    found = {task.name: Record(**results[task.name]) for task in (*tasks, *deep, quiet)}
    records = [(case, found[task.name]) for case, task in zip(wanted, tasks, strict=True)]
    rows = tuple(
        Row(case.trace, case.program.trace, case.quirk, controls.judged(case, record, policy))
        for case, record in records
    )
    rows += tuple(_booted(each, results, policy) for each in whole)
    seen = Seen(
        records,
        [(case, task, found[task.name]) for case, task in zip(walks, deep, strict=True)],
        storm.found(results, controls.STORM) if controls.STORM.name in results else None,
        found["coherent"],
    )
    first = records[0][1]
    return Outcome(
        first.kernel,
        first.second_stage,
        policy,
        rows,
        tuple(controls.controls(seen, policy)),
        unseen(policy, types=seen.types),
    )


def events(wanted: Sequence[Case], host: boot.Host) -> int:
    """Return how many events ``compare`` performs, for a progress line."""
    walks = controls.walks(wanted, types=host.types)
    runs = (*wanted, *walks, controls.shortest(wanted))
    return sum(len(case.program.ops) for case in runs)


def _shared(tasks: Sequence[Task], deep: Sequence[Task]) -> list[list[Task]]:
    """Divide tasks among as many hosts as there are cores, if there is that much to do."""
    total = sum(len(task.program) for task in tasks)
    hosts = max(1, min(len(os.sched_getaffinity(0)), total // _AT_ONCE, len(tasks)))
    parts: list[list[Task]] = [[] for _ in range(hosts)]
    for task in sorted(tasks, key=lambda task: -len(task.program)):
        min(parts, key=lambda part: sum(len(each.program) for each in part)).append(task)
    parts[-1] += deep
    return parts


def _booted(vcpus: int, results: Mapping[str, dict[str, Any]], policy: Policy) -> Row:
    record = guests.GuestRecord(**results[guests.name(vcpus)])
    seen = guests.seen(record, vcpus)
    host = Host(ept=record.second_stage == "EPT")
    found = verdict(seen.trace, seen.calls, seen.refused, policy, host)
    return Row("a boot of SeaBIOS", seen.trace, quirk=True, verdict=found)
