"""Feed mutated files to all readers, a million times if asked to.

Run in tests/: ``python -m helpers.fuzz_import --cases 1000000 [--seed 1]``; ``fuzz_atheris.py`` has
``TARGETS`` under a coverage-guided loop. A case may end in a result or a ``UserError``; anything
else, and anything that takes longer than ``SECONDS``, is a finding: its seed and bytes are printed.
"""

import argparse
import json
import lzma
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType

from helpers.captures import ENABLE, POWER_ON, capture, imported, line, text
from helpers.fuzz_readers import Samples, more
from helpers.listings import (
    ALL_CPUS_A_LINE,
    ALONE,
    CLEANUP,
    IN_CPUS,
    ITEMS,
    LOG,
    OLD_PROC,
    ONE_A_LINE,
    PROC,
    RDMSR_A,
    REAL,
)
from helpers.paths import DATA
from mtrrzap.errors import UserError
from mtrrzap.guest import listing, tabular
from mtrrzap.guest.importer import Known
from mtrrzap.guest.listing import regions
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.guest.trace_reader import parse
from mtrrzap.report import perfetto
from mtrrzap.study import against, kernel_map
from mtrrzap.study import both_maps as memtype
from mtrrzap.study.memory_map import of_listing

SECONDS = 5
MEMORY = 4 << 30
"""Bytes of address space that the whole run may take."""

_KEPT = DATA / "fuzz" / "atheris.json.xz"
"""What atheris found to reach code that nothing before it did: characters are bytes, the first one
chooses the reader."""

NUMBERS = (
    b"0",
    b"-1",
    b"2ff",
    b"0xc06",
    b"9" * 30,
    b"9" * 5000,
    b"0x" + b"f" * 16,
    b"0x" + b"f" * 17,
    b"0x" + b"f" * 5000,
    b"4294967296",
)
WORDS = (
    b"kvm_msr: msr_write 2ff = 0xc06",
    b"kvm_msr: msr_read 250 = 0x0",
    b"kvm_msr: write=1 ecx=2ff data=0xc06 exception=1",
    b"kvm_cr: cr_write 0 = 0xc0050033",
    b"kvm_cr: rw=1 cr=0 val=0x11",
    b"kvm_entry: vcpu 1, rip 0xfff0",
    b"kvm_exit: vcpu 1 reason msr",
    b"kvm_apic_accept_irq: apicid 1 vec 0 (INIT|level)",
    b"kvm_apic_ipi: dst 1 vec 0 (INIT|physical|assert|level|all-but-self)",
    b"CPU:0 [LOST 1 EVENTS]",
    b"# entries-in-buffer/entries-written: 1/2",
    b" (#GP)",
    b"<...>-7",
    b"CPU 4095/KVM-8",
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    b"=",
    b"|",
    b",",
    b'"',
    b"{",
    b"end 1 complete",
    b"held-msr 0x2ff 0xc06",
)

_CAPTURE = text("all-events-trace")
_RAW = text("all-events-raw-report")
_TRACE = capture(_CAPTURE)
_AS_TRACE = _TRACE.trace(_TRACE.vms[0], Known()).trace
_ZAPS = imported(text("kprobes-seabios"))
"""With the zaps that the kernel made."""
_AS_CSV = "".join(tabular.csv_lines(_AS_TRACE))


def import_capture(data: bytes) -> None:
    found = capture(data)
    for vm in found.vms:
        trace = found.trace(vm, Known()).trace
        assert parse(dumps(trace).splitlines(keepends=True), "again") == trace
        assert tabular.read_csv(tabular.csv_lines(trace), "again") == trace


def read_trace(data: bytes) -> None:
    _use(parse(data.decode("utf-8", "replace").splitlines(keepends=True), "t"))


def read_csv(data: bytes) -> None:
    _use(tabular.read_csv(data.decode("utf-8", "replace").splitlines(keepends=True), "t"))


def _use(trace: Trace) -> None:
    if trace.header.vcpus <= 64:
        for _ in perfetto.chunks(trace):
            pass


def read_listing(data: bytes) -> None:
    with suppress(UserError):
        list(against.uses(regions.read(data.decode("utf-8", "replace"), "t")[1], holes=True))
    states = of_listing(listing.read(data.decode("utf-8", "replace"), "t"), "t", None)
    for mtrrs in states.cpus.values():
        memtype.table(mtrrs)
        memtype.broken_rules(mtrrs)
    memtype.disagreeing(states.cpus)
    if states.kernel_map is not None:
        list(kernel_map.rows(states.kernel_map))


