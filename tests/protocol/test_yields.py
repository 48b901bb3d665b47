"""An operation without its yield: named at its line, wherever it stands, by every engine."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from mtrrzap.checker.check import check
from mtrrzap.checker.scenario import scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Protocol, protocol
from mtrrzap.protocol.load import load
from mtrrzap.protocol.rehearsal import rehearse
from mtrrzap.simulator.calls import Calls
from mtrrzap.simulator.cost_model import costs
from mtrrzap.simulator.events import Loop
from mtrrzap.threads import AsyncZapCoordinator, Runtime, ZapCoordinator

PAGE = ROOT / "docs" / "write-a-protocol.md"
CODE = re.compile(r"```python\n# (\w+)\.py\n(.*?)```\n", re.DOTALL)


def sources() -> dict[str, tuple[str, str]]:
    """Return the source of each protocol, and the name of its function."""
    found = {}
    for name, known in PROTOCOLS.items():
        found[name] = (inspect.getsource(inspect.getmodule(known.call)), name)  # type: ignore[arg-type]
    for name, text in CODE.findall(PAGE.read_text(encoding="utf-8")):
        found[f"the page's {name}"] = (text, "mine")
    return found


SOURCES = sources()


def without_each_yield(text: str) -> Iterator[tuple[str, int]]:
    """Yield the source without one of its yields, and that yield's line."""
    count = sum(isinstance(each, ast.Yield | ast.YieldFrom) for each in ast.walk(ast.parse(text)))
    for number in range(count):
        tree = ast.parse(text)
        yields = [each for each in ast.walk(tree) if isinstance(each, ast.Yield | ast.YieldFrom)]
        gone = yields[number]
        assert gone.value is not None
        start = ast.get_source_segment(text, gone)
        assert start is not None
        lines = text.splitlines(keepends=True)
        line = lines[gone.lineno - 1]
        head, tail = line[: gone.col_offset], line[gone.col_offset :]
        keyword = "yield from " if isinstance(gone, ast.YieldFrom) else "yield "
        assert tail.startswith(keyword)
        lines[gone.lineno - 1] = head + tail.removeprefix(keyword)
        yield "".join(lines), gone.lineno


CASES = [
    (name, line, text, function)
    for name, (whole, function) in SOURCES.items()
    for text, line in without_each_yield(whole)
]


def test_all_yields_are_tried() -> None:
    assert len(CASES) == sum(
        token.string == "yield"
        for text, _ in SOURCES.values()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )


