"""What QEMU's monitor and the guest's consoles print."""

import pytest

from mtrrzap.guest.record.facts import firmware_name, kernel_name, last_words, parse_mtree
from mtrrzap.guest.record.gdb import CodeSegment, ProtocolError, parse_cs
from mtrrzap.guest.trace import Slot

MTREE = """\
FlatView #0
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-000000001fffffff (prio 0, ram): pc.ram

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000000e0000-00000000000e07ff (prio 0, ram): less than a page
  00000000000f0800-00000000000fffff (prio 0, ram): not from a page's start
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi
  00000000ffc00000-00000000ffffffff (prio 0, romd): system.flash0

FlatView #2
 AS "I/O", root: io
  0000000000001000-0000000000002fff (prio 0, ram): in another address space
"""


def test_mtree() -> None:
    assert parse_mtree(MTREE.replace("\n", "\r\n")) == (
        Slot(0, 0xC0, "ram"),
        Slot(0xC0, 0xE0, "rom"),
        Slot(0xF1, 0x100, "ram"),
        Slot(0xFFC00, 0x100000, "rom"),
    )
    assert parse_mtree("") == ()


REAL = "CS =f000 ffff0000 0000ffff 00009b00\r\nEFER=0000000000000000\r\n"
LONG = "CS =0038 0000000000000000 ffffffff 00af9a00 DPL=0 CS64 [-R-]\r\nEFER=0000000000000d00\r\n"
COMPAT = LONG.replace("00af", "00cf")


def test_the_reset_vector() -> None:
    """Its base is not the selector times 16."""
    segment = parse_cs(REAL)
    assert segment == CodeSegment(0xFFFF0000, long_mode=False, cpl=0)
    assert segment.linear(0xFFF0) == 0xFFFFFFF0
    assert segment.linear(0x1FFF0) == 0xFFF0


def test_long_mode_has_no_base() -> None:
    segment = parse_cs(LONG)
    assert segment.long_mode
    assert segment.linear(0xFFFFFFFF81000000) == 0xFFFFFFFF81000000
    assert not parse_cs(COMPAT).long_mode


def test_no_cs() -> None:
    with pytest.raises(ProtocolError):
        parse_cs("EAX=00000000\n")


DMI = b"[    0.0] DMI: QEMU Standard PC (i440FX + PIIX, 1996), BIOS %s 04/01/2014\r\n"


BANNER = b"SeaBIOS (version 1.16.2-debian-1.16.2-1)\n"
EFI = b"[    0.0] efi: EFI v2.70 by EDK II\r\n"


@pytest.mark.parametrize(
    ("debugcon", "console", "hint", "name"),
    [
        (BANNER, b"", "x", ("SeaBIOS", "1.16.2-debian-1.16.2-1")),
        (b"", DMI % b"1.16.2", "seabios", ("SeaBIOS", "1.16.2")),
        (b"", DMI % b"0.0.0", "ovmf", ("OVMF", "unknown")),
        (b"", EFI + DMI % b"2024.02-2", "a.fd", ("OVMF", "2024.02-2")),
        (b"", b"", "/x/OVMF_CODE.fd", ("OVMF", "unknown")),
        (b"", b"", "a.bin", ("unknown", "unknown")),
    ],
)
def test_firmware_name(debugcon: bytes, console: bytes, hint: str, name: tuple[str, str]) -> None:
    assert firmware_name(debugcon, console, hint) == name


def test_kernel_name() -> None:
    line = b"\x1b[0m[    0.000000] Linux version 6.1.0-56-amd64 (x@y) #1 SMP\r\n"
    assert kernel_name(line) == "Linux 6.1.0-56-amd64"
    assert kernel_name(b"") == "none"


def test_last_words() -> None:
    assert last_words(b"one\r\n\x1b[2Jtwo \xff\r\n\r\n") == "two"
    assert last_words(b"") == ""
