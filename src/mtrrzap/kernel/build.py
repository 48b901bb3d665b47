"""KVM's modules, built out of tree against a kernel's headers: with EPT types, and a protocol."""

import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mtrrzap.emit.native import ran
from mtrrzap.emit.patch import FILES, edited
from mtrrzap.emit.translate import translate
from mtrrzap.errors import UserError
from mtrrzap.guest.files import readable, replacing
from mtrrzap.kernel import ept_types
from mtrrzap.kernel.image import cache, fetched
from mtrrzap.kvm.policy import Policy
from mtrrzap.protocol import PROTOCOLS, Protocol

_WANTED = ("arch/x86/kvm/", "virt/kvm/", "include/trace/events/kvm.h", FILES[0])
"""What is taken out of a source tree; the rest comes from the headers."""
MODULES = ("kvm.ko", "kvm-amd.ko")
RULE = "policy.toml"
"""What the modules do, for a comparison; on NPT too, as the tree's own condition says."""
_CLEARS = re.compile(
    r"^(\t+)((?:atomic_set_release\(|smp_store_release\(&z->|WRITE_ONCE\(z->\w+, false\)).*;)$",
    re.MULTILINE,
)
"""Where a flag is cleared, or a batch is said to be done."""


def tree(source: Path | None, release: str) -> Path:
    """Return a folder with the part of a kernel's source that modules are built from.

    ``source`` is a tree, or an archive of one (``linux-source-6.1.tar.xz``); without it Debian's
    package for the release is fetched. Raises ``UserError``.
    """
    if source is not None and source.is_dir():
        return source
    if source is None:
        package = "linux-source-" + ".".join(release.split(".")[:2])
        folder = fetched(package)
        source = next((folder / "usr/src").glob("linux-source-*.tar.*"), None)
        if source is None:
            raise UserError("no archive of the source in this package", place=package)
    readable(source, "source", "give a kernel's source tree, or an archive of one")
    place = cache() / f"tree-{source.name}-{source.stat().st_size}"
    if not place.is_dir():
        part = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            _unpack(source, part)
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place


def _unpack(source: Path, folder: Path) -> None:
    try:
        with tarfile.open(source) as archive:
            archive.extractall(folder, _members(archive), filter="data")
    except (OSError, EOFError, tarfile.TarError) as error:
        why = "it is no archive" if isinstance(error, tarfile.ReadError) else error
        raise UserError(
            f"cannot be unpacked: {why}", place=str(source), mend="give a kernel's source tree"
        ) from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        _, _, path = member.name.partition("/")
        if path.startswith(_WANTED) and (member.isfile() or member.isdir()):
            member.name = path
            yield member


def headers(release: str) -> Path:
    """Return the folder that modules for a kernel are built against. Raises ``UserError``."""
    places = [Path("/lib/modules", release, "build"), Path(f"/usr/src/linux-headers-{release}")]
    for place in places:
        if (place / "Makefile").is_file():
            return place
    raise UserError(
        f"no headers of {release}",
        place=str(places[1]),
        mend=f"install them (Debian: apt install linux-headers-{release} gcc make)",
    )


class Patched(NamedTuple):
    """What is patched into the tree's KVM."""

    protocol: Protocol
    policy: Policy
    """Whose rule of when to ask."""
    window_us: int = 0
    """Delay each store that clears a flag, for tests of protocols that lose zaps."""


def build(patched: Patched | None, source: Path, release: str, output: Path) -> None:
    """Build ``kvm.ko`` and ``kvm-amd.ko`` into a folder.

    KVM then also says the EPT type of each leaf (``ept_types``).

    Raises:
        UserError: if the tree does not match, if there are no headers, if it does not compile, or
            if the folder cannot be written.
    """
    against = headers(release)
    with TemporaryDirectory(prefix="mtrrzap-build-") as name:
        made = _made(patched, source, against, Path(name))
        if patched is not None:
            made.append((Path(RULE), _rule(patched).encode()))
        try:
            output.mkdir(parents=True, exist_ok=True)
            for path, data in made:
                with replacing(output / path) as stream:
                    stream.write(data)
            if patched is None:  # an earlier build's rule is not that of these modules
                (output / RULE).unlink(missing_ok=True)
        except OSError as error:
            problem = f"cannot be written: {error.strerror}"
            raise UserError(problem, place=str(output), mend="choose another place") from error


