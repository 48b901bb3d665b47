"""The tutorial's files are written, its commands run, and their output compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from helpers.paths import ROOT
from mtrrzap.cli.check import check

PAGE = ROOT / "docs" / "write-a-protocol.md"
FENCE = re.compile(r"```(python|console)\n(.*?)```\n", re.DOTALL)
TIME = re.compile(r" *\d+\.\d\d s")

APP = typer.Typer()
APP.command()(check)


def output(command: str) -> str:
    """Run ``mtrrzap check …`` here; times, which differ, are left out."""
    arguments = shlex.split(command)
    assert arguments[:2] == ["mtrrzap", "check"]
    return CliRunner().invoke(APP, arguments[2:]).stdout


def filled(page: str, at: Path) -> str:
    """Return the page with the output that its commands have now."""

    def fill(found: re.Match[str]) -> str:
        kind, text = found.groups()
        first = text.splitlines()[0]
        if kind == "python":
            (at / first.removeprefix("# ")).write_text(text)
            return found[0]
        return f"```console\n{first}\n{output(first.removeprefix('$ '))}```\n"

    return FENCE.sub(fill, page)


def test_the_page_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    assert TIME.sub("", filled(page, tmp_path)) == TIME.sub("", page)
