"""A file of C from a translation: state, initialisation, helpers, functions."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from mtrrzap import __version__
from mtrrzap.emit import objects
from mtrrzap.emit.objects import Type
from mtrrzap.emit.translate import Function, Translation, translate
from mtrrzap.protocol import Protocol, SharedObject

WIDTH = 80
TAB = 8

_RANGE = """\
/* Guest frames [start, end). */
struct kvm_mtrr_zap_range {
	gfn_t start;
	gfn_t end;
};
"""


class Pieces(NamedTuple):
    """A translation's parts, each a text, in the order in which a compiler wants them."""

    defines: list[str]
    types: list[str]
    """Of ranges, entries and arrays, and the state's."""
    functions: list[str]
    """Helpers first, the entry last."""
    init: str
    """The function that initialises the state; empty if zeroed memory is right."""
    state: bool
    """Whether vCPUs share anything."""


def pieces(found: Translation, *, exported: bool = True) -> Pieces:
    """Return the parts of a file; ``exported``: others call the entry."""
    functions = [_function(each, exported=exported) for each in found.functions]
    state, init = _state(found), _init(found)
    helpers = _needed(_helpers(found), "\n".join([state, init, *functions]))
    types = [each for each in helpers if _defined(each) is None and not _is_define(each)]
    defines = [each for each in helpers if _is_define(each)]
    return Pieces(
        defines=[*_defines(found), *defines],
        types=[_RANGE, *types, *([state] if state else [])],
        functions=[*(each for each in helpers if _defined(each) is not None), *functions],
        init=init,
        state=bool(state),
    )


def kernel(protocol: Protocol) -> str:
    """Return a protocol as C for ``arch/x86/kvm``.

    Raises:
        UserError: naming the file and line of what has no C.
    """
    found = pieces(translate(protocol))
    texts = [_head(protocol), *found.defines, *found.types, *found.functions, found.init]
    return "\n".join(each for each in texts if each)


def user(protocol: Protocol, *, steps: bool = False) -> str:
    """Return one file that a C compiler makes a program of: the same functions, and a harness.

    With ``steps`` the harness decides, operation by operation, which vCPU goes on, or logs what
    threads do; without, threads ask for random ranges and a judge counts lost zaps.
    """
    translation = translate(protocol)
    found = pieces(translation)
    fields = (name for name, each in translation.used.items() if objects.of(each).declaration)
    names = " ".join(f"NAME({name})" for name in fields)
    macros = (
        f"#define PROTOCOL\t{translation.entry.name}\n"
        f"#define INIT(vm)\t{'kvm_mtrr_zap_init(vm)' if found.init else '((void)(vm))'}\n"
        f"#define NAMES\t{names}\n"
    )
    texts = [
        "#define KVM_MTRR_STEPS 1\n" if steps else "",
        objects.text("user.h"),
        *found.defines,
        *found.types,
        _VM if found.state else _VM_WITHOUT_STATE,
        *found.functions,
        found.init,
        macros,
        objects.text("steps.c" if steps else "threads.c"),
    ]
    if steps:  # behind the helpers, whose names it takes over
        first = _function(translation.functions[0])
        texts.insert(texts.index(first), objects.text("steps.h"))
    return "\n".join(each for each in texts if each)


_VM = """\
struct kvm_arch {
	struct kvm_mtrr_zap mtrr_zap;
};

struct kvm {
	struct kvm_arch arch;
};
"""
_VM_WITHOUT_STATE = """\
struct kvm {
	int nothing;
};
"""


def _head(protocol: Protocol) -> str:
    words = (
        f"Protocol {protocol.name} ({protocol.source}), translated by mtrrzap {__version__} from "
        "the text that 'mtrrzap check' explores."
    )
    return "// SPDX-License-Identifier: GPL-2.0-only OR MIT\n" + comment(words)


def paragraph(words: str) -> str:
    """Return a paragraph of a mail, 72 columns wide."""
    return textwrap.fill(" ".join(words.split()), 72)


def comment(words: str, indent: str = "") -> str:
    """Return a comment in the kernel's style, with a newline at its end."""
    width = WIDTH - len(indent.expandtabs(TAB))
    if len(words) + 6 <= width:
        return f"{indent}/* {words} */\n"
    lines = textwrap.wrap(words, width - 3)
    return "\n".join([f"{indent}/*", *(f"{indent} * {line}" for line in lines), f"{indent} */\n"])


def _defines(found: Translation) -> list[str]:
    return [
        (comment(note) if note else "") + f"#define {name}\t{value}{'ULL' * (value >= 1 << 31)}\n"
        for name, (value, note) in found.defines.items()
    ]


def _helpers(found: Translation) -> list[str]:
    """Return the helpers' texts, each once, entries before what is made of them."""
    names = dict.fromkeys(
        each.helpers for each in map(objects.of, found.used.values()) if each.helpers is not None
    )
    if "list.c" in names:
        names = {"entry.c": None} | names
    names = {"yield.c": None} | names
    chunks: list[str] = []
    for name in names:
        text = objects.text(name) if name.endswith(".c") else name
        chunks += re.split(r"\n\n(?=[^\s}])", text.strip("\n"))
    return [f"{chunk}\n" for chunk in chunks]


