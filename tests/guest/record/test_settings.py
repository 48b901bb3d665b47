"""Settings are checked before anything happens, and each error names the option."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mtrrzap.cli.record import quoted, with_command
from mtrrzap.errors import UserError
from mtrrzap.guest.record.settings import (
    DEFAULT_CPU,
    RecordOptions,
    check,
    kernel_command_line,
    memory_bytes,
    qemu_command,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("16G", 16 << 30),
        ("1t", 1 << 40),
        ("2GB", 2 << 30),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "512", "G", "1K", "1.5G", "-1G", "9999999T", "1 G", "1500K", "1024K"]
)
def test_no_memory(text: str) -> None:
    with pytest.raises(UserError, match=r"^memory: "):
        memory_bytes(text)


def test_nokaslr_is_added_and_said() -> None:
    assert kernel_command_line(None) == ("console=ttyS0 nokaslr", None)
    assert kernel_command_line("quiet nokaslr") == ("quiet nokaslr", None)
    line, note = kernel_command_line("quiet")
    assert line == "quiet nokaslr"
    assert note is not None


@pytest.fixture
def good(tmp_path: Path) -> RecordOptions:
    (tmp_path / "kernel").write_bytes(b"x")
    return RecordOptions(output=tmp_path / "t.trace", kernel=tmp_path / "kernel", qemu="true")


def test_a_check_leaves_nothing(good: RecordOptions) -> None:
    check(good)
    assert [path.name for path in good.output.parent.iterdir()] == ["kernel"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": 256}, "vcpus"),
        ({"memory": "x"}, "memory"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"qemu": "/nowhere/qemu"}, "qemu"),
        ({"kernel": Path("/nowhere/kernel")}, "kernel"),
        ({"kernel": Path("/")}, "kernel"),
        ({"initrd": Path("/nowhere/initrd")}, "initrd"),
        ({"kernel": None, "initrd": Path("/dev/null")}, "initrd"),
        ({"kernel": None, "append": "quiet"}, "append"),
        ({"firmware": "/nowhere/firmware"}, "firmware"),
        ({"firmware": "coreboot"}, "firmware"),
        ({"output": Path("/nowhere/t.trace")}, "output"),
        ({"output": Path("/")}, "output"),
        ({"console": Path("/nowhere/console")}, "console"),
        ({"output": Path("/dev/null")}, "output"),
        ({"output": Path("x" * 300)}, "output"),
        ({"output": Path("/dev/null/t.trace")}, "output"),
        ({"console": Path("x" * 300)}, "console"),
        ({"firmware": "x" * 300}, "firmware"),
        ({"firmware": "/dev/zero"}, "firmware"),
        ({"kernel": Path("/dev/zero")}, "kernel"),
        ({"extra": ("-daemonize",)}, "extra"),
        ({"extra": ("-m", "2G", "-d", "int")}, "extra"),
        ({"extra": ("-D", "log")}, "extra"),
        ({"extra": ("-dfilter", "0..1")}, "extra"),
        ({"extra": ("-s",)}, "extra"),
        ({"extra": ("-gdb", "tcp::1234")}, "extra"),
        ({"extra": ("--gdb", "none")}, "extra"),
        ({"extra": ("-qmp", "stdio")}, "extra"),
        ({"extra": ("-mon", "chardev=x")}, "extra"),
        ({"extra": ("-monitor", "stdio")}, "extra"),
        ({"extra": ("-accel", "kvm")}, "extra"),
        ({"extra": ("-enable-kvm",)}, "extra"),
        ({"extra": ("-machine", "q35,accel=kvm")}, "extra"),
        ({"extra": ("-action", "panic=none,shutdown=poweroff")}, "extra"),
        ({"extra": ("disk.img",)}, "record"),
    ],
)
def test_what_is_refused(good: RecordOptions, change: dict[str, object], place: str) -> None:
    with pytest.raises(UserError) as caught:
        check(replace(good, **change))  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert "; " in message
    assert not good.output.exists()


def test_no_overwriting(good: RecordOptions) -> None:
    good.output.write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        check(good)
    check(replace(good, force=True))
    assert good.output.read_text(encoding="utf-8") == "precious"
    with pytest.raises(UserError, match=r"console: .*also the file of output"):
        check(replace(good, force=True, console=good.output))


@pytest.mark.parametrize(
    "extra",
    [
        ("-no-reboot",),
        ("-S",),
        ("-serial", "none", "-monitor", "none"),
        ("-machine", "q35", "-m", "2G", "-snapshot"),
        ("-drive", "file=disk.img,format=raw"),
    ],
)
def test_arguments_that_do_no_harm(good: RecordOptions, extra: tuple[str, ...]) -> None:
    check(replace(good, extra=extra))


@pytest.mark.parametrize("option", ["output", "console"])
def test_no_input_is_overwritten(good: RecordOptions, tmp_path: Path, option: str) -> None:
    """Nor QEMU itself, whatever the name: through a symbolic or hard link, or around a corner."""
    qemu, disk = tmp_path / "qemu", tmp_path / "disk"
    qemu.write_bytes(b"")
    qemu.chmod(0o755)
    for name in ("initrd", "firmware", "disk"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d").mkdir()
    (tmp_path / "soft").symlink_to("kernel")
    (tmp_path / "hard").hardlink_to(tmp_path / "kernel")
    options = replace(
        good,
        initrd=tmp_path / "initrd",
        firmware=str(tmp_path / "firmware"),
        qemu=str(qemu),
        extra=("-drive", f"format=raw,file={disk}"),
        force=True,
    )
    check(options)
    names = ("kernel", "soft", "hard", "d/../kernel", "initrd", "firmware", "qemu", "disk")
    for name in names:
        with pytest.raises(UserError, match=rf"^{option}: .* also ") as caught:
            check(replace(options, **{option: tmp_path / name}))  # type: ignore[arg-type]
        assert "force" not in str(caught.value)
    assert (tmp_path / "kernel").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["d/../t.trace", "soft"])
def test_trace_and_console_are_two_files(good: RecordOptions, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "soft").symlink_to("t.trace")
    with pytest.raises(UserError, match=r"^console: .* output"):
        check(replace(good, console=tmp_path / name))


def test_further_arguments_come_last(good: RecordOptions) -> None:
    """So that they override: QEMU takes the last -cpu."""
    command = qemu_command(replace(good, extra=("-cpu", "max")))
    assert command[-2:] == ["-cpu", "max"]
    assert DEFAULT_CPU in command


def test_the_command_in_the_header() -> None:
    options = RecordOptions(
        output=Path("a b.trace"), firmware="ovmf", vcpus=16, memory="16G", extra=("-machine", "q35")
    )
    assert with_command(options).command == (
        "mtrrzap record -o 'a b.trace' --firmware ovmf --vcpus 16 --memory 16G -- -machine q35"
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (b"rec\xff.trace", r"$'rec\xff.trace'"),
        (b"it's\\\n", r"$'it\'s\\\x0a'"),
        ("é.trace".encode(), "'é.trace'"),
        (b"it's", """'it'"'"'s'"""),
    ],
)
def test_the_shell_reads_the_command_in_the_header(name: bytes, word: str) -> None:
    assert quoted(os.fsdecode(name)) == word
    told = subprocess.run(
        ["bash", "-c", f"printf %s {quoted(os.fsdecode(name))}"], capture_output=True, check=True
    )
    assert told.stdout == name
