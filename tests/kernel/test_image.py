"""The emulated host's kernel: which modules, in which order, and what is said if one lacks."""

import lzma
import os
from pathlib import Path

import pytest

from mtrrzap.errors import UserError
from mtrrzap.kernel import image


def _module(folder: Path, name: str, depends: str, suffix: str = "") -> None:
    content = f"\x7fELF\0license=GPL\0depends={depends}\0name={name}\0".encode()
    path = folder / f"{name}.ko{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(content) if suffix == ".xz" else content)


@pytest.fixture
def kernel(tmp_path: Path) -> image.Kernel:
    modules = tmp_path / "lib" / "modules" / "6.1.0-9-amd64"
    _module(modules / "kernel" / "a", "irqbypass", "")
    _module(modules / "kernel" / "b", "kvm", "irqbypass")
    _module(modules / "kernel" / "b", "kvm-amd", "kvm,ccp", ".xz")
    (modules / "modules.builtin").write_text("kernel/drivers/crypto/ccp.ko\n")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "vmlinuz-6.1.0-9-amd64").write_bytes(b"x")
    return image.at(tmp_path / "boot" / "vmlinuz-6.1.0-9-amd64")


def _names(kernel: image.Kernel, own: Path | None = None) -> list[str]:
    return [name for name, _ in image.modules(kernel, own, ["kvm_amd"])]


def test_dependencies_come_first(kernel: image.Kernel) -> None:
    assert (kernel.release, kernel.version) == ("6.1.0-9-amd64", (6, 1))
    assert _names(kernel) == ["irqbypass", "kvm", "kvm_amd"]


def test_modules_of_ones_own(kernel: image.Kernel, tmp_path: Path) -> None:
    _module(tmp_path / "own" / "deep", "kvm", "irqbypass,mine")
    _module(tmp_path / "own", "mine", "")
    found = dict(image.modules(kernel, tmp_path / "own", ["kvm_amd"]))
    assert list(found) == ["irqbypass", "mine", "kvm", "kvm_amd"]
    assert b"mine" in found["kvm"]


def test_what_is_missing_is_said(kernel: image.Kernel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no module vfio_pci"):
        list(image.modules(kernel, None, ["vfio_pci"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.ko file"):
        list(image.modules(kernel, tmp_path / "empty"))
    _module(tmp_path / "zst", "kvm", "", ".zst")
    with pytest.raises(UserError, match="unknown compression"):
        list(image.modules(kernel, tmp_path / "zst", ["kvm"]))
    with pytest.raises(UserError, match="no folder with a kernel's modules"):
        image.at(kernel.image, tmp_path)
    with pytest.raises(UserError, match="no kernel image"):
        image.at(tmp_path / "vmlinuz-none")


def test_a_package_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: image.Kernel
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    scripts = {
        "apt-cache": "echo linux-image-amd64; echo '  Depends: linux-image-6.1.0-9-amd64'",
        "apt-get": 'touch "$3.deb"',
        "dpkg-deb": f'cp -r {tmp_path}/boot {tmp_path}/lib "$3"',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> {log}\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = image.debian()
    assert first.release == kernel.release
    assert first.image.is_relative_to(tmp_path / "cache")
    assert image.debian() == first
    assert log.read_text().split() == ["apt-cache", "apt-get", "dpkg-deb", "apt-cache"]


def test_no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no program apt-get"):
        image.debian()
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        (tmp_path / name).write_bytes(b"no program")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(UserError, match="apt-cache: cannot be run: Exec format error"):
        image.debian()
