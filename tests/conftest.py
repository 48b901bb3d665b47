"""What the tests with a real guest share: its prerequisites, and one recording for all of them."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtrrzap.guest.initrd import build, is_static_elf
from mtrrzap.guest.record import Options, Outcome, record

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


@pytest.fixture(scope="session")
def qemu() -> str:
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU} (Debian: apt install qemu-system-x86)")
    return QEMU


@pytest.fixture(scope="session")
def kernel() -> Path:
    if (path := guest_kernel()) is None:
        pytest.skip("no guest kernel: set MTRRZAP_GUEST_KERNEL to a Linux image")
    return path


@pytest.fixture(scope="session")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BUSYBOX.is_file() or not is_static_elf(BUSYBOX.read_bytes()):
        pytest.skip(f"no static {BUSYBOX} (Debian: apt install busybox-static)")
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
