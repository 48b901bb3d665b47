"""SQL over a sweep's results, complete or not: DuckDB reads the Parquet files where they are.

Queries are pasted from mails: one SELECT, which sees the sweep's files and nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

from mtrrzap.errors import UserError, docs_page
from mtrrzap.sweep.columns import COLUMNS, TIMING
from mtrrzap.sweep.parquet import library, verify
from mtrrzap.sweep.store import read_manifest

TRIES = 3
"""Times that a query whose files were merged meanwhile is asked again."""
SECONDS = 60.0
"""How long a query may take."""
MEMORY = "2GB"
"""What DuckDB may use; it writes nothing to disk."""
ROWS, CHARACTERS, BATCH = 2_000_000, 1 << 28, 1000
"""Rows and characters of a whole answer, and rows that are fetched at once."""
_CONFIG = {
    "memory_limit": MEMORY,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}


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
        self._db: Any = None
        self._load()

    def _load(self) -> None:
        self.damaged.clear()
        keep = ", ".join(column.name for column in COLUMNS[self.kind])
        times = ", ".join(column.name for column in TIMING)
        parts = self._sound(sorted((self.directory / "parts").glob("part-*.parquet")))
        whole = self._sound([self.directory / "cells.parquet"])
        timing = self._sound([self.directory / "timing.parquet"])
        self._db = library("duckdb").connect(config=_CONFIG)
        self._files = [*whole, *parts, *timing]
        self._db.execute(f"SET allowed_paths = [{_listed(self._files)}]")
        self._view("cells", keep, [*whole, *parts], COLUMNS[self.kind])
        self._view("timing", times, [*timing, *parts], TIMING)
        # In this order: each would refuse what comes before it.
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

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
        listed = _listed(paths)
        once = f"SELECT DISTINCT ON (number) {columns} FROM read_parquet([{listed}])"
        read = f"SELECT {columns} FROM read_parquet([{listed}])" if len(paths) == 1 else once
        self._db.execute(f"CREATE OR REPLACE VIEW {name} AS {read} ORDER BY number")

    def ask(self, sql: str, values: Sequence[object] = ()) -> QueryAnswer:
        """Return the answer to an SQL query.

        Raises:
            UserError: in DuckDB's words if the query is invalid; if it is not one SELECT; if it
                takes more than ``SECONDS``, ``MEMORY`` or ``ROWS``.
        """
        duckdb = library("duckdb")
        try:
            statements = self._db.extract_statements(sql)
            if [each.type for each in statements] != [duckdb.StatementType.SELECT]:
                raise _refused("not one SELECT", "write one SELECT, or WITH ... SELECT")
            with self._in_time():
                return self._answer(sql, values)
        except duckdb.InterruptException as error:
            problem = f"the query takes more than {SECONDS:g} seconds"
            raise _refused(problem, "ask for less") from error
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            problem = f"the query takes more than {MEMORY} of memory"
            raise _refused(problem, "ask for less") from error
        except (duckdb.Error, UnicodeError) as error:
            mend = f"tables are cells and timing; {docs_page('sweep')} lists their columns"
            raise _refused(str(error).strip().splitlines()[0], mend) from error

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        timer = Timer(SECONDS, lambda: self._db.interrupt())
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _answer(self, sql: str, values: Sequence[object]) -> QueryAnswer:
        for _ in range(TRIES):
            try:
                self._db.execute(sql, list(values))
                break
            except library("duckdb").Error:
                if all(path.exists() for path in self._files):
                    raise
                self._load()  # a sweep that runs has merged parts since
        else:
            self._db.execute(sql, list(values))
        columns = tuple(column[0] for column in self._db.description)
        return QueryAnswer(columns, self._fetched())

    def _fetched(self) -> list[tuple[Any, ...]]:
        """Return the rows. DuckDB's limit does not count what Python makes of them."""
        rows: list[tuple[Any, ...]] = []
        characters = 0
        while batch := self._db.fetchmany(BATCH):
            rows += batch
            characters += sum(len(v) for row in batch for v in row if isinstance(v, str | bytes))
            if len(rows) > ROWS or characters > CHARACTERS:
                problem = f"the answer has more than {ROWS:,} rows or {CHARACTERS:,} characters"
                raise _refused(problem, "ask for less, for example with LIMIT")
        return rows

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


def _listed(paths: Sequence[Path]) -> str:
    """Return paths as SQL writes them, with commas."""
    return ", ".join("'" + str(path.absolute()).replace("'", "''") + "'" for path in paths)


def _refused(problem: str, mend: str) -> UserError:
    return UserError(problem, place="sql", mend=mend)
