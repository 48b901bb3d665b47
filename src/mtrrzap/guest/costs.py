"""The measured costs that ``mtrrzap import`` leaves beside a trace: ``boot.costs.csv``."""

import csv
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.guest.importer import Cost
from mtrrzap.guest.trace import Trace


def cost_path(trace: Path) -> Path:
    """Return where the costs of a trace's writes are kept."""
    return trace.with_name(trace.name.removesuffix(".trace") + ".costs.csv")


def beside(path: Path, trace: Trace) -> tuple[Cost, ...]:
    """Return the costs beside a trace's file, none if there are none.

    Raises:
        UserError: if the file is no such table, or one of another trace.
    """
    costs = cost_path(path)
    if not path.exists() or not costs.exists():
        return ()
    try:
        with costs.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        found = tuple(Cost(*map(int, row)) for row in rows[1:])
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


def _foreign(costs: Path, cost: Cost) -> None:
    raise UserError(
        f"its line of event {cost.event} does not fit the trace",
        place=str(costs),
        mend="import again, or move it away",
    )
