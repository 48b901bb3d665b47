"""docs/capture.md: every import command in it works, on a real capture under the name it uses."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from helpers.captures import FOLDER, text
from helpers.cli import Run
from helpers.paths import ROOT

DOC = ROOT / "docs" / "capture.md"
COMMANDS = re.findall(r"^mtrrzap (import .*)$", DOC.read_text(), re.MULTILINE)
NAMES = {
    "boot.txt": "report",
    "sent.txt": "report",
    "perf.txt": "perf-script",
    "trace.txt": "trace",
    "pipe.txt": "trace_pipe",
    "exits.txt": "all-events-trace",
}


def test_the_document_has_commands() -> None:
    assert len(COMMANDS) == 9


@pytest.mark.parametrize("command", COMMANDS)
def test_import_commands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "boot.dat" in command:
        if shutil.which("trace-cmd") is None:
            pytest.skip("trace-cmd is not installed: no trace.dat can be read")
        shutil.copy(FOLDER / "trace.dat.xz", "boot.dat")
    for name, capture in NAMES.items():
        if name in command:
            Path(name).write_bytes(text(capture))
    ran = run(*shlex.split(command))
    assert (ran.status, ran.err) == (0, "")
    assert ("-o" in command) == Path("boot.trace").exists()
    assert ("exits.txt" in command) == Path("boot.costs.csv").exists()
