"""A small ELF file."""

import struct

LOAD, DYNAMIC, INTERPRETER = 1, 2, 3


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
