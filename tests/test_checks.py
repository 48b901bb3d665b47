"""Types, lint and format, so that the test command is the one check command."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT


@pytest.mark.parametrize(
    "command",
    [("mypy",), ("ruff", "check", "."), ("ruff", "format", "--check", ".")],
    ids=["mypy", "ruff-check", "ruff-format"],
)
def test_check(command: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
