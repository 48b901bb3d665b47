"""Tables at any width: no number is cut, what a terminal leaves out is named; a pipe has all."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from helpers import captures
from helpers.cli import Run
from helpers.kernel_records import record
from helpers.listings import ALONE
from helpers.sweeps import SIMULATE, run_inline
from helpers.terminal import all_on_terminal, on_terminal
from helpers.traces import FINE, trace
from mtrrzap.guest.importer import Known
from mtrrzap.guest.trace import dumps
from mtrrzap.kernel.calls import Call
from mtrrzap.kernel.compare import Control, Outcome, Row
from mtrrzap.kernel.judge import Beside, Difference, Verdict
from mtrrzap.kernel.program import of
from mtrrzap.kernel.storm import Storm
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.report import kernel

WIDTHS = (60, 80, 100, 200)
BOOT = Path(__file__).parents[1] / "data" / "captures" / "report.txt.xz"
Figures = dict[str, list[str]]
"""Cells by column."""


class Shown(NamedTuple):
    columns: list[str]
    """In order, as the tables name them."""
    cells: Figures
    left_out: list[str]


def parsed(text: str) -> Shown:
    """Take tables apart, or rows that are printed as lines."""
    heads: list[list[str]] = []
    cells: Figures = {}
    columns: list[str] = []
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("┃"):
            heads.append([part.strip() for part in line.strip("┃").split("┃")])
        elif line.startswith("┡"):
            names = [" ".join(filter(None, parts)) for parts in zip(*heads, strict=True)]
            columns += names
            heads = []
        elif line.startswith("│"):
            parts = [part.strip() for part in line.strip("│").split("│")]
            for name, part in zip(names, parts, strict=True):
                cells.setdefault(name, []).extend([part] if part else [])
        elif found := re.fullmatch(r"(\S[^:]*(?:: manual)?): (.*)", line):
            cells.setdefault(found[1], []).append(found[2])
    left_out = re.findall(
        r"Left out; a wider terminal or a pipe shows(?: them)?: ([^.]*)\.", _flat(text)
    )
    return Shown(columns, cells, [name for each in left_out for name in each.split(", ")])


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _of(rows: list[dict[str, Any]], names: dict[str, str]) -> Figures:
    return {column: [_cell(row[key]) for row in rows] for column, key in names.items()}


def _compare(rows: Any) -> Figures:
    names = {"vCPUs": "vcpus", "requests": "requests", "published": "published"}
    names |= {"ranges": "ranges", "frames asked for": "frames", "entries zapped": "entries"}
    return _of(rows, names | {"visits": "visits"})


def _modelled(rows: Any) -> Figures:
    names = {"vCPUs": "vcpus", "needed entries": "needed", "modelled Mcycles": "modelled_mcycles"}
    names |= {"modelled longest wait": "modelled_longest_mcycles"}
    return _of(rows, names | {"modelled later": "modelled_later_mcycles"})


def _audit(rows: Any) -> Figures:
    names = ("defects", "window_only", "disagreements", "requests", "needless", "asked", "needed")
    return _of(rows, {name.replace("_", " "): name for name in names})


def _explain(found: Any) -> Figures:
    rows = sorted(found["requests"], key=lambda row: (row["begin"], row["vcpu"]))
    names = {"event": "event", "vcpu": "vcpu", "walks": "zaps"}
    return _of(rows, names) | _of(found["phases"], {"from event": "first"})


def _show(found: Any) -> Figures:
    names = [name for name in found["vcpus"][0] if name != "vcpu"]
    return _of(found["vcpus"], {name.replace("_", " "): name for name in names})


def _requests(found: Any) -> Figures:
    frames = [_cell(sum(b - a for a, b in row["ranges"])) for row in found["requests"]]
    return _of(found["requests"], {name: name for name in ("event", "vcpu")}) | {"frames": frames}


def _memtype(found: Any) -> Figures:
    return {name: [f"{row[name]:#014x}" for row in found["map"]] for name in ("start", "end")}


def _run(found: Any) -> Figures:
    return _of([row["compare"] for row in found["rows"]], {n: n for n in ("requests", "ranges")})


def _rows(found: Any) -> Figures:
    return _of(found, {name: name for name in found[0] if isinstance(found[0][name], int)})


def _vms(found: Any) -> Figures:
    names = {"VM": "vm", "vCPUs": "vcpus", "events": "events", "MTRR writes": "mtrr_writes"}
    return _of(found, names | {"#GP": "refused", "CR0 writes": "cr0_writes", "INITs": "inits"})


def _zaps(found: Any) -> Figures:
    calls = found["kernel_zaps"]["calls"]
    names = {"event": "event", "leaves": "leaves"}
    return {"us": [f"{call['duration_ns'] / 1000:,.1f}" for call in calls]} | _of(calls, names)


def _ranges(of: str, *columns: str) -> Callable[[Any], Figures]:
    def found(said: Any) -> Figures:
        ends = {name: [f"{row[name]:#014x}" for row in said[of]] for name in ("start", "end")}
        return ends | {name: [row[name] for row in said[of]] for name in columns}

    return found


def _diff(said: Any) -> Figures:
    ends = _ranges("map")(said)
    return ends | {"register": [row["register"] for row in said["registers"]]}


SQL = (
    "SELECT number, policy, vcpus, 1234567890123456789 AS wide, modelled_cycles, "
    "'some words' AS words, number * 987654321098765 AS wider FROM cells ORDER BY number LIMIT 3"
)
CASES: dict[str, tuple[tuple[str, ...], Callable[[Any], Figures]]] = {
    "compare": (("compare", "ovmf-8"), _compare),
    "modelled": (("compare", "seabios-8", "-p", "ticket", "-p", "v6.1", "--modelled"), _modelled),
    "audit": (("audit", "ovmf-8", "-p", "v6.1", "-p", "Base2", "-p", "review"), _audit),
    "explain": (("explain", "ovmf-8", "-p", "review"), _explain),
    "show": (("show", "ovmf-8"), _show),
    "requests": (("requests", "ovmf-8", "-p", "+9+10+11"), _requests),
    "memtype": (("memtype", "ovmf-8"), _memtype),
    "run": (
        *(("run", "seabios-8", "--engine", "threads", "-r", "1", "--touch", "4", "-p", "v4"),),
        _run,
    ),
    "import": (("import", str(BOOT), "--list"), _vms),
    "sql": (("sweep", "show", "RESULTS", "--sql", SQL), _rows),
    "zaps": (("show", "ZAPS"), _zaps),
    "kernel": (("compare", "ZAPS"), _compare),
    "ept": (("memtype", "ovmf-8", "--ept"), _ranges("ept", "kernel")),
    "iomem": (("memtype", "ovmf-8", "--against", "IOMEM"), _ranges("findings")),
    "kernel's map": (("memtype", "ovmf-8", "--against", "LOG"), _ranges("map")),
    "one map": (("memtype", "LOG"), _ranges("map", "type")),
    "diff": (("memtype", "ovmf-8", "--diff", "seabios-8"), _diff),
}
IOMEM = (
    "00000000-0009ffff : System RAM\n0010000000-00ffffffff : PCI Bus\n8000000000-feffffffff : A b\n"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    run_inline(folder, SIMULATE, folder / "RESULTS")
    (folder / "IOMEM").write_text(IOMEM)
    (folder / "LOG").write_text(ALONE)
    (folder / "ZAPS").write_text(
        dumps(captures.imported(captures.text("kprobes-ovmf"), Known(memory=2 << 30)))
    )
    return folder


Texts = dict[tuple[str, ...], dict[int, str]]
"""By the words of a command, by the terminal's width."""
OTHERS = (("policies",), ("sweep", "show", "RESULTS"), ("memtype", "ovmf-8", "--pat"))
CHECKS = (("check", "v4", "ticket"), ("check", "v4", "-p", "lost zap"))


