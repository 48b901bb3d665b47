"""What tests of the live engine share: is there a KVM, and a subprocess with a hard limit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import kvm_msrs
from helpers.paths import TESTS
from helpers.recording import missing

LIMIT = 120
"""Seconds after which a subprocess under test is killed."""


def need_kvm() -> None:
    """Skip where there is no KVM, which is no mistake, not even in CI; one that fails is."""
    if (why := kvm_msrs.missing()) is None:
        return
    if Path("/dev/kvm").exists():
        missing(f"no usable KVM; {why}")
    pytest.skip(f"needs a usable KVM; {why}")


def python(code: str, *, limit: float = LIMIT) -> str:
    """Run Python code in a process of its own, which is killed after so many seconds."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
