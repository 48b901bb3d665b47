"""What a new user tries: completion, help, pipes, Ctrl-C, and a word when something takes long."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import captures, writers
from helpers.cli import Run
from helpers.sweeps import SIMULATE, run_inline
from helpers.terminal import on_terminal
from helpers.traces import cr0, trace
from mtrrzap import errors
from mtrrzap.cli import progress
from mtrrzap.cli.app import COMMANDS
from mtrrzap.errors import counted, docs_page
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, dumps

RECORDING = Path(traces.__file__).parents[1] / "data" / "recordings" / "seabios-8.trace"


def ran(*args: str, stdin: bytes = b"", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "mtrrzap", *args],
        input=stdin,
        capture_output=True,
        check=False,
        env=os.environ | environment,
    )


# ---- help and completion -----------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str) -> None:
    done = ran("--show-completion", shell)
    assert done.returncode == 0
    assert b"_MTRRZAP_COMPLETE" in done.stdout


def test_commands_and_options_are_completed() -> None:
    words = {"_MTRRZAP_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert ran(COMP_WORDS="mtrrzap re", **words).stdout.split() == [
        *(b"requests", b"report", b"record")
    ]
    words["COMP_CWORD"] = "2"
    assert ran(COMP_WORDS="mtrrzap compare --mod", **words).stdout.split() == [b"--modelled"]


def test_the_help_says_all(run: Run) -> None:
    text = run("--help").out
    assert "--version             Print the version and exit." in text
    assert "..." not in text.partition("Commands:")[2]
    listed = re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.M)
    assert listed == list(COMMANDS)
    assert "..." not in run("sweep", "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("command", ["compare", "audit", "requests", "explain", "report", "export"])
def test_short_names_of_policies_are_explained(run: Run, command: str) -> None:
    assert "+9 is short for Base2+9" in " ".join(run(command, "--help").out.split())


def test_a_command_nearly_named(run: Run) -> None:
    assert "Did you mean 'compare'?" in run("compar").err


def test_starting_loads_little() -> None:
    code = "import sys; from mtrrzap.cli.app import app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    ours = {name for name in loaded.decode().split() if name.startswith("mtrrzap.")}
    assert ours == {"mtrrzap.cli", "mtrrzap.cli.app"}


# ---- standard input and output -----------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("command", [("requests", "-p", "+9"), ("show",), ("memtype",)])
def test_a_dash_is_standard_input(form: str, command: tuple[str, ...]) -> None:
    data = ran("export", "seabios-8", "-f", form, "-o", "-").stdout
    name, *options = command
    expected = ran(name, "seabios-8", *options, "--json")
    done = ran(name, "-", *options, "--json", stdin=data)
    assert (done.returncode, done.stdout) == (0, expected.stdout)


def test_a_dash_is_standard_output(tmp_path: Path) -> None:
    csv = ran("export", "seabios-8", "-f", "csv").stdout
    done = ran("import", "-", "-o", "-", stdin=csv)
    assert (done.returncode, done.stdout) == (0, RECORDING.read_bytes())
    page = ran("report", "seabios-8", "-o", "-").stdout
    assert page.startswith(b"<!DOCTYPE html>")
    assert page.rstrip().endswith(b"</html>")
    # The shell has made the file already: that is no file to be kept.
    with (tmp_path / "page.html").open("wb") as out:
        command = [sys.executable, "-m", "mtrrzap", "report", "seabios-8", "-o", "-"]
        subprocess.run(command, stdout=out, check=True)
    assert (tmp_path / "page.html").read_bytes() == page


def test_schedules_and_specs_from_standard_input(tmp_path: Path) -> None:
    ran("check", "v4", "-p", "lost zap", "--schedules", str(tmp_path))
    (schedule,) = tmp_path.iterdir()
    expected = ran("check", "--replay", str(schedule))
    done = ran("check", "--replay", "-", stdin=schedule.read_bytes())
    assert (done.returncode, done.stdout) == (1, expected.stdout)
    spec = b'kind = "check"\n[grid]\nprotocols = ["ticket"]\nvcpus = 2\nrequests = 1\n'
    done = ran("sweep", "-", "-o", str(tmp_path / "results"), "-j", "1", stdin=spec)
    assert (done.returncode, b"cells: " in done.stdout) == (0, True), done.stderr


# ---- words -------------------------------------------------------------------------------------


def test_plurals(run: Run, tmp_path: Path) -> None:
    assert [counted(n, "vCPU") for n in (0, 1, 2, 1000)] == [
        *("0 vCPUs", "1 vCPU", "2 vCPUs", "1,000 vCPUs")
    ]
    path = tmp_path / "one.trace"
    one = trace(cr0(0x60000011))
    path.write_text(dumps(Trace(replace(one.header, vcpus=1), one.events)))
    wrong = re.compile(r"(?<![\d,.])1 (vCPUs|requests|events|traces|runs|steps|cells|VMs|rows)\b")
    commands = (
        *(
            ("check", "ticket", "-n", "1"),
            ("requests", str(path), "-p", "v6.1"),
            ("show", str(path)),
        ),
        *(("audit", str(path)), ("compare", str(path)), ("explain", str(path), "-p", "v6.1")),
        ("report", str(path), "-o", str(tmp_path / "x.html")),
        ("run", str(path), "--engine", "threads", "-r", "1", "-p", "v4", "--memory", "4M"),
    )
    for command in commands:
        ended = run(*command)
        assert not wrong.findall(ended.out + ended.err), command


@pytest.mark.parametrize(
    "command",
    [
        ("record", "-o", "x.trace", "--memory", "512"),
        ("import", "x", "--memory", "4096"),
        ("compare", "--memory", "1"),
        ("explain", "ovmf-8", "-p", "+9", "--memory", "1"),
        ("run", "--engine", "threads", "--memory", "1"),
    ],
)
def test_a_size_has_a_unit_everywhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_bytes(b"")
    ended = run(*command)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("mtrrzap: --memory: invalid size")
    assert "unit" in ended.err


def test_a_memory_model_is_no_size(run: Run) -> None:
    assert "--memory-model" in run("check", "--help").out
    assert "--memory " not in run("check", "--help").out
    old = run("check", "ticket", "-p", "deadlock", "--memory", "tso")
    assert (old.status, old.out) == (2, "")
    assert "No such option: --memory (Possible options: --memory-model" in old.err
    new = run("check", "ticket", "-p", "deadlock", "--memory-model", "tso", "--json").out
    assert '"2 vCPUs, 1 request each, tso"' in new


def test_check_prints_a_table_and_how_to_see_more(run: Run) -> None:
    out = run("check").out
    assert len(out.splitlines()) < 120
    assert re.search(r"\d+ counterexamples: --show draws all; name one to see it: v3 -p ", out)
    assert "asks for [0,~0)" not in out
    assert run("check", "v4", "--show").out.count("asks for") > 4
    assert "asks for" in run("check", "v4", "-p", "lost zap").out
    assert "counterexamples" not in run("check", "v4", "--brief").out


def test_a_page_of_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    docs_page.cache_clear()
    assert docs_page("audit") == "docs/audit.md in the source tree"
    docs_page.cache_clear()

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            assert name == "Project-URL"
            return ["Repository, https://x.test/r", "Documentation, https://x.test/docs/"]

    monkeypatch.setattr("importlib.metadata.metadata", lambda _: Metadata())
    assert docs_page("audit") == "https://x.test/docs/audit.html"
    docs_page.cache_clear()


def test_nothing_points_at_pages_that_are_not_installed() -> None:
    """Texts that are printed name a page by ``docs_page`` alone."""
    for path in Path(errors.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docstrings:
                found = re.search(r"(?<!Print )docs/[\w-]+\.md", str(node.value))
                assert found is None, f"{path}:{node.lineno}"


# ---- time --------------------------------------------------------------------------------------


def test_progress_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "LATER", 0.0)
        patch.setattr(progress, "SELDOM", 0.01)
        with progress.working("reading x") as now:
            signal.sigtimedwait((), 0.1)
            now("7 of 9 rows")
            signal.sigtimedwait((), 0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 s  reading x"
    assert lines[-1] == "0 s  7 of 9 rows"


def test_progress_on_a_terminal(file: Path) -> None:
    code = (
        "import sys; from mtrrzap.cli import progress, main; progress.SOON = 0.0; "
        "import mtrrzap.cli.compare as c; real = c.rows; import time; "
        "c.rows = lambda *a, **k: (time.sleep(0.3), real(*a, **k))[1]; main.main()"
    )
    text = on_terminal(80, "compare", str(file), "-p", "v6.1", stderr=True, code=code)
    assert "0 s  replaying the first policy" in text
    assert "┃ policy" in text


WORKING = {
    "compare ovmf-8 -p v6.1": "reading traces",
    "audit ovmf-8 -p v6.1": "reading ovmf-8",
    "explain ovmf-8 -p v6.1": "reading ovmf-8",
    "requests ovmf-8 -p v6.1": "reading ovmf-8",
    "show ovmf-8": "reading ovmf-8",
    "memtype ovmf-8": "reading ovmf-8",
    "report ovmf-8 -o -": "reading traces",
    "export ovmf-8 -f csv": "reading ovmf-8",
    "import {captures}/trace.txt.xz --list": "reading",
    "check ticket": "starting",
    "check ticket -n any -p deadlock": "starting",
    "check ticket --requests-of ovmf-8 --policy Base2 -p deadlock": "reading ovmf-8",
    "check --findings": "checking every protocol",
    "emit review": "checking and translating review",
    "run seabios-8 --engine threads -r 1 --touch 4 -p v4": "starting",
    "run --engine native -p v4 --requests 10": "compiling the first protocol",
    "kernel build ticket -o {tmp}": "looking for the kernel",
    "sweep show {results}": "reading {results}",
    "sweep show {results} --csv": "asking DuckDB",
    "sweep show {results} --page {tmp}/page.md": "writing the page",
    "sweep show {results} --plots {tmp}": "drawing the plots",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    run_inline(folder, SIMULATE, folder / "results")
    return folder / "results"


@pytest.mark.parametrize("words", WORKING)
def test_every_command_says_what_it_is_about(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    """Whatever takes long does so while a line is shown; here at once, in a pipe."""
    if "native" in words and shutil.which("cc") is None:
        pytest.skip("no C compiler")
    writers.without_compiling(monkeypatch.setattr)
    said: list[str] = []

    @contextmanager
    def status_line(render: Callable[[], str]) -> Iterator[None]:
        said.append(render())
        yield

    monkeypatch.setattr(progress, "status_line", status_line)
    names = {"captures": captures.FOLDER, "results": results, "tmp": tmp_path}
    assert run(*words.format(**names).split()).status in (0, 1)
    wanted = WORKING[words].format(**names)
    assert any(wanted in each for each in said), said


def test_record_says_at_once_that_no_kernel_takes_long(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtrrzap.cli import record as command

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check", lambda _: None)
    monkeypatch.setattr(command, "record_guest", stopped)
    ended = run("record", "-o", str(tmp_path / "x.trace"), "--timeout", "30")
    assert ended.err.startswith("note: without --kernel only the firmware runs")
    assert "30 s (--timeout)" in ended.err


def test_what_is_typed_is_judged_before_qemu_is_looked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    taken = tmp_path / "taken.trace"
    taken.touch()
    for words, says in (
        (("-o", "x", "--kernel", "gone"), "--kernel: cannot read gone"),
        (("-o", "x", "--initrd", "gone"), "--initrd: needs a kernel"),
        (("-o", "x", "--firmware", "gone"), "--firmware: cannot read gone"),
        (
            (
                "-o",
                "taken.trace",
            ),
            "--output: taken.trace exists already",
        ),
        (("-o", "x", "--firmware", "ovmf", "--vcpus", "0"), "--vcpus: invalid number 0"),
        (("-o", "x", "--", "disk"), "record: unexpected argument"),
    ):
        assert run("record", *words).err.startswith(f"mtrrzap: {says}"), words
    assert run("record", "-o", "x").err.startswith("mtrrzap: --qemu: no program")


# ---- Ctrl-C ------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [("--help",), ("check", "ticket", "-n", "4", "-r", "3")])
def test_ctrl_c_at_once_is_one_line(args: tuple[str, ...]) -> None:
    """Interrupts come while modules load, as soon as this package has begun to run."""
    code = (
        "import signal, sys, mtrrzap.cli.main as m\n"
        "real = signal.signal\n"
        "def once(*args):\n"
        "    signal.signal = real\n"
        "    real(*args)\n"
        "    sys.stderr.write('ready\\n')\n"
        "    sys.stderr.flush()\n"
        "signal.signal = once\n"
        "m.main()\n"
    )
    for delay in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2):
        with subprocess.Popen(
            [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"ready\n"
            signal.sigtimedwait((), delay)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert b"Traceback" not in err
        assert (process.returncode, err) in ((130, b"mtrrzap: interrupted\n"), (0, b""), (130, b""))
        assert err or out


def test_matplotlib_is_silent_without_a_home(tmp_path: Path) -> None:
    run_inline(tmp_path, SIMULATE, tmp_path / "results")
    told = ("sweep", "show", str(tmp_path / "results"), "--plots", str(tmp_path / "plots"))
    done = ran(*told, HOME="/proc/nowhere", XDG_CONFIG_HOME="/proc/x", XDG_CACHE_HOME="/proc/x")
    assert (done.returncode, done.stderr) == (0, b"")
