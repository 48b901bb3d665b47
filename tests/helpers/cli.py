"""Run the command line in this process."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.traces import FINE, cr0, trace
from mtrrzap.cli import main as cli
from mtrrzap.guest.trace import dumps


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``mtrrzap ARGS`` in this process."""

    # On a slow machine, too, a test sees no line about progress.
    monkeypatch.setattr("mtrrzap.cli.progress.LATER", 1e6)

    def call(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["mtrrzap", *args])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return Ran(int(caught.value.code or 0), out, err)

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "boot.trace"
    path.write_text(dumps(trace(*FINE, cr0(0x60000011))))
    return path
