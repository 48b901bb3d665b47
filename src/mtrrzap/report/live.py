"""What ``mtrrzap run`` prints: a row for each policy, measured and modelled, and how to read it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from mtrrzap.errors import counted, docs_page
from mtrrzap.guest.trace import Trace
from mtrrzap.live.host import Environment
from mtrrzap.live.measure import Engine, RunSettings
from mtrrzap.live.tally import Run, middle
from mtrrzap.report.text import MEMORY_UNKNOWN
from mtrrzap.simulator import cost_model
from mtrrzap.study.live_runs import Measured

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
    name: str, trace: Trace, settings: RunSettings, around: Environment, rows: Sequence[Measured]
) -> Iterator[str]:
    """Yield what readers of the table must know."""
    if trace.incomplete is not None:
        yield f"{name}: INCOMPLETE ({trace.incomplete}): figures cover what was recorded."
    findings = [finding for row in rows for finding in row.findings]
    yield from findings
    runs = [run for row in rows for run in row.runs]
    if not findings:
        yield (
            "The run has the requests and ranges that compare counts."
            if len(runs) == 1
            else f"All {len(runs)} runs have the requests and ranges that compare counts."
        )
    if settings.engine is Engine.LIVE:
        yield from _of_kvm(settings, around, runs)
    else:
        yield (
            "Threads and protocols are real; page table, entries and faults are modelled; times "
            "are those of Python."
        )
    outside = sum(run.outside for run in runs)
    if outside:
        yield (
            f"The test guest's memory limits zaps and frames: {outside:,} of "
            f"{sum(run.zaps for run in runs):,} zaps contained none of it."
        )
    yield _of_cores(trace.header.vcpus, around.cores, meet=settings.meet)
    if not trace.header.memory_known:
        yield MEMORY_UNKNOWN
        return
    yield (
        "Modelled: the recorded guest on the published host, in millions of cycles, accurate to "
        f"within a factor of {cost_model.error_factor():.2f} ({docs_page('validation')})."
    )


def _of_kvm(settings: RunSettings, around: Environment, runs: Sequence[Run]) -> Iterator[str]:
    if not any(run.lost for run in runs):
        yield "Guest memory: every data page was intact at the end of each run."
    probes = [run.probe for run in runs]
    worked = sum(probe.works for probe in probes)
    on = f"KVM on Linux {around.kernel}, {around.second_stage}"
    if worked == len(probes):
        least = min(probes, key=lambda probe: probe.refaults)
        yield (
            f"{on}: before each run one zap of all memory dropped entries "
            f"({least.before:,} to {least.after:,}), and accesses faulted again "
            f"(at least {least.refaults:,} times)."
        )
        if settings.huge and not all(probe.large for probe in probes):
            yield "NO ENTRY OF 2 MiB WAS SEEN: the host backs the guest by pages of 4 KiB."
        return
    yield (
        f"{on}: NO REFAULTS SEEN after a zap of all memory in {len(probes) - worked} of "
        f"{counted(len(probes), 'run')}. KVM's counters show no entry dropped and made again, so "
        "'refaults' means nothing here, and times contain no faults."
    )


def _of_cores(vcpus: int, cores: int, *, meet: bool) -> str:
    if vcpus <= cores:
        return f"{counted(vcpus, 'vCPU')} on {counted(cores, 'core')}."
    how = (
        "those that act at once waited for each other before each request"
        if meet
        else "they took turns as the scheduler decided"
    )
    return f"{counted(vcpus, 'vCPU')} on {counted(cores, 'core')}: {how}."
