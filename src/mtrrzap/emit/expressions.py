"""Expressions in C: what a protocol yields, compares and counts."""

from __future__ import annotations

import ast
import inspect
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from mtrrzap.emit import objects, reading
from mtrrzap.emit.objects import Type
from mtrrzap.emit.reading import shown
from mtrrzap.errors import UserError, docs_page
from mtrrzap.protocol import RELAXED, Atomic, Order, SharedObject, Variable

_BINARY: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.BitAnd: "&", ast.BitOr: "|",
    ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
_FOLDED: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}  # fmt: skip
_WORDS = """
auto bool break case char const continue default do double else enum extern false float for goto if
inline int long register restrict return short signed sizeof static struct switch true typedef
typeof union unsigned void volatile while asm current kvm z spare out i j k l m n
"""
_TAKEN = frozenset(_WORDS.split())
"""C's words, the kernel's ``current``, and what the translation itself declares."""
_MOST = (1 << 31) - 1
"""Of an ``int``."""
_COMPARE: dict[type, str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """An expression in C, and what it is. ``parts`` are start and end of a range."""

    text: str
    type: Type
    parts: tuple[str, str] | None = None


class Expressions:
    """Translates the expressions of one function."""

    def __init__(self, call: Any, known: dict[str, SharedObject], *, entry: bool) -> None:
        self.call, self.known, self.entry = call, known, entry
        self.tree = reading.tree(call)
        self.vm = self.tree.args.args[0].arg
        self.locals: dict[str, Type] = {}
        self.given: set[str] = set()
        """The locals that have a value here, whatever way led here."""
        self.used: dict[str, SharedObject] = {}
        self.defines: dict[str, tuple[int, str]] = {}
        self._of: dict[type[ast.expr], Callable[[Any], Value | None]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Yield: self._yield,
            ast.YieldFrom: self._delegated,
            ast.NamedExpr: self._walrus,
            ast.Compare: self._compared,
            ast.BoolOp: self._bool,
            ast.UnaryOp: self._not,
            ast.BinOp: self._arithmetic,
            ast.Tuple: self._pair,
            ast.Call: self._length,
        }

    def expression(self, node: ast.expr) -> Value:
        """Translate an expression.

        Raises:
            UserError: naming file and line, if it has no C.
        """
        translate = self._of.get(type(node))
        found = None if translate is None else translate(node)
        if found is None:
            self.refuse(node, f"no C for {shown(node)}")
        return found

    def condition(self, node: ast.expr) -> str:
        """Return the text between the parentheses of ``if`` or ``while``."""
        given = self.expression(node)
        return f"({given.text})" if _assigns(node) and given.type is not Type.BOOL else given.text

    def assigned(self, name: str, value: ast.expr, node: ast.AST) -> str:
        """Return an assignment; of a range or a batch, the call that fills it."""
        given = self._operation(value, out=name) if isinstance(value, ast.Yield) else None
        given = given or self.expression(value)
        self.declare(name, given.type, node)
        if given.type is Type.NONE:
            self.refuse(node, "there is no result to assign")
        if given.type is Type.BATCH:
            return f"nr_{name} = {given.text}"
        if given.type is Type.RANGE:
            if given.parts is None:
                return given.text
            return f"{name} = (struct kvm_mtrr_zap_range){{ {given.parts[0]}, {given.parts[1]} }}"
        return f"{name} = {given.text}"

    def declare(self, name: str, kind: Type, node: ast.AST) -> None:
        """Note a local variable's type, which it keeps."""
        if name in _TAKEN or name.startswith("nr_"):
            self.refuse(node, f"{name} means something else in C; choose another name")
        self.given.add(name)
        known = self.locals.setdefault(name, kind)
        if known is not kind:
            self.refuse(node, f"{name} is a {known.value} and a {kind.value}")

    def delegate(self, callee: Any, given: list[Value], node: ast.Call) -> Value:
        """Return the call of another function of the protocol."""
        raise NotImplementedError

    def refuse(self, node: ast.AST, problem: str) -> NoReturn:
        """Raise an error that names file and line."""
        place = reading.where(self.call, getattr(node, "lineno", 1))
        raise UserError(problem, place=place, mend=f"{docs_page('emit')} lists what has C")

    # -- one kind of expression each: None if this one has no C

    def _constant(self, node: ast.Constant) -> Value | None:
        if isinstance(node.value, bool):
            return Value(_integer(node.value), Type.BOOL)
        return _number(node.value) if isinstance(node.value, int) else None

    def _name(self, node: ast.Name) -> Value:
        name, kind = node.id, self.locals.get(node.id)
        if kind is not None and name not in self.given:
            self.refuse(node, f"{name} may have no value here; give it one before the loop or if")
        if kind is Type.RANGE:
            return Value(name, kind, (f"{name}.start", f"{name}.end"))
        if kind is not None:
            return Value(f"nr_{name}" if kind is Type.BATCH else name, kind)
        value = reading.named(self.call, name)
        if isinstance(value, bool):
            return Value(_integer(value), Type.BOOL)
        if isinstance(value, int):
            macro = f"KVM_MTRR_ZAP_{name}"
            self.defines[macro] = (value, reading.note(self.call, name))
            return Value(macro, _number(value).type)
        if not _is_range(value):
            self.refuse(node, f"{name} has no C: it is a {type(value).__name__}")
        return Value("", Type.RANGE, (_integer(value[0]), _integer(value[1])))

    def _yield(self, node: ast.Yield) -> Value:
        return self._operation(node)

    def _walrus(self, node: ast.NamedExpr) -> Value:
        name = node.target.id
        text = self.assigned(name, node.value, node)
        kind = self.locals[name]
        # A range that is taken: whether there was one. A batch: how many ranges it has.
        return Value(text, Type.BOOL if kind is Type.RANGE else kind)

    def _compared(self, node: ast.Compare) -> Value | None:
        if len(node.ops) > 1 or type(node.ops[0]) not in (*_COMPARE, ast.Is, ast.IsNot):
            return None
        left, op, right = node.left, node.ops[0], node.comparators[0]
        first = self.expression(left)
        if isinstance(op, ast.Is | ast.IsNot):
            none = isinstance(right, ast.Constant) and right.value is None
            if not none or not _assigns(left) or first.type is not Type.BOOL:
                self.refuse(node, "only a range that is taken right here may be compared with None")
            return first if isinstance(op, ast.IsNot) else Value(f"!{first.text}", Type.BOOL)
        second, word = self.expression(right), _COMPARE[type(op)]
        if first.type is Type.NUMBER and word not in ("==", "!="):
            return Value(f"(long)({first.text} - {second.text}) {word} 0", Type.BOOL)
        return Value(f"{_operand(left, first)} {word} {_operand(right, second)}", Type.BOOL)

    def _bool(self, node: ast.BoolOp) -> Value:
        word = " && " if isinstance(node.op, ast.And) else " || "
        parts = [_operand(each, self.expression(each)) for each in node.values]
        return Value(word.join(parts), Type.BOOL)

    def _not(self, node: ast.UnaryOp) -> Value | None:
        if not isinstance(node.op, ast.Not):
            return None
        given = self.expression(node.operand)
        simple = re.fullmatch(r"[\w.>\-]+(\([^()]*(\([^()]*\))*[^()]*\))?", given.text)
        return Value(f"!{given.text}" if simple else f"!({given.text})", Type.BOOL)

    def _arithmetic(self, node: ast.BinOp) -> Value | None:
        word = _BINARY.get(type(node.op))
        if word is None:
            return None
        match node.left, node.right:
            case ast.Constant(value=int(a)), ast.Constant(value=int(b)) if 0 <= b <= 64:
                if (value := _FOLDED[type(node.op)](a, b)) >= 0:
                    return _number(value)
        left, right = self.expression(node.left), self.expression(node.right)
        if Type.NUMBER in (left.type, right.type):
            self.refuse(node, "a Sequence's number takes no arithmetic")
        kind = Type.GFN if Type.GFN in (left.type, right.type) else Type.INT
        return Value(f"({left.text} {word} {right.text})", kind)

    def _pair(self, node: ast.Tuple) -> Value | None:
        if len(node.elts) != 2:
            return None
        first, second = (self.expression(each).text for each in node.elts)
        return Value("", Type.RANGE, (first, second))

    def _length(self, node: ast.Call) -> Value | None:
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
                if self.locals.get(name) is Type.BATCH:
                    return Value(self.expression(node.args[0]).text, Type.INT)
        return None

    def _delegated(self, node: ast.YieldFrom) -> Value | None:
        """``yield from f(vm, …)``: a call."""
        call = node.value
        if not isinstance(call, ast.Call) or call.keywords or not isinstance(call.func, ast.Name):
            return None
        callee = reading.named(self.call, call.func.id)
        if not inspect.isgeneratorfunction(callee):
            return None
        match call.args:
            case [ast.Name(id=vm), *_] if vm == self.vm:
                pass
            case _:
                self.refuse(node, f"{call.func.id} is not given {self.vm} first")
        given = [self.expression(each) for each in call.args[1:]]
        if any(each.type is Type.RANGE and not each.text for each in given):
            self.refuse(node, "hand on the start and the end of a range, or a range with a name")
        return self.delegate(callee, given, call)

    # -- operations

    def _operation(self, node: ast.Yield, out: str | None = None) -> Value:
        """``yield vm.object.verb(…)``: the C of the operation."""
        match node.value:
            case (
                ast.Call(
                    func=ast.Attribute(
                        value=ast.Attribute(value=ast.Name(id=vm), attr=name), attr=verb
                    )
                ) as call
            ) if vm == self.vm and name in self.known:
                pass
            case _:
                self.refuse(node, f"no C for {shown(node)}; yield {self.vm}.object.verb(…)")
        shared = self.used[name] = self.known[name]
        method = getattr(type(shared), verb, None)
        if method is None:
            self.refuse(node, f"unknown operation {name}.{verb}")
        order, given = self._bound(method, call)
        if type(shared) in (Atomic, Variable) and any(each.type is Type.GFN for each in given):
            self.refuse(node, f"{name} is an int in C, which is too small for a gfn")
        texts = [each.text for each in given]
        try:
            found = objects.of(shared).operation(shared, verb, order)
        except UserError as error:
            self.refuse(node, error.problem)
        if found.type in (Type.RANGE, Type.BATCH) and out is None:
            self.refuse(node, f"give the result of {name}.{verb} a name")
        text = found.text.format(
            *texts,
            obj=f"&z->{name}",
            z="z",
            out=f"&{out}" if found.type is Type.RANGE else out,
            spare="&spare" if self.entry else "spare",
            lagged=texts[0] if texts[1:] == ["0"] else " - ".join(texts[:2]),
        )
        for zero in (" != false)", " != 0)"):  # a loop that waits for a flag to be cleared
            text = text.replace(zero, ")")
        return Value(text.replace("*&", ""), found.type)

    def _bound(self, method: Any, node: ast.Call) -> tuple[Order, list[Value]]:
        """Return the order, and the arguments in C with the defaults filled in."""
        arguments: list[ast.expr | Value] = []
        for each in node.args:
            if isinstance(each, ast.Starred):
                parts = self.expression(each.value).parts
                if parts is None:
                    self.refuse(node, f"no C for {shown(each)}")
                arguments += [Value(part, Type.GFN) for part in parts]
            else:
                arguments.append(each)
        keywords = {each.arg: each.value for each in node.keywords if each.arg}
        try:
            bound = inspect.signature(method).bind(None, *arguments, **keywords)
        except TypeError as error:
            self.refuse(node, f"{shown(node)}: {error}")
        bound.apply_defaults()
        order, given = RELAXED, list[Value]()
        for name, value in list(bound.arguments.items())[1:]:
            if name == "order":
                order = self._order(value, node)
            elif isinstance(value, ast.expr):
                given.append(self.expression(value))
            else:
                given.append(value if isinstance(value, Value) else _number(value))
        return order, given

    def _order(self, value: Any, node: ast.AST) -> Order:
        if isinstance(value, ast.Name):
            value = reading.named(self.call, value.id)
        elif isinstance(value, ast.Attribute):
            value = getattr(Order, value.attr, None)
        if not isinstance(value, Order):
            self.refuse(node, "name the order: RELAXED, ACQUIRE, RELEASE or FULL")
        return value


def _assigns(node: ast.expr) -> bool:
    return isinstance(node, ast.NamedExpr)


def _operand(node: ast.expr, value: Value) -> str:
    """Return an operand, in parentheses where C's precedence needs them."""
    low = isinstance(node, ast.BoolOp | ast.IfExp) or (
        _assigns(node) and value.type is not Type.BOOL
    )
    return f"({value.text})" if low else value.text


def _is_range(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(v) is int for v in value)


def _number(value: int) -> Value:
    return Value(_integer(value), Type.INT if value <= _MOST else Type.GFN)


def _integer(value: int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value >= 1 << 52:
        return "~0ULL"
    suffix = "ULL" if value > _MOST else ""
    return str(value) if -10 < value < 10 else f"{value:#x}{suffix}"
