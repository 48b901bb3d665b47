"""Files that the user names: what is refused, and that checking changes nothing."""

import errno
import os
from pathlib import Path

import pytest

from mtrrzap.errors import UserError
from mtrrzap.guest.files import readable, replacing, same_file, writable


def test_a_link_to_nothing_survives(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("target")
    writable(link, "-o", force=False)
    assert link.is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_link_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(UserError, match=r"^-o: .*symbolic links"):
        writable(link, "-o", force=True)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A pipe without a reader would block whoever opens it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(UserError, match=r"^-o: .* is not a regular file"):
            writable(path, "-o", force=True)
        with pytest.raises(UserError, match=r"^-i: .* is not a regular file; mend"):
            readable(path, "-i", "mend")


def test_a_name_that_is_too_long() -> None:
    path = Path("x" * 300)
    with pytest.raises(UserError, match=r"^-o: .*File name too long"):
        writable(path, "-o", force=False)
    with pytest.raises(UserError, match=r"^-i: .*File name too long"):
        readable(path, "-i", "mend")
    assert not same_file(path, Path("y" * 300))


def test_a_directory_that_may_not_be_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for an ordinary user; root may search every directory."""

    def refuse(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UserError, match=r"^-o: .*Permission denied"):
        writable(tmp_path / "file", "-o", force=False)
    with pytest.raises(UserError, match=r"^-i: .*Permission denied"):
        readable(tmp_path / "file", "-i", "mend")


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    writable(file, "-o", force=True)
    assert file.read_bytes() == b"x"
    with pytest.raises(UserError, match="exists already"):
        writable(file, "-o", force=False)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 255)
    for data in (b"new", b"newer"):
        with replacing(file) as stream:
            stream.write(data)
            assert not file.exists() or file.read_bytes() == b"new"
        assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == [(file, data)]


def test_the_mode_and_a_link_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "file", tmp_path / "link"
    file.write_bytes(b"old")
    file.chmod(0o640)
    link.symlink_to("there/file")
    with replacing(link) as stream:
        stream.write(b"new")
    assert (link.is_symlink(), file.read_bytes(), file.stat().st_mode & 0o777) == (
        True,
        b"new",
        0o640,
    )


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError()]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, late: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    file = tmp_path / "file"
    for before in ([], [file]):
        for each in before:
            each.write_bytes(b"old")
        with monkeypatch.context() as patched, pytest.raises(type(error)):  # noqa: PT012
            patched.setattr(os, "fsync", fail if late else os.fsync)
            with replacing(file) as stream:
                stream.write(b"new")
                if not late:
                    raise error
        assert list(tmp_path.iterdir()) == before
        assert [path.read_bytes() for path in before] == [b"old"] * len(before)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as stream:
        stream.write(b"data")
    assert os.read(reader, 9) == b"data"
    os.close(reader)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
