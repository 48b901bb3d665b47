"""SPIN explores hand-written models of the same protocols: verdicts and states must be equal."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.paths import ROOT
from mtrrzap.checker.explore import Search
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import FLAG, LostZap
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol.load import load

MODELS = ROOT / "benchmarks" / "spin"

pytestmark = [
    pytest.mark.skipif(shutil.which("spin") is None, reason="spin is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]


def pan(model: str, vcpus: int, requests: int, at: Path) -> tuple[int, int, bool]:
    """Return states stored, transitions, and whether an assertion failed or vCPUs are stuck."""
    sizes = [f"-DN={vcpus}", f"-DR={requests}"]
    command = ["spin", "-a", *sizes, str(MODELS / f"{model}.pml")]
    subprocess.run(command, cwd=at, check=True, capture_output=True)
    build = ["gcc", "-O0", "-w", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c"]
    subprocess.run(build, cwd=at, check=True, capture_output=True)
    done = subprocess.run(["./pan", "-c0"], cwd=at, check=True, capture_output=True, text=True)
    found = re.search(
        r"errors: (\d+)\s+(\d+) states, stored.*?(\d+) transitions", done.stdout, re.DOTALL
    )
    assert found, done.stdout
    return int(found[2]), int(found[3]), int(found[1]) > 0


@pytest.mark.parametrize("name", ["v4", "sketch", "review"])
@pytest.mark.parametrize(("vcpus", "requests"), [(2, 1), (3, 1), (2, 2)])
def test_spin_agrees(name: str, vcpus: int, requests: int, tmp_path: Path) -> None:
    world = scenario(load(name), vcpus, requests)
    found = Search(Model(world, LostZap(world)), symmetry=False).run()
    states, transitions, wrong = pan(name, vcpus, requests, tmp_path)
    assert states == found.states
    assert transitions == found.transitions + 1  # pan counts the start as one
    assert wrong == (FLAG in found.violations)
