"""A trace as a table: CSV for spreadsheets and data frames, Parquet with typed columns.

In CSV every line of the trace has its line, so an error in one names the line of the other. The
header and the end are comments (``# vcpus: 2``), in quotes where a spreadsheet would find a formula
in them (``"# command: qemu -cpu max,+mtrr"``). The empty line behind the header holds the names
of the columns, every event is a row. In Parquet the header and the end are metadata of the schema.
Parquet needs pyarrow (the extra ``parquet``), which is imported only when it is used.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import (
    MAGIC,
    MAX_LINE,
    Trace,
    format_end,
    format_header,
    version_of,
    zap_lines,
)
from mtrrzap.guest.trace_reader import parse

COLUMNS = ("vcpu", "kind", "msr", "value", "refused", "time_ns")
MAX_EVENTS = 10_000_000
"""Of a trace that is read whole, which takes some 200 bytes each."""
_LONGEST = max(map(len, Kind))
CSV_FIRST = f"# {MAGIC} "
"""How such a CSV begins."""
PARQUET_FIRST = b"PAR1"
"""How every Parquet file begins."""

_FORMULA = re.compile(r"[,;\t]\s*[-=+@\uff1d\uff0b\uff0d\uff20]")
_NO_VALUE = frozenset((Kind.RESET, Kind.INIT))
_NO_MSR = _NO_VALUE | {Kind.CR0, Kind.HELD_CR0}
_HEADER, _END, _ZAPS = b"mtrrzap-trace", b"mtrrzap-end", b"mtrrzap-zaps"


def _row(event: Event) -> tuple[Any, ...]:
    """Return an event's cells; None where a column does not apply."""
    return (
        event.vcpu,
        event.kind.value,
        None if event.kind in _NO_MSR else event.msr,
        None if event.kind in _NO_VALUE else event.value,
        event.refused,
        event.time_ns,
    )


def csv_lines(trace: Trace) -> Iterator[str]:
    """Yield a trace's lines as CSV, line ends included."""
    for line in format_header(trace.header, version_of(trace)).splitlines():
        yield _comment(line) if line else ",".join(COLUMNS) + "\n"
    for vcpu, kind, msr, value, refused, time_ns in map(_row, trace.events):
        numbers = ("" if number is None else f"{number:#x}" for number in (msr, value))
        time = "" if time_ns is None else time_ns
        yield f"{vcpu},{kind},{','.join(numbers)},{int(refused)},{time}\n"
    yield from map(_comment, zap_lines(trace))
    yield _comment(format_end(len(trace.events), trace.incomplete))


def _comment(line: str) -> str:
    if '"' not in line and not _FORMULA.search(line):
        return f"# {line}\n"
    quoted = line.replace('"', '""')
    return f'"# {quoted}"\n'


def read_csv(source: Iterable[str], name: str) -> Trace:
    """Read what ``csv_lines`` made. Raises ``UserError`` with the line's place, as for a trace."""
    return parse(_uncommented(source, name), name)


def _uncommented(source: Iterable[str], name: str) -> Iterator[str]:
    for number, line in enumerate(map(_unquoted, source), start=1):
        if len(line) > MAX_LINE or line.startswith("#"):
            yield line.removeprefix("#").removeprefix(" ").replace("\r\n", "\n")
        else:
            ended = line.endswith("\n")
            yield _event_line(line.rstrip("\r\n"), f"{name}:{number}") + ("\n" if ended else "")


def _unquoted(line: str) -> str:
    body = line.rstrip("\r\n")
    if not (body.startswith('"#') and body.endswith('"')):
        return line
    return body[1:-1].replace('""', '"') + line[len(body) :]


def _event_line(line: str, place: str) -> str:
    try:
        cells = next(csv.reader([line]), [])
    except csv.Error as error:
        raise UserError(str(error), place=place, mend="fix the quotes") from error
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
        raise UserError(f"invalid refused: {refused[:20]!r}", place=place, mend="write 0 or 1")
    return _words(operands, refused == "1", time_ns)


