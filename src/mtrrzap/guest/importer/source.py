"""Open a capture: plain or compressed text, a trace.dat, or standard input."""

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib
from codecs import iterdecode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from mtrrzap.errors import UserError
from mtrrzap.guest.importer.scan import Source

_CHUNK = 1 << 19
_TRACE_DAT = b"\x17\x08\x44tracing"
_PERF_DATA = (b"PERFILE2", b"2ELIFREP")
_ZSTD = b"\x28\xb5\x2f\xfd"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""What Windows' tools write."""
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\xfd7zXZ\0": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}


class Opened(NamedTuple):
    """A capture that can be read, and its first bytes after decompression."""

    name: str
    source: Source
    head: bytes


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Give access to a capture. Raises ``UserError`` for what cannot be read as text."""
    name = "standard input" if str(path) == "-" else str(path)
    with _errors(name):
        source = _stdin() if str(path) == "-" else _file(path)
        head = _head(source)
        if head.startswith(_UTF16):
            source, head = _as_utf8(source), head.decode("utf-16", "ignore").encode()
    if head.startswith(_PERF_DATA):
        raise UserError(
            "a perf.data, which only perf can read",
            place=name,
            mend="import what 'perf script' prints",
        )
    if head.startswith(_ZSTD):
        raise UserError(
            "compressed by zstd", place=name, mend="pipe it: zstd -dc FILE | … import -"
        )
    if not head.startswith(_TRACE_DAT):
        yield Opened(name, lambda: _guarded(source(), name), head)
        return
    with _unpacked(path, source, name) as plain:
        yield Opened(name, lambda: _trace_cmd(plain, name), head)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"the compressed data is damaged: {error}", place=name, mend="copy it again"
        ) from error
    except EOFError as error:
        raise UserError(
            "the compressed data ends early", place=name, mend="copy it again"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror or error}", place=name, mend="name a capture's file"
        ) from error


def _guarded(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    with _errors(name):
        yield from chunks


def _as_utf8(source: Source) -> Source:
    return lambda: (text.encode() for text in iterdecode(source(), "utf-16", errors="replace"))


def _head(source: Source) -> bytes:
    return next(iter(source()), b"")[:64]


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(_CHUNK), b"")


def _decompressed(stream: BinaryIO, magic: bytes) -> BinaryIO:
    for prefix, opener in _OPENERS.items():
        if magic.startswith(prefix):
            return cast(BinaryIO, opener(stream, "rb"))
    return stream


def _file(path: Path) -> Source:
    def read() -> Iterator[bytes]:
        with path.open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                mend = "name a capture's file, or pipe it: … | import -"
                raise UserError("not a regular file", place=str(path), mend=mend)
            magic = stream.read(8)
            stream.seek(0)
            with _decompressed(stream, magic) as plain:
                yield from _chunks(plain)

    return read


def _stdin() -> Source:
    """Return standard input; its first chunk is kept for a second start, the rest is not."""
    stream = sys.stdin.buffer
    peeked = getattr(stream, "peek", lambda _: b"")(8)
    with_first: list[bytes] = []
    rest = _chunks(_decompressed(stream, peeked))

    def read() -> Iterator[bytes]:
        if not with_first:
            with_first.extend([next(rest, b"")])
        yield from with_first
        yield from rest

    return read


@contextmanager
def _unpacked(path: Path, source: Source, name: str) -> Iterator[Path]:
    """Give a trace.dat as a plain file, which trace-cmd needs."""
    if str(path) != "-":
        with path.open("rb") as stream:
            plain = stream.read(len(_TRACE_DAT)) == _TRACE_DAT
        if plain:
            yield path
            return
    handle, unpacked = tempfile.mkstemp(suffix=".dat")
    try:
        with os.fdopen(handle, "wb") as copy:
            for chunk in _guarded(source(), name):
                copy.write(chunk)
        yield Path(unpacked)
    finally:
        Path(unpacked).unlink()


def _trace_cmd(path: Path, name: str) -> Iterator[bytes]:
    program = shutil.which("trace-cmd")
    if program is None:
        raise UserError(
            "a trace.dat needs trace-cmd, which is not installed",
            place=name,
            mend="install trace-cmd, or import what 'trace-cmd report' prints elsewhere",
        )
    with tempfile.TemporaryFile() as said:
        command = [program, "report", "-i", str(path.absolute())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        try:
            yield from _chunks(cast(BinaryIO, process.stdout))
            status = process.wait()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if status:
            said.seek(0)
            why = said.read(400).decode("utf-8", "replace").strip() or f"status {status}"
            raise UserError(
                f"trace-cmd report fails: {why}",
                place=name,
                mend="is the file whole? copy it again",
            )
