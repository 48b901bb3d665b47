"""``mtrrzap emit``: what it prints, writes and refuses."""

import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.paths import DATA
from mtrrzap.emit.source import kernel, user
from mtrrzap.protocol import PROTOCOLS

TREE = DATA / "emit" / "tree"


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git know who the user is."""
    values = {"COUNT": "2", "KEY_0": "user.name", "VALUE_0": "Some Body"}
    values |= {"KEY_1": "user.email", "VALUE_1": "some@body.example"}
    for name, value in values.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)


def test_it_prints_c(run: Run, tmp_path: Path) -> None:
    assert run("emit", "v4") == (0, kernel(PROTOCOLS["v4"]), "")
    path = tmp_path / "ticket.c"
    ran = run("emit", "ticket", "--flavour", "user", "-o", str(path))
    assert ran.status == 0
    assert path.read_text() == user(PROTOCOLS["ticket"])
    again = run("emit", "v4", "-o", str(path))
    assert again.status == 2
    assert f"{path} exists already" in again.err
    assert path.read_text() == user(PROTOCOLS["ticket"])
    assert run("emit", "v4", "-o", str(path), "--force").status == 0
    assert path.read_text() == kernel(PROTOCOLS["v4"])


@pytest.mark.usefixtures("somebody")
def test_a_patch_says_what_was_checked(run: Run) -> None:
    mail = run("emit", "review", "--patch", str(TREE)).out
    words = " ".join(mail.partition("---\n")[0].split())
    assert "From: Some Body <some@body.example>" in words
    assert "Signed-off-by: Some Body <some@body.example>" in words
    assert "By the rule of review an MTRR write asks" in words
    assert (
        "In every interleaving of 2 and of 3 vCPUs with 1 request each these properties of "
        "'mtrrzap check' hold: lost zap, deadlock, unlocked access and capacity. ordering: "
        "VIOLATED (2 vCPUs, 1 request each; 21 steps). starvation: VIOLATED (2 vCPUs that ask for "
        "ever; 18 steps, "
    ) in words
    assert (
        "What was posted (v4 of the series, patch 9 (14 July 2023)) loses a zap: 20 steps, "
        "2 vCPUs, 1 request each, allocation may fail."
    ) in words
    posted = " ".join(run("emit", "v4", "--patch", str(TREE)).out.split())
    assert "lost zap: VIOLATED (2 vCPUs, 1 request each, allocation may fail; 20 steps)." in posted
    assert "What was posted" not in posted


def test_errors(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    copy = tmp_path / "tree"
    shutil.copytree(TREE, copy)
    for arguments, said in (
        (("emit", "v5"), "unknown protocol 'v5'"),
        (("emit", "v4", "-p", "Base2"), "--policy: only a patch has a policy; add --patch TREE"),
        (("emit", "v4", "--patch", str(tmp_path)), "cannot be read: No such file or directory"),
        (("emit", "v4", "--patch", str(copy), "-p", "lazy"), "lazy has no C"),
        (("emit", "v4", "--patch", str(copy)), "--patch: git does not know who you are"),
    ):
        ran = run(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert said in ran.err
        assert ran.err.count("\n") == 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_run_native(run: Run) -> None:
    ran = run("run", "--engine", "native", "-p", "review", "--requests", "100", "--vcpus", "4")
    assert ran.status == 0
    assert "review" in ran.out
    assert "400" in ran.out


def test_run_native_without_gcc(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ran = run("run", "--engine", "native", "-p", "review")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.endswith("there is no gcc; install it (Debian: apt install gcc libc6-dev)\n")


def test_the_patch_applies(run: Run, tmp_path: Path, somebody: None) -> None:  # noqa: ARG001
    copy = tmp_path / "tree"
    shutil.copytree(TREE, copy)
    mail = run("emit", "ticket", "--patch", str(copy)).out
    done = subprocess.run(
        ["git", "apply", "--check", "-"], input=mail, cwd=copy, text=True, check=False
    )
    assert done.returncode == 0