@pytest.mark.parametrize(
    ("line", "text", "function"),
    [case[1:] for case in CASES],
    ids=[f"{name}, line {line}" for name, line, _, _ in CASES],
)
def test_every_missing_yield_is_named(line: int, text: str, function: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        check(scenario(load(f"{file}:{function}")))
    assert error.value.place == f"{file}:{line}"
    assert re.search(r"is made and never (yielded|run)$", error.value.problem)
    assert error.value.mend is not None
    assert re.match(r"write yield (from )?\w", error.value.mend)


HEAD = """\
import functools
from mtrrzap.protocol import *

class V(Vm):
    lock = Spinlock()
    flag = Atomic(0)
    list = ZapList(guard=lock)
    turn = Sequence(0)

    def inside(self):
        yield self.flag.store(1)

def helper(vm):
    yield vm.flag.store(1)

def locked(vm):
    return vm.lock.lock()

STEPS = {"helper": helper}

def started(vm):
    return helper(vm)

def noted(vm):
    print(vm, end="")

def traced(call):
    @functools.wraps(call)
    def inner(*args):
        return call(*args)
    return inner

@traced
def wrapped(vm):
    yield vm.flag.store(1)

class Sub(V):
    def loses(self):
        self.lock.lock()
        yield self.flag.load()

def f(vm: V, ranges):
    yield vm.mmu.zap(*ranges[0])
"""
BODY = HEAD.count("\n") + 1
LOCKED = HEAD.splitlines().index("    return vm.lock.lock()") + 1


def refused(body: str, folder: Path, *, alone: bool = False) -> UserError:
    """Return the error of a protocol with more lines; ``alone``: its source cannot be read."""
    with pytest.raises(UserError) as error:
        check(scenario(without_source(body, folder) if alone else with_source(body, folder)))
    return error.value


def with_source(body: str, folder: Path) -> Protocol:
    file = folder / "f.py"
    file.write_text(HEAD + body)
    return load(f"{file}:f")


def without_source(body: str, folder: Path) -> Protocol:
    names: dict[str, Any] = {}
    exec(compile(HEAD + body, str(folder / "gone.py"), "exec"), names)
    return protocol(names["f"], "test")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("    vm.lock.lock()\n", 0),
        ("    lock = vm.lock\n    lock.lock()\n", 1),
        ("    for _ in range(0):\n        vm.flag.load()\n", 1),
        ("    if False:\n        x = vm.flag.load()\n        del x\n", 1),
        ("    if False:\n        x = vm.flag.load()\n        if x: pass\n", 1),
        ("    if False:\n        x = y = vm.turn.load()\n        yield vm.turn.post(x)\n", 1),
        ("    if False:\n        yield vm.flag.store(vm.flag.load())\n", 1),
        ("    if False:\n        yield vm.flag.store(value=vm.flag.load())\n", 1),
        ("    if False:\n        yield vm.mmu.zap(*vm.list.pop_first())\n", 1),
        ("    if False:\n        (x := vm.flag.load())\n", 1),
        ("    if ranges is None and vm.flag.load():\n        pass\n", 0),
        ("    if False:\n        [vm.list.add(*each) for each in ranges]\n", 1),
        ("    if False:\n        vm.flag.load() + 1\n", 1),
        ("    if False:\n        vm.lock.lock(),\n", 1),
        ("    if False:\n        while not (vm.flag.load() == 1): pass\n", 1),
        ("    if False:\n        yield from vm.lock.lock()\n", 1),
        ("    if False:\n        helper(vm)\n", 1),
        ("    if False:\n        [helper(vm)][0:0]\n", 1),
        ("    if False:\n        {1: (helper(vm), 2)}\n", 1),
        ("    if False:\n        [[vm.lock.lock()]]\n", 1),
        ("    if False:\n        yield helper(vm)\n", 1),
        ("    if False:\n        vm.inside()\n", 1),
        ("    if False:\n        x = helper(vm)\n", 1),
        ("    if False:\n        if helper(vm): pass\n", 1),
        ("    def inner():\n        yield vm.flag.load()\n    inner()\n", 2),
        ("    if False:\n        vm.lock.lock\n", 1),
        ("    if False:\n        yield vm.lock.lock\n", 1),
        ("    if False:\n        helper\n", 1),
        ("    if False:\n        yield from helper\n", 1),
        ("    if ranges is None and vm.flag:\n        pass\n", 0),
        ("    if ranges is None:\n        if vm.flag == 1: pass\n", 1),
        ("    if False:\n        if not vm.flag: pass\n", 1),
        ("    if False:\n        yield vm.flag\n", 1),
        ("    if False:\n        if vm.flag.load: pass\n", 1),
        ("    if False:\n        STEPS['helper'](vm)\n", 1),
        ("    if False:\n        started(vm)\n", 1),
        ("    if False:\n        locked(vm)\n", 1),
        ("    if False:\n        wrapped(vm)\n", 1),
        ("    async def later(): pass\n    if False:\n        later()\n", 2),
        ("    if False:\n        (vm.lock.lock() for _ in ranges)\n", 1),
        ("    if False:\n        (each for each in helper(vm))\n", 1),
        ("    if False:\n        any(helper(vm) for _ in ranges)\n", 1),
        ("    if False:\n        map(vm.flag.store, [1])\n", 1),
        ("    call = functools.partial(helper, vm)\n    if False:\n        call()\n", 2),
        ("    call = lambda: helper(vm)\n    if False:\n        call()\n", 2),
        ("    if False:\n        return helper(vm)\n", 1),
        ("    store = vm.flag.store\n    if False:\n        store(1)\n", 2),
        ("    if bool(vm.flag):\n        pass\n", 0),
        ("    yield from deeper(vm)\n\ndef deeper(state):\n    yield state.flag.load()\n"
         "    if False: state.lock.lock()\n", 4),
        ("    yield from deeper(vm.lock)\n\ndef deeper(lock):\n    yield lock.lock()\n"
         "    lock.unlock()\n", 4),
    ],
)  # fmt: skip
def test_what_no_run_meets_is_found_in_the_source(body: str, line: int, tmp_path: Path) -> None:
    assert refused(body, tmp_path).place == f"{tmp_path}/f.py:{BODY + line}"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("    vm.lock.lock()\n", 0),
        ("    locked(vm)\n", LOCKED - BODY),
        ("    getattr(vm, 'lock').lock()\n", 0),
        ("    list(map(vm.flag.store, [1]))\n    yield vm.flag.load()\n", 0),
        ("    x = vm.flag.load()\n    print(end='' if x else '')\n    yield vm.flag.load()\n", 0),
        ("    x = vm.flag.load()\n    for each in x: pass\n", 0),
        ("    x = vm.turn.load()\n    yield vm.turn.post(x)\n", 0),
        ("    yield vm.flag.store(vm.flag.load())\n", 0),
        ("    return vm.lock.lock()\n", 0),
        ("    x = [vm.lock.lock()]\n    yield vm.flag.load()\n", 0),
        ("    while (x := vm.flag.load()): yield vm.flag.load()\n", 0),
        ("    yield vm.lock.lock()\n    vm.lock.unlock()\n    yield vm.lock.lock()\n", 1),
        ("    if (yield vm.flag.cmpxchg(0, 1)):\n        vm.lock.lock()\n", 1),
        ("    Operation(vm.lock, 'lock')\n", 0),
    ],
)  # fmt: skip
def test_what_a_run_meets_is_found_without_the_source(body: str, line: int, tmp_path: Path) -> None:
    error = refused(body, tmp_path, alone=True)
    assert error.place == f"{tmp_path}/gone.py:{BODY + line}"
    assert error.problem.endswith("is made and never yielded")


