"""What tests of the live engine share: is there a KVM, and a subprocess with a hard limit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import missing

LIMIT = 120
"""Seconds after which a subprocess under test is killed."""


def kvm_missing() -> str | None:
    """Return why no VM can run here, or None."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    return None


def need_kvm() -> None:
    """Skip where there is no KVM, not even in CI a mistake; fail where there is one that fails."""
    if (why := kvm_missing()) is None:
        return
    if Path("/dev/kvm").exists():
        missing(f"no usable KVM; {why}")
    pytest.skip(f"needs a usable KVM; {why}")


def python(code: str, *, limit: float = LIMIT) -> str:
    """Run Python code in a process of its own, which is killed after so many seconds."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=limit, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
