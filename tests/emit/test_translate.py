"""Statement by statement: what has C, how it reads, and what is refused, with file and line."""

import inspect
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers import translated
from helpers.paths import DATA
from mtrrzap.emit.native import build
from mtrrzap.emit.source import kernel, wrapped
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.protocol.registry import protocol


def test_every_statement() -> None:
    text = kernel(protocol(translated.own, "test"))
    assert (DATA / "emit" / "every_statement.c").read_text() in text
    assert "\t/* First its own */\n\tkvm_zap_gfn_range(kvm, start, end);\n" in text
    assert "static bool kvm_mtrr_ready(struct kvm *kvm)" in text
    assert "/*\n * Every statement that has C. The second paragraph.\n" in text
    assert translated.__file__ in text


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("recursive", 0, "recursive calls itself"),
        ("comprehension", 1, "no C for for start, end in sorted(ranges):"),
        ("arithmetic", 2, "a Sequence's number takes no arithmetic"),
        ("nameless", 1, "give the result of list.pop_first a name"),
        ("two_types", 2, "value is a int and a bool"),
        ("attempt", 1, "no C for try:"),
        ("no_order", 1, "name the order: RELAXED, ACQUIRE, RELEASE or FULL"),
        ("hidden", 1, "no C for vm.lock"),
        ("word_of_c", 1, "kvm means something else in C; choose another name"),
        ("too_big", 1, "plain is an int in C, which is too small for a gfn"),
        ("unset", 3, "start may have no value here; give it one before the loop or if"),
        ("unset_in_a_branch", 7, "other may have no value here"),
    ],
)
def test_what_has_no_c_is_refused(name: str, line: int, problem: str) -> None:
    call: Any = getattr(translated, name)
    with pytest.raises(UserError) as error:
        kernel(protocol(call, "test"))
    first = inspect.getsourcelines(call)[1]
    assert error.value.problem.startswith(problem), error.value.problem
    assert error.value.place == f"{translated.__file__}:{first + line}"


def test_a_value_that_every_branch_gives() -> None:
    assert "z->plain, value" in kernel(protocol(translated.always_set, "test"))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_wait_gives_up_its_cpu_but_where_the_posted_loop_does_not(name: str) -> None:
    text = kernel(PROTOCOLS[name])
    yields = {"sketch": 1, "review": 1, "ticket": 2}.get(name, 0)
    assert text.count("\n\tcpu_relax();\n\tcond_resched();\n") == bool(yields)
    assert text.count("\tkvm_mtrr_zap_yield();\n") == yields
    assert text.count("\t\tcpu_relax();\n") == name.startswith("v") + (name == "ticket")


def test_big_numbers_and_a_comment_above() -> None:
    text = kernel(protocol(translated.big, "test"))
    assert "kvm_zap_gfn_range(kvm, 0x80000000ULL, ~0ULL);" in text
    assert "\t/*\n\t * A comment above a statement, so long that it takes more than one" in text


@pytest.mark.parametrize("name", PROTOCOLS)
def test_lines_fit(name: str) -> None:
    for line in kernel(PROTOCOLS[name]).splitlines():
        assert len(line.expandtabs(8)) <= 80, line
        assert line == line.rstrip()


def test_long_lines_break_under_their_parenthesis() -> None:
    assert wrapped("\tfunction(" + ", ".join(["argument"] * 12) + ");") == [
        "\tfunction(argument, argument, argument, argument, argument, argument,",
        "\t\t argument, argument, argument, argument, argument, argument);",
    ]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_it_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    program = build(PROTOCOLS[name], tmp_path)
    assert subprocess.run([program, "0"], check=False).returncode == 2
