"""The initrd: its format byte by byte, and that it is the same each time."""

import gzip
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.elf import elf
from helpers.proc_mtrr import from_console
from mtrrzap.guest.busybox import BEGIN, END, build

BUSYBOX = b"\x7fELF not really"


def entries(cpio: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive by its definition: mode and data by name."""
    found = {}
    at = 0
    while True:
        assert cpio[at : at + 6] == b"070701"
        fields = [int(cpio[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = cpio[at + 110 : at + 110 + fields[11] - 1].decode()
        at = -(-(at + 110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], cpio[at : at + fields[6]])
        at = -(-(at + fields[6]) // 4) * 4


def test_what_is_in_it() -> None:
    found = entries(gzip.decompress(build(BUSYBOX)))
    assert found["bin/busybox"] == (0o100755, BUSYBOX)
    assert found["bin"][0] == found["proc"][0] == 0o40755
    assert found["dev/console"][0] == 0o20600
    mode, init = found["init"]
    assert mode == 0o100755
    assert init.startswith(b"#!/bin/busybox sh\n")
    assert init.endswith(b"poweroff -f\n")


def test_the_same_each_time() -> None:
    assert build(BUSYBOX) == build(BUSYBOX)


def test_the_busybox_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(elf())
    (tmp_path / "link").symlink_to("busybox")
    for name in ("busybox", "link"):
        ran = run("initrd", "-o", str(tmp_path / name), "--busybox", str(busybox), "--force")
        assert (ran.status, ran.out) == (2, "")
        assert "also the file of --busybox" in ran.err
    assert busybox.read_bytes() == elf()


@pytest.mark.parametrize("name", ["x" * 300, "/dev/full", "/dev/null/initrd"])
def test_an_output_that_cannot_be(run: Run, tmp_path: Path, name: str) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(elf())
    ran = run("initrd", "-o", name, "--busybox", str(busybox), "--force")
    assert ran.status == 2
    assert ran.err.startswith("mtrrzap: --output: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("program", [b"\x7fELF\x02", b"#!/bin/sh\n", b""])
def test_a_busybox_that_cannot_run(run: Run, tmp_path: Path, program: bytes) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(program)
    ran = run("initrd", "-o", str(tmp_path / "initrd"), "--busybox", str(busybox))
    assert ran.status == 2
    assert ran.err.startswith("mtrrzap: --busybox: ")
    assert not (tmp_path / "initrd").exists()


def test_the_markers_on_the_console() -> None:
    assert from_console(f"boot\r\n{BEGIN}\r\nreg00: x\r\n{END}\r\n") == "reg00: x\n"
    assert from_console(f"{BEGIN}\r\nreg00: x\r\n") is None
    assert from_console("") is None
