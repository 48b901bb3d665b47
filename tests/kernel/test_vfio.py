"""What a host's VFIO group or tracing lacks is said in one line, and nothing stays behind."""

import os
from errno import EBUSY, EINVAL, EPERM
from pathlib import Path

import pytest

from mtrrzap.errors import UserError
from mtrrzap.kernel import abi, tracefs, vfio


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Two VFIO groups in files; the dictionary says which ioctl ends in which error."""
    monkeypatch.setattr(vfio, "FOLDER", tmp_path)
    for name in ("vfio", "12", "7"):
        (tmp_path / name).touch()
    wrong: dict[int, int] = {}

    def ioctl(fd: int, request: int, argument: object = 0) -> int:
        os.fstat(fd)
        if request in wrong:
            raise OSError(wrong[request], os.strerror(wrong[request]))
        if isinstance(argument, abi.GroupStatus) and abi.VFIO_GROUP_FLAGS_VIABLE not in wrong:
            argument.flags = abi.VFIO_GROUP_FLAGS_VIABLE
        return 1

    monkeypatch.setattr(vfio, "ioctl", ioctl)
    return wrong


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_group(host: dict[int, int]) -> None:
    before = _open()
    group = vfio.Group(12)
    assert group.coherent
    host[abi.VFIO_CHECK_EXTENSION] = EINVAL
    group.close()
    assert _open() == before


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (abi.VFIO_SET_IOMMU, EPERM, "12: its IOMMU does not remap interrupts"),
        (abi.VFIO_SET_IOMMU, EINVAL, "12: cannot be used: Invalid argument; bind its device"),
        (abi.VFIO_GROUP_SET_CONTAINER, EBUSY, "12: another program uses this group; end it"),
        (abi.VFIO_GROUP_FLAGS_VIABLE, 0, "12: a device of this group belongs to another driver"),
    ],
)
def test_a_group_that_cannot_be_used(
    host: dict[int, int], request_: int, error: int, says: str
) -> None:
    before = _open()
    host[request_] = error
    with pytest.raises(UserError, match=says):
        vfio.Group(12)
    assert _open() == before


@pytest.mark.usefixtures("host")
def test_no_such_group() -> None:
    with pytest.raises(UserError, match=r"5: cannot be used: No such file.*groups here: 7, 12"):
        vfio.Group(5)
    (vfio.FOLDER / "vfio").unlink()
    with pytest.raises(UserError, match=r"vfio: cannot be used: No such file.*; load vfio-pci, in"):
        vfio.Group(12)


@pytest.mark.usefixtures("host")
def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, _: int) -> int:
        raise PermissionError(EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match="vfio: cannot be used: Operation not permitted; run it as"):
        vfio.Group(12)


# -- tracing


@pytest.fixture
def tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "tracing"
    monkeypatch.setattr(tracefs, "PLACES", (tmp_path / "none", root))
    monkeypatch.setattr(tracefs, "_LOCKDOWN", tmp_path / "lockdown")
    monkeypatch.setattr(tracefs, "_TDP_MMU", tmp_path / "tdp_mmu")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return root


@pytest.mark.usefixtures("tracing")
def test_no_tracefs() -> None:
    with pytest.raises(UserError, match=r"cannot trace: No such file.*; mount -t tracefs none"):
        tracefs.Probes()


def test_tracefs_where_older_systems_have_it(tracing: Path) -> None:
    """A folder, which takes no probe: the error is about this one, and CPUs are as before."""
    (tracing / "instances").mkdir(parents=True)
    (tracing / "kprobe_events").touch()
    before = os.sched_getaffinity(0)
    with pytest.raises(UserError, match=f"{tracing}/instances/.*; this needs kprobes and tracefs"):
        tracefs.Probes()
    assert os.sched_getaffinity(0) == before


def test_lockdown_and_not_root(tracing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tracing.parent / "lockdown").write_text("none integrity [confidentiality]\n")
    with pytest.raises(UserError, match="boot it without lockdown=confidentiality"):
        tracefs.Probes()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="; run it as root"):
        tracefs.Probes()


def test_walks_need_the_tdp_mmu(tracing: Path) -> None:
    (tracing.parent / "tdp_mmu").write_text("N\n")
    with pytest.raises(UserError, match=r"TDP MMU is off.*; load kvm with tdp_mmu=1"):
        tracefs.Probes(visits=True)
