"""Files of a stranger, a full disk and a kill: nothing is lost, nothing steers the terminal."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import writers
from helpers.cli import Run
from helpers.traces import FINE, HEADER, cr0
from mtrrzap.guest import tabular
from mtrrzap.guest.trace import Slot, Trace, dumps

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e"
"""Set the terminal's title, clear it, and turn the text's direction."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("inputs")
    writers.inputs(made)
    return made


# ---- nothing is lost --------------------------------------------------------------------------


@pytest.mark.parametrize("name", writers.COMMANDS)
def test_a_full_disk(
    run: Run, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The old files stay, and there is no debris; the message is one line."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writers.without_compiling(monkeypatch.setattr)
    words = [
        word.replace(str(folder / "out"), str(tmp_path)) for word in writers.arguments(name, folder)
    ]
    run(*words)
    names = [path.name for path in tmp_path.iterdir()]
    assert names
    for old in ([], names):
        for path in tmp_path.iterdir():
            path.unlink()
        for each in old:
            (tmp_path / each).write_bytes(writers.OLD)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            ran = run(*words)
        assert ran.status == 2
        line = ran.err.splitlines()[-1]
        assert "cannot be written: No space left on device; choose another place" in line
        assert writers.contents(tmp_path) == dict.fromkeys(old, writers.OLD)


@pytest.mark.parametrize("name", writers.COMMANDS)
def test_only_force_overwrites(
    run: Run, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writers.without_compiling(monkeypatch.setattr)
    words = [
        word.replace(str(folder / "out"), str(tmp_path)) for word in writers.arguments(name, folder)
    ]
    run(*words)
    made = writers.contents(tmp_path)
    words.remove("--force")
    ran = run(*words)
    assert ran.status == 2
    assert "exists already; choose another name, or add --force" in ran.err
    assert writers.contents(tmp_path) == made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal(
    run: Run, file: Path, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "file"
    output.parent.mkdir()
    output.write_bytes(writers.OLD)
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), number))
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # nohup, say, has it ignored
    try:
        ran = run("export", str(file), "-f", "csv", "-o", str(output), "--force")
    finally:
        signal.signal(number, before)
    assert ran.status == 128 + number
    assert writers.contents(output.parent) == {"file": writers.OLD}


def test_kill_at_each_operation_on_a_file(tmp_path: Path) -> None:
    """In a process of its own, which has no threads to fork."""
    code = """if True:
        import sys
        from pathlib import Path
        from helpers import writers
        folder = Path(sys.argv[1])
        writers.inputs(folder)
        for name in sys.argv[2:]:
            print(name, writers.at_each(writers.Files(name, folder)))
    """
    names = ("export-csv", "import", "initrd", "certificate", "kernel-build")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.stderr == ""
    assert done.stdout == "export-csv 5\nimport 6\ninitrd 6\ncertificate 5\nkernel-build 15\n"


# ---- nothing steers the terminal --------------------------------------------------------------