SMALL = (
    POWER_ON + ENABLE + line("kvm_msr: msr_write 2ff = 0x0") * 3,
    line("kvm_msr: write=1 ecx=2ff data=0xc06 exception=0"),
    b"CPU 0/KVM 146/151 [001] 26.9:  kvm:kvm_cr: cr_write 0 = 0x11\n" * 3,
)
TARGETS: tuple[Samples, ...] = (
    (import_capture, (*SMALL, *(_CAPTURE[n : n + 3000] for n in range(0, 120000, 3000)))),
    (import_capture, tuple(_RAW[n : n + 3000] for n in range(0, 60000, 3000))),
    (read_trace, (dumps(_AS_TRACE).encode(), dumps(_ZAPS).encode())),
    (read_csv, (_AS_CSV.encode(), "".join(tabular.csv_lines(_ZAPS)).encode())),
    (
        read_listing,
        tuple(
            part.encode()
            for part in (
                ALL_CPUS_A_LINE,
                ALONE,
                CLEANUP,
                IN_CPUS,
                ITEMS,
                LOG,
                OLD_PROC,
                ONE_A_LINE,
                PROC,
                *(path.read_text() for path in sorted((DATA / "listings").iterdir())),
                RDMSR_A,
                REAL,
            )
        ),
    ),
)

"""The readers of what 'import' and 'memtype' take; ``_KEPT`` counts them from 0."""


@cache
def all_targets() -> tuple[Samples, ...]:
    return (*TARGETS, *more())


def kept() -> list[bytes]:
    """Return the inputs that atheris kept."""
    return [text.encode("latin-1") for text in json.loads(lzma.decompress(_KEPT.read_bytes()))]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes, words or lines."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(7):
            case 0:
                found[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del found[at : at + rng.choice((1, 2, 8, 64, 1024))]
            case 2:
                found[at:at] = rng.choice(WORDS)
            case 3:
                found[at : at + rng.randrange(6)] = rng.choice(NUMBERS)
            case 4:
                lines = bytes(found).split(b"\n")
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                found = bytearray(b"\n".join(lines))
            case 5:
                lines = bytes(found).split(b"\n")
                del lines[rng.randrange(len(lines))]
                found = bytearray(b"\n".join(lines))
            case _:
                del found[at:]
    return bytes(found)


def counted(data: bytes) -> bytes:
    """Put the right number of events into the last line, so that the rest gets its turn."""
    head, _, body = data.partition(b"time_ns\n" if b"time_ns\n" in data else b"\n\n")
    joint = data[len(head) : len(data) - len(body)]
    lines = [
        line for line in body.split(b"\n") if line and not line.lstrip(b"# ").startswith(b"end")
    ]
    mark = b"# " if joint.startswith(b"time") else b""
    return head + joint + b"\n".join([*lines, b"%send %d complete\n" % (mark, len(lines))])


class TooLongError(Exception):
    """A case took more than ``SECONDS``."""


@contextmanager
def limited() -> Iterator[None]:
    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TooLongError

    # Of the processor's time: on a busy machine any case may take long by the clock on the wall.
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def case(seed: int) -> tuple[Callable[[bytes], None], bytes]:
    """Return the reader and the bytes of one case; the same for the same seed."""
    rng = random.Random(seed)
    target, samples = all_targets()[seed % len(all_targets())]
    data = mutate(rng.choice(samples), rng)
    if target in (read_trace, read_csv) and rng.random() < 0.8:
        data = counted(data)
    return target, data


def check(target: Callable[[bytes], None], data: bytes) -> str:
    """Run one case. Returns how it ended, a message of its own if it is a finding."""
    try:
        with limited():
            target(data)
    except UserError as error:
        return "UserError" if "\n" not in str(error) else f"two lines: {error!r}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    ended: Counter[str] = Counter()
    begin = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        target, data = case(seed)
        result = check(target, data)
        ended[f"{target.__name__}: {result if result in ('read', 'UserError') else 'FINDING'}"] += 1
        if result not in ("read", "UserError"):
            print(f"seed {seed}: {target.__name__}: {result}\n{data!r}", flush=True)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{arguments.cases:,} cases in {seconds:.0f} s, at most {peak} MiB")
    for what, count in sorted(ended.items()):
        print(f"  {count:10,}  {what}")
    sys.exit(any(what.endswith("FINDING") for what in ended))


if __name__ == "__main__":
    main()