def _rule(patched: Patched) -> str:
    protocol = patched.protocol
    own = PROTOCOLS.get(protocol.name) is not protocol
    spec = f"{Path(protocol.source).resolve()}:{protocol.name}" if own else protocol.name
    return f'like = "{patched.policy.name}"\nprotocol = "{spec}"\nneeds = "tdp"\n'


def _made(
    patched: Patched | None, source: Path, against: Path, folder: Path
) -> list[tuple[Path, bytes]]:
    """Build in a folder, and return the modules without what only a debugger reads."""
    for wanted in _WANTED:
        _copy(source / wanted, folder / wanted)
    for path, text in _changed(patched, source).items():
        (folder / path).write_text(text, encoding="utf-8")
    makefile = folder / "arch/x86/kvm/Makefile"
    makefile.write_text(_out_of_tree(_read(makefile), folder), encoding="utf-8")
    _make(against, folder)
    modules = []
    for name in MODULES:
        module = folder / "arch/x86/kvm" / name
        done = ran(["strip", "-g", module])
        if done.returncode:
            raise UserError(f"strip fails: {_last(done.stderr)}", place=name)
        modules.append((Path(name), module.read_bytes()))
    return modules


def _changed(patched: Patched | None, source: Path) -> dict[str, str]:
    """Return the files of the tree that change."""
    texts = {path: _read(source / path) for path in (*ept_types.FILES, *FILES)}
    if patched is None:
        return ept_types.traced(texts)
    functions = [each.name for each in translate(patched.protocol).functions]
    changed = edited(patched.protocol, patched.policy, {path: texts[path] for path in FILES})
    changed |= ept_types.traced(texts | changed)
    return {path: _probed(text, functions, patched.window_us) for path, text in changed.items()}


def _copy(source: Path, to: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, to, dirs_exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)
    except OSError as error:
        raise UserError(
            f"cannot be copied: {error.strerror}",
            place=str(source),
            mend="give the top of a kernel source tree",
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UserError(
            "cannot be read", place=str(path), mend="give the top of a kernel source tree"
        ) from error


def _probed(text: str, functions: Sequence[str], window_us: int) -> str:
    """Keep the entry a function of its own, which a probe finds; widen the window.

    With a window the other functions stay, too: the trace then shows what they do in it.
    """
    for name in functions if window_us else functions[-1:]:
        text = text.replace(f"static void {name}(", f"static noinline __noclone void {name}(")
    if window_us and _CLEARS.search(text):
        text = _CLEARS.sub(rf"\1{{ udelay({window_us}); \2 }}", text)
        text = text.replace('#include "mmu.h"\n', '#include "mmu.h"\n#include <linux/delay.h>\n', 1)
    return text


def _out_of_tree(makefile: str, folder: Path) -> str:
    """Return KVM's Makefile with the paths of the copy in place of the kernel tree's."""
    kvm = f"{folder}/arch/x86/kvm"
    makefile = makefile.replace("$(srctree)/virt/kvm", f"{folder}/virt/kvm")
    includes = f"-I {kvm} -I {folder}/include -I {folder}/include/trace"
    return makefile.replace("-I $(srctree)/arch/x86/kvm", includes)


def _make(against: Path, folder: Path) -> None:
    for program in ("make", "gcc", "strip"):
        if shutil.which(program) is None:
            raise UserError(f"no program {program}", mend="Debian: apt install gcc make binutils")
    command = [
        *("make", "-s", "-C", str(against), f"M={folder}/arch/x86/kvm"),
        *("CONFIG_KVM_INTEL=n", "CONFIG_KVM_WERROR=y", f"-j{os.cpu_count() or 1}"),
        # Before the headers' own kvm_host.h, whose struct kvm_arch lacks the new state.
        f"NOSTDINC_FLAGS=-nostdinc -I{folder}/arch/x86/include",
        "modules",
    ]
    done = ran(command)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise UserError(
            f"KVM does not compile: {lines[0] if lines else _last(done.stderr)}",
            place=str(folder),
            mend="see whether the tree is of the headers' version",
        )


def _last(printed: str) -> str:
    return (printed.strip().splitlines() or ["without a message"])[-1]
