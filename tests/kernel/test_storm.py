"""Storms: the judge of a trace, and a protocol's C in a real kernel."""

import json
from pathlib import Path

import pytest

from helpers.cli import Run
from mtrrzap.emit.patch import FILES
from mtrrzap.errors import UserError
from mtrrzap.kernel import build, image
from mtrrzap.kernel.storm import read
from mtrrzap.kvm.policy import by_name
from mtrrzap.protocol import PROTOCOLS

LIMIT = 900
"""Seconds: for a machine on which much else runs."""


def lines(*steps: str) -> str:
    """Return a trace of ``THREAD EVENT`` steps as ftrace prints it with the counter clock."""
    return "".join(
        f"          python3-{step.split()[0]}     [00{n % 2}] ..... {1000 + n}: "
        f"{step.split()[1]}: (kvm_zap_gfn_range+0x0/0x10)\n"
        for n, step in enumerate(steps)
    )


def test_requests_zaps_and_shared_ones() -> None:
    found = read(
        lines("7 ask", "8 ask", "7 zap", "7 zapped", "7 asked", "8 asked", "8 ask", "8 zap")
        + lines("8 zapped", "8 asked"),
        2,
        "6.1",
    )
    assert (found.requests, found.zaps, found.shared, found.lost) == (3, 2, 1, 0)
    assert found.overlaps == 0


def test_zaps_that_overlap() -> None:
    at_once = ("7 ask", "8 ask", "7 zap", "8 zap", "7 zapped", "7 asked", "8 zapped", "8 asked")
    assert read(lines(*at_once), 2, "6.1").overlaps == 1


@pytest.mark.parametrize(
    ("steps", "lost"),
    [
        (("7 ask", "7 asked"), 1),
        (("7 ask", "7 zap", "7 asked"), 1),  # it has not ended
        (("7 ask", "7 zap", "8 ask", "7 zapped", "8 asked", "7 asked"), 1),  # it began before
        (("8 ask", "7 ask", "7 zap", "7 zapped", "8 asked", "7 asked"), 0),
        (("7 ask", "7 zap", "8 ask", "7 zapped", "9 ask", "9 zap", "9 zapped", "8 asked"), 0),
    ],
)
def test_lost_requests(steps: tuple[str, ...], lost: int) -> None:
    found = read(lines(*steps), 3, "6.1")
    assert found.lost == lost
    assert bool(found.first_lost) == bool(lost)


def test_a_tree_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "headers", lambda _: tmp_path)
    patched = build.Patched(PROTOCOLS["v4"], by_name("+9"))
    with pytest.raises(UserError, match="cannot be copied: No such file or directory; give the"):
        build.build(patched, tmp_path / "no", "6.1", tmp_path / "out")


def test_no_headers() -> None:
    with pytest.raises(UserError, match=r"no headers of 0\.0; install them \(Debian: apt install"):
        build.headers("0.0")


def test_an_archive_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = tmp_path / "linux.tar.xz"
    archive.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        build.tree(archive, "6.1")
    assert not list((tmp_path / "cache").rglob(".tree*"))


@pytest.mark.timeout(LIMIT)
def test_a_protocol_in_a_real_kernel(
    run: Run, kernel: image.Kernel, source: Path, tmp_path: Path
) -> None:
    """Its calls are its policy's requests; a storm loses nothing."""
    where = ("--kernel", str(kernel.image))
    made = ("--source", str(source), "-o", str(tmp_path))
    assert run("kernel", "build", "ticket", *where, *made).status == 0
    modules = ("--modules", str(tmp_path))
    options = ("--random", "0", f"--timeout={LIMIT}", "--json")
    # The status is 1: without random events one control, a wrong fixed_range, goes unseen.
    ran = run("kernel", "compare", "ovmf-8", "seabios-8", *where, *modules, *options)
    rows = json.loads(ran.out)["rows"]
    assert [row["requests"] for row in rows] == [74, 74, 42, 42]
    assert not any(row["differences"] for row in rows)
    counts = ("-n", "2", "-c", "1000", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "storm", "ticket", *where, *modules, *counts)
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert (found["requests"], found["lost"]) == (2000, 0)
    assert found["zaps"] + found["shared"] == 2000


@pytest.mark.timeout(LIMIT)
def test_v4_loses_with_its_window_widened(
    run: Run, kernel: image.Kernel, source: Path, tmp_path: Path
) -> None:
    where = ("--kernel", str(kernel.image))
    made = ("--source", str(source), "--window", "50", "-o", str(tmp_path))
    assert run("kernel", "build", "v4", *where, *made).status == 0
    counts = ("-n", "2", "-c", "5000", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "storm", "v4", *where, "--modules", str(tmp_path), *counts)
    found = json.loads(ran.out)
    assert (ran.status, found["requests"]) == (1, 10_000)
    assert found["lost"] > 0
    assert " ask: " in found["first_lost"][0]
    assert " asked: " in found["first_lost"][-1]


def test_the_files_that_a_patch_reads_are_unpacked() -> None:
    assert all(path.startswith(build._WANTED) for path in FILES)