def harmless(ran: "tuple[int, str, str]") -> bool:
    return all(c == "\n" or c.isprintable() for c in ran[1] + ran[2])


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A trace with escapes wherever a header takes text, and in its name."""
    texts = ("firmware", "guest_kernel", "machine", "recorder", "command", "host_writes")
    header = replace(HEADER, **dict.fromkeys(texts, f"=cmd {ESCAPES}"), notes=(ESCAPES,))
    path = tmp_path / f"[red]{ESCAPES}.trace"
    path.write_text(dumps(Trace(header, (*FINE, cr0(0x60000011)), f"why {ESCAPES}")))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("show", "{}"),
        ("compare", "{}"),
        ("compare", "{}", "--csv"),
        ("audit", "{}"),
        ("explain", "{}", "-p", "Base2"),
        ("requests", "{}", "-p", "Base2"),
        ("memtype", "{}"),
        ("import", "{}"),
        ("show", "{}.no"),
        ("compare", "{}", "-p", ESCAPES),
        ("compare", "{}", f"--{ESCAPES}"),
        ("compare", "{}", f"--\n{ESCAPES}"),
        ("check", ESCAPES),
        ("check", "--replay", "{}"),
        ("sweep", "{}", "-o", "{}.out"),
        ("sweep", "show", "{}"),
        (ESCAPES,),
    ],
)
def test_escapes_are_shown(run: Run, evil: Path, words: tuple[str, ...]) -> None:
    assert harmless(run(*(word.replace("{}", str(evil)) for word in words)))


def test_escapes_in_a_schedule_and_a_spec(run: Run, tmp_path: Path) -> None:
    schedule, spec = tmp_path / "s", tmp_path / "spec.toml"
    schedule.write_text(
        f"# mtrrzap schedule 1\nprotocol: {ESCAPES}\nshows: lost zap\nalloc-fails: no\nmemory: sc\n"
        "forever: no\nvcpu 0: 0x0-0x1\n"
    )
    ran = run("check", "--replay", str(schedule))
    assert ran.status == 2
    assert harmless(ran)
    spec.write_text('kind = "check"\n"\\u001b[2J\\u202e" = 1\n')
    ran = run("sweep", str(spec), "-o", str(tmp_path / "out"))
    assert (ran.status, r"\x1b[2J\u202e: unknown key" in ran.err, harmless(ran)) == (2, True, True)


def test_escapes_in_a_query(run: Run, folder: Path) -> None:
    for sql in (f'SELECT 1 AS "{ESCAPES}"', f"SELECT '{ESCAPES}' AS a", f'SELECT "{ESCAPES}"'):
        for more in ((), ("--csv",), ("--json",)):
            assert harmless(run("sweep", "show", str(folder / "results"), "--sql", sql, *more))


def test_escapes_in_a_protocols_error(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    for what in ("raise ValueError", "raise SystemExit", "exit"):
        file.write_text(f"{what}({ESCAPES!r})\n")
        ran = run("check", f"{file}:own")
        assert ran.status == 2
        assert harmless(ran)


# ---- spreadsheets -----------------------------------------------------------------------------


def test_formulas(run: Run, evil: Path, folder: Path) -> None:
    assert ",'=cmd," in run("compare", str(evil), "--csv").out
    sql = "SELECT '=1+1' AS \"@a\", -1 AS b, -0.5 AS c"
    ran = run("sweep", "show", str(folder / "results"), "--csv", "--sql", sql)
    assert ran.out == "'@a,b,c\n'=1+1,-1,-0.5\n"
    header = replace(HEADER, command='qemu "a",=cmd', notes=("a;-1", "plain, text"))
    made = "".join(tabular.csv_lines(Trace(header, FINE)))
    assert '"# command: qemu ""a"",=cmd"\n' in made
    assert "\n# note: plain, text\n" in made
    assert tabular.read_csv(made.splitlines(keepends=True), "t") == Trace(header, FINE)


# ---- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"memslots": (Slot(0, 1 << 53, "ram"),)}, f"memory up to {1 << 65:#x} is beyond"),
        ({"memslots": (Slot(0, (1 << 28) + 1, "ram"),)}, "memory up to 0x10000001000 is beyond"),
        ({"memory": (1 << 40) + 1}, "memory up to 0x10000000001 is beyond maxphyaddr, 40 bits; "),
        (
            {"memslots": tuple(Slot(2 * i, 2 * i + 1, "ram") for i in range(4097))},
            "more than 4,096",
        ),
    ],
)
def test_headers_that_are_refused(
    run: Run, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    path = tmp_path / "t.trace"
    path.write_text(dumps(Trace(replace(HEADER, **change), FINE)))  # type: ignore[arg-type]
    ran = run("compare", str(path))
    assert (ran.status, problem in ran.err, ran.err.count("\n")) == (2, True, 1)


TOP = 1 << 40
HUGE = {
    "one slot": (Slot(0, TOP, "ram"),),
    "none": (),
    "unaligned": (Slot(1, TOP - 1, "ram"),),
    "many": tuple(Slot(i * (TOP >> 9) + 3, (i + 1) * (TOP >> 9) - 1, "ram") for i in range(512)),
    "small": tuple(Slot(i * (TOP >> 9), i * (TOP >> 9) + 1, "rom") for i in range(512)),
}


@pytest.mark.parametrize("slots", HUGE.values(), ids=HUGE)
def test_huge_memory_is_counted_by_ranges(
    run: Run, tmp_path: Path, slots: tuple[Slot, ...]
) -> None:
    """4 PiB: by frames or blocks these would take hours."""
    header = replace(HEADER, maxphyaddr=52, memory=1 << 52, memslots=slots, vcpus=64)
    path = tmp_path / "t.trace"
    path.write_text(dumps(Trace(header, (*FINE, cr0(0x60000011)))))
    some = [("compare", "--json"), ("audit", "--page-size", "1G"), ("requests", "-p", "+9+10+11")]
    if len(slots) == 1:
        some += [("explain", "-p", "Base2"), ("show",), ("export", "-f", "perfetto")]
    for words in some:
        assert run(words[0], str(path), *words[1:]).status in (0, 1), words
    ran = run("compare", str(path), "--json", "--host-maxphyaddr", "52")
    assert ran.status in (0, 2)
    assert ran.status == 0 or "more memory than the 100,000 blocks of the model" in ran.err


# ---- endless and huge files ---------------------------------------------------------------------

READERS = (
    *("show {}", "compare {}", "export {} -f csv", "report {} -o -", "explain {} -p Base2"),
    *("import {}", "import {} --list", "memtype {}", "memtype ovmf-8 --against {}"),
    *("memtype ovmf-8 --diff {}", "check --replay {}", "check --verify {}", "sweep {} -o no"),
    *("check ticket --requests-of {} --policy Base2", "kernel compare -p {}", "sweep show {}"),
    *("initrd --busybox {} -o -", "record --firmware {} -o no", "check {}.py:f"),
)
NESTED = ("[" * 100_000, '{"a":' * 100_000, "9" * 100_000, '{"format": ' + "9" * 100_000 + "}")


@pytest.mark.parametrize("words", READERS)
def test_endless_and_nested_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["yes"], stdout=os.open(pipe, os.O_RDWR)) as endless:
        for path in ("/dev/zero", pipe, "./zero"):
            ran = run(*words.replace("{}", str(path)).split())
            assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), path
        endless.kill()
    if words.startswith("record"):
        return  # to which any bytes are a firmware
    for name in ("nested.toml", "nested.py"):
        for text in NESTED:
            (tmp_path / name).write_text(text)
            ran = run(*words.replace("{}.py", "nested.py").replace("{}", f"./{name}").split())
            assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1), text[:9]


def test_an_endless_trace(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a valid one, as far as it goes."""
    monkeypatch.setattr(tabular, "MAX_EVENTS", 20_000)
    endless = tmp_path / "endless.trace"
    endless.write_text(dumps(Trace(HEADER, FINE)).replace("end", "0 reset\n" * 50_000 + "end"))
    ran = run("compare", str(endless))
    assert (ran.status, ran.err) == (
        2,
        f"mtrrzap: {endless}: more than 20,000 events; cut the trace\n",
    )
