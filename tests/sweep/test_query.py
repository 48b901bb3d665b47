"""SQL that comes from a stranger: one SELECT, which sees the sweep's files and nothing else."""

from pathlib import Path

import pyarrow as arrow  # type: ignore[import-untyped]
import pytest

from helpers.sweeps import CHECK, run_inline
from mtrrzap.errors import UserError
from mtrrzap.sweep import query
from mtrrzap.sweep.query import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("it's a sweep")
    run_inline(folder, CHECK, folder / "results")
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    return Results(folder / "results")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM cells",
        "WITH few AS (SELECT * FROM cells) SELECT count(*) FROM few;",
        "FROM cells SELECT count(*) -- a remark; and more",
    ],
)
def test_one_select(results: Results, sql: str) -> None:
    assert results.ask(sql).rows == [(12,)]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY cells TO '{out}'",
        "COPY cells TO '{out}'",
        "COPY (SELECT 1) TO '{out}'",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA version",
        "CALL pragma_version()",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW cells AS SELECT 1",
        "DROP VIEW cells",
        "DELETE FROM cells",
        "WITH a AS (SELECT 1) INSERT INTO cells SELECT * FROM a",
        "PREPARE p AS SELECT 1",
        "USE memory",
        "CHECKPOINT",
        "EXPLAIN ANALYZE SELECT 1",
    ],
)
def test_what_is_not_one_select(results: Results, tmp_path: Path, sql: str) -> None:
    with pytest.raises(UserError, match="not one SELECT; write one SELECT"):
        results.ask(sql.format(out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{folder}/*')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM read_parquet('{folder}/*/*.parquet')",
        "SELECT * FROM query('COPY cells TO ''{folder}/out''')",
        "SELECT * FROM query_table('{secret}')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM read_text('https://localhost/x')",
        "SELECT * FROM python_value",
        "SELECT \0",
    ],
)
def test_other_files_are_out_of_reach(results: Results, sql: str) -> None:
    folder = results.directory.parent
    python_value = arrow.table({"x": [1]})
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"^sql: ") as caught:
        results.ask(sql.format(folder=folder, secret=folder / "secret.csv"))
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    assert python_value.num_rows == 1


def test_the_configuration_is_locked(results: Results) -> None:
    names = "memory_limit", "temp_directory", "enable_external_access", "lock_configuration"
    sql = "SELECT name, value FROM duckdb_settings()"
    found = dict(results.ask(sql).rows)
    assert [found[name] for name in names] == ["1.8 GiB", "", "false", "true"]


def test_time_is_bounded(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "SECONDS", 0.2)
    with pytest.raises(UserError, match=r"sql: the query takes more than 0\.2 seconds"):
        results.ask("SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000) c")
    assert results.ask("SELECT count(*) FROM cells").rows == [(12,)]


def test_memory_is_bounded(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(query._CONFIG, "memory_limit", "50MB")
    with pytest.raises(UserError, match="sql: the query takes more than 2GB of memory"):
        Results(results.directory).ask(
            "SELECT list(x) FROM (SELECT range::VARCHAR || 'abc' AS x FROM range(1000000000))"
        )
    monkeypatch.setattr(query, "ROWS", 3000)
    monkeypatch.setattr(query, "CHARACTERS", 10_000)
    assert len(results.ask("SELECT * FROM range(3000)").rows) == 3000
    for sql in ("SELECT * FROM range(3001)", "SELECT repeat('x', 10001)"):
        with pytest.raises(UserError, match="sql: the answer has more than 3,000 rows or 10,000 "):
            results.ask(sql)
