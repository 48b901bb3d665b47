"""SQL over a sweep's results, complete or not: DuckDB reads the Parquet files where they are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtrrzap.errors import UserError, docs_page
from mtrrzap.sweep.columns import COLUMNS, TIMING
from mtrrzap.sweep.parquet import library, verify
from mtrrzap.sweep.store import read_manifest

TRIES = 3
"""Times that a query whose files were merged meanwhile is asked again."""


class QueryAnswer(NamedTuple):
    """The columns and rows of a query."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Results:
    """A sweep's directory, read only. Tables: ``cells`` (one row a cell), ``timing``."""

    def __init__(self, directory: Path) -> None:
        """Find the files; damaged ones are left out.

        Raises:
            UserError: if there is no sweep.
        """
        self.directory = directory
        self.manifest = read_manifest(directory)
        self.kind: str = self.manifest["spec"]["kind"]
        self.damaged: list[Path] = []
        self._db: Any = library("duckdb").connect()
        self._load()

    def _load(self) -> None:
        self.damaged.clear()
        keep = ", ".join(column.name for column in COLUMNS[self.kind])
        times = ", ".join(column.name for column in TIMING)
        parts = self._sound(sorted((self.directory / "parts").glob("part-*.parquet")))
        whole = self._sound([self.directory / "cells.parquet"])
        timing = self._sound([self.directory / "timing.parquet"])
        self._view("cells", keep, [*whole, *parts], COLUMNS[self.kind])
        self._view("timing", times, [*timing, *parts], TIMING)

    def _sound(self, paths: Sequence[Path]) -> list[Path]:
        found = []
        for path in paths:
            try:
                verify(path)
            except FileNotFoundError:  # none yet, or merged with others just now
                continue
            except ValueError:
                self.damaged.append(path)
                continue
            except OSError as error:
                raise UserError(f"cannot be read: {error.strerror}", place=str(path)) from error
            found.append(path)
        return found

    def _view(self, name: str, columns: str, paths: Sequence[Path], typed: Sequence[Any]) -> None:
        if not paths:
            types = {
                "string": "VARCHAR",
                "int64": "BIGINT",
                "int32": "INTEGER",
                "float64": "DOUBLE",
            }
            nothing = ", ".join(f"NULL::{types[c.type]} AS {c.name}" for c in typed)
            self._db.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {nothing} WHERE false")
            return
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        once = f"SELECT DISTINCT ON (number) {columns} FROM read_parquet([{listed}])"
        read = f"SELECT {columns} FROM read_parquet([{listed}])" if len(paths) == 1 else once
        self._db.execute(f"CREATE OR REPLACE VIEW {name} AS {read} ORDER BY number")

    def ask(self, sql: str, values: Sequence[object] = ()) -> QueryAnswer:
        """Return the answer to an SQL query.

        Raises:
            UserError: in DuckDB's words, if the query is invalid.
        """
        try:
            return self._answer(sql, values)
        except library("duckdb").Error as error:
            mend = f"tables are cells and timing; {docs_page('sweep')} lists their columns"
            first = str(error).strip().splitlines()[0]
            raise UserError(first, place="sql", mend=mend) from error

    def _answer(self, sql: str, values: Sequence[object]) -> QueryAnswer:
        for _ in range(TRIES):
            try:
                self._db.execute(sql, list(values))
                break
            except library("duckdb").IOException:
                self._load()  # a sweep that runs has merged parts since
        else:
            self._db.execute(sql, list(values))
        if self._db.description is None:
            return QueryAnswer((), [])
        columns = tuple(column[0] for column in self._db.description)
        return QueryAnswer(columns, self._db.fetchall())

    @property
    def cells(self) -> int:
        """How many cells the sweep has."""
        return int(self.manifest["cells"])

    def statuses(self) -> dict[str, int]:
        """Return how many rows have which status."""
        return dict(self.ask("SELECT status, count(*) FROM cells GROUP BY status ORDER BY 1").rows)

    def reasons(self, status: str) -> list[tuple[str, int]]:
        """Return why cells have a status, most frequent first."""
        sql = "SELECT reason, count(*) FROM cells WHERE status = ? GROUP BY 1 ORDER BY 2 DESC, 1"
        return [(str(reason), count) for reason, count in self.ask(sql, [status]).rows]
