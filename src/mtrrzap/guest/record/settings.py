"""The settings of a recording, checked before anything is started or written; its progress."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtrrzap.errors import UserError
from mtrrzap.gfn import parse_size
from mtrrzap.guest.files import distinct, partial, readable, same_file, writable

OVMF_IMAGES = ("/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd", "/usr/share/qemu/OVMF.fd")
"""Where distributions put the image with code and variables in one file."""

DEFAULT_CPU = "qemu64,+fsgsbase"
"""QEMU's own default, plus what saves stops; a -cpu after ``--`` replaces it."""

_OVMF = "ovmf"
_CONSOLE = "console=ttyS0"
_NOKASLR = "nokaslr"


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """A recording's settings, as the user gave them."""

    output: Path
    firmware: str = "seabios"
    """``seabios``, ``ovmf``, or the path of an image."""
    vcpus: int = 1
    memory: str = "1G"
    """A number with M, G or T."""
    kernel: Path | None = None
    initrd: Path | None = None
    append: str | None = None
    timeout: float = 300.0
    """Seconds that each pass may take."""
    qemu: str = "qemu-system-x86_64"
    console: Path | None = None
    """Where to save what the guest printed on its serial port during the last pass."""
    host_writes: bool = True
    force: bool = False
    extra: tuple[str, ...] = ()
    """Further arguments for QEMU."""
    command: str = "mtrrzap record"
    """The command line, for the header."""


@dataclass
class Progress:
    """Counters that the recorder sets as it goes; whoever displays them reads them."""

    phase: str = "starting QEMU"
    events: int = 0
    stops: int = 0
    sites: int = 0
    """Instructions found that write an MTRR or CR0."""
    seen: set[int] = field(default_factory=set)
    """vCPUs with an event."""
    last_line: str = ""
    """The last that the guest printed."""


def memory_bytes(text: str) -> int:
    """Return a memory size in bytes. Raises ``UserError`` unless a guest can have it."""
    size = parse_size(text)
    if not 0 < size < 1 << 52:
        raise UserError(f"invalid size {text!r}", place="memory", mend="give 1M to 4095T")
    return size


def check(options: RecordOptions) -> None:
    """Raise ``UserError`` for the first setting that cannot work. Leaves no file behind."""
    memory_bytes(options.memory)
    if not 1 <= options.vcpus <= 255:
        raise UserError(
            f"invalid number {options.vcpus}", place="vcpus", mend="give 1 to 255 (TCG)"
        )
    if not 0 < options.timeout < float("inf"):
        raise UserError("invalid time limit", place="timeout", mend="give seconds, above 0")
    if options.kernel is not None:
        readable(options.kernel, "kernel", "give a bzImage that you may read")
    elif options.initrd is not None or options.append is not None:
        what = "initrd" if options.initrd is not None else "append"
        raise UserError("needs a kernel", place=what, mend="name a kernel too")
    if options.initrd is not None:
        readable(options.initrd, "initrd", "make one with 'mtrrzap initrd -o initrd.gz'")
    if options.firmware != _OVMF:
        firmware_image(options.firmware)
    check_extra(options.extra)
    _check_outputs(options)
    # What the user typed is judged before what the machine lacks.
    firmware_image(options.firmware)
    if shutil.which(options.qemu) is None:
        raise UserError(
            f"no program {options.qemu}",
            place="qemu",
            mend="install it (Debian: apt install qemu-system-x86) or name its path",
        )


def _check_outputs(options: RecordOptions) -> None:
    outputs = {"output": options.output}
    if options.console is not None:
        outputs["console"] = options.console
    distinct(outputs, _inputs(options) | {"the unfinished output": partial(options.output)})
    for option, path in outputs.items():
        for name in files_in(options.extra):
            if os.path.lexists(name) and same_file(path, name):
                raise UserError(
                    f"{path} is also a file in QEMU's extra arguments",
                    place=option,
                    mend="name another file",
                )
        writable(path, option, force=options.force)
    # The part has the role of the whole in a message: it is no setting of its own.
    writable(partial(options.output), "output", force=options.force)


def _inputs(options: RecordOptions) -> dict[str, Path]:
    """Return the files that QEMU gets, by their options, and QEMU itself."""
    files = {
        "kernel": options.kernel,
        "initrd": options.initrd,
        "firmware": _installed_ovmf()
        if options.firmware == _OVMF
        else firmware_image(options.firmware),
        "qemu": shutil.which(options.qemu),
    }
    return {option: Path(path) for option, path in files.items() if path}


