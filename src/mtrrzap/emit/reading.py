"""The text of a protocol's functions: syntax tree, names, comments, places."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from itertools import pairwise
from typing import Any

from mtrrzap.errors import UserError


def tree(call: Any) -> ast.FunctionDef:
    """Return a function's syntax tree.

    Raises:
        UserError: if its source cannot be read.
    """
    try:
        source = textwrap.dedent(inspect.getsource(call))
    except (OSError, TypeError) as error:
        raise UserError(
            f"the source of {call.__name__} cannot be read", mend="write it into a file"
        ) from error
    found = ast.parse(source).body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


def named(call: Any, name: str) -> Any:
    """Return what a name means in a function that does not assign it; None if nothing."""
    names = inspect.getclosurevars(call)
    for each in (names.nonlocals, names.globals, names.builtins):
        if name in each:
            return each[name]
    return None


def comments(call: Any) -> dict[int, str]:
    """Return the comments above and at the ends of lines, by line of the function, from 1.

    A comment that only quotes C is left out: the C is written out now.
    """
    found = {}
    above: list[str] = []
    lines, _ = inspect.getsourcelines(call)
    for number, line in enumerate(lines, 1):
        code, mark, comment = f" {line}".partition(" # ")
        if mark and not (comment.startswith(("noqa", "type:")) or ";" in comment):
            above.append(comment.strip())
        if code.strip() and above:
            found[number] = plain(" ".join(above))
            above = []
    return found


def note(call: Any, name: str) -> str:
    """Return the text that stands behind a constant of a function's module; empty if none does."""
    module = inspect.getmodule(call)
    body = [] if module is None else ast.parse(inspect.getsource(module)).body
    for one, after in pairwise(body):
        match one, after:
            case (
                ast.Assign(targets=[ast.Name(id=found)]),
                ast.Expr(value=ast.Constant(value=str(words))),
            ) if found == name:
                return plain(words)
    return ""


def where(call: Any, line: int = 1) -> str:
    """Return file and line, the line counted from 1 in the function."""
    return f"{inspect.getsourcefile(call)}:{call.__code__.co_firstlineno + line - 1}"


def origin(call: Any) -> str:
    """Return file and line as the C says where it is from: ours without the folder above."""
    path, line = inspect.getsourcefile(call) or "?", call.__code__.co_firstlineno
    if call.__module__.startswith("mtrrzap.protocol."):
        path = path[path.rindex("mtrrzap/") :]
    return f"{path}:{line}"


def c_name(call: Any, *, entry: bool) -> str:
    """Take the C name that the docstring begins with; else make one of the function's name."""
    found = re.match(r"``(kvm_\w+)\(\)``", inspect.getdoc(call) or "")
    if found:
        return found[1]
    return "kvm_mtrr_zap_gfn_ranges" if entry else f"kvm_mtrr_{call.__name__}"


def summary(call: Any) -> str:
    """Return the docstring in one line, without the C name at its beginning."""
    return plain(re.sub(r"^``kvm_\w+\(\)``[:,.]?\s*", "", inspect.getdoc(call) or ""))


def plain(words: str) -> str:
    """Return a docstring's words in one line, without its marks."""
    words = " ".join(words.split()).replace("``", "")
    return words[:1].upper() + words[1:]


def shown(node: ast.AST) -> str:
    """Return Python's text of a node for an error: at most 60 characters."""
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 60 else text[:57] + "..."
