"""Generator functions of a protocol to C functions, statement by statement.

What is translated is the syntax tree of the very text that the checker runs. A ``yield`` of an
operation becomes the C of that operation (``objects``), ``yield from`` a call. Python that has no
plain counterpart in C is refused, with file and line: nothing is guessed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mtrrzap.emit import objects, reading
from mtrrzap.emit.expressions import Expressions, Value
from mtrrzap.emit.objects import Type
from mtrrzap.emit.reading import shown
from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol, SharedObject, ZapArray

CAPACITY = 16
"""Ranges that a batch has room for: an array's entries."""

_INDICES = "ijklmn"


@dataclass
class Function:
    """A C function: its name, its lines, and where they come from."""

    name: str
    parameters: list[tuple[str, Type]]
    comment: str
    origin: str
    entry: bool
    spare: bool
    """Whether it allocates entries, or uses them."""
    body: list[str] = field(default_factory=list)
    returns: Type = Type.NONE


@dataclass
class Translation:
    """All functions of a protocol, callees first, and what they use."""

    functions: list[Function] = field(default_factory=list)
    used: dict[str, SharedObject] = field(default_factory=dict)
    defines: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Constants, each with what its text in Python says about it."""
    state: str = ""
    """What the class of the VM says about the state."""

    @property
    def entry(self) -> Function:
        """The function that KVM calls."""
        return self.functions[-1]


def translate(protocol: Protocol) -> Translation:
    """Translate a protocol's function and all that it delegates to.

    Raises:
        UserError: naming the file and line of what has no C.
    """
    program = _Program(protocol)
    program.function(protocol.call, [Type.BATCH], entry=True)
    made = program.made
    made.used = {name: each for name, each in program.known.items() if name in made.used}
    return made


class _Program:
    """The functions translated so far."""

    def __init__(self, protocol: Protocol) -> None:
        self.known = {each.name: each for each in protocol.vm.objects()}
        self.made = Translation(state=reading.plain(protocol.vm.__doc__ or ""))
        self.functions: dict[Callable[..., Any], Function] = {}

    def function(self, call: Any, types: list[Type], *, entry: bool = False) -> Function:
        """Return the C function of a generator function, translating it if it is new."""
        if call in self.functions:
            done = self.functions[call]
            if done not in self.made.functions:
                raise UserError(
                    f"{call.__name__} calls itself", place=reading.where(call), mend="use a loop"
                )
            return done
        names = list(inspect.signature(call).parameters)[1:]
        if len(names) != len(types):
            raise UserError(
                f"{call.__name__} is not given all of its parameters",
                place=reading.where(call),
                mend="give every parameter of a helper at each call",
            )
        self.functions[call] = function = Function(
            name=reading.c_name(call, entry=entry),
            parameters=list(zip(names, types, strict=True)),
            comment=reading.summary(call),
            origin=reading.origin(call),
            entry=entry,
            spare=self._uses_spare(call, ()),
        )
        text = _Text(call, function, self)
        text.translate()
        self.made.functions.append(function)
        self.made.used |= text.used
        self.made.defines |= text.defines
        return function

    def _uses_spare(self, call: Any, callers: tuple[Any, ...]) -> bool:
        """Say whether a function, or one that it calls, allocates entries or uses them."""
        for node in ast.walk(reading.tree(call)):
            match node:
                case ast.Call(func=ast.Name(id=name)):
                    callee, above = reading.named(call, name), (*callers, call)
                    new = inspect.isgeneratorfunction(callee) and callee not in above
                    if new and self._uses_spare(callee, above):
                        return True
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=name), attr=verb)):
                    shared = self.known.get(name)
                    if shared is not None and verb in objects.of(shared).needs_spare:
                        return True
        return False


class _Text(Expressions):
    """Translates the statements of one function."""

    def __init__(self, call: Any, function: Function, program: _Program) -> None:
        super().__init__(call, program.known, entry=function.entry)
        self.function, self.program = function, program
        self.comments = reading.comments(call)
        self.lines: list[str] = []
        self.depth, self.loops, self.most_loops = 1, 0, 0
        self.frees = function.entry and function.spare
        self._to: dict[type[ast.stmt], Callable[[Any], None]] = {
            ast.Expr: self._alone,
            ast.Assign: self._assign,
            ast.AnnAssign: self._assign,
            ast.AugAssign: self._augmented,
            ast.If: self._if,
            ast.While: self._while,
            ast.For: self._for,
            ast.Return: self._return,
            ast.Break: lambda node: self._line("break;", node),
            ast.Continue: lambda node: self._line("continue;", node),
            ast.Pass: lambda _: None,
        }

    def translate(self) -> None:
        """Fill in the function's body."""
        for name, kind in self.function.parameters:
            self.declare(name, kind, self.tree)
        body = self.tree.body
        if self.frees and isinstance(body[-1], ast.Return):
            body = body[:-1]
        self._block(body)
        if self.frees:
            if any(line.strip() == "goto out;" for line in self.lines):
                self.lines.append("out:")
            self.lines.append("\tkvm_mtrr_zap_free(&spare);")
        self.function.body = self._declarations() + self.lines

    def _declarations(self) -> list[str]:
        plain: dict[str, list[str]] = {}
        array = any(type(each) is ZapArray for each in self.used.values())
        room = "KVM_MTRR_ZAP_ENTRIES" if array else CAPACITY
        parameters = dict(self.function.parameters)
        for name, kind in self.locals.items():
            if name in parameters:
                continue
            if kind is Type.BATCH:
                plain.setdefault(Type.RANGE.value, []).append(f"{name}[{room}]")
                plain.setdefault(Type.INT.value, []).append(f"nr_{name}")
            else:
                plain.setdefault(kind.value, []).append(name)
        if self.most_loops:
            plain.setdefault(Type.INT.value, []).extend(_INDICES[: self.most_loops])
        lines = [f"\t{kind} {', '.join(names)};" for kind, names in plain.items()]
        if any("z->" in line for line in self.lines):
            lines.append("\tstruct kvm_mtrr_zap *z = &kvm->arch.mtrr_zap;")
        if self.frees:
            lines.append("\tLIST_HEAD(spare);")
        # The kernel's style: the longest first.
        lines.sort(key=len, reverse=True)
        return [*lines, ""] if lines else []

    def delegate(self, callee: Any, given: list[Value], node: ast.Call) -> Value:
        """Return the call of another function, which is translated first if it is new."""
        function = self.program.function(callee, [each.type for each in given])
        for (name, wanted), each in zip(function.parameters, given, strict=True):
            if wanted is not each.type and {wanted, each.type} != {Type.GFN, Type.INT}:
                self.refuse(node, f"{name} is a {wanted.value} and a {each.type.value}")
        texts = ["kvm"]
        if function.spare:
            texts.append("&spare" if self.function.entry else "spare")
        for each in given:
            if each.type is Type.BATCH:
                texts.append(each.text.removeprefix("nr_"))
            texts.append(each.text)
        return Value(f"{function.name}({', '.join(texts)})", function.returns)

    # -- statements

    def _block(self, body: list[ast.stmt]) -> None:
        for node in body:
            translate = self._to.get(type(node))
            if translate is None or (
                getattr(node, "orelse", None) and not isinstance(node, ast.If)
            ):
                self.refuse(node, f"no C for {shown(node)}")
            translate(node)

    def _line(self, text: str, node: ast.AST | None = None) -> None:
        comment = self.comments.pop(getattr(node, "lineno", 0), None)
        indent = "\t" * self.depth
        if comment is not None:
            self.lines.append(f"{indent}/* {comment} */")
        self.lines += [indent + part for part in text.split("\n")]

    def _open(self, head: str, node: ast.AST) -> None:
        self._line(head + " {", node)
        self.depth += 1

    def _close(self, then: str | None = None) -> None:
        self.depth -= 1
        self._line(f"}} {then} {{" if then else "}")
        self.depth += then is not None

    def _alone(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return
        if not isinstance(node.value, ast.Yield | ast.YieldFrom):
            self.refuse(node, f"no C for {shown(node)}")
        text = self.expression(node.value).text
        self._line(text if text.endswith(";") else f"{text};", node)

    def _assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[-1]
        several = isinstance(node, ast.Assign) and len(node.targets) > 1
        match target:
            case ast.Name(id=name) if node.value is not None and not several:
                self._line(f"{self.assigned(name, node.value, node)};", node)
            case ast.Tuple() if node.value is not None and not several:
                parts = self.expression(node.value).parts
                if parts is None:
                    self.refuse(node, "only a range can be taken apart")
                self._take_apart(target, parts, node)
            case _:
                self.refuse(node, f"no C for {shown(node)}")

    def _take_apart(self, target: ast.expr, parts: tuple[str, str], node: ast.AST) -> None:
        match target:
            case ast.Tuple(elts=[ast.Name(id=first), ast.Name(id=second)]):
                for name, part in zip((first, second), parts, strict=True):
                    self.declare(name, Type.GFN, node)
                    self._line(f"{name} = {part};", node)
            case _:
                self.refuse(node, f"no C for {shown(target)}: a range has a start and an end")

    def _augmented(self, node: ast.AugAssign) -> None:
        word = {ast.Add: "+", ast.Sub: "-"}.get(type(node.op))
        name = node.target.id if isinstance(node.target, ast.Name) else ""
        if word is None or self.locals.get(name) not in (Type.INT, Type.GFN):
            self.refuse(node, f"no C for {shown(node)}")
        value = self.expression(node.value).text
        self._line(f"{name}{2 * word};" if value == "1" else f"{name} {word}= {value};", node)

    def _if(self, node: ast.If) -> None:
        self._open(f"if ({self.condition(node.test)})", node)
        before = frozenset(self.given)
        ends = self._branch(node.body, before)
        while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
            node = node.orelse[0]
            self._close(f"else if ({self.condition(node.test)})")
            ends += self._branch(node.body, before)
        if node.orelse:
            self._close("else")
        ends += self._branch(node.orelse, before)
        self.given = set.intersection(*ends) if ends else set(before)
        self._close()

    def _branch(self, body: list[ast.stmt], before: frozenset[str]) -> list[set[str]]:
        """Translate it; return which locals have a value at its end, if it comes there."""
        self.given = set(before)
        self._block(body)
        leaves = body and isinstance(body[-1], ast.Return | ast.Break | ast.Continue)
        return [] if leaves else [self.given]

    def _while(self, node: ast.While) -> None:
        self._open(f"while ({self.condition(node.test)})", node)
        before = set(self.given)
        self._block(node.body)
        self.given = before
        self._close()

    def _for(self, node: ast.For) -> None:
        name = node.iter.id if isinstance(node.iter, ast.Name) else ""
        if self.locals.get(name) is not Type.BATCH or self.loops == len(_INDICES):
            self.refuse(node, f"no C for {shown(node)}")
        self.expression(node.iter)
        before, index = set(self.given), _INDICES[self.loops]
        self.loops += 1
        self.most_loops = max(self.most_loops, self.loops)
        self._open(f"for ({index} = 0; {index} < nr_{name}; {index}++)", node)
        each = f"{name}[{index}]"
        match node.target:
            case ast.Name(id="_"):
                pass
            case ast.Name(id=variable):
                self.declare(variable, Type.RANGE, node)
                self._line(f"{variable} = {each};")
            case _:
                self._take_apart(node.target, (f"{each}.start", f"{each}.end"), node)
        self._block(node.body)
        self.given = before
        self._close()
        self.loops -= 1

    def _return(self, node: ast.Return) -> None:
        if node.value is None:
            self._line("goto out;" if self.frees else "return;", node)
            return
        given = self.expression(node.value)
        if self.entry or given.type not in (Type.BOOL, Type.INT, Type.GFN, Type.NUMBER):
            self.refuse(node, f"a function cannot return a {given.type.value}")
        self.function.returns = given.type
        self._line(f"return {given.text};", node)
