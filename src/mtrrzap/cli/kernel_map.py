"""``mtrrzap memtype`` on a boot log that has Linux's MTRR map, and no register."""

import sys

from mtrrzap.errors import UserError
from mtrrzap.guest.listing import KernelMap
from mtrrzap.report import text
from mtrrzap.report.strip import LEGEND, strip
from mtrrzap.study import kernel_map as report
from mtrrzap.study.memory_map import States

MAXPHYADDR = 52


def address_of(word: str, maxphyaddr: int) -> int:
    """Return an address given in hex. Raises ``UserError`` if it is none of that width."""
    try:
        value = int(word, 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << maxphyaddr:
        raise UserError(
            f"not an address: {word[:40]!r}",
            place="--address",
            mend=f"hex, below {1 << maxphyaddr:#x} (MAXPHYADDR {maxphyaddr})",
        )
    return value


def show(states: States, found: KernelMap, address: str | None, *, json: bool) -> None:
    """Print the map as JSON, the row of one address, or all of it."""
    every = list(report.rows(found))
    if json:
        listed = [row._asdict() | {"type": _named(row)} for row in every]
        sys.stdout.write(
            text.as_json({"source": states.what, "map": listed, "notes": states.notes})
        )
        return
    console = text.console()
    if address is not None:
        value = address_of(address, MAXPHYADDR)
        row = report.at(found, value)
        text.say(console, f"{value:#x}: {_named(row)}, by the kernel's map ({row.decider})")
        return
    columns = ("start", "end", "type", "decided by")
    cells = [(f"{r.start:#014x}", f"{r.end:#014x}", _named(r), r.decider) for r in every]
    title = f"{states.what}: memory types (bytes, end exclusive)"
    console.print(text.table(columns, cells, title=title))
    console.print(strip([row[:3] for row in every], "kernel"))
    legend = LEGEND.replace("?: undefined", "?: the default type")
    console.print(f"{legend}; low addresses first, widths grow with the logarithm of the size.")
    for note in states.notes:
        text.say(console, f"note: {note}")


def _named(row: report.Row) -> str:
    return "the default" if row.type is None else str(row.type)
