"""The face: what ``import mtrrzap`` offers, as a user of the package writes it."""

import doctest
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import mtrrzap
from helpers.cli import Run
from helpers.paths import ROOT
from helpers.traces import FINE, cr0, trace
from mtrrzap import api
from mtrrzap.guest.tabular import csv_lines, parquet_bytes
from mtrrzap.guest.trace import dumps
from mtrrzap.protocol import Range, Spinlock, Steps, Vm

DUMP = (ROOT / "examples" / "dump.txt").read_text(encoding="utf-8")
TIMES = {"seconds", "search_seconds", "learning_seconds"}
SHIPPED = ["ovmf-8", "seabios-8", "ovmf-16", "seabios-16"]


class OwnVm(Vm):
    lock = Spinlock()


def forgetful(vm: OwnVm, _: tuple[Range, ...]) -> Steps:
    yield vm.lock.lock()
    yield vm.lock.unlock()


def plain(value: Any) -> Any:
    """Return a value as JSON has it, without what a clock has measured."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items() if key not in TIMES}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def same(found: Any, run: Run, *command: str) -> bool:
    return bool(plain(found) == plain(json.loads(run(*command, "--json").out)))


def modules_after(code: str) -> set[str]:
    """Return the modules that a new Python has loaded for this code."""
    script = f"import sys\nold = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - old))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


# ---- the seven lines ---------------------------------------------------------------------------


def test_the_lines_of_the_package_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dump.txt").write_text(DUMP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert mtrrzap.__doc__
    lines = [line[4:] for line in mtrrzap.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 7
    names: dict[str, Any] = {"mtrrzap": mtrrzap}
    exec(lines[0], names)
    requests, rows, counterexample, place, verdict, cycles = (eval(x, names) for x in lines[1:])
    assert (len(requests), requests[0].event, requests[0].vcpu) == (74, 486, 0)
    assert [row.requests for row in rows] == [84, 74]
    assert counterexample.steps == 20
    assert (str(place.type), place.deciders, place.architectural) == ("UC", ("PHYS0",), True)
    assert str(verdict) == "right"
    assert round(cycles) == 106087156


def test_the_example_runs() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "face.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ran.stdout.splitlines()
    assert lines[0] == (
        "<Trace ovmf-8: OVMF, 8 vCPUs, 1,348 events>: "
        "74 zap requests under Base2+9, the first for CD 1->0"
    )
    assert lines[-3:] == [
        "0xc0000000: UC, decided by PHYS0; architectural",
        "right",
        "106 modelled Mcycles under ticket",
    ]


@pytest.mark.parametrize(
    "name", ["protocol", *(f"api.{each.name}" for each in pkgutil.iter_modules(api.__path__))]
)
def test_the_examples_of_the_docstrings(name: str) -> None:
    module = importlib.import_module(f"mtrrzap.{name}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", [n for n in mtrrzap.__all__ if callable(getattr(mtrrzap, n))])
def test_every_public_name_is_documented(name: str) -> None:
    found = getattr(mtrrzap, name)
    assert found.__doc__
    if not isinstance(found, type):
        assert all(part in found.__doc__ for part in ("Args:", "Raises:", "Example:", ">>> "))


# ---- what an import costs ----------------------------------------------------------------------


def test_an_import_loads_nothing() -> None:
    loaded = modules_after("import mtrrzap")
    assert loaded == {"mtrrzap"}


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("mtrrzap.UserError", {"mtrrzap.guest", "mtrrzap.checker", "mtrrzap.report"}),
        ("mtrrzap.load('ovmf-8')", {"mtrrzap.checker", "mtrrzap.simulator", "rich", "pyarrow"}),
        ("mtrrzap.check('v4').to_dict()", {"mtrrzap.simulator", "numba", "numpy", "rich"}),
        ("mtrrzap.compare('ovmf-8', 'v6.1').to_dict()", {"mtrrzap.checker", "numpy", "rich"}),
        ("mtrrzap.audit('ovmf-8', 'v6.1').to_dict()", {"mtrrzap.checker", "rich"}),
        ("str(mtrrzap.compare('ovmf-8', 'v6.1'))", {"mtrrzap.checker", "numpy", "typer"}),
    ],
)
def test_a_name_loads_only_what_it_needs(code: str, unneeded: set[str]) -> None:
    loaded = modules_after(f"import mtrrzap\n{code}")
    assert not loaded & (unneeded | {"typer", "duckdb", "matplotlib", "mtrrzap.cli.main"})


def test_names() -> None:
    assert set(mtrrzap.__all__) <= set(dir(mtrrzap))
    assert sorted(mtrrzap.__all__) == sorted(mtrrzap._MODULE_OF)
    assert mtrrzap.check is mtrrzap.check
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        getattr(mtrrzap, "chekc")  # noqa: B009


def test_a_user_gets_types() -> None:
    code = (
        "import mtrrzap\n"
        "reveal_type(mtrrzap.load('ovmf-8').header.vcpus)\n"
        "reveal_type(mtrrzap.check('v4', max_seconds=1)['lost zap'].holds)\n"
        "reveal_type(mtrrzap.compare()[0].requests)\n"
        "mtrrzap.chekc('v4')\n"
        "mtrrzap.check('v4', strategy='dfs')\n"
    )
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--no-error-summary",
            "-c",
            code,
        ],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = ran.stdout.splitlines()
    types = [line.split('"')[1].removeprefix("builtins.") for line in said if "Revealed" in line]
    assert types in (["int", "bool | None", "int"], ["int", "Union[builtins.bool, None]", "int"])
    assert [line.split("[")[-1] for line in said if "error:" in line] == [
        "attr-defined]",
        "typeddict-item]" if "typeddict-item]" in ran.stdout else "arg-type]",
    ]
    assert (ROOT / "src" / "mtrrzap" / "py.typed").is_file()


# ---- load, rescale, replay ---------------------------------------------------------------------


def test_load_takes_names_paths_and_traces(tmp_path: Path) -> None:
    made = trace(*FINE, cr0(0x60000011))
    text, table, parquet = (tmp_path / name for name in ("a.trace", "a.csv", "a.parquet"))
    text.write_text(dumps(made), encoding="utf-8")
    table.write_text("".join(csv_lines(made)), encoding="utf-8")
    parquet.write_bytes(parquet_bytes(made))
    for path in (text, table, parquet):
        assert mtrrzap.load(path) == mtrrzap.load(str(path)) == made
        assert mtrrzap.memory_map(path).to_dict() == mtrrzap.memory_map(made).to_dict()
    assert mtrrzap.load(made) is made
    assert mtrrzap.load("ovmf-8") == mtrrzap.load(Path("ovmf-8"))


def test_replay_takes_policies_by_name_and_as_objects(run: Run) -> None:
    ticket = next(each for each in mtrrzap.POLICIES if each.name == "ticket")
    requests = list(mtrrzap.replay("ovmf-8", ticket))
    assert requests == list(mtrrzap.replay(mtrrzap.load("ovmf-8"), "ticket"))
    found = [request._asdict() for request in requests]
    listed = json.loads(run("requests", "ovmf-8", "-p", "ticket", "--json").out)["requests"]
    assert plain(found) == listed
    assert list(mtrrzap.replay("ovmf-8", "+9", host=mtrrzap.Host(noncoherent_dma=False))) == []


def test_rescale_is_what_the_command_line_does(run: Run) -> None:
    larger = mtrrzap.rescale("ovmf-8", vcpus=32, memory=64 << 30)
    options = ("ovmf-8", "-p", "review", "--vcpus", "32", "--memory", "64G")
    assert same(mtrrzap.compare(larger, "review").to_dict(), run, "compare", *options)
    assert mtrrzap.rescale("ovmf-8") is not larger


# ---- compare -----------------------------------------------------------------------------------


def test_compare_is_by_default_of_everything() -> None:
    found = mtrrzap.compare(modelled=False)
    assert list(dict.fromkeys(row.trace for row in found)) == SHIPPED
    assert [row.policy for row in found] == [each.name for each in mtrrzap.POLICIES] * len(SHIPPED)
    assert {row.modelled_mcycles for row in found} == {None}


def test_compare_gives_the_rows_of_the_command_line(run: Run) -> None:
    found = mtrrzap.compare([mtrrzap.load("ovmf-8")], ["v6.1", "ticket"], page_size="2M")
    options = ("ovmf-8", "-p", "v6.1", "-p", "ticket", "--page-size", "2M")
    assert same(found.to_dict(), run, "compare", *options)


def test_a_comparison_prints_itself() -> None:
    found = mtrrzap.compare("ovmf-8", ["v6.1", "ticket"])
    assert repr(found) == "<Comparison: 2 rows; print shows them>"
    lines = str(found).splitlines()
    assert "entries zapped" in lines[1]
    assert "352,364,544" in lines[3]
    assert "stale (2 parts, event 750)" in lines[3]
    assert "modelled Mcycles" in str(found.modelled())
    assert found[1].policy == "ticket"
    assert [row.policy for row in found[:1]] == ["v6.1"]
    assert "<td>ticket</td>" in found._repr_html_()


def test_a_narrow_terminal_gets_fewer_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mtrrzap.compare("ovmf-8", "v6.1", modelled=False)
    terminal = Console(width=90, force_terminal=True)
    monkeypatch.setattr("mtrrzap.report.text.console", lambda **_: terminal)
    printed = str(found)
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= 90
    assert "shows them: visits, entries zapped" in printed


def test_a_trace_cannot_inject_html(tmp_path: Path) -> None:
    path = tmp_path / "<b>.trace"
    path.write_text(dumps(trace(*FINE)), encoding="utf-8")
    shown = [
        mtrrzap.compare([path, trace(*FINE)], "v6.1")._repr_html_(),
        mtrrzap.memory_map(path)._repr_html_(),
        mtrrzap.audit(path, "v6.1")._repr_html_(),
    ]
    assert not any("<b>" in each for each in shown)
    assert "&lt;b&gt;" in shown[0]


# ---- check -------------------------------------------------------------------------------------


def test_check_gives_the_rows_of_the_command_line(run: Run) -> None:
    found = mtrrzap.check("v4", vcpus=3)
    assert same(found.to_dict(), run, "check", "v4", "-n", "3")
    drawn = run("check", "v4", "-n", "3", "-p", "lost zap").out.partition("\n\n")[2].rstrip("\n")
    assert str(found["lost zap"].counterexample) == drawn
    ranges = [[(0, 0x100)], [(0x100, 0x200), (0x300, 0x400)]]
    options = ("--range", "0-0x100", "--range", "0x100-0x200,0x300-0x400", "-p", "lost zap")
    options += ("--no-alloc-fails", "--memory-model", "tso", "-r", "2")
    found = mtrrzap.check(
        "review",
        requests=2,
        ranges=ranges,
        alloc_fails=False,
        memory_model="tso",
        properties="lost zap",
    )
    assert same(found.to_dict(), run, "check", "review", *options)


def test_a_verdict() -> None:
    found = mtrrzap.check("v4", properties=["lost zap", "deadlock", "work"])
    assert {name: each.holds for name, each in found.items()} == {
        "lost zap": False,
        "deadlock": True,
        "work": None,
    }
    assert found.holds is False
    lost = found["lost zap"]
    assert (lost.name, lost.verdict, lost.detail) == ("lost zap", "VIOLATED", "20 steps")
    assert str(lost) == "v4: lost zap: VIOLATED (20 steps)"
    assert repr(lost.counterexample) == "<Counterexample of v4, lost zap: 20 steps>"
    assert found["deadlock"].counterexample is None
    assert found["deadlock"].states == lost.states > 0
    assert "lost zap" in found
    assert found.get("lost zaps") is None
    assert repr(found) == "<Verdicts on v4: lost zap: VIOLATED, deadlock: holds, work: measured>"
    assert "v4        lost zap  VIOLATED" in str(found)
    assert "<td>VIOLATED</td>" in found._repr_html_()
    assert mtrrzap.check("ticket").holds is True


def test_a_search_that_was_cut_decides_nothing() -> None:
    found = mtrrzap.check("ticket", vcpus=3, properties="deadlock", max_states=10)
    assert found["deadlock"].holds is found.holds is None
    assert found["deadlock"].verdict == "unknown"


def test_a_sample(run: Run) -> None:
    found = mtrrzap.check("v4", properties="lost zap", strategy="random", runs=50, seed=3)
    options = ("-p", "lost zap", "--strategy", "random", "--runs", "50", "--seed", "3")
    assert same(found.to_dict(), run, "check", "v4", *options)


def test_a_function_of_ones_own() -> None:
    found = mtrrzap.check(forgetful, properties="lost zap")
    assert found["lost zap"].holds is False
    assert str(found["lost zap"].counterexample).startswith("forgetful: lost zap, 2 vCPUs")
    by_name = mtrrzap.check(f"{__file__}:forgetful", properties="lost zap")
    assert by_name["lost zap"].holds is False
    shipped = mtrrzap.PROTOCOLS["v4"]
    assert mtrrzap.check(shipped, properties="lost zap")["lost zap"].detail == "20 steps"
    assert mtrrzap.check(shipped.call, properties="lost zap")["lost zap"].detail == "20 steps"


def test_a_schedule_runs_again(run: Run, tmp_path: Path) -> None:
    for protocol in ("v4", forgetful):
        shown = mtrrzap.check(protocol, properties="lost zap")["lost zap"].counterexample
        assert shown is not None
        path = tmp_path / "a.schedule"
        path.write_text(shown.schedule, encoding="utf-8")
        named = [line.removeprefix("protocol: ") for line in shown.schedule.splitlines()][1]
        ran = run("check", named, "--replay", str(path))
        assert ran.status == 1
        assert ran.out.splitlines()[2:] == str(shown).splitlines()[2:]


# ---- memory_map, audit, simulate ---------------------------------------------------------------


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.txt"
    path.write_text(DUMP, encoding="utf-8")
    return path


def test_memory_map_gives_what_the_command_line_does(run: Run, dump: Path) -> None:
    assert same(mtrrzap.memory_map(dump).to_dict(), run, "memtype", str(dump))
    assert same(mtrrzap.memory_map(dump, maxphyaddr=46).to_dict(), run, "memtype", str(dump), *M46)
    at = ("--at", "300", "--vcpu", "2")
    found = mtrrzap.memory_map("ovmf-8", event=300, vcpu=2)
    assert same(found.to_dict(), run, "memtype", "ovmf-8", *at)


M46 = ("--maxphyaddr", "46")


def test_places(dump: Path) -> None:
    found = mtrrzap.memory_map(dump)
    assert repr(found) == "<RegisterMap of vCPU 0, MSR dump, 40 bits>"
    assert "0x0000c0000000" in str(found)
    assert (found.vcpu, found.broken_rules, found.vcpus_alike) == (0, (), ((0,),))
    hole = found.at(0xC000_0123)
    assert (hole.start, hole.end) == (0xC000_0000, 0xC000_1000)
    assert hole.explanation[-1] == "the default type is WB"
    assert str(found.at(0xA0000)) == "0xa0000: UC, decided by FIX16K_A0000[0]; architectural"
    starts = [place.start for place in found]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert [place.end for place in found] == [*starts[1:], 1 << 40]


def test_a_place_that_only_kvm_decides(tmp_path: Path) -> None:
    path = tmp_path / "overlap"
    path.write_text(f"{DUMP}0x202: 80000006\n0x203: ff80000800\n", encoding="utf-8")
    place = mtrrzap.memory_map(path).at(0xC000_0000)
    assert (str(place.type), str(place.kvm), place.architectural) == ("UC", "WB", False)
    assert str(place) == (
        "0xc0000000: manual UC, KVM WB, decided by PHYS0 PHYS1; "
        "not architectural: overlap, KVM-specific: the order of KVM's list gives WB"
    )


def test_a_kernels_own_map(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dmesg"
    path.write_text(
        "MTRR map: 2 entries (1 fixed + 1 variable; max 21), built from 8 variable MTRRs\n"
        "  0: 0000000000000000-000000000009ffff write-back\n"
        "  1: 00000000c0000000-00000000ffffffff uncachable\n",
        encoding="utf-8",
    )
    found = mtrrzap.memory_map(path)
    assert same(found.to_dict(), run, "memtype", str(path))
    place = found.at(0xC000_0000)
    assert (str(place.type), place.kvm, place.architectural) == ("UC", None, None)
    assert str(place) == ("0xc0000000: UC, by the kernel's map (entry 1, variable MTRRs)")
    assert str(found.at(1 << 40)).startswith("0x100000000: the default")
    assert "entry 1, variable MTRRs" in str(found)
    assert (found.vcpu, found.broken_rules, found.vcpus_alike) == (None, (), ())


def test_audit_gives_what_the_command_line_does(run: Run) -> None:
    found = mtrrzap.audit("ovmf-8", "v6.1")
    assert same([found.to_dict()], run, "audit", "ovmf-8", "-p", "v6.1")
    assert repr(found) == "<AuditResult v6.1 on ovmf-8: stale (2 parts, event 750)>"
    assert (found.verdict.word, found.verdict.parts, found.verdict.event) == ("stale", 2, 750)
    assert "WB+IPAT" in str(found)
    assert len(found.defects) == 65
    small = mtrrzap.audit("ovmf-8", "v6.1", host=mtrrzap.Host(largest_page=1))
    assert same([small.to_dict()], run, "audit", "ovmf-8", "-p", "v6.1", "--page-size", "4K")


def test_simulate_gives_what_the_command_line_does(run: Run) -> None:
    found = mtrrzap.simulate("ovmf-8", "ticket")
    assert same(found.to_dict(), run, "explain", "ovmf-8", "-p", "ticket")
    assert repr(found) == "<Simulation of ticket on ovmf-8: 106 modelled Mcycles>"
    assert (found.cycles, found.later, found.longest) == (
        found.result.cycles,
        found.result.later,
        found.result.longest,
    )
    assert "modelled" in str(found)
    assert "<caption>Phases</caption>" in found._repr_html_()


# ---- proofs, and without extras ------------------------------------------------------------------


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(mtrrzap.UserError, match=r"pip install 'mtrrzap\[check\]'"):
        mtrrzap.check("v4", properties="deadlock", engine="numba")
    assert mtrrzap.check("v4", properties="deadlock").holds is True


def test_every_number_of_vcpus() -> None:
    verdicts = mtrrzap.check("review", vcpus=None, ranges=[[(0, 0x100)], [(0, 1 << 52)]])
    assert verdicts["lost zap"].holds
    assert verdicts["lost zap"].detail == "for every number of vCPUs"
    assert not verdicts["ordering"].holds
    assert verdicts["ordering"].counterexample is not None
    assert "work" not in verdicts
    assert mtrrzap.check("v4", vcpus=None, properties="deadlock").holds
    with pytest.raises(mtrrzap.UserError, match="a proof knows sc only"):
        mtrrzap.check("v4", vcpus=None, memory_model="tso")
