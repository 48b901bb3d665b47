"""What the header of a recording says about the guest: firmware, kernel and memslots.

The guest prints most of it on its consoles. Debian's OVMF does not print its version, so the
version comes from the package that owns the image. The memslots come from QEMU's monitor.
"""

import hashlib
import re
import subprocess
from pathlib import Path

from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.guest.trace import Slot

_SEABIOS = re.compile(r"SeaBIOS \(version ([^)\s]+)\)")
_DMI = re.compile(r"DMI: .*, BIOS (\S+) ")
_NO_VERSION = ("0.0.0", "unknown")
_LINUX = re.compile(r"Linux version (\S+)")
_EDK2 = re.compile(
    r"EDK II|\bOVMF\b|efi: EFI v[\d.]+ by (?:EDK II|Debian|Ubuntu|edk2)", re.IGNORECASE
)
_ESCAPES = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]|[^\x20-\x7e\n]")


def plain(raw: bytes | bytearray) -> str:
    """Return console output as text without escape sequences and carriage returns."""
    return _ESCAPES.sub("", raw.decode("utf-8", "replace"))


def firmware_name(debugcon: bytes, console: bytes, hint: str) -> tuple[str, str]:
    """Return family and version of the firmware; ``hint`` is the user's choice of it.

    What cannot be seen is ``unknown``.
    """
    if match := _SEABIOS.search(plain(debugcon)):
        return "SeaBIOS", match[1]
    text = plain(console)
    dmi = _DMI.search(text)
    version = dmi[1] if dmi and dmi[1] not in _NO_VERSION else "unknown"
    if _EDK2.search(text) or _EDK2.search(plain(debugcon)) or "ovmf" in hint.lower():
        return "OVMF", version
    return "SeaBIOS" if "seabios" in hint.lower() else "unknown", version


def kernel_name(console: bytes | bytearray) -> str:
    """Return ``Linux VERSION`` from the console, or ``none``."""
    match = _LINUX.search(plain(console))
    return f"Linux {match[1]}" if match else "none"


def last_words(console: bytes | bytearray) -> str:
    """Return the last line of the console that is not empty, shortened; or an empty string."""
    lines = [line.strip() for line in plain(console[-4096:]).splitlines()]
    return next((line[:100] for line in reversed(lines) if line), "")


_DIGITS = 12


def image_version(image: str | None) -> str:
    """Return the version of the Debian package that owns the image, else its hash.

    ``unknown`` if there is no image, or it cannot be read.
    """
    if image is None:
        return "unknown"
    return _package_version(str(Path(image).resolve())) or _hash(Path(image))


def _package_version(path: str) -> str:
    owner = _output(["dpkg-query", "-S", path]).partition(":")[0]
    return _output(["dpkg-query", "-W", "-f", "${Version}", owner]) if owner else ""


def _output(command: list[str]) -> str:
    """Return what a command prints, or nothing if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _hash(path: Path) -> str:
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]}"
    except OSError:
        return "unknown"


_RANGE = re.compile(r"^\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom|romd)\): (.+)$")


def parse_mtree(text: str) -> tuple[Slot, ...]:
    """Return the memslots of the address space ``memory``, in gfns, by ascending address.

    Neighbours of the same kind are kept apart, as KVM does. Ranges smaller than a page vanish.
    """
    slots = []
    inside = False
    for line in text.splitlines():
        if line.startswith("FlatView #"):
            inside = False
        elif re.match(r'\s+AS "memory",', line):
            inside = True
        elif inside and (match := _RANGE.match(line)):
            start = (int(match[1], 16) + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT
            end = (int(match[2], 16) + 1) >> PAGE_SHIFT
            if start < end:
                slots.append(Slot(start, end, "ram" if match[3] == "ram" else "rom"))
    return tuple(sorted(slots))
