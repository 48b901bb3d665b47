"""Many vCPUs ask at once in a real kernel: what came of it, by the kernel's own trace."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.kernel import boot
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import StormTask

_LINE = re.compile(r"-(\d+)\s+\[\d+\] \S+ +\d+: (ask|asked|zap|zapped): ")
_MEMORY = 4 << 20


class Storm(NamedTuple):
    """What a storm showed. All is counted."""

    vcpus: int
    requests: int
    zaps: int
    """Calls of ``kvm_zap_gfn_range()``."""
    shared: int
    """Requests that made no zap of their own."""
    lost: int
    """Requests that returned although no zap that began after them had ended."""
    overlaps: int
    """Zaps that began while another vCPU's was under way."""
    first_lost: tuple[str, ...]
    """The lines of the trace from the first lost request to its return."""
    kernel: str


def storm(host: boot.Host, entry: str, vcpus: int, times: int, *, timeout: float) -> Storm:
    """Let ``vcpus`` toggle CR0.CD at once, ``times`` times each; ``entry`` is what a request calls.

    Each toggle asks for everything: MTRRs are disabled, so a guest's default type is UC.

    Raises:
        UserError: if the host does not boot, or if the trace is not whole.
    """
    task = StormTask("storm", Settings(vcpus, group=0, memory=_MEMORY), times, entry)
    return found(boot.run([job(host, task)], timeout=timeout)[0], task)


def job(host: boot.Host, task: StormTask) -> boot.Job:
    """Return a storm's job: a host with two CPUs."""
    return boot.Job(replace(host, cpus=2, memory=2 * host.memory), (), (), (task,))


def found(results: Mapping[str, dict[str, Any]], task: StormTask) -> Storm:
    """Judge what a job left. Raises ``UserError``."""
    result = results[task.name]
    if result["lost"]:
        raise UserError(f"the guest's memory is damaged: {result['lost'][0]}")
    storm = read(result["trace"], task.settings.vcpus, result["kernel"])
    wanted = task.settings.vcpus * task.times
    if storm.requests != wanted:
        raise UserError(
            f"{storm.requests:,} requests in the trace, not {wanted:,}",
            mend="is this KVM built with the protocol's patch?",
        )
    return storm


def read(trace: str, vcpus: int, kernel: str) -> Storm:
    """Judge a trace, whose lines are in their true order.

    A request is noted before it is queued, and its return after it has seen that it is done: what
    counts as lost here was lost for certain.
    """
    asked: dict[str, int] = {}
    begun: dict[str, int] = {}
    own: dict[str, int] = {}
    requests = zaps = shared = lost = overlaps = 0
    latest = -1  # when the latest zap began of those that have ended
    first: tuple[str, ...] = ()
    lines = trace.splitlines()
    for at, line in enumerate(lines):
        match = _LINE.search(line)
        if match is None:
            continue
        thread, name = match.groups()
        if name == "ask":
            asked[thread], own[thread] = at, 0
        elif name == "zap":
            overlaps += bool(begun)
            begun[thread] = at
            zaps += 1
            own[thread] = own.get(thread, 0) + 1
        elif name == "zapped" and thread in begun:
            latest = max(latest, begun.pop(thread))
        elif name == "asked" and thread in asked:
            since = asked.pop(thread)
            requests += 1
            shared += not own[thread]
            if latest < since:
                lost += 1
                first = first or tuple(map(_short, lines[since : at + 1]))
    return Storm(vcpus, requests, zaps, shared, lost, overlaps, first, kernel)


def _short(line: str) -> str:
    return " ".join(line.split())
