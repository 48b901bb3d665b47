"""A file of C from a translation: state, initialisation, helpers, functions."""

from __future__ import annotations

import re
import textwrap

from mtrrzap import __version__
from mtrrzap.emit import objects
from mtrrzap.emit.objects import Type
from mtrrzap.emit.translate import Function, Translation, translate
from mtrrzap.protocol import Protocol

WIDTH = 80
TAB = 8

_RANGE = """\
/* Guest frames [start, end). */
struct kvm_mtrr_zap_range {
	gfn_t start;
	gfn_t end;
};
"""


def kernel(protocol: Protocol) -> str:
    """Return a protocol as C for ``arch/x86/kvm``.

    Raises:
        UserError: naming the file and line of what has no C.
    """
    found = translate(protocol)
    return "\n".join([_head(protocol), *parts(found)])


def user(protocol: Protocol, *, steps: bool = False) -> str:
    """Return one file that a C compiler makes a program of: the same functions, and a harness.

    With ``steps`` the harness decides, operation by operation, which vCPU goes on, or logs what
    threads do; without, threads ask for random ranges and a judge counts lost zaps.
    """
    found = translate(protocol)
    made = parts(found)
    functions = made[-len(found.functions) :]
    state = [_VM if _state(found) else _VM_WITHOUT_STATE]
    names = " ".join(
        f"NAME({each.name})"
        for each in found.used.values()
        if objects.of(each).declaration is not None
    )
    entry = found.entry.name
    macros = [
        f"#define PROTOCOL\t{entry}",
        f"#define INIT(vm)\t{'kvm_mtrr_zap_init(vm)' if _init(found) else '((void)(vm))'}",
        f"#define NAMES\t{names}\n",
    ]
    return "\n".join(
        [
            *(["#define KVM_MTRR_STEPS 1\n"] if steps else []),
            objects.text("user.h"),
            *_types(made[: -len(found.functions)], _state(found), state),
            *([objects.text("steps.h")] if steps else []),
            *functions,
            *macros,
            objects.text("steps.c" if steps else "threads.c"),
        ]
    )


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


def _types(pieces: list[str], state: str, vm: list[str]) -> list[str]:
    """Return the pieces with the VM's type behind that of its state."""
    at = pieces.index(state) + 1 if state else len(pieces)
    return [*pieces[:at], *vm, *pieces[at:]]


def parts(found: Translation) -> list[str]:
    """Return the pieces of a file: constants, types and helpers, the state, the functions."""
    functions = [_function(each) for each in found.functions]
    state = _state(found)
    helpers = _needed(_helpers(found), "\n".join([state, _init(found), *functions]))
    return [*_defines(found), _RANGE, *helpers, state, _init(found), *functions]


def _head(protocol: Protocol) -> str:
    words = (
        f"Protocol {protocol.name} ({protocol.source}), translated by mtrrzap {__version__} from "
        "the text that 'mtrrzap check' explores."
    )
    return "// SPDX-License-Identifier: GPL-2.0-only OR MIT\n" + comment(words)


def comment(words: str, indent: str = "") -> str:
    """Return a comment in the kernel's style, with a newline at its end."""
    width = WIDTH - len(indent.expandtabs(TAB))
    if len(words) + 6 <= width:
        return f"{indent}/* {words} */\n"
    lines = textwrap.wrap(words, width - 3)
    return "\n".join([f"{indent}/*", *(f"{indent} * {line}" for line in lines), f"{indent} */\n"])


def _defines(found: Translation) -> list[str]:
    lines = [f"#define {name}\t{value}" for name, value in found.defines.items()]
    return ["\n".join(lines) + "\n"] if lines else []


def _helpers(found: Translation) -> list[str]:
    """Return the helpers' texts, each once, entries before what is made of them."""
    names = dict.fromkeys(
        each.helpers for each in map(objects.of, found.used.values()) if each.helpers is not None
    )
    if "list.c" in names:
        names = {"entry.c": None} | names
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


def _defined(chunk: str) -> str | None:
    found = re.search(r"^static [^;=]*?(\w+)\(", chunk, re.MULTILINE)
    return found[1] if found and not chunk.startswith("static_assert") else None


def _uses(name: str, chunks: list[str], rest: str, own: str) -> bool:
    word = re.compile(rf"\b{name}\b")
    return bool(word.search(rest)) or any(word.search(c) for c in chunks if c is not own)


def _state(found: Translation) -> str:
    lines = [
        f"\t{declaration.format(name=each.name)}"
        for each in found.used.values()
        if (declaration := objects.of(each).declaration) is not None
    ]
    note = "/* kvm->arch.mtrr_zap: what the vCPUs of a VM share. */\n"
    return note + "\n".join(["struct kvm_mtrr_zap {", *lines, "};\n"]) if lines else ""


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


def _function(made: Function) -> str:
    parameters = ["struct kvm *kvm"]
    if made.spare and not made.entry:
        parameters.append("struct list_head *spare")
    for name, kind in made.parameters:
        if kind is Type.BATCH:
            parameters += [f"const struct kvm_mtrr_zap_range *{name}", f"int nr_{name}"]
        else:
            parameters.append(f"{kind.value} {name}")
    storage = "" if made.entry else "static "
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
    return [part for line in out for part in wrapped(line)]


def _braces_a_statement(lines: list[str], at: int) -> bool:
    if not lines[at].endswith(" {") or lines[at].strip().startswith("}") or at + 2 >= len(lines):
        return False
    statement, end = lines[at + 1].strip(), lines[at + 2]
    return statement.endswith(";") and end.strip() == "}" and not lines[at + 1].endswith("{")


def wrapped(line: str) -> list[str]:
    """Break a line that is too long after a comma or ``&&``, under its open parenthesis."""
    if len(line.expandtabs(TAB)) <= WIDTH:
        return [line]
    best = 0
    for found in re.finditer(r", | && | \|\| ", line):
        if len(line[: found.end()].rstrip().expandtabs(TAB)) <= WIDTH:
            best = found.end()
    if not best or best >= len(line):
        return [line]
    first, rest = line[:best].rstrip(), line[best:]
    column = len(first[: _open(first) + 1].expandtabs(TAB))
    indent = "\t" * (column // TAB) + " " * (column % TAB)
    return [first, *(indent + part.strip() for part in wrapped(" " * column + rest))]


def _open(text: str) -> int:
    """Return where the last parenthesis is that is still open."""
    stack = []
    for at, letter in enumerate(text):
        if letter == "(":
            stack.append(at)
        elif letter == ")" and stack:
            stack.pop()
    return stack[-1] if stack else len(text) - len(text.lstrip()) + TAB - 1
