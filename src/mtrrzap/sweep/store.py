"""The directory of a sweep's results. One process writes it, and nothing in it is half written.

```
sweep.toml       the spec, as it was given
sweep.json       what decides the rows: grid, inputs' hashes, version and hash of the code
parts/           rows as they come, one file for what came together
cells.parquet    all rows in the order of the grid, once the sweep is complete
timing.parquet   seconds and worker of each cell: what differs from run to run
schedules/       a smallest counterexample by protocol, vCPUs and requests (kind = "check")
```
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.files import TEMPORARY
from mtrrzap.reading import whole
from mtrrzap.sweep import parquet
from mtrrzap.sweep.columns import COLUMNS, FAILED, TIMING, VIOLATED, Row
from mtrrzap.sweep.parquet import contents

FORMAT = 1
MERGE = 128
"""Small parts that are merged into one."""
SMALL = 50_000
"""Rows from which on a part is not small; also those of a row group of the end result."""

Say = Callable[[str], None]


@dataclass
class Counts:
    """Rows by what became of them."""

    done: int = 0
    refused: int = 0
    failed: int = 0
    violated: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.done + self.refused + self.failed

    def add(self, status: str, verdict: str | None) -> None:
        """Count a row."""
        setattr(self, status, getattr(self, status) + 1)
        self.violated += verdict == VIOLATED


@dataclass
class _Part:
    path: Path
    low: int
    high: int
    rows: int


class Store:
    """A directory that is being written; use it as a context."""

    def __init__(self, directory: Path, kind: str, say: Say) -> None:
        """``say`` prints a line for the user."""
        self._directory = directory
        self._parts_directory = directory / "parts"
        self._columns = COLUMNS[kind]
        self._all = (*self._columns, *TIMING[1:])
        self._say = say
        self._parts: list[_Part] = []
        self._next = 1
        self._lock = -1

    @property
    def cells(self) -> Path:
        """The file of the end result."""
        return self._directory / "cells.parquet"

    @property
    def timing(self) -> Path:
        """The file of what differs from run to run."""
        return self._directory / "timing.parquet"

    def open(self, manifest: dict[str, Any], spec: str) -> None:
        """Take the directory for this sweep, new or begun.

        Raises:
            UserError: if it cannot be written, or another process or another sweep has it.
        """
        parquet.library("pyarrow.parquet")  # before anything runs
        try:
            self._refuse_strangers()
            self._parts_directory.mkdir(parents=True, exist_ok=True)
            self._locked()
            self._sweep_up()
            self._claim(manifest, spec)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> UserError:
        return UserError(
            f"cannot be written: {error.strerror or error}",
            place=str(self._directory),
            mend="fix that, or name another directory; finished cells are kept, "
            "and the same command continues",
        )

    def _locked(self) -> None:
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                "another sweep is writing here", place=str(self._directory), mend="wait for it"
            ) from error

    def _sweep_up(self) -> None:
        for directory in (self._directory, self._parts_directory):
            for path in directory.glob(f"{TEMPORARY}*"):
                path.unlink()

    def _claim(self, manifest: dict[str, Any], spec: str) -> None:
        path = self._directory / "sweep.json"
        if path.exists():
            _compare(read_manifest(self._directory), manifest, self._directory)
        else:
            parquet.written(path, json.dumps(manifest, indent=1).encode() + b"\n")
        copy = self._directory / "sweep.toml"
        if not copy.exists():
            parquet.written(copy, spec.encode("utf-8", "surrogateescape"))

    def _refuse_strangers(self) -> None:
        """Leave a directory alone that is no sweep's, new or begun."""
        if not self._directory.exists() or (self._directory / "sweep.json").exists():
            return
        for path in self._directory.iterdir():
            if path.name not in ("parts", "lock") and not path.name.startswith(TEMPORARY):
                raise UserError(
                    f"no sweep in this folder, and it is not empty ({path.name})",
                    place=str(self._directory),
                    mend="name another directory",
                )

    def close(self) -> None:
        """Let others write the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def known(self, *, retry_failed: bool) -> Iterator[list[Row]]:
        """Yield what is there already, file by file: the columns that the driver looks at.

        A damaged file is moved aside, and its cells will be run again.
        """
        wanted = ("number", "status", "verdict", "schedule_steps")
        files = sorted(self._parts_directory.glob("part-*.parquet"))
        self._next = max((int(p.stem.removeprefix("part-")) for p in files), default=0) + 1
        for path in [*([self.cells] if self.cells.exists() else []), *files]:
            if not self._sound(path):
                continue
            if retry_failed:
                self._drop_failed(path)
            numbers: list[int] = []
            for made in parquet.groups(path, wanted):
                rows = made.to_pylist()
                numbers += [row["number"] for row in rows]
                yield rows
            if path != self.cells:
                self._note(path, numbers)

    def _sound(self, path: Path) -> bool:
        try:
            parquet.verify(path)
        except ValueError:
            aside = path.with_name(f"{path.name}.damaged")
            path.replace(aside)
            self._say(f"{path} is damaged: moved to {aside.name}, and its cells are run again")
            return False
        except OSError as error:
            raise UserError(
                f"cannot be read: {error.strerror}", place=str(path), mend="fix that"
            ) from error
        return True

    def _drop_failed(self, path: Path) -> None:
        compute = parquet.library("pyarrow.compute")
        made = contents(path)
        kept = made.filter(compute.not_equal(made["status"], FAILED))
        if kept.num_rows < made.num_rows:
            parquet.written(path, parquet.encoded(kept))

    def _note(self, path: Path, numbers: list[int]) -> None:
        if numbers:
            self._parts.append(_Part(path, min(numbers), max(numbers), len(numbers)))
        else:
            path.unlink()

    def add(self, rows: list[Row]) -> None:
        """Write rows; when this returns, they are on disk.

        Raises:
            UserError: if they cannot be written.
        """
        try:
            self._add(parquet.table(rows, self._all))
            small = [part for part in self._parts if part.rows < SMALL]
            if len(small) >= MERGE:
                self._merge(small)
        except OSError as error:
            raise self._refused(error) from error

    def _add(self, made: Any) -> None:
        path = self._parts_directory / f"part-{self._next:08}.parquet"
        self._next += 1
        parquet.written(path, parquet.encoded(made))
        self._note(path, made["number"].to_pylist())

    def _merge(self, parts: list[_Part]) -> None:
        arrow = parquet.library("pyarrow")
        made = arrow.concat_tables([contents(part.path) for part in parts])
        self._add(made.sort_by("number"))
        self._parts = [part for part in self._parts if part not in parts]
        for part in parts:
            part.path.unlink()

    def complete(self) -> None:
        """Make the end result of the parts, and remove them.

        Raises:
            UserError: if it cannot be written.
        """
        if not self._parts:
            return
        try:
            # A cut between the two leaves parts, hence a second try.
            ordered = self._ordered
            keep = [column.name for column in self._columns]
            times = [column.name for column in TIMING]
            parquet.streamed(self.timing, (t.select(times) for t in ordered()), TIMING)
            parquet.streamed(self.cells, (t.select(keep) for t in ordered()), self._columns)
            for part in self._parts:
                part.path.unlink()
            self._parts = []
        except OSError as error:
            raise self._refused(error) from error

    def _ordered(self) -> Iterator[Any]:
        """Yield all rows in the order of the grid, each once, in tables of ``SMALL`` numbers."""
        arrow, compute = parquet.library("pyarrow"), parquet.library("pyarrow.compute")
        parts = [*self._parts, *self._finished()]
        for start in range(0, max(part.high for part in parts) + 1, SMALL):
            found = []
            for part in parts:
                if part.low < start + SMALL and part.high >= start:
                    made = self._whole(part.path)
                    number = made["number"]
                    inside = compute.and_(
                        compute.greater_equal(number, start), compute.less(number, start + SMALL)
                    )
                    found.append(made.filter(inside))
            if found:
                yield _once(arrow.concat_tables(found).sort_by("number"))

    def _finished(self) -> list[_Part]:
        """Return the end result as a part, if there is one: its sweep has been run again."""
        if not self.cells.exists():
            return []
        rows, high = 0, 0
        for made in parquet.groups(self.cells, ["number"]):
            rows += made.num_rows
            high = max([high, *made["number"].to_pylist()])
        return [_Part(self.cells, 0, high, rows)]

    def _whole(self, path: Path) -> Any:
        """Return a file's rows with all columns; the end result has its timing beside it."""
        made = contents(path)
        if path != self.cells:
            return made
        arrow = parquet.library("pyarrow")
        times = contents(self.timing) if self.timing.exists() else parquet.table([], TIMING)
        by_number = {row["number"]: row for row in times.to_pylist()}
        for column in TIMING[1:]:
            values = [
                by_number.get(number, {}).get(column.name) for number in made["number"].to_pylist()
            ]
            made = made.append_column(
                column.name, arrow.array(values, getattr(arrow, column.type)())
            )
        return made

    def schedule(self, name: str, text: str) -> Path:
        """Write a counterexample's schedule; return where."""
        path = self._directory / "schedules" / f"{name}.schedule"
        try:
            path.parent.mkdir(exist_ok=True)
            parquet.written(path, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise self._refused(error) from error
        return path

    def rows(self, wanted: Iterable[int]) -> Iterator[Row]:
        """Yield some rows of the end result or the parts, whole."""
        numbers = set(wanted)
        compute, arrow = parquet.library("pyarrow.compute"), parquet.library("pyarrow")
        for part in [*self._parts, *self._finished()]:
            made = contents(part.path)
            mask = compute.is_in(made["number"], value_set=arrow.array(sorted(numbers), "int64"))
            for row in made.filter(mask).to_pylist():
                if row["number"] in numbers:
                    numbers.discard(row["number"])
                    yield row


def _once(made: Any) -> Any:
    """Return a table without the second of two rows of one number; it is sorted by number."""
    numbers = made["number"].to_pylist()
    if len(set(numbers)) == len(numbers):
        return made.combine_chunks()
    first = [i for i, number in enumerate(numbers) if i == 0 or numbers[i - 1] != number]
    return made.take(first).combine_chunks()


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return what a directory says of its sweep. Raises ``UserError`` if there is none."""
    path = directory / "sweep.json"
    try:
        if not path.exists():
            raise UserError(
                "no sweep in this folder", place=str(directory), mend="name one that a sweep wrote"
            )
        told = json.loads(whole(path, "name a folder that a sweep wrote", mib=64))
    except (ValueError, RecursionError) as error:
        raise UserError("is damaged", place=str(path), mend="start in another directory") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise UserError("unknown format", place=str(path), mend="use the mtrrzap that made it")
    return told


def _compare(there: dict[str, Any], ours: dict[str, Any], directory: Path) -> None:
    """Refuse a directory whose rows could not stand beside ours, and say what differs."""
    ours = json.loads(json.dumps(ours))
    mend = "name another directory"
    for key, says in (("version", "mtrrzap"), ("code", "another mtrrzap: code")):
        if there.get(key) != ours[key]:
            raise UserError(
                f"was made by {says} {there.get(key)}, this is {ours[key]}",
                place=str(directory),
                mend=mend,
            )
    for key in ours["spec"]:
        if there.get("spec", {}).get(key) != ours["spec"][key]:
            raise UserError(
                f"contains another sweep: {key} differs", place=str(directory), mend=mend
            )
    for name, sha256 in ours["inputs"].items():
        if there.get("inputs", {}).get(name) != sha256:
            raise UserError(
                f"was made of another {name}: the file has changed", place=str(directory), mend=mend
            )
    with suppress(KeyError):
        if there["cells"] != ours["cells"]:
            raise UserError("contains another sweep", place=str(directory), mend=mend)
