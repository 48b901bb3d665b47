"""Find operations and helpers that lack their yield in a protocol's source, before any run.

A call of an operation makes the operation; only ``yield`` performs it. So the call is wrong where
its result is used like that of a yield: as a statement, a condition, in a comparison, in
arithmetic, as the argument of another operation. An operation that is stored, returned or passed
on may be yielded later: ``watched`` judges those. Calls of generator functions need ``yield from``
in the same way.

Names are resolved where that is simple: the VM and its objects, functions of the file, and locals
that are set once.
"""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

from mtrrzap.protocol.operation import SharedObject
from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.yielded import UnyieldedError

_UNKNOWN = object()
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_SPENT = (
    *(ast.Expr, ast.If, ast.While, ast.Assert, ast.Match),
    *(ast.UnaryOp, ast.BinOp, ast.Compare, ast.AugAssign),
)
"""Where a value is used up."""
_IDENTITY = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
_PURE = (any, all, sorted, iter, sum, min, max, len, repr)
_HOLDERS = (
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Subscript),
    *(ast.ListComp, ast.SetComp, ast.GeneratorExp),
)
_Names = dict[str, Any]


def ships(module: str | None) -> bool:
    """Say whether a module comes with Python or with this package."""
    top = (module or "").partition(".")[0]
    return top in sys.stdlib_module_names or (top == "mtrrzap" and module in sys.modules)


def judge(call: Any, vm: type[SharedState]) -> None:
    """Read a protocol function, and the functions that it calls.

    Source that cannot be found is not read.

    Raises:
        UserError: naming the file and line of the first operation or generator that is dropped.
    """
    first = next(iter(inspect.signature(call).parameters))
    waiting: list[tuple[Any, _Names]] = [(call, {first: vm})]
    seen = set()
    while waiting:
        function, given = waiting.pop(0)
        key = (id(function), tuple((name, id(value)) for name, value in given.items()))
        node = None if key in seen else _node(function)
        seen.add(key)
        if node is not None:
            reading = _Reading(function, node, {first: vm} | given)
            reading.judge()
            waiting += reading.called()


