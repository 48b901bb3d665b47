"""The kernel that is the judge: what these tests share."""

import shutil
from pathlib import Path

import pytest

from helpers.recording import guest_kernel, missing
from mtrrzap.errors import UserError
from mtrrzap.kernel import boot, build, image


@pytest.fixture(scope="session")
def kernel() -> image.Kernel:
    if shutil.which("qemu-system-x86_64") is None:
        missing("no qemu-system-x86_64 (Debian: apt install qemu-system-x86)")
    path = guest_kernel()
    try:
        found = image.at(path) if path else None
        boot._busybox()
    except UserError as error:
        missing(str(error))
    if found is None:
        missing("no kernel package: set MTRRZAP_GUEST_KERNEL to boot/vmlinuz-* of an unpacked one")
    if not (6, 1) <= found.version < (6, 7):
        missing(f"no kernel from 6.1 to 6.6, only {found.release}")
    return found


@pytest.fixture(scope="session")
def source(kernel: image.Kernel) -> Path:
    """The kernel's source, as far as KVM is built from it."""
    for program in ("gcc", "make"):
        if shutil.which(program) is None:
            missing(f"no {program} (Debian: apt install gcc make)")
    archives = sorted(Path("/usr/src").glob("linux-source-6.1.tar.*"))
    try:
        build.headers(kernel.release)
    except UserError as error:
        missing(str(error))
    if not archives:
        missing("no kernel source (Debian: apt install linux-source-6.1)")
    return build.tree(archives[0], kernel.release)
