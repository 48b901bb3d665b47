"""What the guest says about itself on its consoles: firmware, kernel, and its last words."""

import re

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