def words(told: tuple[str, ...], results: Path) -> list[str]:
    """Put the path for the name of an input."""
    return [str(results / word) if word.isupper() and word != SQL else word for word in told]


@pytest.fixture(scope="module")
def shown(results: Path) -> Texts:
    """Every command at every width."""
    commands = [*(told for told, _ in CASES.values()), *OTHERS, *CHECKS]
    found: Texts = {told: {} for told in commands}
    for width in WIDTHS:
        texts = all_on_terminal(width, [words(told, results) for told in commands])
        for told, printed in zip(commands, texts, strict=True):
            assert printed
            assert max(map(len, printed.splitlines())) <= width, (told, width)
            found[told][width] = printed
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_whole(run: Run, results: Path, shown: Texts, name: str) -> None:
    told = words(CASES[name][0], results)
    figures = CASES[name][1](json.loads(run(*told, "--json").out))
    pipe = parsed(run(*told).out)
    assert not pipe.left_out
    for column, expected in figures.items():
        assert pipe.cells[column] == expected, column
    for width, text in shown[CASES[name][0]].items():
        here = parsed(text)
        for column, expected in figures.items():
            if column in here.cells:
                assert here.cells[column] == expected, (width, column)
            else:
                assert column in here.left_out, (width, column)
        assert set(here.columns) <= set(pipe.columns) <= {*here.left_out, *here.cells}


