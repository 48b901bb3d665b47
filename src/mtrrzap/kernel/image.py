"""The emulated host's kernel: its image and modules, from a Debian package or a folder."""

import lzma
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mtrrzap.emit.native import ran
from mtrrzap.errors import UserError

META_PACKAGE = "linux-image-amd64"
WANTED = ("kvm_amd", "vfio_pci", "vfio_iommu_type1", "virtio_pci", "9pnet_virtio", "9p")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_XZ = ".xz"


class Kernel(NamedTuple):
    """A kernel image, and the folder with its modules."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        """As ``uname -r`` says it: the name of the modules' folder."""
        return self.modules.name

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number. Raises ``UserError`` if the release has none."""
        match = re.match(r"(\d+)\.(\d+)", self.release)
        if match is None:
            raise UserError("its name has no version", place=str(self.modules))
        return int(match[1]), int(match[2])


def at(image: Path, modules: Path | None = None) -> Kernel:
    """Return a kernel; its modules are beside it as in a package or a root, unless they are named.

    Raises ``UserError``.
    """
    if not os.access(image, os.R_OK):
        raise UserError("no kernel image that you may read", place=str(image))
    if modules is None:
        release = image.name.partition("-")[2]
        modules = image.resolve().parent.parent / "lib" / "modules" / release
    if not (modules / "kernel").is_dir():
        raise UserError(
            "no folder with a kernel's modules",
            place=str(modules),
            mend="name the one that has modules.builtin and kernel/ in it",
        )
    return Kernel(image, modules)


def cache() -> Path:
    """Return where packages are unpacked: ``$XDG_CACHE_HOME/mtrrzap/kernel``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mtrrzap" / "kernel"


def debian(package: str | None = None) -> Kernel:
    """Return Debian's kernel, fetched and unpacked the first time; nothing is installed.

    ``package``: ``linux-image-6.1.0-56-amd64``; None: the one that ``linux-image-amd64`` stands
    for. Raises ``UserError``.
    """
    _need_apt()
    name = package or _newest()
    folder = fetched(name)
    images = sorted((folder / "boot").glob("vmlinuz-*"))
    if not images:
        raise UserError("no kernel image in this package", place=name)
    return at(images[0])


def _need_apt() -> None:
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise UserError(
                f"no program {program} to fetch a Debian package with",
                mend="name a kernel, its modules and its source yourself",
            )


def fetched(package: str) -> Path:
    """Return the folder of an unpacked Debian package, fetched the first time.

    Raises ``UserError``.
    """
    folder = cache() / package
    if not folder.is_dir():
        _fetch(package, folder)
    return folder


def _newest() -> str:
    lines = _output("apt-cache", "depends", META_PACKAGE).splitlines()
    for line in lines:
        if match := re.search(r"Depends: (linux-image-\S+)", line):
            return match[1]
    raise UserError(
        "apt knows no such package", place=META_PACKAGE, mend="run apt-get update, or name a kernel"
    )


def _fetch(name: str, folder: Path) -> None:
    _need_apt()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{name}.{os.getpid()}")
    try:
        part.mkdir()
        _output("apt-get", "download", "-qq", name, cwd=part)
        (package,) = part.glob("*.deb")
        _output("dpkg-deb", "-x", str(package), str(part))
        package.unlink()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _output(*command: str, cwd: Path | None = None) -> str:
    done = ran(command, cwd=cwd)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(why, place=" ".join(command), mend="run apt-get update, or name a kernel")
    return done.stdout


def modules(
    kernel: Kernel, own: Path | None = None, wanted: Iterable[str] = WANTED
) -> Iterator[tuple[str, bytes]]:
    """Yield each module and what it depends on, in the order of loading, as (name, content).

    ``own``: a folder that is searched, for each name, before the kernel's. Raises ``UserError``.
    """
    files = _files(kernel.modules)
    if own is not None:
        mine = _files(own)
        if not mine:
            raise UserError("no .ko file in this folder", place=str(own))
        files |= mine
    builtin = {_key(Path(line)) for line in _lines(kernel.modules / "modules.builtin")}
    seen: set[str] = set()

    def load(name: str) -> Iterator[tuple[str, bytes]]:
        if name in seen or name in builtin:
            return
        seen.add(name)
        if name not in files:
            raise UserError(f"no module {name}", place=str(kernel.modules))
        content = _content(files[name])
        match = _DEPENDS.search(content)
        for other in match[1].decode().split(",") if match and match[1] else ():
            yield from load(other.replace("-", "_"))
        yield name, content

    for name in wanted:
        yield from load(name)


def _files(folder: Path) -> dict[str, Path]:
    return {_key(path): path for path in folder.rglob("*.ko*") if path.is_file()}


def _key(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == _XZ:
        return lzma.decompress(content)
    if path.suffix != ".ko":
        raise UserError("a module in an unknown compression", place=str(path), mend="unpack it")
    return content
