"""Scanning QEMU's log: a real one, cut anywhere, and lines that only look right."""

import pytest

from helpers.paths import DATA
from mtrrzap.guest.record.asmlog import LogScanner, other_pages

LOG = (DATA / "record/in_asm_with_a_reset_between_blocks.log").read_bytes()
ADDRESSES = {0xFEC3D, 0x1EFED98F, 0xE9AA7}


def scan(*parts: bytes) -> LogScanner:
    scanner = LogScanner()
    for part in parts:
        scanner.feed(part)
    return scanner


def test_a_real_log() -> None:
    scanner = scan(LOG)
    assert scanner.addresses == ADDRESSES
    assert scanner.take_addresses() == [0xFEC3D, 0x1EFED98F, 0xE9AA7]
    assert scanner.take_addresses() == []
    assert scanner.take_resets() == [1]
    assert scanner.take_resets() == []
    assert scanner.size == len(LOG)


def test_any_cut_finds_the_same() -> None:
    """A pipe may deliver the log in any pieces."""
    for cut in range(len(LOG)):
        scanner = scan(LOG[:cut], LOG[cut:])
        assert scanner.addresses == ADDRESSES
        assert scanner.resets == [1]


def test_the_pages_of_blocks() -> None:
    assert scan(LOG).pages == {0xFE, 0x1EFED, 0xE9}


@pytest.mark.parametrize(
    "line",
    [
        b"0x00001000:  b8 0f 30 00 00           movl     $0x300f, %eax\n",
        b"0x00001000:  0f 22 d8                 movq     %rax, %cr3\n",
        b"RAX=000000000f 30\n",
        b"0x00001000:  0f 30                    wrmsr",
    ],
)
def test_no_false_finds(line: bytes) -> None:
    assert scan(line).addresses == set()


def test_a_second_translation_is_not_new() -> None:
    line = b"0xffffffff8107e744:  0f 30                    wrmsr    \n"
    scanner = scan(line)
    assert scanner.take_addresses() == [0xFFFFFFFF8107E744]
    scanner.feed(line)
    assert scanner.take_addresses() == []


TOP = (1 << 64) - 1


def test_other_pages() -> None:
    assert other_pages(set(), 10) == [(0, TOP)]
    assert other_pages({0}, 10) == [(0x1000, TOP)]
    assert other_pages({1, 2, 5}, 10) == [(0, 0xFFF), (0x3000, 0x4FFF), (0x6000, TOP)]
    assert other_pages({TOP >> 12}, 10) == [(0, TOP - 0x1000)]


def test_other_pages_within_a_limit_keeps_the_largest() -> None:
    assert other_pages({0, 2, 10}, 2) == [(0x3000, 0x9FFF), (0xB000, TOP)]
