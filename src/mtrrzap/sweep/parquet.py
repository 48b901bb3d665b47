"""Rows as Parquet files that are whole or not there. pyarrow is imported when it is needed."""

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.files import replacing
from mtrrzap.sweep.columns import Column, Row


def library(name: str) -> Any:
    """Import a library of the extra. Raises ``UserError`` if it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise UserError(f"a sweep needs {top}", mend="pip install 'mtrrzap[sweep]'") from error


@cache
def _schema(columns: tuple[Column, ...]) -> Any:
    arrow = library("pyarrow")
    fields = [arrow.field(c.name, getattr(arrow, c.type)()) for c in columns]
    return arrow.schema(fields)


def table(rows: Iterable[Row], columns: tuple[Column, ...]) -> Any:
    """Return rows as an Arrow table; what a row lacks is null."""
    listed = list(rows)
    by_column = {c.name: [row.get(c.name) for row in listed] for c in columns}
    return library("pyarrow").table(by_column, schema=_schema(columns))


def encoded(made: Any) -> bytes:
    """Return the bytes of a file with a table; every page has a checksum."""
    stream = io.BytesIO()
    library("pyarrow.parquet").write_table(made, stream, write_page_checksum=True)
    return stream.getvalue()


def contents(path: Path) -> Any:
    """Return the table in a file, every checksum verified. Raises as ``groups`` does."""
    return library("pyarrow").concat_tables(groups(path))


def groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield a file's row groups as tables, every checksum of these columns verified.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged.
    """
    parquet = library("pyarrow.parquet")
    with path.open("rb") as stream:
        try:
            with parquet.ParquetFile(stream, page_checksum_verification=True) as file:
                names = [
                    n for n in columns or file.schema_arrow.names if n in file.schema_arrow.names
                ]
                yield file.schema_arrow.empty_table().select(names)
                for number in range(file.num_row_groups):
                    # Threads of Arrow that end with the process may end it with an abort.
                    yield file.read_row_group(number, columns=names, use_threads=False)
        except OSError as error:  # Arrow's word for damage; the operating system's have a number
            if error.errno is None:
                raise ValueError(str(error)) from error
            raise


def verify(path: Path) -> None:
    """Read a file through. Raises as ``groups`` does."""
    for _ in groups(path):
        pass


def written(path: Path, data: bytes) -> None:
    """Write a file in one go, or not at all."""
    with replacing(path) as stream:
        stream.write(data)


def streamed(path: Path, tables: Iterable[Any], columns: Sequence[Column]) -> None:
    """Write a file table by table, a row group each, or not at all."""
    parquet = library("pyarrow.parquet")
    schema = _schema(tuple(columns))
    with (
        replacing(path) as stream,
        parquet.ParquetWriter(stream, schema, write_page_checksum=True) as writer,
    ):
        for each in tables:
            writer.write_table(each)
