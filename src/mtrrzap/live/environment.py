"""What the host is like, as far as figures depend on it."""

import os
import platform
from pathlib import Path
from typing import NamedTuple

from mtrrzap.errors import UserError

_MODULES = Path("/sys/module")
_TDP = {"kvm_intel": ("ept", "EPT"), "kvm_amd": ("npt", "NPT")}


def available_memory() -> int | None:
    """Return the bytes that the host can give without swapping (MemAvailable), if it says so."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


class Environment(NamedTuple):
    """Of the process that runs the vCPUs."""

    cores: int
    kernel: str
    second_stage: str
    """``EPT``, ``NPT``, or ``shadow paging`` where neither is on."""


def environment() -> Environment:
    """Look around. Raises ``UserError`` where no x86-64 guest can run."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        raise UserError(f"the test guest needs an x86-64 CPU, this is {machine or 'unknown'}")
    return Environment(len(os.sched_getaffinity(0)), platform.release(), _second_stage())


def _second_stage() -> str:
    for module, (parameter, name) in _TDP.items():
        try:
            value = (_MODULES / module / "parameters" / parameter).read_text(encoding="ascii")
        except OSError:
            continue
        if value.strip() in ("Y", "1"):
            return name
    return "shadow paging"
