"""Every command that writes files, run once in a child, and killed there with SIGKILL.

Run in tests/: ``python -m helpers.writers KILLS [SEED]`` kills at random moments. With ``each`` for
KILLS it kills at every operation on a file, which needs no clock. What was there before a kill must
be there after it, or be replaced by all of the new file.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

from helpers.captures import FOLDER
from helpers.elf import elf
from helpers.sweeps import SIMULATE, run_inline
from helpers.traces import FINE, cr0, trace
from mtrrzap.cli import kernel
from mtrrzap.cli import main as cli
from mtrrzap.guest.tabular import csv_lines
from mtrrzap.guest.trace import dumps
from mtrrzap.kernel import build
from mtrrzap.sweep.query import Results

COMMANDS = {
    "export-csv": "export {in}/boot.trace -f csv -o {out}/file",
    "export-parquet": "export {in}/boot.trace -f parquet -o {out}/file",
    "export-perfetto": "export {in}/boot.trace -f perfetto -o {out}/file",
    "report": "report {in}/boot.trace -o {out}/file",
    "import": f"import {FOLDER}/report.txt.xz -o {{out}}/boot.trace",
    "import-csv": "import {in}/boot.csv -o {out}/boot.trace",
    "initrd": "initrd --busybox {in}/elf -o {out}/file",
    "page": "sweep show {in}/results --page {out}/page.md",
    "plots": "sweep show {in}/results --plots {out}",
    "emit": "emit ticket -o {out}/file",
    "schedules": "check v3 -p ordering --schedules {out}",
    "certificate": "check ticket -n any -p deadlock --certificate {out}/file",
    "kernel-build": "kernel build ticket -o {out}",
}
RECORD = "record --memory 64M -o {out}/file -- -drive file={in}/power-off.img,format=raw"
OLD = b"what was there before\n"
TOUCHES = ("open", "os.rename", "os.remove", "os.truncate")


def inputs(folder: Path) -> None:
    """Make what the commands read."""
    guest = trace(*FINE, cr0(0x60000011))
    (folder / "boot.trace").write_text(dumps(guest))
    (folder / "boot.csv").write_text("".join(csv_lines(guest)))
    (folder / "elf").write_bytes(elf())
    power_off = bytes.fromhex("ba0406 b80020 ef f4")  # 0x2000 to port 0x604: ACPI's
    (folder / "power-off.img").write_bytes(power_off.ljust(510, b"\0") + b"\x55\xaa")
    run_inline(folder, SIMULATE, folder / "results", stop_after=9)


def without_compiling(put: Callable[[object, str, object], object] = setattr) -> None:
    """Let 'kernel build' write without a kernel's source, its headers and minutes of a compiler."""
    modules = [(Path(name), name.encode() * 1000) for name in build.MODULES]
    put(build, "headers", Path)
    put(build, "tree", lambda *_: Path())
    put(build, "_made", lambda *_: modules)
    put(kernel.HostOptions, "kernel_of", lambda _: SimpleNamespace(release="6.1"))


def arguments(name: str, folder: Path) -> list[str]:
    """Return a command line that overwrites what is in the folder ``out``."""
    text = RECORD if name == "record" else COMMANDS[name]
    words = text.format(**{"in": folder, "out": folder / "out"}).split()
    words.insert(words.index("--") if "--" in words else len(words), "--force")
    return words


def command(words: list[str]) -> int:
    """Run a command in this process, silently; return its exit status."""
    without_compiling()
    sys.argv = ["mtrrzap", *words]
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):  # noqa: PTH123
        try:
            cli.main()
        except SystemExit as left:
            return int(left.code or 0)
    return 0


def child(work: Callable[[], object], kill_at: int | None = None, inside: str = "") -> int:
    """Start a child that works, and kills itself before an operation on a file ``inside``."""
    pid = os.fork()
    if pid:
        return pid
    count = 0

    def touched(*_: object) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, details: tuple[object, ...]) -> None:
        path = details[0] if event in TOUCHES else None
        if isinstance(path, str | bytes | os.PathLike) and inside in os.fsdecode(path):
            touched()

    try:
        if kill_at is not None:
            sync = os.fsync
            os.fsync = lambda fd: (touched(), sync(fd))  # type: ignore[assignment]
            sys.addaudithook(hook)
        work()
    finally:
        os._exit(0)


def killed(pid: int) -> bool:
    """Wait for a child; return whether it was killed."""
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Files:
    """A command that replaces files: what it makes of them, and what is left after a kill."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.out = name, folder / "out"
        self._words = arguments(name, folder)
        self.before()
        self.seconds = took(self)
        self.new = contents(self.out)
        assert self.new, f"{name} makes no file"

    def work(self) -> object:
        return command(self._words)

    def before(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        for name in getattr(self, "new", ()):
            (self.out / name).write_bytes(OLD)

    def lost(self) -> list[str]:
        """Return the files that are neither old nor new."""
        after = contents(self.out)
        return [n for n, new in self.new.items() if after.get(n) not in (OLD, new)]


class Sweep:
    """A sweep that is continued: no row that was on disk is lost."""

    name = "sweep"

    def __init__(self, folder: Path) -> None:
        self._from, self.out = folder / "results", folder / "out"
        self._folder = folder
        self._rows = self._count(self._from)
        self.before()
        self.seconds = took(self)

    def work(self) -> object:
        return run_inline(self._folder, SIMULATE, self.out)

    def before(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree(self._from, self.out)

    def _count(self, where: Path) -> int:
        found = Results(where)
        assert not found.damaged
        return int(found.ask("SELECT count(DISTINCT number) FROM cells").rows[0][0])

    def lost(self) -> list[str]:
        return [] if self._count(self.out) >= self._rows else ["rows"]


Writer = Files | Sweep


def took(writer: Writer) -> float:
    """Let a command come to its end; return the seconds that it took."""
    begin = time.monotonic()
    killed(child(writer.work))
    return time.monotonic() - begin


def at_each(writer: Writer) -> int:
    """Kill a command at each of its operations on files; return how many it has."""
    kills = 0
    while True:
        writer.before()
        if not killed(child(writer.work, kills + 1, str(writer.out))):
            return kills
        kills += 1
        assert writer.lost() == [], f"{writer.name}, operation {kills}"


def at_random(writer: Writer, rng: random.Random) -> bool:
    """Kill a command at a random moment; return whether it was not over by then."""
    writer.before()
    pid = child(writer.work)
    time.sleep(rng.random() * writer.seconds)
    os.kill(pid, signal.SIGKILL)
    found = killed(pid)
    assert writer.lost() == [], writer.name
    return found


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="mtrrzap-kill-"))
    inputs(folder)
    names = [*COMMANDS, *(["record"] if shutil.which("qemu-system-x86_64") else [])]
    writers: list[Writer] = [*(Files(name, folder) for name in names), Sweep(folder)]
    if sys.argv[1] == "each":
        for writer in writers:
            if writer.name != "record":  # it works in threads, and with QEMU
                print(f"{writer.name}: killed at each of {at_each(writer)} operations")
    else:
        rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        hit = Counter[str]()
        for number in range(int(sys.argv[1])):
            writer = writers[number % len(writers)]
            hit[writer.name] += at_random(writer, rng)
            print(number, writer.name, flush=True)
        print(f"{hit.total()} of {sys.argv[1]} kills came before the end; nothing was lost: {hit}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
