"""Limits, Ctrl-C and strategies: what was not decided is unknown, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mtrrzap.checker import check as orchestrator
from mtrrzap.checker import solo
from mtrrzap.checker.check import PROPERTIES, Options, check, exit_status
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import scenario
from mtrrzap.cli import check as command
from mtrrzap.errors import UserError
from mtrrzap.protocol.load import load

APP = typer.Typer()
APP.command()(command.check)
RUN = CliRunner()


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def details(limits: Limits, name: str = "ticket", vcpus: int = 3) -> dict[str, tuple[str, str]]:
    found = check(scenario(load(name), vcpus, 1), Options(limits=limits))
    return {each.prop: (each.verdict, each.detail) for each in found}


@pytest.mark.parametrize("strategy", ["random", "pct"])
@pytest.mark.parametrize("name", ["ordering", "starvation", "work"])
def test_a_strategy_refuses_what_it_cannot_decide(strategy: str, name: str) -> None:
    done = RUN.invoke(APP, ["ticket", "--strategy", strategy, "-p", name, "-p", "deadlock"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(
        f"{strategy} cannot decide {name}; use breadth-first search"
    )


def test_a_strategy_says_what_it_did_not_look_for() -> None:
    done = RUN.invoke(APP, ["ticket", "--strategy", "pct", "--runs", "20", "--json"])
    found = {each["property"]: each for each in json.loads(done.stdout)}
    assert tuple(found) == PROPERTIES
    assert {each["verdict"] for each in found.values()} == {"unknown"}
    for name in ("ordering", "starvation", "work"):
        assert found[name]["detail"] == "not sampled: it needs breadth-first search (bfs)"
    assert {each["world"] for each in found.values()} == {"2 vCPUs, 1 request each"}
    assert done.exit_code == 1


def test_no_verdict_is_not_a_good_one() -> None:
    assert exit_status([]) == 1


def test_no_time_gives_no_verdict() -> None:
    found = details(Limits(seconds=0), "v4")
    assert {verdict for verdict, _ in found.values()} == {"unknown"}
    assert found["starvation"][1] == "limit of 0 s: 1 states seen, no cycle looked for"
    assert found["work"][1] == "limit of 0 s: 1 states seen, nothing measured"


@pytest.mark.parametrize("engine", ["python", "numba"])
def test_no_time_gives_no_verdict_in_either_engine(engine: str) -> None:
    only = Options(engine=engine, limits=Limits(seconds=0), properties=("lost zap",))
    assert check(scenario(load("v4"), 2, 1), only)[0].verdict == "unknown"


def test_a_strategy_without_time_runs_nothing() -> None:
    done = RUN.invoke(APP, ["v4", "--strategy", "pct", "--max-seconds", "0", "-p", "lost zap"])
    assert "limit of 0 s after 0 executions" in " ".join(done.stdout.split())


def test_the_clock_stops_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1_000_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    found = details(Limits(seconds=100))
    assert found["starvation"][0] == found["work"][0] == "unknown"
    assert found["starvation"][1].startswith("limit of 100 s: ")


def test_little_memory_stops_a_graph() -> None:
    found = details(Limits(bytes=50_000))
    assert found["starvation"][1].startswith("limit of 0.0 GB of memory: ")
    assert found["work"][1].startswith("limit of 0.0 GB of memory: ")


@pytest.mark.parametrize("limit", [10, 1000, 35_000])
def test_the_compiled_search_stops_just_above_its_limit(limit: int) -> None:
    fast = pytest.importorskip("mtrrzap.checker.packed_search")
    world = scenario(load("v4"), 4, 1)
    model = Model(world, LostZap(world))
    found = fast.PackedSearch(model, limits=Limits(states=limit), symmetry=False).run()
    assert found.cut == f"limit of {limit:,} states"
    assert limit <= found.states <= limit + 128 * 4 * 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-states", "0"),
        ("--max-states", "-1"),
        ("--max-seconds", "-1"),
        ("--max-seconds", "nan"),
        ("--max-gb", "nan"),
        ("--max-gb", "inf"),
        ("--runs", "0"),
        ("--seed", "-1"),
    ],
)
def test_a_limit_that_is_none_is_refused(option: str, value: str) -> None:
    sampling = ["--strategy", "pct"] if option in ("--runs", "--seed") else []
    done = RUN.invoke(APP, ["v4", *sampling, option, value])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"{option}: invalid number {value}")


def test_too_many_requests_are_refused() -> None:
    done = RUN.invoke(APP, ["v4", "-r", "100000000000"])
    assert str(done.exception) == "invalid number of requests: 100000000000; use 1 to 1,000"


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_schedules_that_cannot_be_written_are_refused_first(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(command, "_results", interrupt)
    done = RUN.invoke(APP, ["v4", "--schedules", str(tmp_path / below)])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"{tmp_path / below}: cannot be written: ")


def test_ctrl_c_ends_all_searches_and_keeps_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator.work, "measure", interrupt)
    done = RUN.invoke(APP, ["v4", "ticket", "--json", "-p", "work", "-p", "deadlock"])
    found = [(each["protocol"], each["property"], each["verdict"], each["detail"])
             for each in json.loads(done.stdout)]  # fmt: skip
    assert found == [
        ("v4", "deadlock", "holds", ""),
        ("v4", "work", "unknown", "interrupted"),
        ("ticket", "deadlock", "unknown", "not started"),
        ("ticket", "work", "unknown", "not started"),
    ]
    assert done.exit_code == 130


def test_ctrl_c_in_one_search_starts_no_other() -> None:
    found = check(scenario(load("v4"), 2, 1), Options(progress=interrupt))
    says = [each.detail.split(":")[0] for each in found]
    assert says == ["interrupted"] * 4 + ["not started"] * 3


def test_ctrl_c_before_the_first_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solo, "run", interrupt)
    found = check(scenario(load("v4"), 2, 1))
    assert [each.detail for each in found] == ["not started"] * 7


def test_ctrl_c_while_numba_loads_keeps_what_python_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: Any) -> None:
        interrupt()

    monkeypatch.setattr(orchestrator, "SMALL", 100)
    monkeypatch.setattr(orchestrator, "_searched", searched)
    (found,) = check(scenario(load("sketch"), 3, 1), Options(properties=("lost zap",)))
    assert found.states >= 100
    assert found.detail.startswith("interrupted: not seen in 10")
    assert found.interrupted
