"""What a test with a real guest needs, and what it made."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from mtrrzap.guest.record import Recorded


def running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def guest_kernel() -> Path | None:
    """The kernel image that MTRRZAP_GUEST_KERNEL names, or the newest readable one in /boot."""
    if named := os.environ.get("MTRRZAP_GUEST_KERNEL"):
        return Path(named)
    images = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(images, key=_version, default=None)


def missing(what: str) -> NoReturn:
    """Skip a test; but fail it where all is installed and a skip would only hide a mistake."""
    if os.environ.get("MTRRZAP_NO_SKIP", "0") not in ("", "0"):
        pytest.fail(f"MTRRZAP_NO_SKIP is set, but there is {what}")
    pytest.skip(what)


@dataclass(frozen=True)
class Recording:
    trace: Path
    console: str
    outcome: Recorded