@pytest.mark.parametrize(
    "body",
    [
        "    x = vm.lock.lock()\n    yield x\n    yield vm.lock.unlock()\n",
        "    x = [vm.flag.load(), vm.flag.load()]\n    for each in x: yield each\n",
        "    x = vm.flag.store(1)\n    yield x\n    yield x\n",
        "    yield locked(vm)\n    yield vm.lock.unlock()\n",
        "    x = helper(vm)\n    yield from x\n",
        "    for each in helper(vm):\n        yield each\n",
        "    yield from (helper(vm) if ranges else vm.inside())\n",
        "    yield (vm.flag.load() if ranges else vm.flag.store(1))\n",
        "    yield ranges and vm.flag.load()\n",
        "    x = None\n    if ranges: x = vm.flag.load()\n    if x: yield x\n",
        "    def both(*steps):\n        for each in steps: yield from each\n"
        "    yield from both(helper(vm), vm.inside())\n",
        "    for each in map(vm.flag.store, [1, 2]): yield each\n",
        "    lock = vm.lock\n    yield lock.lock()\n    yield lock.unlock()\n",
        "    add = {3}.add\n    add(4)\n    seen = set()\n    seen.add(4)\n",
        "    noted(vm)\n    print(vm, end='')\n    seen = []\n    seen.append(vm.lock)\n",
        "    if vm.lock is vm.flag or vm.lock in (vm.flag, None): pass\n",
        "    make = vm.flag.load\n    yield make()\n",
        "    yield from wrapped(vm)\n    yield from started(vm)\n"
        "    yield from STEPS['helper'](vm)\n",
        "    both = {'f': helper, 'v': vm.inside}\n    yield from both['f'](vm)\n",
        "    steps = []\n    steps.append(helper(vm))\n    for each in steps: yield from each\n",
        "    def pairs(given):\n        yield from given\n    kept = [pairs(ranges)]\n"
        "    del kept\n    yield vm.flag.load()\n",
        "    kept = [map(vm.flag.store, (1, 2))]\n    for each in kept[0]: yield each\n",
        "    try:\n        yield vm.lock.lock()\n    finally:\n        yield vm.lock.unlock()\n",
    ],
)
def test_what_is_stored_and_yielded_later_is_no_error(body: str, tmp_path: Path) -> None:
    found = with_source(body, tmp_path)
    check(scenario(found))
    rehearse(found)


