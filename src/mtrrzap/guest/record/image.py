"""Name the version of a firmware image that does not tell it itself, as Debian's OVMF does not."""

import hashlib
import subprocess
from pathlib import Path

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
