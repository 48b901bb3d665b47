"""An option without effect is refused, and no command writes over what it reads."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import Run
from mtrrzap.protocol import PROTOCOLS

CSV = "on a trace as CSV, which says all that itself"
REFUSED = {
    "check ticket --seed 4": ("--seed", "with --strategy bfs"),
    "check ticket --runs 4": ("--runs", "with --strategy bfs"),
    "check ticket --strategy pct --engine numba": ("--engine", "with --strategy pct"),
    "check ticket --strategy random --max-states 3": ("--max-states", "with --strategy random"),
    "check ticket --strategy random --no-symmetry": ("--symmetry", "with --strategy random"),
    "check ticket -n any -r 2": ("--requests", "with --vcpus any"),
    "check ticket -n any --first": ("--first", "with --vcpus any"),
    "check ticket --continue": ("--continue", "without --replay"),
    "check ticket --policy Base2": ("--policy", "without --requests-of"),
    "check --requests-of ovmf-8 --policy review --range 0-4": ("--range", "with --requests-of"),
    "check ticket --json --brief": ("--brief", "with --json"),
    "check ticket --json --show": ("--show", "with --json"),
    "check ticket --json --witness": ("--witness", "with --json"),
    "check ticket --brief --show": ("--show", "with --brief"),
    "check --findings --json": ("--json", "with --findings"),
    "check ticket --findings": ("PROTOCOLS", "with --findings"),
    "check --replay {file} -n 3": ("--vcpus", "with --replay"),
    "check --replay {file} --json": ("--json", "with --replay"),
    "check --replay {file} --schedules x": ("--schedules", "with --replay"),
    "check --replay {file} --continue --seed 2": ("--seed", "with --continue"),
    "check --verify {file} -p deadlock": ("--property", "with --verify"),
    "import {csv} --list": ("--list", CSV),
    "import {csv} --vm 3": ("--vm", CSV),
    "import {csv} --start running": ("--start", CSV),
    "import {csv} --memory 1G": ("--memory", CSV),
    "import {csv} --vcpus 2": ("--vcpus", CSV),
    "import {csv} --list --force": ("--force", "with --list, which writes nothing"),
    "import {csv} --list -o x": ("--output", "with --list, which writes nothing"),
    "export {file} -f csv -p Base2": ("--policy", "with --format csv"),
    "export {file} -f csv --npt": ("--ept", "with --format csv"),
    "export {file} -f parquet --page-size 1G": ("--page-size", "with --format parquet"),
    "audit {file} --json --windows": ("--windows", "with --json, which has these entries always"),
    "memtype {file} --format linux": ("--format", "on a trace"),
    "memtype {file} --maxphyaddr 46": ("--maxphyaddr", "on a trace, whose header says it"),
    "memtype {file} --ept --pat": ("--pat", "with --ept"),
    "memtype {file} --ept --lookup sdm": ("--lookup", "with --ept"),
    "memtype {file} --diff 0 --lookup kvm": ("--lookup", "in a comparison, which applies both"),
    "run {file} --engine native": ("TRACE", "with --engine native"),
    "run --engine native --repeat 2": ("--repeat", "with --engine native"),
    "run --engine native --no-quirk": ("--quirk", "with --engine native"),
    "run {file} --requests 5": ("--requests", "without --engine native"),
    "run {file} --vfio 1 --touch 5": ("--touch", "with --vfio"),
    "memtype {file} --json --pat": ("--pat", "with --json, which has all of it"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_an_option_without_effect_is_refused(run: Run, file: Path, words: str) -> None:
    csv = file.with_name("boot.csv")
    run("export", str(file), "-f", "csv", "-o", str(csv))
    before = sorted(file.parent.iterdir())
    ran = run(*words.format(file=file, csv=csv).split())
    option, why = REFUSED[words]
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"mtrrzap: {option}: no effect {why}; leave it out\n"
    assert sorted(file.parent.iterdir()) == before


def test_what_a_schedules_end_cannot_decide_is_refused(run: Run, file: Path) -> None:
    ran = run("check", "--replay", str(file), "--continue", "-p", "work")
    assert ran.status == 2
    assert "--property: --continue does not decide 'work'; use lost zap, deadlock" in ran.err


def test_a_default_that_is_given_is_used(run: Run) -> None:
    words = "check ticket -p deadlock --brief --strategy bfs --vcpus 2 --requests 1"
    assert run(*words.split()).status == 0


# ---- no command writes over what it reads ------------------------------------------------------


def test_a_page_does_not_replace_its_trace(run: Run, file: Path) -> None:
    before = file.read_bytes()
    link = file.with_name("link.html")
    link.hardlink_to(file)
    for output in (file, link):
        ran = run("report", str(file), "-o", str(output), "--force")
        assert ran.status == 2
        assert f"{output} is also the file of FILE boot.trace; name another file" in ran.err
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", ["emit {0}:f -o {0}", "check {0}:f -n any --certificate {0}"])
def test_nothing_replaces_a_protocols_file(run: Run, tmp_path: Path, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        Path(PROTOCOLS["direct"].call.__code__.co_filename)
        .read_text()
        .replace("def direct(", "def f(")
    )
    before = path.read_bytes()
    ran = run(*words.format(path).split(), "--force")
    assert ran.status == 2
    assert f"{path} is also the file of PROTOCOL" in ran.err
    assert path.read_bytes() == before


# ---- one line, whatever happens ----------------------------------------------------------------


def test_bytes_for_a_closed_standard_output(file: Path) -> None:
    code = (
        "import os, sys\n"
        "os.close(1)\n"
        f"os.execv(sys.executable, [sys.executable, '-m', 'mtrrzap', 'export', {str(file)!r}, "
        "'-f', 'parquet'])"
    )
    pytest.importorskip("pyarrow")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    line = "mtrrzap: standard output: Bad file descriptor; what was printed is not whole\n"
    assert ran.stderr == line


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise GeneratorExit\n", "mine.py:1: GeneratorExit:"),
        ("class E(BaseException): pass\nraise E('no')\n", "mine.py:2: E: no"),
        ("class E(Exception):\n    def __str__(self): return 1/0\nraise E\n", "mine.py:3: E"),
    ],
)
def test_whatever_a_file_raises(run: Run, tmp_path: Path, source: str, says: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    ran = run("check", f"{path}:mine")
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"0x2ff": "0xc06", "0x2ff": "0x0"}', "'0x2ff' stands twice, with two values; delete one"),
        ('{"0x2ff": true}', "not an MSR and its value: '0x2ff': 'True'"),
    ],
)
def test_json_that_says_two_things(run: Run, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "dump.json"
    path.write_text(text)
    ran = run("memtype", str(path))
    assert ran.status == 2
    assert f"{path}:1: {says}" in ran.err
