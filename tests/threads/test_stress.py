"""The stress run, small: ``benchmarks/stress_threads.py`` is for the large one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from helpers.paths import ROOT
from mtrrzap.protocol import PROTOCOLS

SOUND = ("direct", "sketch", "review", "ticket")
THREADS, CALLS = 24, 100
LIMIT = 200.0


def stress(*args: str, python: str = sys.executable) -> dict[str, Any]:
    """Run it in a process of its own, which is ended if it hangs; lost calls are status 1."""
    command = [python, "benchmarks/stress_threads.py", "--json", "--limit", str(LIMIT / 10)]
    command += ["--threads", str(THREADS), "--calls", str(CALLS), *args]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert (ran.stderr, ran.returncode) == ("", 0)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_no_call_comes_back_unzapped() -> None:
    rows = {row["protocol"]: row for row in stress()["rows"]}
    assert list(rows) == list(PROTOCOLS)
    assert all(row["calls"] == THREADS * CALLS for row in rows.values())
    assert {name: rows[name]["lost"] for name in SOUND} == dict.fromkeys(SOUND, 0)
    assert rows["direct"]["zaps"] == THREADS * CALLS
    assert rows["review"]["zaps"] < THREADS * CALLS


def test_nor_where_zaps_raise_and_allocations_fail() -> None:
    rows = stress("--raise", "0.2", "--no-memory", "0.2", *SOUND)["rows"]
    assert [row["protocol"] for row in rows] == list(SOUND)
    for row in rows:
        assert (row["calls"], row["lost"], row["unfounded"]) == (THREADS * CALLS, 0, 0)
        assert row["zaps raised"] > 0
        assert row["calls raised"] > 0


def free_threaded() -> str:
    """A Python without the interpreter lock: MTRRZAP_FREE_THREADED_PYTHON, or one in PATH."""
    names = (os.environ.get("MTRRZAP_FREE_THREADED_PYTHON", ""), "python3.14t", "python3.13t")
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        pytest.skip("no free-threaded Python (python3.13t, or MTRRZAP_FREE_THREADED_PYTHON)")
    return found


def test_nor_without_the_interpreter_lock() -> None:
    python = free_threaded()
    found = stress("--raise", "0.1", *SOUND, python=python)
    assert found["gil"] is False
    assert [(row["calls"], row["lost"]) for row in found["rows"]] == [(THREADS * CALLS, 0)] * 4
