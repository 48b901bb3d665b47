"""A trace as CSV, line for line: what a spreadsheet or a data frame reads, and back again.

Every line of the trace has its line here, so that an error in one names the line of the other. The
header and the end are comments (``# vcpus: 2``), the empty line behind the header holds the names
of the columns, every event is a row.
"""

import csv
from collections.abc import Iterable, Iterator

from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import MAGIC, MAX_LINE, Trace, format_header, load

COLUMNS = ("vcpu", "kind", "msr", "value", "refused", "time_ns")
FIRST = f"# {MAGIC} "
"""How such a file begins."""

_NO_MSR = frozenset((Kind.CR0, Kind.HELD_CR0))
_NO_VALUE = frozenset((Kind.RESET, Kind.INIT))


def row(event: Event) -> tuple[str, ...]:
    """Return an event as the cells of ``COLUMNS``; a cell that does not apply is empty."""
    has_value = event.kind not in _NO_VALUE
    has_msr = has_value and event.kind not in _NO_MSR
    return (
        str(event.vcpu),
        event.kind.value,
        f"{event.msr:#x}" if has_msr else "",
        f"{event.value:#x}" if has_value else "",
        "1" if event.refused else "0",
        "" if event.time_ns is None else str(event.time_ns),
    )


def lines(trace: Trace) -> Iterator[str]:
    """Yield a trace's lines as CSV, line ends included."""
    for line in format_header(trace.header).splitlines():
        yield f"# {line}\n" if line else ",".join(COLUMNS) + "\n"
    for event in trace.events:
        yield ",".join(row(event)) + "\n"
    state = "complete" if trace.incomplete is None else f"incomplete: {trace.incomplete}"
    yield f"# end {len(trace.events)} {state}\n"


def read(source: Iterable[str], name: str) -> Trace:
    """Read what ``lines`` made. Raises ``UserError`` with the line's place as for any trace."""
    return load(_as_trace(source, name), name)


def _as_trace(source: Iterable[str], name: str) -> Iterator[str]:
    for number, line in enumerate(source, start=1):
        if len(line) > MAX_LINE or line.startswith("#"):
            yield line.removeprefix("#").removeprefix(" ").replace("\r\n", "\n")
        else:
            ended = line.endswith("\n")
            yield _event_line(line.rstrip("\r\n"), f"{name}:{number}") + ("\n" if ended else "")


def _event_line(line: str, place: str) -> str:
    try:
        cells = next(csv.reader([line]), [])
    except csv.Error as error:
        raise UserError(str(error), place=place, mend="mend the quotes") from error
    if tuple(cells) == COLUMNS:
        return ""
    if len(cells) != len(COLUMNS) or any(char.isspace() for cell in cells for char in cell):
        raise UserError(
            f"not a row of {len(COLUMNS)} cells: {line[:60]!r}",
            place=place,
            mend=f"the columns are {','.join(COLUMNS)}",
        )
    *operands, refused, time_ns = cells
    if refused not in ("", "0", "1"):
        raise UserError(f"refused is {refused[:20]!r}", place=place, mend="write 0 or 1")
    words = [word for word in operands if word]
    words += ["#GP"] if refused == "1" else []
    words += [f"@{time_ns}"] if time_ns else []
    return " ".join(words)
