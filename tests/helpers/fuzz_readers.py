"""What ``fuzz_import`` feeds beside the readers of captures: those of whatever a user names."""

import gzip
import lzma
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from helpers.captures import POWER_ON
from helpers.listings import E820, IOMEM, OLD_E820, XEN_E820
from helpers.traces import FINE, trace
from mtrrzap.checker import verifier
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.prove import check as prove
from mtrrzap.checker.check import Options, check
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.schedule import replay, written
from mtrrzap.errors import UserError
from mtrrzap.guest import tabular
from mtrrzap.guest.importer import read_capture
from mtrrzap.guest.importer.source import opened
from mtrrzap.guest.listing import regions
from mtrrzap.guest.measured_costs import Cost, beside, cost_path
from mtrrzap.kernel import policy_file
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Protocol
from mtrrzap.protocol.load import load
from mtrrzap.report.text import as_csv
from mtrrzap.study import against
from mtrrzap.study.memory_map import of_trace
from mtrrzap.sweep.spec import Defaults, read
from mtrrzap.sweep.store import read_manifest

Samples = tuple[Callable[[bytes], None], tuple[bytes, ...]]
"""A reader, and files that it reads."""
_TRACE = trace(*FINE)
_PROTOCOL = '''\
"""A protocol of one's own."""
from mtrrzap.protocol import Steps, Vm


class State(Vm):
    """One lock."""

    def __init__(self) -> None:
        self.lock = self.spinlock("lock")


def own(vm: State, ranges) -> Steps:
    yield vm.lock.lock()
    for r in ranges:
        yield vm.tdp.zap(r)
    yield vm.lock.unlock()
'''
SPECS = (
    """\
kind = "simulate"
title = "One"
[grid]
traces = ["seabios-8", "ovmf-8"]
vcpus = { from = 8, to = 64, step = 8 }
memory = ["16G", "1T"]
page-size = ["4K", "1G"]
seeds = { from = 0, to = 1 }
policies = ["Base2", "+9", "ticket"]
[simulate]
spread = 1.5
""",
    """\
kind = "check"
[grid]
protocols = ["v4", "ticket"]
vcpus = 4
requests = [1, 2]
strategies = ["pct", "random"]
seeds = { from = 0, to = 2 }
executions = 30
[check]
properties = ["lost zap", "deadlock"]
ranges = ["0x0-0x100,0x100-0x200", "0x0-0x10"]
alloc-fails = true
memory-model = "sc"
depth = 3
stop-at-first = true
""",
)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mtrrzap-fuzz-")


def _file(name: str, data: bytes) -> Path:
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path


def read_parquet(data: bytes) -> None:
    tabular.read_parquet(data, "t")


def read_compressed(data: bytes) -> None:
    with opened(_file("capture.xz", data)) as capture:
        read_capture(capture.source, capture.name)


def read_schedule(data: bytes) -> None:
    replay(data.decode("utf-8", "replace"), "s", _shipped)


def _shipped(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}")
    return PROTOCOLS[name]


def read_spec(data: bytes) -> None:
    grid = read(data.decode("utf-8", "replace"), "s", Defaults(("seabios-8",), ("v4",))).grid
    assert len(grid) == 0 or grid.at(len(grid) - 1)


def read_protocol(data: bytes) -> None:
    load(f"{_file('own.py', data)}:own")


def read_costs(data: bytes) -> None:
    path = _file("t.trace", b"")
    cost_path(path).write_bytes(data)
    beside(path, _TRACE)


def read_sweep(data: bytes) -> None:
    read_manifest(_file("sweep.json", data).parent)


def read_certificate(data: bytes) -> None:
    """Whatever it says, it proves nothing that is not so."""
    told = certificate.read(_file("certificate", data))
    name = told.get("protocol")
    with suppress(verifier.RejectedError):
        holds = verifier.verify(told, _shipped(name if isinstance(name, str) else "no"))
        assert name == "ticket"
        assert set(holds) <= set(_PROVED)


def read_policy(data: bytes) -> None:
    policy_file.load(_file("own.toml", data))


def read_against(data: bytes) -> None:
    what, places = regions.read(data.decode("utf-8", "replace"), "t")
    list(against.uses(places, holes=what == "e820"))
    against.against_regions(_MTRRS, places, holes=what == "e820")


_PROVED = ("lost zap", "deadlock", "unlocked access", "ordering")
_MTRRS = of_trace(trace(*FINE), None).cpus[0]


@cache
def _certificate() -> bytes:
    """Return a proof as a file: of ``ticket``, for a request of everything."""
    proof = Proof(PROTOCOLS["ticket"], alloc_fails=False, properties=_PROVED)
    prove(proof, Options(properties=_PROVED))
    return certificate.encoded(certificate.written(proof, "ticket"), Path("c.json"))


@cache
def _schedules() -> tuple[bytes, ...]:
    found = []
    for name in ("v3", "sketch"):
        world = scenario(PROTOCOLS[name], 2, 1, ranges=((ALL_GFNS,),), alloc_fails=True)
        options = Options(
            properties=("lost zap", "ordering", "starvation"), limits=Limits(states=20_000)
        )
        shown = [each.counterexample for each in check(world, options)]
        found += [written(each, name).encode() for each in shown if each]
    return tuple(found)


def more() -> tuple[Samples, ...]:
    """Return these readers with the samples that are mutated."""
    costs = as_csv([Cost(3, 0, 0x201, 0xFFC0000800, 12)], Cost._fields).encode()
    return (
        (read_parquet, (tabular.parquet_bytes(_TRACE),)),
        (read_compressed, (lzma.compress(POWER_ON * 3), gzip.compress(POWER_ON * 3))),
        (read_schedule, _schedules()),
        (read_spec, tuple(text.encode() for text in SPECS)),
        (read_protocol, (_PROTOCOL.encode(),)),
        (read_costs, (costs,)),
        (read_certificate, (_certificate(),)),
        (read_policy, (b'like = "v6.1"\nby_memslot = true\ncd_toggle = "always"\n',)),
        (read_against, (IOMEM.encode(), E820.encode(), OLD_E820.encode(), XEN_E820.encode())),
        (read_sweep, (b'{"format": 1, "spec": {"kind": "check"}, "cells": 3, "inputs": {}}',)),
    )
