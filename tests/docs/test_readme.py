"""The README: what it shows is what its commands print."""

import re

import pytest

from helpers.cli import Run
from helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_two_commands() -> None:
    commands = [block for block in blocks() if block.startswith((".venv", "python3"))]
    assert len(commands) == 2
    assert commands[0].endswith("&& .venv/bin/mtrrzap compare\n")
    assert commands[1].endswith("&& .venv/bin/pytest\n")


def test_the_comparison(run: Run) -> None:
    (shown,) = [block for block in blocks() if "┃ guest" in block]
    printed = run("compare").out.splitlines()
    rows = [line for line in shown.splitlines() if not line.startswith("│ …")]
    assert len([row for row in rows if row.startswith("│ OVMF")]) == 14
    assert [row for row in rows if row not in printed] == []


@pytest.mark.parametrize("args", [("check", "v4", "-p", "lost zap")])
def test_the_counterexample(run: Run, args: tuple[str, ...]) -> None:
    """All but the time, which is the last column but one."""

    def timeless(text: str) -> str:
        return re.sub(r"\d+\.\d\d s", "T s", text).strip()

    (shown,) = [block for block in blocks() if block.startswith("protocol")]
    ran = run(*args)
    assert (timeless(ran.out), ran.status) == (timeless(shown), 1)
