"""The directory of results: what a kill leaves, what damage costs, and whom it belongs to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet
import pytest

from helpers.sweeps import SIMULATE, job_of, nothing, run_inline
from mtrrzap.errors import UserError
from mtrrzap.sweep import store as store_module
from mtrrzap.sweep.columns import COLUMNS, TIMING
from mtrrzap.sweep.store import Store

CELLS = 48
FEW = """\
kind = "simulate"
[grid]
traces = "seabios-8"
seeds = { from = 0, to = 1 }
policies = ["Base2", "+9", "ticket"]
"""


class KillError(BaseException):
    """kill -9: nothing that would come later happens."""


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Die before the given write to the disk, and before all that would clean up after it."""
    left = [step]

    def deadly(call: object) -> object:
        def either(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise KillError
            return call(*args, **kwargs)  # type: ignore[operator]

        return either

    with (
        patch.object(os, "fsync", deadly(nothing)),  # a disk that is quick
        patch.object(Path, "replace", deadly(Path.replace)),
        patch.object(Path, "unlink", deadly(Path.unlink)),
        patch.object(Path, "mkdir", deadly(Path.mkdir)),
    ):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The end result of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    state, _ = run_inline(folder, SIMULATE, folder / "results")
    assert (state.cells, state.counts.done, state.counts.refused) == (CELLS, 36, 12)
    assert sorted(p.name for p in (folder / "results").iterdir()) == [
        *("cells.parquet", "lock", "parts", "sweep.json", "sweep.toml", "timing.parquet")
    ]
    assert list((folder / "results/parts").iterdir()) == []
    return (folder / "results/cells.parquet").read_bytes()


def test_a_row_a_cell_in_the_order_of_the_grid(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cells.parquet"
    path.write_bytes(whole)
    made = pyarrow.parquet.read_table(path)
    assert made.column_names == [column.name for column in COLUMNS["simulate"]]
    assert made["number"].to_pylist() == list(range(CELLS))
    assert len(set(made["cell"].to_pylist())) == CELLS
    refused = made.filter(pyarrow.compute.field("status") == "refused").to_pylist()
    assert {(row["trace"], row["memory_bytes"]) for row in refused} == {("ovmf-8", 1 << 40)}
    assert "a variable MTRR of the trace covers" in refused[0]["reason"]
    for row in made.to_pylist():
        parts = [row[name] for name in row if name.startswith("modelled_")][1:6]
        assert row["status"] == "refused" or row["modelled_cycles"] == sum(parts)


def test_a_kill_at_any_write_loses_nothing(tmp_path: Path) -> None:
    """Each write once; parts are merged early."""
    run_inline(tmp_path, FEW, tmp_path / "whole")
    whole = (tmp_path / "whole/cells.parquet").read_bytes()
    with patch.object(store_module, "MERGE", 2):
        for step in range(1000):
            results = tmp_path / f"results-{step}"
            try:
                with killed_at(step):
                    run_inline(tmp_path, FEW, results)
            except KillError:
                pass
            else:
                break
            with patch.object(os, "fsync", nothing):
                state, _ = run_inline(tmp_path, FEW, results)
            assert state.counts.rows == 6, step
            assert (results / "cells.parquet").read_bytes() == whole, step
            assert not [p for p in results.rglob("*") if p.name.startswith(".tmp")], step
    assert step > 25


def test_stopped_and_gone_on_with(tmp_path: Path, whole: bytes) -> None:
    results = tmp_path / "results"
    first, ran = run_inline(tmp_path, SIMULATE, results, stop_after=5)
    assert not first.complete
    assert not (results / "cells.parquet").exists()
    second, more = run_inline(tmp_path, SIMULATE, results)
    assert first.new + second.new == CELLS
    assert not {n for task in ran for n in task[: first.new]} & {n for task in more for n in task}
    assert (results / "cells.parquet").read_bytes() == whole
    third, none = run_inline(tmp_path, SIMULATE, results)
    assert (third.new, none) == (0, [])


def test_damaged_files_are_moved_aside(tmp_path: Path, whole: bytes) -> None:
    results = tmp_path / "results"
    first, _ = run_inline(tmp_path, SIMULATE, results, stop_after=9)
    victim, *others = sorted((results / "parts").iterdir())
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 0xFF  # inside a page: only its checksum can tell
    victim.write_bytes(data)
    cut = others[0]
    cut.write_bytes(cut.read_bytes()[:-9])
    second, _ = run_inline(tmp_path, SIMULATE, results)
    assert second.new > CELLS - first.new
    assert (results / "cells.parquet").read_bytes() == whole
    assert sorted(p.name for p in (results / "parts").iterdir()) == [
        *(f"{victim.name}.damaged", f"{cut.name}.damaged")
    ]
    (results / "cells.parquet").write_bytes(b"")
    third, _ = run_inline(tmp_path, SIMULATE, results)
    assert third.new == CELLS
    assert (results / "cells.parquet").read_bytes() == whole


def test_timing_has_each_cell_once(tmp_path: Path) -> None:
    run_inline(tmp_path, SIMULATE, tmp_path / "results", stop_after=9)
    run_inline(tmp_path, SIMULATE, tmp_path / "results")
    made = pyarrow.parquet.read_table(tmp_path / "results/timing.parquet")
    assert made.column_names == [column.name for column in TIMING]
    assert made["number"].to_pylist() == list(range(CELLS))
    assert all(seconds > 0 for seconds in made["seconds"].to_pylist())


def test_a_directory_of_another_sweep_is_refused(tmp_path: Path) -> None:
    results = tmp_path / "results"
    run_inline(tmp_path, SIMULATE, results, stop_after=1)
    with pytest.raises(UserError, match="contains another sweep: vcpus differs; name another"):
        run_inline(tmp_path, SIMULATE.replace("[8, 9]", "[8, 10]"), results)
    _, job, manifest, _ = job_of(tmp_path, SIMULATE)
    for key, value, says in (
        ("version", "9.9", "was made by mtrrzap 0.1.0, this is 9.9"),
        ("code", "f" * 16, f"another mtrrzap: code {job.made_by.code}, this is ffff"),
        ("inputs", {"seabios-8": "0"}, "was made of another seabios-8: the file has changed"),
    ):
        store = Store(results, "simulate", nothing)
        with pytest.raises(UserError, match=says):
            store.open({**manifest, key: value}, SIMULATE)
        store.close()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/thesis.tex").write_text("x")
    with pytest.raises(
        UserError, match=r"no sweep in this folder, and it is not empty \(thesis.tex\)"
    ):
        run_inline(tmp_path, SIMULATE, tmp_path / "results")
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["thesis.tex"]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    _, _, manifest, _ = job_of(tmp_path, SIMULATE)
    first = Store(tmp_path / "results", "simulate", nothing)
    first.open(manifest, SIMULATE)
    with pytest.raises(UserError, match="another sweep is writing here"):
        Store(tmp_path / "results", "simulate", nothing).open(manifest, SIMULATE)
    first.close()


def test_a_full_disk_is_an_error_that_names_the_directory(tmp_path: Path, whole: bytes) -> None:
    results = tmp_path / "results"
    run_inline(tmp_path, SIMULATE, results, stop_after=5)
    full = OSError(28, "No space left on device")
    with patch.object(os, "fsync", side_effect=full), pytest.raises(UserError) as caught:
        run_inline(tmp_path, SIMULATE, results)
    assert str(caught.value).startswith(f"{results}: cannot be written: No space left on device;")
    run_inline(tmp_path, SIMULATE, results)
    assert (results / "cells.parquet").read_bytes() == whole
