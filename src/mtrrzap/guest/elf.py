"""Is a file a program that a guest without any library can run?

The layout is the System V ABI's, "Object Files" and "Program Loading and Dynamic Linking".
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_IDENT = b"\x7fELF\x02\x01\x01"
"""The magic number, 64 bits, little endian, version 1."""
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_EXECUTABLE, _SHARED = 2, 3
_X86_64 = 62
_LOAD, _DYNAMIC_SEGMENT, _INTERPRETER = 1, 2, 3
_CAN_RUN = 1
_NEEDED, _FLAGS_1 = 1, 0x6FFFFFFB
_PIE = 0x08000000


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    in_file: int
    in_memory: int
    align: int


def is_static_elf(program: bytes) -> bool:
    """Whether this is an x86-64 ELF program, whole, that needs no dynamic linker or library."""
    if len(program) < _HEADER.size or not program.startswith(_IDENT):
        return False
    kind, machine, _, entry, table, _, _, _, size, count, *_ = _HEADER.unpack_from(program)
    if machine != _X86_64 or size != _SEGMENT.size:
        return False
    if table + size * count > len(program):
        return False
    segments = [_Segment(*_SEGMENT.unpack_from(program, table + size * n)) for n in range(count)]
    if any(part.offset + part.in_file > len(program) for part in segments):
        return False
    if not _starts_inside(entry, segments):
        return False
    if any(part.kind == _INTERPRETER for part in segments):
        return False
    dynamic = list(_dynamic(program, segments))
    # A library has no interpreter either; only a position-independent program says that it is one.
    runs = kind == _EXECUTABLE or (
        kind == _SHARED and any(tag == _FLAGS_1 and value & _PIE for tag, value in dynamic)
    )
    return runs and all(tag != _NEEDED for tag, _ in dynamic)


def _starts_inside(entry: int, segments: Sequence[_Segment]) -> bool:
    """Whether the first instruction is in memory that is loaded from the file and can run."""
    return any(
        part.kind == _LOAD and part.flags & _CAN_RUN and 0 <= entry - part.address < part.in_file
        for part in segments
    )


def _dynamic(program: bytes, segments: Sequence[_Segment]) -> Iterator[tuple[int, int]]:
    """Yield the entries of the dynamic section, if there is one."""
    for part in segments:
        if part.kind == _DYNAMIC_SEGMENT:
            end = part.offset + part.in_file
            for at in range(part.offset, end - _DYNAMIC.size + 1, _DYNAMIC.size):
                tag, value = _DYNAMIC.unpack_from(program, at)
                if not tag:
                    break
                yield tag, value