def _node(function: Any) -> ast.FunctionDef | None:
    """Return the definition of a function, or None if its file no longer has it."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    try:
        lines, _ = inspect.findsource(code)
        tree = ast.parse("".join(lines))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            lines_ = [node.lineno, *(each.lineno for each in node.decorator_list)]
            if min(lines_) == code.co_firstlineno:
                return node
    return None


class _Reading:
    """One function's source, with the meaning of its names."""

    def __init__(self, function: Any, node: ast.FunctionDef, given: _Names) -> None:
        """``given`` has the known values of its parameters."""
        self._file = function.__code__.co_filename
        self._node = node
        self._globals = vars(builtins) | function.__globals__ | _closure(function)
        self._parents = {
            inner: outer for outer in ast.walk(node) for inner in ast.iter_child_nodes(outer)
        }
        self._stored: dict[str, list[ast.Name]] = {}
        self._used: dict[str, list[ast.Name]] = {}
        for name in _of(node, ast.Name):
            kind = self._used if isinstance(name.ctx, ast.Load) else self._stored
            kind.setdefault(name.id, []).append(name)
        self._locals = self._parameters(given)

    def _parameters(self, given: _Names) -> _Names:
        """Return the values of the parameters: VMs by their annotation, others by ``given``."""
        found: _Names = {}
        for each in _of(self._node, ast.arg):
            kind = self._annotation(each.annotation)
            vm = isinstance(kind, type) and issubclass(kind, SharedState)
            found[each.arg] = kind if vm else given.get(each.arg, _UNKNOWN)
        return found

    def _annotation(self, node: ast.expr | None) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._globals.get(node.value, _UNKNOWN)
        return _UNKNOWN if node is None else self._resolved(node, globals_only=True)

    def judge(self) -> None:
        """Raise ``UserError`` for the first value that is dropped or misused."""
        found = _of(self._node, ast.Call | ast.Attribute | ast.Name)
        for node in sorted(found, key=lambda each: (each.lineno, each.col_offset)):
            wrong = self._wrong_call(node) if isinstance(node, ast.Call) else self._wrong(node)
            if wrong is not None:
                problem, mend = wrong
                place = f"{self._file}:{node.lineno}"
                raise UnyieldedError(f"{_shown(node)} {problem}", place=place, mend=mend)

    def _wrong_call(self, call: ast.Call) -> tuple[str, str] | None:
        """Return what is wrong with a call, and the remedy."""
        shown, outer = _shown(call), self._parents[call]
        if self._is_operation(call):
            if isinstance(outer, ast.YieldFrom):
                return "is one operation", f"write yield {shown}"
            if self._is_certain(call) and self._is_misused(call, operation=True):
                return "is made and never yielded", f"write yield {shown}"
        elif self._is_generator(call):
            if self._is_misused(call, operation=False):
                return "is made and never run", f"write yield from {shown}"
        elif isinstance(outer, ast.Expr) and self._may_drop(call):
            return "is called and its result dropped", f"write yield from {shown}, or yield {shown}"
        return None

    def _wrong(self, node: ast.expr) -> tuple[str, str] | None:
        """Return what is wrong with a name that is used like a result, and the remedy."""
        outer = self._parents[node]
        if isinstance(outer, ast.Assign | ast.AnnAssign):
            return None
        yielded = isinstance(outer, ast.Yield | ast.YieldFrom)
        if not yielded and not self._is_misused(node, operation=True):
            return None
        found, shown = self._resolved(node), _shown(node)
        if isinstance(outer, ast.Compare) and isinstance(outer.ops[0], _IDENTITY):
            return None
        if isinstance(found, SharedObject):
            verb, count = next(iter(type(found).verbs.items()), ("load", 0))
            example = f"yield {shown}.{verb}({'...' if count else ''})"
            return "is the object, not its value", f"yield an operation, as in {example}"
        if isinstance(node, ast.Attribute) and self._is_verb(node):
            return "is never called", f"write yield {shown}()"
        if inspect.isgeneratorfunction(found):
            return "is never called", f"write yield from {shown}()"
        return None

    def _may_drop(self, call: ast.Call) -> bool:
        """Tell if a call that gets the VM or an object may make operations that nobody yields.

        It is one of a function that cannot be found, of the user's own that returns something, or
        of a class or function that does nothing but return something.
        """
        given = [*call.args, *(each.value for each in call.keywords)]
        alias = self._assigned(call.func)
        if not any(map(self._touches, [*given, alias] if alias else given)):
            return False
        found = self._resolved(call.func)
        if found is _UNKNOWN:
            return not isinstance(call.func, ast.Attribute) or self._is_of_user(call.func.value)
        if isinstance(found, type) or found in _PURE:
            return True
        node = None if ships(getattr(found, "__module__", None)) else _node(found)
        return node is not None and any(each.value for each in _of(node, ast.Return))

    def _touches(self, node: ast.AST) -> bool:
        """Tell if an expression names the VM, an object or a generator function."""
        found = [self._resolved(each) for each in _of(node, ast.Name | ast.Attribute)]
        return any(_is_shared(each) or inspect.isgeneratorfunction(each) for each in found)

    def _is_of_user(self, node: ast.expr) -> bool:
        """Tell if an object may be the user's own; the set in ``seen.add(vm)`` is not."""
        return not isinstance(node, ast.Name) or self._resolved(node) is not _UNKNOWN

    def called(self) -> Iterator[tuple[Any, _Names]]:
        """Yield the user's functions that it names, with the known values of their parameters."""
        for node in _of(self._node, ast.Name | ast.Attribute):
            found = self._resolved(node)
            if isinstance(found, FunctionType) and not ships(found.__module__):
                yield found, self._given(found, self._parents[node], node)

    def _given(self, function: FunctionType, call: ast.AST, node: ast.AST) -> _Names:
        if not isinstance(call, ast.Call) or call.func is not node:
            return {}
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        offset = int(isinstance(node, ast.Attribute) and not self._is_module(node.value))
        given = {
            name: self._resolved(value)
            for name, value in zip(names[offset:], call.args, strict=False)
        }
        if offset and isinstance(node, ast.Attribute):
            given[names[0]] = self._resolved(node.value)
        return {name: value for name, value in given.items() if _is_shared(value)}

    def _is_module(self, node: ast.expr) -> bool:
        return isinstance(self._resolved(node), ModuleType)

    # -- what an expression means

    def _resolved(self, node: ast.AST, *, globals_only: bool = False, depth: int = 9) -> Any:
        if isinstance(node, ast.Attribute):
            owner = self._resolved(node.value, globals_only=globals_only, depth=depth)
            return _attribute(owner, node.attr)
        if not isinstance(node, ast.Name):
            return _UNKNOWN
        stored = self._stored.get(node.id, [])
        if not globals_only and (stored or node.id in self._locals):
            if not stored:
                return self._locals[node.id]
            value = self._assigned(node)
            return self._resolved(value, depth=depth - 1) if value and depth else _UNKNOWN
        return self._globals.get(node.id, _UNKNOWN)

    def _assigned(self, node: ast.expr) -> ast.expr | None:
        """Return the value of a local that is set once, or None."""
        stored = self._stored.get(node.id, []) if isinstance(node, ast.Name) else []
        outer = self._parents[stored[0]] if len(stored) == 1 else None
        if isinstance(outer, ast.Assign) and outer.targets == stored:
            return outer.value
        return None

    def _is_operation(self, call: ast.AST) -> bool:
        return isinstance(call, ast.Call) and self._is_verb(self._assigned(call.func) or call.func)

    def _is_verb(self, node: ast.expr) -> bool:
        """Tell if this is a method of a shared object that makes operations."""
        if not isinstance(node, ast.Attribute) or node.attr.startswith("_"):
            return False
        target = self._resolved(node.value)
        if not isinstance(target, SharedObject) or hasattr(SharedObject, node.attr):
            return False
        return callable(getattr(target, node.attr, None))

    def _is_certain(self, call: ast.Call) -> bool:
        """Tell if this is surely an operation; a method of the user's own may be something else."""
        verb = self._assigned(call.func) or call.func
        assert isinstance(verb, ast.Attribute)
        known = verb.attr in type(self._resolved(verb.value)).verbs
        return known or isinstance(self._parents[call], ast.Expr)

    def _is_generator(self, call: ast.Call) -> bool:
        if isinstance(call.func, ast.Name):
            inner = [
                each
                for each in _of(self._node, ast.FunctionDef | ast.AsyncFunctionDef)
                if each is not self._node and each.name == call.func.id
            ]
            if inner:
                return all(map(_has_steps, inner))
        found = self._resolved(call.func)
        if isinstance(found, FunctionType):
            found = inspect.unwrap(found)
        return inspect.isgeneratorfunction(found) or inspect.iscoroutinefunction(found)

    # -- what becomes of a value

    def _is_misused(self, node: ast.AST, *, operation: bool, depth: int = 9) -> bool:
        """Tell if an operation (or else a generator) that stands here can never be yielded."""
        outer = self._parents[node]
        if isinstance(outer, ast.keyword):
            outer = self._parents[outer]
        match outer:
            case ast.Yield():
                return isinstance(node, ast.Call) and not operation
            case ast.Call():
                return node is not outer.func and self._is_operation(outer)
            case ast.For() | ast.Starred() | ast.withitem():
                return operation
            case ast.comprehension() if operation or node is not outer.iter:
                return True
            case ast.comprehension():
                return isinstance(self._parents[self._parents[outer]], ast.Expr)
            case ast.Return():
                return not operation and any(map(_has_steps, self._node.body))
            case ast.Subscript():
                return node is outer.value
            case ast.BoolOp() | ast.IfExp() | ast.NamedExpr():
                return self._is_misused_in(outer, node, operation, depth)
            case ast.Assign():
                return self._is_lost(outer.targets, operation, depth)
            case ast.AnnAssign():
                return self._is_lost([outer.target], operation, depth)
        return isinstance(outer, _SPENT) or self._is_dropped(outer)

    def _is_dropped(self, holder: ast.AST) -> bool:
        """Tell if a list or the like is a statement of its own."""
        while isinstance(holder, _HOLDERS):
            holder = self._parents[holder]
        return isinstance(holder, ast.Expr)

    def _is_misused_in(self, outer: ast.expr, node: ast.AST, operation: bool, depth: int) -> bool:
        """Do the same for an expression whose value may be that of one of its parts."""
        if isinstance(outer, ast.BoolOp) and node is not outer.values[-1]:
            return True
        if isinstance(outer, ast.IfExp) and node is outer.test:
            return True
        if isinstance(outer, ast.NamedExpr) and isinstance(self._parents[outer], ast.Expr):
            return self._is_lost([outer.target], operation, depth)
        return self._is_misused(outer, operation=operation, depth=depth)

    def _is_lost(self, targets: Sequence[ast.expr], operation: bool, depth: int) -> bool:
        """Tell if no use of the local that has the value can yield it."""
        names = {each.id for each in targets if isinstance(each, ast.Name)}
        elsewhere = _of(self._node, ast.Global | ast.Nonlocal)
        if len(names) < len(targets) or not depth or any(names & {*e.names} for e in elsewhere):
            return False
        uses = [use for name in names for use in self._used.get(name, [])]
        return all(self._is_misused(use, operation=operation, depth=depth - 1) for use in uses)


def _of(node: ast.AST, kind: Any) -> Iterator[Any]:
    return (each for each in ast.walk(node) if isinstance(each, kind))


def _has_steps(node: ast.AST) -> bool:
    """Tell if a function itself yields or awaits; functions inside it do not count."""
    if isinstance(node, ast.AsyncFunctionDef | ast.Yield | ast.YieldFrom):
        return True
    inner = (each for each in ast.iter_child_nodes(node) if not isinstance(each, _FUNCTIONS))
    return any(map(_has_steps, inner))


def _closure(function: Any) -> _Names:
    found = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # empty
            found[name] = _UNKNOWN
    return found


def _attribute(owner: Any, name: str) -> Any:
    """Return an attribute of a module, a VM or another class."""
    if not isinstance(owner, ModuleType | type):
        return _UNKNOWN
    found = inspect.getattr_static(owner, name, _UNKNOWN)
    return found.__func__ if isinstance(found, staticmethod | classmethod) else found


def _is_shared(value: Any) -> bool:
    return isinstance(value, SharedObject) or (
        isinstance(value, type) and issubclass(value, SharedState)
    )


def _shown(node: ast.expr) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 80 else f"{text[:70]}...)"
