"""A tiny initrd for recordings: print /proc/mtrr, power off. Needs a static busybox, no root.

The format is the kernel's ``newc`` cpio (Documentation/driver-api/early-userspace/buffer-format),
compressed with gzip. The same busybox always gives the same bytes.
"""

import gzip
import stat
from collections.abc import Iterator
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


class _Entry(NamedTuple):
    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def _header(number: int, entry: _Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
    # namesize, check
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device)
    words = "".join(f"{field:08X}" for field in (*fields, len(name), 0))
    return _padded(b"070701" + words.encode() + name)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _cpio(entries: Iterator[_Entry]) -> bytes:
    out = bytearray()
    for number, entry in enumerate(entries, start=1):
        out += _header(number, entry) + _padded(entry.data)
    return bytes(out + _header(0, _Entry("TRAILER!!!", 0)))


def _entries(busybox: bytes) -> Iterator[_Entry]:
    for directory in ("bin", "dev", "proc"):
        yield _Entry(directory, stat.S_IFDIR | 0o755)
    yield _Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield _Entry("bin/busybox", stat.S_IFREG | 0o755, busybox)
    yield _Entry("init", stat.S_IFREG | 0o755, _INIT.encode())


def build(busybox: bytes) -> bytes:
    """Return the initrd with this busybox in it."""
    return gzip.compress(_cpio(_entries(busybox)), mtime=0)


def proc_mtrr(console: str) -> str | None:
    """Return what the guest printed between the two marker lines, or None if it did not."""
    _, begin, rest = console.replace("\r\n", "\n").partition(BEGIN + "\n")
    body, end, _ = rest.partition(END)
    return body if begin and end else None
