"""The initrd: its format byte by byte, and that it is the same each time."""

import gzip

import pytest

from mtrrzap.guest.initrd import BEGIN, END, build, is_static_elf, proc_mtrr

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


def elf(kind: int) -> bytes:
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    header[32] = 64
    header[54] = 56
    header[56] = 2
    return bytes(header) + (1).to_bytes(4, "little") + bytes(52) + kind.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("program", "static"),
    [(elf(2), True), (elf(3), False), (b"#!/bin/sh", False), (b"", False), (b"\x7fELF\x01", False)],
)
def test_static(program: bytes, static: bool) -> None:
    assert is_static_elf(program) is static


def test_proc_mtrr() -> None:
    assert proc_mtrr(f"boot\r\n{BEGIN}\r\nreg00: x\r\n{END}\r\n") == "reg00: x\n"
    assert proc_mtrr(f"{BEGIN}\r\nreg00: x\r\n") is None
    assert proc_mtrr("") is None