def firmware_image(firmware: str) -> str | None:
    """Return the image for -bios, or None for QEMU's own SeaBIOS.

    Raises ``UserError`` if there is no such file.
    """
    if firmware == "seabios":
        return None
    if firmware == _OVMF:
        if image := _installed_ovmf():
            return image
        raise UserError(
            f"no OVMF image in {' or '.join(OVMF_IMAGES)}",
            place="firmware",
            mend="install it (Debian: apt install ovmf) or name its path",
        )
    mend = "give seabios, ovmf, or the path of a firmware image"
    readable(Path(firmware), "firmware", mend)
    return firmware


def _installed_ovmf() -> str | None:
    # Path.is_file raises in a directory that may not be searched.
    return next((path for path in OVMF_IMAGES if os.path.isfile(path)), None)  # noqa: PTH113


def kernel_command_line(append: str | None) -> tuple[str, str | None]:
    """Return the guest kernel's command line, and a note if ``nokaslr`` was added.

    A pass finds the addresses of the one before only if the kernel is not randomised.
    """
    if append is None:
        return f"{_CONSOLE} {_NOKASLR}", None
    if _NOKASLR in append.split():
        return append, None
    return (
        f"{append} {_NOKASLR}".strip(),
        f"added {_NOKASLR} to the kernel's command line: addresses must agree",
    )


def qemu_command(options: RecordOptions) -> list[str]:
    """Return the QEMU command without the recorder's channels; the guest starts stopped."""
    command = [options.qemu, "-S", "-no-user-config", "-nodefaults", "-display", "none"]
    # With -no-shutdown QEMU stays after a power-off, so that its state can be read.
    command += ["-no-shutdown", "-accel", "tcg,thread=multi"]
    # With FSGSBASE, Linux switches tasks without WRMSR, which would be a stop each time.
    command += ["-cpu", DEFAULT_CPU]
    command += ["-smp", str(options.vcpus), "-m", f"{memory_bytes(options.memory) >> 20}M"]
    if (image := firmware_image(options.firmware)) is not None:
        command += ["-bios", image]
    if options.kernel is not None:
        command += ["-kernel", str(options.kernel)]
        command += ["-append", kernel_command_line(options.append)[0]]
    if options.initrd is not None:
        command += ["-initrd", str(options.initrd)]
    return [*command, *options.extra]


_LOG = "the recorder reads QEMU's log itself"
_GDB = "the recorder is the debugger"
_QMP = "the recorder steers QEMU itself"
_TCG = "the recorder needs TCG with one thread per vCPU"
_USED = {
    "d": _LOG,
    "D": _LOG,
    "dfilter": _LOG,
    "gdb": _GDB,
    "s": _GDB,
    "qmp": _QMP,
    "qmp-pretty": _QMP,
    "mon": _QMP,
    "monitor": _QMP,
    "daemonize": "the recorder must see QEMU end",
    "accel": _TCG,
    "enable-kvm": _TCG,
}
_HARMLESS = {("monitor", "none"), ("qmp", "none"), ("qmp-pretty", "none")}


def check_extra(extra: Sequence[str]) -> None:
    """Raise ``UserError`` for the first argument that the recorder cannot work with.

    QEMU would take some of them silently, and the recording would hang or be empty.
    """
    # Words before -- come first. An option there is refused earlier, except for a mere dash.
    if extra and (not extra[0].startswith("-") or extra[0] == "-"):
        raise UserError(
            f"unexpected argument {extra[0]!r}",
            place="record",
            mend="give only options of QEMU, behind two dashes; name a disk with -drive",
        )
    for index, word in enumerate(extra):
        value = extra[index + 1] if index + 1 < len(extra) else ""
        if (why := _conflict(word, value)) is not None:
            raise UserError(f"{word} cannot be used: {why}", place="extra", mend="leave it out")


def _conflict(word: str, value: str) -> str | None:
    if not word.startswith("-"):
        return None
    # QEMU takes one dash or two.
    name = word[2:] if word.startswith("--") else word[1:]
    settings = value.split(",")
    if name in ("machine", "M") and any(text.startswith("accel=") for text in settings):
        return _TCG
    if name == "action" and any(text.startswith("shutdown=") for text in settings):
        return "the recorder reads QEMU's state after the shutdown"
    return None if (name, value) in _HARMLESS else _USED.get(name)


def files_in(extra: Sequence[str]) -> Iterator[Path]:
    """Yield what may be a file's name in QEMU's arguments, such as FILE in -drive file=FILE."""
    for word in extra:
        for part in (word, *word.split(",")):
            text = part.partition("=")[2] or part
            if not text.startswith("-"):
                yield Path(text)
