"""Many vCPUs ask at once in a real kernel: what came of it, by the kernel's own trace."""

from base64 import b64decode
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.gfn import EVERYTHING
from mtrrzap.kernel import boot
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import Stormed, StormTask
from mtrrzap.kernel.ring import Hit, hits
from mtrrzap.kernel.tracefs import RETURN

MEMORY = 2 << 20
"""One page of the host's: after each zap one fault brings all of it back."""
_SHOWN = 60
"""Lines of a story."""
_WORDS = {"ask": "asks", "asked": "returns", "zap": "zap begin", "zapped": "zap end"}


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
    """The trace up to the return of the first lost request, from the oldest open one on."""
    kernel: str


def storm(
    host: boot.Host, functions: Sequence[str], vcpus: int, times: int, *, timeout: float
) -> Storm:
    """Let ``vcpus`` toggle CR0.CD at once, ``times`` times each.

    ``functions``: what a request calls, then others that the trace shows if KVM has them. Each
    toggle asks for everything: MTRRs are disabled, so a guest's default type is UC.

    Raises:
        UserError: if the host does not boot, or if the trace is not whole.
    """
    settings = Settings(vcpus, group=0, memory=MEMORY, huge=True)
    task = StormTask("storm", settings, times, functions)
    return found(boot.run([job(host, task)], timeout=timeout)[0], task)


def job(host: boot.Host, task: StormTask) -> boot.Job:
    """Return a storm's job: a host with two CPUs."""
    # v4's waits keep the CPU. Without preemption they hold all CPUs for good once the vCPU that
    # zaps has given way in its walk (docs/kernel.md).
    two = replace(host, cpus=2, memory=2 * host.memory, preempt="full")
    return boot.Job(two, (), (), (task,))


def found(results: Mapping[str, dict[str, Any]], task: StormTask) -> Storm:
    """Judge what a job left. Raises ``UserError``."""
    result = Stormed(**results[task.name])
    if result.lost:
        raise UserError(f"the guest's memory is damaged: {result.lost[0]}")
    names = {number: name for name, number in result.events.items()}
    order = hits(map(b64decode, result.buffers), names)
    storm = read(order, result.threads, result.kernel)
    wanted = task.settings.vcpus * task.times
    if storm.requests != wanted:
        raise UserError(
            f"{storm.requests:,} requests in the trace, not {wanted:,}",
            mend="is this KVM built with the protocol's patch?",
        )
    return storm


def read(order: Iterable[Hit], threads: Sequence[int], kernel: str) -> Storm:
    """Judge the hits of a storm, in their true order; ``threads`` are the vCPUs'.

    A request is noted before it is queued, and its return after it has seen that it is done: what
    counts as lost here was lost for certain.
    """
    asked: dict[int, int] = {}
    floor: dict[int, int] = {}  # when the oldest request began that was open at one's own
    begun: dict[int, int] = {}
    own: dict[int, int] = {}
    requests = zaps = shared = lost = overlaps = 0
    latest = -1  # when the latest zap of everything began, of those that have ended
    recent = deque[tuple[int, Hit]](maxlen=_SHOWN)
    first: tuple[str, ...] = ()
    for at, hit in enumerate(order):
        thread = hit.thread
        recent.append((at, hit))
        match hit.name:
            case "ask":
                asked[thread], own[thread] = at, 0
                floor[thread] = min(asked.values())
            case "zap":
                zaps += 1
                overlaps += bool(begun)
                own[thread] = own.get(thread, 0) + 1
                if hit.start == 0 and hit.end >= EVERYTHING.end:
                    begun[thread] = at
            case "zapped" if thread in begun:
                latest = max(latest, begun.pop(thread))
            case "asked" if thread in asked:
                since = asked.pop(thread)
                requests += 1
                shared += not own[thread]
                if latest < since:
                    lost += 1
                    shown = [each for number, each in recent if number >= floor[thread]]
                    first = first or tuple(_shown(each, threads) for each in shown)
    return Storm(len(threads), requests, zaps, shared, lost, overlaps, first, kernel)


def _shown(hit: Hit, threads: Sequence[int]) -> str:
    """Return a line in the words of a counterexample of ``check``."""
    who = f"vCPU {threads.index(hit.thread)}" if hit.thread in threads else f"thread {hit.thread}"
    function = hit.name.removesuffix(RETURN)
    what = _WORDS.get(hit.name) or f"{function}(){' returns' * (function != hit.name)}"
    where = f" [{hit.start:#x}, {hit.end:#x})" if hit.end else ""
    return f"{hit.stamp} CPU {hit.cpu} {who}: {what}{where}"