@pytest.mark.parametrize("told", OTHERS)
def test_every_word_is_there(run: Run, results: Path, shown: Texts, told: tuple[str, ...]) -> None:
    """Where no JSON has the numbers: what a pipe shows is there, or its column is named."""
    pipe = parsed(run(*words(told, results)).out)
    for text in shown[told].values():
        here = parsed(text)
        for column, cells in pipe.cells.items():
            if column not in here.cells:
                assert column not in pipe.columns or column in here.left_out
                continue
            for cell in cells:
                for number in re.findall(r"[0-9][0-9a-fx,]{3,}", cell):
                    assert number in text, (column, number)


def test_verdicts(run: Run, shown: Texts) -> None:
    rows = json.loads(run(*CHECKS[0], "--json").out)
    for text in shown[CHECKS[0]].values():
        for name in ("states", "transitions"):
            if name in text.splitlines()[0].split():
                assert {f"{row[name]:,}" for row in rows} <= set(text.split())
            else:
                assert name in parsed(text).left_out


def test_the_kernels_zaps_beside_the_requests(run: Run, results: Path, shown: Texts) -> None:
    told = CASES["kernel"][0]
    rows = json.loads(run(*words(told, results), "--json").out)
    for printed in shown[told].values():
        cells = parsed(printed).cells["the kernel's zaps"]
        found = [cell.partition(",")[0] for cell in cells if cell[0].isdigit()]
        assert found == [str(row["kernel_zaps"]) for row in rows]


def console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_of_a_real_kernel(width: int) -> None:
    """With figures as large as they come: they need a host that boots."""
    count = 123_456_789_012
    differs = (Difference(5, "kernel [0x0, 0xfffffffffffff), policy nothing"),)
    verdict = Verdict(count, count + 1, count + 2, differs)
    guest = trace(*FINE)
    rows = tuple(Row(name, guest, True, verdict) for name in ("a", "a trace with a long name"))
    controls = (Control("snoop control on", True, f"{count:,} events made no call"),)
    outcome = Outcome("6.1.0-56-amd64", "NPT", by_name("Base2+9+10+11+12"), rows, controls, {})
    out = console(width)
    kernel.print_outcome(out, outcome)
    _is_whole(out, [count, count + 1, count + 2], len(rows))
    out = console(width)
    storm = Storm(64, count, count + 1, count + 2, 7, 0, (), "6.1.0")
    kernel.print_storms(out, [kernel.Storms("v4_patch10", storm, {"zaps": 9})], 10_000)
    _is_whole(out, [count, count + 1, count + 2], 1)
    calls = tuple(Call(2, 0, (1 << 52) - 1, "kvm_mtrr_set_msr", 2.5, count) for _ in range(9))
    beside = [Beside(count, FINE[2], calls, None, None)]
    out = console(width)
    made = record(of(guest, 4 << 20), by_name("v6.1"), Host())
    kernel.print_run(out, "t", made, by_name("v6.1"), verdict, beside, walks=True)
    _is_whole(out, [count, 9 * count, round(9 * 2.5e6)], 1)


def _is_whole(out: Console, numbers: list[int], times: int) -> None:
    assert isinstance(out.file, io.StringIO)
    printed = re.sub(r"\x1b\[[0-9;]*m", "", out.file.getvalue())
    assert max(map(len, printed.splitlines())) <= out.width
    for number in numbers:
        assert printed.count(f"{number:,}") >= times


def test_c_is_printed_as_it_is(run: Run) -> None:
    """No line is cut or wrapped: the terminal does that, and what is copied from it is whole."""
    told = ("emit", "review")
    wanted = run(*told).out
    assert all(on_terminal(width, *told) == wanted for width in (60, 200))


def test_a_counterexample_is_whole(shown: Texts) -> None:
    for text in shown[CHECKS[1]].values():
        assert "zapping.cmpxchg_acquire(0,1)=0" in re.sub(r"[\s|]+", "", text)


def test_cells_of_several_lines(run: Run) -> None:
    out = run("audit", "ovmf-8", "-p", "v6.1").out
    assert "\\n" not in out
    assert parsed(out).cells["gfns"][:2] == ["[0x0, 0xa0)", "[0x100, 0xc0000)"]


def test_a_forced_colour_does_not_make_a_pipe_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    out = run("compare", "ovmf-8", "-p", "v6.1").out
    assert "visits" in out
    assert "\x1b" not in out
