"""What the tests with a real guest share: its prerequisites, and one recording for all of them."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from helpers.cli import file as file
from helpers.cli import run as run
from helpers.recording import Recording, guest_kernel, missing
from mtrrzap.guest.busybox import build, is_static_elf
from mtrrzap.guest.record import RecordOptions, record

# A test must not fail because the machine is busy.
settings.register_profile("mtrrzap", deadline=None)
settings.load_profile("mtrrzap")

BUSYBOX = Path("/bin/busybox")
QEMU = "qemu-system-x86_64"


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


@pytest.fixture(scope="session")
def seabios_recording(
    qemu: str, kernel: Path, initrd: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    """A boot of SeaBIOS and Linux with 2 vCPUs and 512 MiB."""
    directory = tmp_path_factory.mktemp("recording")
    console = directory / "console"
    options = RecordOptions(
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
