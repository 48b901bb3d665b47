"""What a user's file can do wrong: one line that names file and line, never a traceback."""

import gc
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mtrrzap.cli.check import check
from mtrrzap.errors import UserError

APP = typer.Typer()
APP.command()(check)

HEAD = """\
from dataclasses import dataclass
from mtrrzap.protocol import *
from mtrrzap.protocol import Operation

class V(Vm):
    lock = Spinlock()
    flag = Atomic(0)
    list = ZapList(guard=lock)
    array = ZapArray(guard=lock)
    turn = Sequence(0)

"""
FIRST = HEAD.count("\n") + 1


def refused(file: Path, *options: str) -> str:
    error = CliRunner().invoke(APP, [f"{file}:f", "--brief", *options]).exception
    assert isinstance(error, UserError), error
    return str(error).removeprefix(f"{file}:")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("vm.flag.store([1])", "flag.store takes ([1],), which is mutable"),
        ("vm.array.add(0, None)", "array.add of 0 to None: invalid range"),
        ("vm.list.add(0, None)", "list.add of 0 to None: invalid range"),
        ("vm.array.add(5, 5)", "array.add of 5 to 5: invalid range"),
        ("vm.mmu.zap(None, None)", "mmu.zap of None to None: invalid range"),
        ("Operation(vm.flag, 'frob')", "unknown operation flag.frob; use load or store"),
        ("Operation(vm.flag, 'frob', (1,))", "unknown operation flag.frob"),
        ("Operation(vm.flag, 'store', 1)", "flag: invalid operation; use the methods"),
        ("vm.turn.reached(None)", "expected a Sequence's number, not None"),
        ("exit(0)", "the file exits the program (SystemExit)"),
    ],
)
def test_a_wrong_step_names_its_yield(step: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(f"{HEAD}def f(vm: V, ranges):\n    yield vm.lock.lock()\n    yield {step}\n")
    error = refused(file)
    assert error.startswith(f"{FIRST + 2}: {says}")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("def f(vm: V, *, ranges):\n    yield vm.flag.load()\n", FIRST, "keyword-only parameters"),
        ("def f(vm: 'W', ranges):\n    yield vm.flag.load()\n", FIRST, "name 'W' is not defined"),
        ("def f(vm: W, ranges):\n    yield vm.flag.load()\n", FIRST, "name 'W' is not defined"),
        ("import sys\nsys.exit(0)\n", FIRST + 1, "the file exits the program"),
        ("\nimport no_such_module\n", FIRST + 1, "No module named 'no_such_module'"),
        ("from mtrrzap.protocol import nothing\n", FIRST, "cannot import name 'nothing'"),
        ("def f(:\n", FIRST, ": SyntaxError: invalid syntax"),
        ("x = '\0'\n", 1, "null bytes"),
        ("class W(V):\n    a = Atomic([])\ndef f(vm: W, ranges):\n    yield vm.a.load()\n",
         FIRST + 2, "W.a starts with [], which is mutable"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_its_line(text: str, line: int, says: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(HEAD + text)
    error = refused(file)
    assert error.startswith(f"{line}: ")
    assert says in error


def test_a_relative_path_finds_the_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.py").write_text("\n\nimport no_such_module\n")
    monkeypatch.chdir(tmp_path)
    assert refused(Path("f.py")).startswith("3: ModuleNotFoundError")


def test_an_object_of_ones_own_that_fails_names_the_yield(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        HEAD + "class Mine(Atomic):\n"
        "    def add(self):\n"
        "        return self._operation('add', 1)\n"
        "    def effect(self, value, operation, vcpu):\n"
        "        return (([value], None),)\n"
        "class W(V):\n"
        "    mine = Mine(0)\n"
        "def f(vm: W, ranges):\n"
        "    yield vm.mine.add()\n"
    )
    assert refused(file).startswith(f"{FIRST + 8}: mine.add(1,): TypeError: unhashable")


def test_a_frozen_local_that_holds_a_list_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        HEAD + "@dataclass(frozen=True)\nclass Box:\n    items: list\n"
        "def f(vm: V, ranges):\n"
        "    box = Box([1])\n"
        "    yield vm.mmu.zap(*ranges[0])\n"
        "    del box\n"
    )
    done = CliRunner().invoke(APP, [f"{file}:f", "-p", "lost zap"])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[3].split()[:3] == ["lost", "zap", "holds"]


def test_a_drawing_that_fails_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        HEAD + "class Mine(Atomic):\n"
        "    def draw(self, value):\n"
        "        return 1 / 0\n"
        "class W(V):\n"
        "    mine = Mine(0)\n"
        "def f(vm: W, ranges):\n"
        "    yield vm.mine.load()\n"
    )
    error = CliRunner().invoke(APP, [f"{file}:f", "-p", "lost zap"]).exception
    assert str(error) == f"{file}:{FIRST + 2}: ZeroDivisionError: division by zero"


def test_a_replayed_protocol_that_exits_is_an_error(tmp_path: Path) -> None:
    file, schedule = tmp_path / "f.py", tmp_path / "f.schedule"
    file.write_text(f"{HEAD}def f(vm: V, ranges):\n    yield vm.flag.load()\n    exit(0)\n")
    schedule.write_text(
        f"# mtrrzap schedule 1\nprotocol: {file}:f\nshows: lost zap\nalloc-fails: no\n"
        "memory: sc\nforever: no\nvcpu 0: 0x0-0x100\n\n0 flag.load() = 0\n"
    )
    error = CliRunner().invoke(APP, [f"{file}:f", "--replay", str(schedule)]).exception
    assert str(error) == f"{file}:14: the file exits the program (SystemExit)"


@pytest.mark.parametrize(
    "clause", ["except GeneratorExit: pass", "except BaseException: pass", "finally: continue"]
)
def test_a_call_that_cannot_be_closed_is_one_line(
    clause: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        f"{HEAD}def f(vm: V, ranges):\n    while True:\n        try: yield vm.flag.load()\n"
        f"        {clause}\n"
    )
    error = refused(file)
    gc.collect()
    assert error == f"{FIRST + 2}: the protocol goes on after GeneratorExit; do not catch it"
    assert capfd.readouterr().err == ""


def test_a_long_call_that_ends_is_not_said_to_be_endless(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(
        f"{HEAD}def f(vm: V, ranges):\n    for n in range(20_000):\n"
        "        yield vm.flag.store(n)\n"
    )
    assert refused(file) == (
        f"{FIRST + 2}: stopped after 1,000 operations of a call alone in the VM, at "
        "flag.store(0x3e8); end it within 1,000 for each range: shorten its loop, or check that "
        "it ends"
    )
