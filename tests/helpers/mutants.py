"""Every single mutation of a protocol's text: an operation dropped, two swapped, an order weakened,
a function's locks left out."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mtrrzap.protocol import Protocol
from mtrrzap.protocol.load import load

ORDERS = ("ACQUIRE", "RELEASE", "FULL")


class Mutant(NamedTuple):
    """What was changed, and the text after it."""

    what: str
    text: str


def mutants(module: ModuleType) -> Iterator[Mutant]:
    """Yield the mutants of a protocol's module, one change each."""
    tree = ast.parse(inspect.getsource(module))
    for at, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef):
            for what, change in _changes(node):
                changed = copy.deepcopy(tree)
                change(changed.body[at])  # type: ignore[arg-type]
                ast.fix_missing_locations(changed)
                yield Mutant(f"{node.name}: {what}", ast.unparse(changed))


def written(mutant: Mutant, folder: Path, name: str) -> Protocol:
    """Load a mutant as a user's file."""
    file = folder / f"{name}.py"
    file.write_text(mutant.text + "\n", encoding="utf-8")
    return load(f"{file}:{name}")


def _changes(function: ast.FunctionDef) -> Iterator[tuple[str, Callable[..., None]]]:
    for path, body in _bodies(function):
        for i, statement in enumerate(body):
            text = ast.unparse(statement).splitlines()[0]
            if _is_operation(statement):
                yield f"without {text}", _Drop(path, i)
            if i + 1 < len(body) and _yields(statement) and _yields(body[i + 1]):
                after = ast.unparse(body[i + 1]).splitlines()[0]
                yield f"{after} before {text}", _Swap(path, i)
    names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in ORDERS]
    for i, name in enumerate(names):
        yield f"{name.id} number {i} relaxed", _Weaken(i)
    if any("lock.lock()" in ast.unparse(each) for each in ast.walk(function)):
        yield "without its locks", _NoLocks()


def _bodies(
    node: ast.AST, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], list[ast.stmt]]]:
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if isinstance(body, list) and body:
            yield (*path, field), body
            for i, each in enumerate(body):
                yield from _bodies(each, (*path, field, i))


def _at(node: object, path: tuple[str | int, ...]) -> list[ast.stmt]:
    for step in path:
        node = getattr(node, step) if isinstance(step, str) else node[step]  # type: ignore[index]
    return node  # type: ignore[return-value]


def _is_operation(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(
        statement.value, ast.Yield | ast.YieldFrom
    )


def _yields(statement: ast.stmt) -> bool:
    return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in ast.walk(statement))


class _Drop(NamedTuple):
    path: tuple[str | int, ...]
    i: int

    def __call__(self, function: ast.FunctionDef) -> None:
        body = _at(function, self.path)
        body[self.i] = ast.Pass()
        if not _yields(function):  # it must stay a generator
            body.append(ast.parse("if False:\n    yield").body[0])


class _Swap(NamedTuple):
    path: tuple[str | int, ...]
    i: int

    def __call__(self, function: ast.FunctionDef) -> None:
        body = _at(function, self.path)
        body[self.i], body[self.i + 1] = body[self.i + 1], body[self.i]


class _Weaken(NamedTuple):
    i: int

    def __call__(self, function: ast.FunctionDef) -> None:
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id in ORDERS]
        names[self.i].id = "RELAXED"
        function.body.insert(0, ast.parse("from mtrrzap.protocol import RELAXED").body[0])


class _NoLocks:
    def __call__(self, function: ast.FunctionDef) -> None:
        for _, body in list(_bodies(function)):
            for i, each in enumerate(body):
                if _is_operation(each) and ast.unparse(each).split(".")[-1] in (
                    "lock()",
                    "unlock()",
                ):
                    body[i] = ast.Pass()
