"""Make a job of a spec's file: find, read, check and hash what it names."""

import hashlib
import os
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, trace_lines
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.protocol.load import load
from mtrrzap.reading import whole_text
from mtrrzap.sweep.grid import SIMULATE, digest, identity
from mtrrzap.sweep.spec import Defaults, Spec, read
from mtrrzap.sweep.store import FORMAT
from mtrrzap.sweep.worker import COPIES, Job


def job(path: Path) -> tuple[Spec, Job, dict[str, Any], str]:
    """Return what a spec asks for, the job, what identifies the sweep, and the spec's text.

    Raises:
        UserError: naming the file and the key.
    """
    text = whole_text(path, "name a TOML file with a spec")
    shipped = _shipped()
    spec = read(text, str(path), Defaults(traces=tuple(shipped), protocols=tuple(PROTOCOLS)))
    axis = spec.grid.axes[0]
    if spec.grid.kind == SIMULATE:
        texts = {name: _trace(name, path) for name in axis.values}
        sha256 = {name: digest(text) for name, text in texts.items()}
    else:
        texts, sha256 = {}, {}
        for name in axis.values:
            source, digest_ = _protocol(name, path)
            sha256[name] = digest_
            if source is not None:
                texts[name] = source
    grid = spec.grid
    asked: dict[str, Any] = {
        "kind": grid.kind,
        **{axis.name: _listed(axis.values) for axis in grid.axes},
        **dict(grid.settings),
        "stop-at-first": spec.stop_at_first,
    }
    manifest = {
        "format": FORMAT,
        **identity()._asdict(),
        "title": spec.title,
        "cells": len(grid),
        "spec": asked,
        "inputs": sha256,
    }
    name = digest(repr(manifest))
    made = Job(name, grid, texts, sha256, protocol_of, identity(), spec.stop_at_first)
    return spec, made, manifest, text


def _listed(values: Any) -> Any:
    """A range is written as what makes it, not as its million numbers."""
    if isinstance(values, range):
        return {"from": values.start, "to": values[-1], "step": values.step}
    return list(values)


def _beside(name: str, spec: Path) -> Path:
    return Path(os.path.normpath(spec.parent / name))


@cache
def _shipped() -> dict[str, Trace]:
    return dict(traces.shipped())


def _trace(name: str, spec: Path) -> str:
    """Return a trace's text as it is written; it is read once, so it is a trace."""
    try:
        beside = _beside(name, spec)
        if name in _shipped() and not beside.is_file():
            found = _shipped()[name]
        else:
            found = traces.load(beside if beside.is_file() or os.sep in name else Path(name))
    except (UserError, ValueError) as error:
        raise UserError(f"{name!r}: {error}", place=f"{spec}: grid.traces") from error
    return "".join(trace_lines(found))


def _protocol(name: str, spec: Path) -> tuple[str | None, str]:
    """Return the source of a user's protocol, or None, and a hash."""
    if name in PROTOCOLS:
        return None, _shipped_sources()
    try:
        path, colon, function = name.rpartition(":")
        load(f"{_beside(path, spec)}:{function}" if colon else name)
        source = whole_text(_beside(path, spec), "name a protocol's file", mib=4)
    except (UserError, ValueError) as error:
        raise UserError(f"{name!r}: {error}", place=f"{spec}: grid.protocols") from error
    return source, digest(source)


@cache
def _shipped_sources() -> str:
    """Return a hash of the shipped protocols: they share their operations' source."""
    sha256 = hashlib.sha256()
    folder = files("mtrrzap").joinpath("protocol")
    for item in sorted(folder.iterdir(), key=lambda each: each.name):
        if item.name.endswith(".py"):
            sha256.update(f"{item.name}\0".encode() + item.read_bytes())
    return sha256.hexdigest()


def protocol_of(name: str, source: str | None) -> Protocol:
    """Return a protocol on a worker: a shipped one, or one of the source that came with the job.

    Raises:
        UserError: in the words of the user's file.
    """
    if source is None:
        return load(name)
    file, _, function = name.rpartition(":")
    # The checker quotes the source's lines: the file stays as long as the process.
    folder = _folder()
    path = Path(folder.name) / f"{digest(source)[:12]}-{Path(file).name}"
    path.write_text(source, encoding="utf-8")
    try:
        return load(f"{path}:{function}")
    except UserError as error:
        raise UserError(str(error).replace(str(path), file)) from error


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=COPIES)
