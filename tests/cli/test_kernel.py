"""``mtrrzap kernel``: what is missing is said in one line, before anything is started."""

from pathlib import Path

import pytest

from helpers.cli import Run


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--timeout", "0"), "--timeout: invalid limit of 0 s"),
        (("--kernel", "/none"), "no kernel image"),
        (("--modules-dir", "/none"), "--modules-dir: needs --kernel"),
        (
            ("--kernel", "/dev/null", "--package", "x"),
            "--package: cannot be combined",
        ),
        (("--guest", "ovmf"), "--guest: OVMF ends QEMU's TCG"),
        (("--guest", "coreboot"), "--guest: unknown firmware 'coreboot'"),
        (("--guest", "seabios", "--guest-vcpus", "0"), "--guest-vcpus: invalid number"),
        (("nothing-of-the-kind",), "no such file or shipped trace"),
    ],
)
def test_one_line(run: Run, args: tuple[str, ...], says: str) -> None:
    ran = run("kernel", "compare", *args)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_no_qemu(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lib" / "modules" / "6.1.0" / "kernel").mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    image = tmp_path / "boot" / "vmlinuz-6.1.0"
    image.write_bytes(b"x")
    ran = run("kernel", "compare", "--kernel", str(image), "--qemu", "no-such-qemu")
    assert ran.status == 2
    assert "no program no-such-qemu" in ran.err
    assert "apt install" in ran.err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("-p", "v6.1"), "--policy: needs a protocol; name one"),
        (("--window", "5"), "--window: needs a protocol; name one"),
        (("v4",), "no headers of 6.1.0; install them"),
    ],
)
def test_build(run: Run, tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    (tmp_path / "lib" / "modules" / "6.1.0" / "kernel").mkdir(parents=True)
    image = tmp_path / "boot" / "vmlinuz-6.1.0"
    image.parent.mkdir()
    image.write_bytes(b"x")
    options = ("--kernel", str(image), "-o", str(tmp_path / "out"), "--source", str(tmp_path))
    ran = run("kernel", "build", *args, *options)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--vfio", "4095"), "mtrrzap: /dev/"),
        (("--walks",), "--walks: needs --vfio"),
        (("--vfio", "1", "--engine", "threads"), "--engine: cannot be combined with --vfio"),
        (("--vfio", "1", "--engine", "native"), "--engine: cannot be combined with --vfio"),
        (("--walks", "--engine", "native"), "--walks: needs --vfio"),
        (("--vfio", "1", "-p", "v6.1", "-p", "v6.7"), "--policy: one policy at a time"),
        (("--vfio", "1", "-p", "ticket:v4"), "no policy 'ticket:v4'"),
    ],
)
def test_run_vfio(run: Run, args: tuple[str, ...], says: str) -> None:
    ran = run("run", "seabios-8", *args)
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1
