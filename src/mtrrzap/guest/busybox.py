"""An initrd for recordings: it prints the guest's /proc/mtrr and powers off.

It needs a static busybox and no root. The format is the kernel's ``newc`` cpio
(Documentation/driver-api/early-userspace/buffer-format.rst), compressed with gzip. The same busybox
always gives the same bytes.
"""

import gzip
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

BEGIN = "mtrrzap: begin /proc/mtrr"
END = "mtrrzap: end /proc/mtrr"
"""The lines around /proc/mtrr on the guest's console."""

_INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo '{BEGIN}'
/bin/busybox cat /proc/mtrr
echo '{END}'
/bin/busybox poweroff -f
"""


class Member(NamedTuple):
    """A file, directory or device of an archive; ``mode`` as in ``struct stat``."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def build(busybox: bytes) -> bytes:
    """Return the initrd with this busybox in it."""
    return gzip.compress(cpio(_members(busybox)), mtime=0)


def cpio(members: Iterable[Member]) -> bytes:
    """Return an archive that Linux unpacks as its initramfs."""
    out = bytearray()
    for number, member in enumerate(members, start=1):
        out += _header(number, member) + _padded(member.data)
    return bytes(out + _header(0, Member("TRAILER!!!", 0)))


def _members(busybox: bytes) -> Iterator[Member]:
    for directory in ("bin", "dev", "proc"):
        yield Member(directory, stat.S_IFDIR | 0o755)
    yield Member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield Member("bin/busybox", stat.S_IFREG | 0o755, busybox)
    yield Member("init", stat.S_IFREG | 0o755, _INIT.encode())


def _header(number: int, member: Member) -> bytes:
    name = member.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
    # namesize, check
    fields = (number, member.mode, 0, 0, links, 0, len(member.data), 0, 0, *member.device)
    words = "".join(f"{field:08X}" for field in (*fields, len(name), 0))
    return _padded(b"070701" + words.encode() + name)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


# System V ABI, "Object Files" and "Program Loading and Dynamic Linking".
_IDENT = b"\x7fELF\x02\x01\x01"
"""The magic number, 64 bits, little endian, version 1."""
_HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQ8xQ16x")
"""Kind, flags, offset in the file, address, bytes in the file."""
_TAG = struct.Struct("<qQ")
_EXECUTABLE, _SHARED, _X86_64 = 2, 3, 62
_LOAD, _DYNAMIC, _INTERPRETER, _CAN_RUN = 1, 2, 3, 1
_NEEDED, _FLAGS_1, _PIE = 1, 0x6FFFFFFB, 0x08000000


def is_static_elf(program: bytes) -> bool:
    """Tell if this is a complete x86-64 ELF program that needs no dynamic linker or library."""
    if len(program) < _HEADER.size or not program.startswith(_IDENT):
        return False
    kind, machine, _, entry, table, _, _, _, size, count, *_ = _HEADER.unpack_from(program)
    if machine != _X86_64 or size != _SEGMENT.size or table + size * count > len(program):
        return False
    starts = needs = pie = False
    for segment, flags, offset, address, length in _SEGMENT.iter_unpack(
        program[table : table + size * count]
    ):
        if offset + length > len(program) or segment == _INTERPRETER:
            return False
        starts |= segment == _LOAD and flags & _CAN_RUN and 0 <= entry - address < length
        if segment == _DYNAMIC:
            tags = dict(_tags(program[offset : offset + length]))
            needs |= _NEEDED in tags
            pie |= bool(tags.get(_FLAGS_1, 0) & _PIE)
    # A shared library has no interpreter either: only a program sets the flag PIE.
    return starts and not needs and (kind == _EXECUTABLE or (kind == _SHARED and pie))


def _tags(dynamic: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in _TAG.iter_unpack(dynamic[: len(dynamic) // _TAG.size * _TAG.size]):
        if not tag:
            return
        yield tag, value
