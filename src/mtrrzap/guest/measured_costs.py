"""The measured costs of MTRR writes that an import leaves beside a trace: ``boot.costs.csv``."""

import csv
from pathlib import Path
from typing import NamedTuple, NoReturn

from mtrrzap.errors import UserError
from mtrrzap.guest.trace import Trace


class Cost(NamedTuple):
    """The measured cost of one successful MTRR write: from its exit to the next entry, in ns.

    It includes everything that KVM did in between, also the zap and the wait for mmu_lock.
    """

    event: int
    """Position of the write in the trace."""
    vcpu: int
    msr: int
    value: int
    cost_ns: int


def cost_path(trace: Path) -> Path:
    """Return the path of the file with the costs of a trace."""
    return trace.with_name(trace.name.removesuffix(".trace") + ".costs.csv")


def beside(path: Path, trace: Trace) -> tuple[Cost, ...]:
    """Return the costs beside a trace's file; empty if there is no such file.

    Raises:
        UserError: if the file is not a table of costs, or belongs to another trace.
    """
    costs = cost_path(path)
    if not path.exists() or not costs.exists():
        return ()
    try:
        with costs.open(encoding="utf-8", newline="") as stream:
            found = tuple(Cost(*map(int, row)) for row in list(csv.reader(stream))[1:])
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(costs), mend="move it away"
        ) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(
            "not a table of costs", place=str(costs), mend="import again, or move it away"
        ) from error
    for cost in found:
        if not 0 <= cost.event < len(trace.events) or cost.cost_ns < 0:
            _foreign(costs, cost)
        event = trace.events[cost.event]
        if (event.vcpu, event.msr, event.value) != cost[1:4]:
            _foreign(costs, cost)
    return found


def _foreign(costs: Path, cost: Cost) -> NoReturn:
    raise UserError(
        f"its line of event {cost.event} does not fit the trace",
        place=str(costs),
        mend="import again, or move it away",
    )
