"""Settings are checked before anything happens, and each error names the option."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtrrzap.commands.record import with_command
from mtrrzap.errors import UserError
from mtrrzap.guest.record.options import (
    DEFAULT_CPU,
    Options,
    check,
    kernel_command_line,
    memory_bytes,
    qemu_command,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512 << 20), ("512M", 512 << 20), ("16G", 16 << 30), ("1t", 1 << 40), ("2GB", 2 << 30)],
)
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "1K", "1.5G", "-1G", "9999999T", "1 G"])
def test_no_memory(text: str) -> None:
    with pytest.raises(UserError, match=r"^--memory: "):
        memory_bytes(text)


def test_nokaslr_is_added_and_said() -> None:
    assert kernel_command_line(None) == ("console=ttyS0 nokaslr", None)
    assert kernel_command_line("quiet nokaslr") == ("quiet nokaslr", None)
    line, note = kernel_command_line("quiet")
    assert line == "quiet nokaslr"
    assert note is not None


@pytest.fixture
def good(tmp_path: Path) -> Options:
    (tmp_path / "kernel").write_bytes(b"x")
    return Options(output=tmp_path / "t.trace", kernel=tmp_path / "kernel", qemu="true")


def test_a_check_leaves_nothing(good: Options) -> None:
    check(good)
    assert [path.name for path in good.output.parent.iterdir()] == ["kernel"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"vcpus": 0}, "--vcpus"),
        ({"vcpus": 256}, "--vcpus"),
        ({"memory": "x"}, "--memory"),
        ({"timeout": 0.0}, "--timeout"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"timeout": float("inf")}, "--timeout"),
        ({"qemu": "/nowhere/qemu"}, "--qemu"),
        ({"kernel": Path("/nowhere/kernel")}, "--kernel"),
        ({"kernel": Path("/")}, "--kernel"),
        ({"initrd": Path("/nowhere/initrd")}, "--initrd"),
        ({"kernel": None, "initrd": Path("/dev/null")}, "--initrd"),
        ({"kernel": None, "append": "quiet"}, "--append"),
        ({"firmware": "/nowhere/firmware"}, "--firmware"),
        ({"firmware": "coreboot"}, "--firmware"),
        ({"output": Path("/nowhere/t.trace")}, "--output"),
        ({"output": Path("/")}, "--output"),
        ({"console": Path("/nowhere/console")}, "--console"),
    ],
)
def test_what_is_refused(good: Options, change: dict[str, object], place: str) -> None:
    with pytest.raises(UserError) as caught:
        check(replace(good, **change))  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert "; " in message
    assert not good.output.exists()


def test_no_overwriting(good: Options) -> None:
    good.output.write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        check(good)
    check(replace(good, force=True))
    assert good.output.read_text(encoding="utf-8") == "precious"
    with pytest.raises(UserError, match=r"--console: .*own file"):
        check(replace(good, force=True, console=good.output))


def test_further_arguments_come_last(good: Options) -> None:
    """So that they override: QEMU takes the last -cpu."""
    command = qemu_command(replace(good, extra=("-cpu", "max")))
    assert command[-2:] == ["-cpu", "max"]
    assert DEFAULT_CPU in command


def test_the_command_in_the_header() -> None:
    options = Options(
        output=Path("a b.trace"), firmware="ovmf", vcpus=16, memory="16G", extra=("-machine", "q35")
    )
    assert with_command(options).command == (
        "mtrrzap record -o 'a b.trace' --firmware ovmf --vcpus 16 --memory 16G -- -machine q35"
    )
