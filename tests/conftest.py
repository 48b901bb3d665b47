"""What the tests with a real guest share: its prerequisites, and one recording for all of them."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from mtrrzap.guest.elf import is_static_elf
from mtrrzap.guest.initrd import build
from mtrrzap.guest.record import Options, Outcome, record
from test_cli import run as run

# A test must not fail because the machine is busy.
settings.register_profile("mtrrzap", deadline=None)
settings.load_profile("mtrrzap")

BUSYBOX = Path("/bin/busybox")
QEMU = "qemu-system-x86_64"


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


@pytest.fixture(scope="session")
def qemu() -> str:
    if shutil.which(QEMU) is None:
        missing(f"no {QEMU} (Debian: apt install qemu-system-x86)")
    return QEMU


@pytest.fixture(scope="session")
def kernel() -> Path:
    if (path := guest_kernel()) is None:
        missing("no guest kernel: set MTRRZAP_GUEST_KERNEL to a Linux image")
    return path


@pytest.fixture(scope="session")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BUSYBOX.is_file() or not is_static_elf(BUSYBOX.read_bytes()):
        missing(f"no static {BUSYBOX} (Debian: apt install busybox-static)")
    path = tmp_path_factory.mktemp("initrd") / "initrd.gz"
    path.write_bytes(build(BUSYBOX.read_bytes()))
    return path


@dataclass(frozen=True)
class Recording:
    trace: Path
    console: str
    outcome: Outcome


@pytest.fixture(scope="session")
def seabios_recording(
    qemu: str, kernel: Path, initrd: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    """A boot of SeaBIOS and Linux with 2 vCPUs and 512 MiB."""
    directory = tmp_path_factory.mktemp("recording")
    console = directory / "console"
    options = Options(
        output=directory / "boot.trace",
        vcpus=2,
        memory="512M",
        kernel=kernel,
        initrd=initrd,
        console=console,
        qemu=qemu,
    )
    outcome = record(options)
    return Recording(options.output, console.read_text("utf-8", "replace"), outcome)