def _needed(chunks: list[str], rest: str) -> list[str]:
    """Leave out functions that nothing calls, which a compiler would complain about."""
    kept = list(chunks)
    while True:
        unused = [
            chunk
            for chunk in kept
            if (name := _defined(chunk)) and not _uses(name, kept, rest, chunk)
        ]
        if not unused:
            return kept
        kept = [chunk for chunk in kept if chunk not in unused]


def _is_define(chunk: str) -> bool:
    return chunk.startswith("#define")


def _defined(chunk: str) -> str | None:
    found = re.search(r"^static [^;=]*?(\w+)\(", chunk, re.MULTILINE)
    return found[1] if found and not chunk.startswith("static_assert") else None


def _uses(name: str, chunks: list[str], rest: str, own: str) -> bool:
    word = re.compile(rf"\b{name}\b")
    return bool(word.search(rest)) or any(word.search(c) for c in chunks if c is not own)


def _state(found: Translation) -> str:
    objects_ = found.used.values()
    lines = [
        f"\t{declaration.format(name=each.name)}{_protects(each, objects_)}"
        for each in objects_
        if (declaration := objects.of(each).declaration) is not None
    ]
    note = comment(f"kvm->arch.mtrr_zap: what the vCPUs of a VM share. {found.state}".rstrip())
    return note + "\n".join(["struct kvm_mtrr_zap {", *lines, "};\n"]) if lines else ""


def _protects(lock: SharedObject, all_: Iterable[SharedObject]) -> str:
    names = ", ".join(each.name for each in all_ if each.guard is lock)
    return f"\t/* protects {names} */" if names else ""


def _init(found: Translation) -> str:
    lines = [
        "\t" + init.format(obj=f"&z->{each.name}").replace("*&", "")
        for each in found.used.values()
        if (init := objects.of(each).init) is not None
    ]
    head = "/* Called once, by kvm_arch_init_vm(), while nobody else knows the VM. */\n"
    if not lines:
        return ""
    body = ["static void kvm_mtrr_zap_init(struct kvm *kvm)", "{"]
    body += ["\tstruct kvm_mtrr_zap *z = &kvm->arch.mtrr_zap;", "", *lines, "}\n"]
    return head + "\n".join(body)


def _function(made: Function, *, exported: bool = True) -> str:
    parameters = ["struct kvm *kvm"]
    if made.spare and not made.entry:
        parameters.append("struct list_head *spare")
    for name, kind in made.parameters:
        if kind is Type.BATCH:
            parameters += [f"const struct kvm_mtrr_zap_range *{name}", f"int nr_{name}"]
        else:
            parameters.append(f"{kind.value} {name}")
    storage = "" if made.entry and exported else "static "
    head = f"{storage}{made.returns.value} {made.name}({', '.join(parameters)})"
    note = comment(f"{made.comment} ({made.origin})" if made.comment else f"From {made.origin}.")
    lines = [*wrapped(head), "{", *styled(made.body), "}"]
    return note + "\n".join(lines) + "\n"


def styled(lines: list[str]) -> list[str]:
    """Drop the braces of single statements, and break long lines."""
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if _braces_a_statement(lines, at):
            out += [line.removesuffix(" {"), lines[at + 1]]
            at += 3
            continue
        out.append(line)
        at += 1
    return [part for line in out for part in _fitted(line)]


def _fitted(line: str) -> list[str]:
    words = line.strip()
    if not words.startswith("/* "):
        return wrapped(line)
    indent = line[: len(line) - len(words)]
    return comment(words[3:-3], indent).splitlines()


def _braces_a_statement(lines: list[str], at: int) -> bool:
    if not lines[at].endswith(" {") or lines[at].strip().startswith("}") or at + 2 >= len(lines):
        return False
    statement, end = lines[at + 1].strip(), lines[at + 2]
    return statement.endswith(";") and end.strip() == "}" and not lines[at + 1].endswith("{")


def wrapped(line: str) -> list[str]:
    """Break a line that is too long after a comma or ``&&``, under its open parenthesis.

    If the rest does not fit there, two tabs must do.
    """
    if len(line.expandtabs(TAB)) <= WIDTH:
        return [line]
    ends = [found.end() for found in re.finditer(r", | && | \|\| ", line)]
    fit = [end for end in ends if len(line[:end].rstrip().expandtabs(TAB)) <= WIDTH]
    best = max(fit, key=lambda end: (-len(_still_open(line[:end])), end), default=0)
    if not best:
        return [line]
    first, rest = line[:best].rstrip(), line[best:]
    column = len(first[: _open(first) + 1].expandtabs(TAB))
    if column + max(map(len, re.split(r"(?<=,) ", rest))) > WIDTH:
        column = 2 * TAB
    indent = "\t" * (column // TAB) + " " * (column % TAB)
    return [first, *(indent + part.strip() for part in wrapped(" " * column + rest))]


def _open(text: str) -> int:
    """Return where the last parenthesis is that is still open."""
    stack = _still_open(text)
    return stack[-1] if stack else len(text) - len(text.lstrip()) + TAB - 1


def _still_open(text: str) -> list[int]:
    """Return where the parentheses are that are still open."""
    stack: list[int] = []
    for at, letter in enumerate(text):
        if letter == "(":
            stack.append(at)
        elif letter == ")" and stack:
            stack.pop()
    return stack
