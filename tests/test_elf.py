"""Which programs run in a guest that has no library."""

import struct

import pytest

from mtrrzap.guest.elf import is_static_elf

LOAD, DYNAMIC, INTERPRETER = 1, 2, 3
NEEDED, FLAGS_1 = 1, 0x6FFFFFFB
PIE = 0x08000000


def elf(
    *kinds: int,
    kind: int = 2,
    machine: int = 62,
    ident: bytes = b"\x7fELF\x02\x01\x01",
    entry: int = 0x400000,
    flags: int = 5,
    tags: tuple[tuple[int, int], ...] = (),
) -> bytes:
    """A program of one loaded segment, the whole file, and empty segments of these kinds."""
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in (*tags, (0, 0)))
    count = 1 + len(kinds)
    start = 64 + 56 * count
    size = start + len(dynamic)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, kind, machine, 1, entry, 64, 0, 0, 64, 56, count, 64, 0, 0
    )
    segments = struct.pack("<IIQQQQQQ", LOAD, flags, 0, 0x400000, 0, size, size, 0x1000)
    for other in kinds:
        segments += struct.pack("<IIQQQQQQ", other, 4, start, 0, 0, len(dynamic), 0, 8)
    return header + segments + dynamic


def test_a_static_program() -> None:
    assert is_static_elf(elf())
    assert is_static_elf(elf(DYNAMIC, tags=((FLAGS_1, PIE),), kind=3))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF\x02",
        b"\x7fELF\x02" + bytes(200),
        elf()[:-1],
        elf()[:100],
        elf(ident=b"\x7fELF\x01\x01\x01"),
        elf(ident=b"\x7fELF\x02\x02\x01"),
        elf(machine=183),
        elf(kind=1),
        elf(kind=3),
        elf(kind=4),
        elf(entry=0),
        elf(flags=4),
        elf(INTERPRETER),
        elf(DYNAMIC, tags=((FLAGS_1, PIE), (NEEDED, 1)), kind=3),
        elf(DYNAMIC, tags=((NEEDED, 1),)),
    ],
)
def test_what_is_none(program: bytes) -> None:
    assert not is_static_elf(program)


def test_every_cut_is_noticed() -> None:
    whole = elf(DYNAMIC, tags=((FLAGS_1, PIE),), kind=3)
    assert not [size for size in range(len(whole)) if is_static_elf(whole[:size])]