CONTENDED = (
    "    if (yield vm.flag.cmpxchg(0, 1)):\n        getattr(vm, 'lock').lock()\n        return\n"
    "    yield vm.mmu.zap(*ranges[0])\n    yield vm.flag.store(0)\n"
)


def test_threads_and_simulator_refuse_what_only_a_waiter_does(tmp_path: Path) -> None:
    made = with_source(CONTENDED, tmp_path)
    uses: list[Callable[[], object]] = [
        lambda: ZapCoordinator(lambda _, __: None, made),
        lambda: AsyncZapCoordinator(no_zap, made),
        lambda: Runtime(made, lambda _, __: None),
        lambda: Calls(made, costs(), Loop()),
    ]
    for use in uses:
        with pytest.raises(UserError, match="never yielded") as error:
            use()
        assert error.value.place == f"{tmp_path}/f.py:{BODY + 1}"


KEPT = [
    "    steps = []\n    steps.append(helper(vm))\n",
    "    steps = {}\n    steps['first'] = helper(vm)\n    yield vm.flag.load()\n",
    "    Box.steps = helper(vm)\n    yield vm.flag.load()\n",
    "    steps = [vm.inside() for _ in ranges]\n    yield vm.flag.load()\n    del steps\n",
    "    def inner():\n        yield vm.flag.load()\n    KEPT.append(inner())\n",
    "    def deeper(lock):\n        yield lock.lock()\n    KEPT.append(deeper(vm.lock))\n",
    "    KEPT.extend(map(helper, [vm]))\n    yield vm.flag.load()\n",
    "    steps = helper(vm)\n    steps.close()\n",
    "    first, *others = helper(vm), vm.inside()\n    yield from first\n",
    "    steps = [STEPS['helper'](vm)]\n    if not steps: yield from steps[0]\n",
]
NAMES = "\nKEPT = []\nclass Box: steps = None\n"


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("body", KEPT)
def test_a_helper_that_is_kept_and_never_run(body: str, alone: bool, tmp_path: Path) -> None:
    error = refused(body + NAMES, tmp_path, alone=alone)
    line = 2 if "def " in body else body.splitlines()[0].endswith(("[]", "{}"))
    name = "gone" if alone else "f"
    if "all vCPUs share" in error.problem:  # that is wrong as well, and known one operation later
        line += 1
    assert error.place == f"{tmp_path}/{name}.py:{BODY + line}"
    dropped = "is made and never run|is called and its result dropped"
    assert re.search(f"{dropped}|which all vCPUs share", error.problem)
    with pytest.raises(UserError, match=dropped):
        rehearse((without_source if alone else with_source)(body + NAMES, tmp_path))


async def no_zap(_: int, __: int) -> None:
    """Zap nothing."""


def test_a_method_of_the_vm_is_read_too(tmp_path: Path) -> None:
    body = "\ndef g(vm: Sub, ranges):\n    yield from vm.loses()\n"
    (tmp_path / "f.py").write_text(HEAD + body)
    line = HEAD.splitlines().index("        self.lock.lock()") + 1
    with pytest.raises(UserError) as error:
        load(f"{tmp_path}/f.py:g")
    assert error.value.place == f"{tmp_path}/f.py:{line}"
