"""Several policies, several times, side by side on the same host."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from mtrrzap.kvm.replay import Host
from mtrrzap.live.expected import Modelled
from mtrrzap.live.on_kvm import OnKvm
from mtrrzap.live.plan import Plan
from mtrrzap.live.running import RunCase, StuckError, run
from mtrrzap.live.tally import Run
from mtrrzap.live.target import Target


class Engine(StrEnum):
    """What vCPUs run on."""

    LIVE = "live"
    THREADS = "threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The machine for a run, and its limits."""

    engine: Engine = Engine.LIVE
    memory: int = 64 << 20
    """Of the test guest, in bytes."""
    touch: int = 256
    """Pages of 4 KiB that each vCPU touches before every event, if there are so many."""
    huge: bool = False
    """Back the guest by pages of 2 MiB."""
    meet: bool = True
    """Let the vCPUs of one phase make their requests at once."""
    timeout: float = 60.0
    """Seconds for one run."""


Progress = Callable[[RunCase, int, list[int]], None]
"""Called with the case, the repetition from 0, and how many events each vCPU has done."""


def measure(
    cases: Sequence[RunCase],
    plan: Plan,
    host: Host,
    settings: RunSettings,
    *,
    repeat: int = 1,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Run]]:
    """Yield runs with their case's index. Each repetition runs all cases, so they share the load.

    Raises ``UserError``.
    """
    for number in range(repeat):
        for index, case in enumerate(cases):
            told = partial(progress, case, number) if progress else None
            yield index, once(case, plan, host, settings, told)


def once(
    case: RunCase,
    plan: Plan,
    host: Host,
    settings: RunSettings,
    progress: Callable[[list[int]], None] | None = None,
) -> Run:
    """Build a machine, run a plan on it under one policy, and give the machine back."""
    size, touch, huge = settings.memory, settings.touch, settings.huge
    target: Target
    if settings.engine is Engine.THREADS:
        target = Modelled(plan, case.policy, host, size, touch, huge=huge)
    else:
        target = OnKvm(plan, size, touch, huge=huge)
    try:
        made = run(
            *(case, plan, host, target),
            timeout=settings.timeout,
            meet=settings.meet,
            progress=progress,
        )
    except StuckError:
        raise  # a thread still uses the machine
    except BaseException:
        target.close()
        raise
    target.close()
    return made