def _words(operands: Iterable[str], refused: bool, time_ns: str) -> str:
    words = [word for word in operands if word]
    words += ["#GP"] if refused else []
    words += [f"@{time_ns}"] if time_ns else []
    return " ".join(words)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError("Parquet needs pyarrow", mend="pip install 'mtrrzap[parquet]'") from error


def parquet_bytes(trace: Trace) -> bytes:
    """Return a trace as the bytes of a Parquet file. Raises ``UserError`` without pyarrow."""
    arrow, parquet = _pyarrow()
    types = (
        arrow.uint32(),
        arrow.string(),
        arrow.uint32(),
        arrow.uint64(),
        arrow.bool_(),
        arrow.uint64(),
    )
    columns = list(zip(*map(_row, trace.events), strict=True)) or [()] * len(COLUMNS)
    try:
        arrays = [arrow.array(c, kind) for c, kind in zip(columns, types, strict=True)]
    except OverflowError as error:
        # A trace's time stamps have up to 20 digits; everything else fits.
        raise UserError("a time stamp has more than 64 bits", mend="use CSV") from error
    state = format_end(len(trace.events), trace.incomplete).split(" ", 2)[2]
    metadata = {_HEADER: format_header(trace.header, version_of(trace)), _END: state}
    metadata |= {_ZAPS: "\n".join(lines)} if (lines := zap_lines(trace)) else {}
    made = arrow.table(arrays, names=list(COLUMNS)).replace_schema_metadata(metadata)
    stream = io.BytesIO()
    parquet.write_table(made, stream)
    return stream.getvalue()


def read_parquet(data: bytes, name: str) -> Trace:
    """Read what ``parquet_bytes`` made.

    Raises ``UserError`` if pyarrow is missing, or if the file does not hold a trace. Its place is
    the line that the trace would have as text.
    """
    arrow, parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(io.BytesIO(data), read_dictionary=["kind"])
        if file.metadata.num_rows > MAX_EVENTS:
            raise _too_many(name)
        made = file.read(columns=list(COLUMNS))
        _judge_types(arrow.types, made)
        metadata = made.schema.metadata or {}
        header, state = metadata[_HEADER].decode(), metadata[_END].decode()
        rows = list(zip(*(made.column(each).to_pylist() for each in COLUMNS), strict=True))
        lines = [_parquet_line(*row) for row in rows]
        lines += metadata.get(_ZAPS, b"").decode().splitlines()
    except (arrow.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(
            "not a Parquet file of a trace", place=name, mend="export the trace again"
        ) from error
    text = [f"{line}\n" for line in (*header.splitlines(), *lines, f"end {len(rows)} {state}")]
    return parse(text, name)


def _judge_types(types: Any, made: Any) -> None:
    """Raise ``ValueError`` for columns that no trace has: a short file may stand for huge texts."""
    for field in made.schema:
        number = types.is_integer(field.type) or types.is_boolean(field.type)
        if field.name != "kind" and not number:
            raise ValueError(field.name)
    for chunk in made.column("kind").chunks:
        if any(len(word) > _LONGEST for word in chunk.dictionary.to_pylist()):
            raise ValueError("kind")


def _too_many(name: str) -> UserError:
    return UserError(f"more than {MAX_EVENTS:,} events", place=name, mend="cut the trace")


def at_most(lines: Iterable[str], name: str) -> Iterator[str]:
    """Yield lines, and raise ``UserError`` after ``MAX_EVENTS``: all are kept in memory."""
    for number, line in enumerate(lines):
        if number == MAX_EVENTS:
            raise _too_many(name)
        yield line


def _parquet_line(
    vcpu: int, kind: str, msr: int | None, value: int | None, refused: bool, time_ns: int | None
) -> str:
    numbers = ("" if number is None else f"{number:#x}" for number in (msr, value))
    return _words((str(vcpu), kind, *numbers), refused, "" if time_ns is None else str(time_ns))
