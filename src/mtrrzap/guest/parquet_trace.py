"""A trace as a Parquet file: the columns of the CSV with their types, the header as metadata.

pyarrow is the extra ``parquet``; it is imported when it is needed.
"""

import io
from importlib import import_module
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.csv_trace import COLUMNS
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Trace, format_header

_NO_MSR = frozenset((Kind.CR0, Kind.HELD_CR0, Kind.RESET, Kind.INIT))
_NO_VALUE = frozenset((Kind.RESET, Kind.INIT))


def encoded(trace: Trace) -> bytes:
    """Return the file's bytes. Raises ``UserError`` if pyarrow is missing."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow", place="--format", mend="pip install 'mtrrzap[parquet]'"
        ) from error
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
        raise UserError(
            "a time stamp has more than 64 bits", place="--format", mend="use csv"
        ) from error
    state = "complete" if trace.incomplete is None else f"incomplete: {trace.incomplete}"
    metadata = {"mtrrzap-trace": format_header(trace.header), "mtrrzap-end": state}
    made: Any = arrow.table(arrays, names=list(COLUMNS)).replace_schema_metadata(metadata)
    stream = io.BytesIO()
    parquet.write_table(made, stream)
    return stream.getvalue()


def _row(event: Event) -> tuple[object, ...]:
    return (
        event.vcpu,
        event.kind.value,
        None if event.kind in _NO_MSR else event.msr,
        None if event.kind in _NO_VALUE else event.value,
        event.refused,
        event.time_ns,
    )
