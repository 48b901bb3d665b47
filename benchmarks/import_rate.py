"""Lines a second of the readers, next to a regular expression per line, and the importer's memory.

Run: ``python benchmarks/import_rate.py [--gigabytes 5]``. The captures are made up of a real boot's
kinds of lines: kvm_entry, kvm_exit and kvm_pio in the two text forms, and a mix with scheduler,
interrupt and system-call events; every few thousand lines there is an MTRR or CR0 access. The
listings are a boot log of 100,000 lines whose block of MTRRs is its first or its last, dumps of 400
processors, and 200 variable ranges. The times are the process's own, the least of several.
"""

import argparse
import json
import multiprocessing
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mtrrzap.guest import listing
from mtrrzap.guest.importer import Known, read_capture

LINES = 300_000

PER_LINE = re.compile(
    rb"\s*(?P<name>.{1,16}?)-(?P<tid>\d+)\s+\[\d+\]\s+(?:\S+\s+)?"
    rb"(?P<seconds>\d+)\.(?P<fraction>\d+): (?P<event>\w+):\s+(?P<body>.*)"
)
"""What a straightforward importer would match against every line."""

TRACE_CMD = (
    "       CPU 0/KVM-796   [000] {t}: kvm_entry:            vcpu 0 rip 0xffffffff81{x:06x}",
    "       CPU 0/KVM-796   [000] {t}: kvm_exit:             reason EXIT_IOIO rip 0x{x:x} info 1 0",
    "       CPU 0/KVM-796   [000] {t}: kvm_pio:              pio_write at 0x402 size 1 count 1",
)
FTRACE = (
    "       CPU 0/KVM-796     [000] d..1. {t}: kvm_entry: vcpu 0, rip 0xffffffff81{x:06x}",
    "       CPU 0/KVM-796     [000] ..... {t}: kvm_exit: vcpu 0 reason npf rip 0x{x:x} info1 "
    "0x0000000100000014 info2 0x00000000fffffff0 intr_info 0x00000000 error_code 0x00000000",
    "       CPU 0/KVM-796     [000] ..... {t}: kvm_pio: pio_read at 0x71 size 1 count 1 val 0x0 ",
)
MIXED = (
    *FTRACE,
    "          <idle>-0       [001] d..2. {t}: sched_switch: prev_comm=swapper/1 prev_pid=0 "
    "prev_prio=120 prev_state=R ==> next_comm=kworker/1:2 next_pid={x} next_prio=120",
    "     qemu-system-790     [001] d.h1. {t}: irq_handler_entry: irq=24 name=ahci[0000:00:1f.2]",
    "     qemu-system-790     [001] ..... {t}: sys_enter: NR 16 (d, ae80, 0, 0, 7f{x:06x}, 0)",
)
MATTERS = (
    "       CPU 0/KVM-796   [000] ..... {t}: kvm_msr: msr_write 2ff = 0x0",
    "       CPU 0/KVM-796   [000] ..... {t}: kvm_msr: msr_write 2ff = 0xc06",
    "       CPU 0/KVM-796   [000] ..... {t}: kvm_cr: cr_write 0 = 0xc0050033",
    "       CPU 0/KVM-796   [000] ..... {t}: kvm_cr: cr_write 0 = 0x80050033",
)


def text(forms: tuple[str, ...], count: int = LINES) -> bytes:
    rng = random.Random(1)
    lines = []
    for number in range(count):
        stamp = f"{number // 10000}.{number % 10000 * 100:06}"
        form = rng.choice(forms) if number % 3000 else MATTERS[number // 3000 % 4]
        lines.append(form.format(t=stamp, x=rng.randrange(1 << 20)))
    return ("\n".join(lines) + "\n").encode()


PER_MSR = re.compile(r"(?:cpu (\d+): )?(?:0x)?(\w+)[:= ]+(?:0x)?([0-9a-f]+)$")
"""What a straightforward reader would match against every line of a listing."""
MSRS = (0x2FF, 0x250, 0x258, 0x259, *range(0x268, 0x270), *range(0x200, 0x210, 2))
BLOCK = (
    "[    0.000000] MTRR default type: write-back",
    "[    0.000000] MTRR variable ranges enabled:",
    *(
        f"[    0.000000]   {reg} base 00{reg + 8:X}0000000 mask 7FF0000000 uncachable"
        for reg in range(8)
    ),
)


def listings() -> dict[str, str]:
    log = [
        f"[    1.{n % 10**6:06}] pci 0000:00:{n % 32:02x}.0: BAR 0 [mem 0x{n:08x}]"
        for n in range(100_000)
    ]
    dump = [f"cpu {cpu}: {msr:#x} {0:#x}" for cpu in range(400) for msr in MSRS]
    by_cpu = {str(cpu): {f"{msr:#x}": "0x0" for msr in MSRS} for cpu in range(400)}
    ranges = [
        f"reg{n:02}: base=0x{n << 20:09x} ({n:5}MB), size=    1MB, count=1: uncachable"
        for n in range(200)
    ]
    return {
        "boot log, block first": "\n".join((*BLOCK, *log)),
        "boot log, block last": "\n".join((*log, *BLOCK)),
        "dump, 400 processors": "\n".join(dump),
        "dump in JSON": json.dumps(by_cpu, indent=0),
        "/proc/mtrr, 200 ranges": "\n".join(ranges),
    }


def least(work: Callable[[], object], times: int = 5) -> float:
    """Return the least seconds of the processor that some work took."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def chunks(data: bytes) -> Iterator[memoryview]:
    """Not copies: both ways begin with bytes in memory."""
    whole = memoryview(data)
    return (whole[start : start + (1 << 19)] for start in range(0, len(data), 1 << 19))


def imported(data: bytes) -> None:
    capture = read_capture(lambda: chunks(data), "capture")
    capture.trace(capture.vms[0], Known())


def per_line(data: bytes) -> None:
    found = 0
    for line in data.splitlines():
        match = PER_LINE.match(line)
        found += match is not None and match["event"] in (b"kvm_msr", b"kvm_cr")
    assert found == LINES // 3000


def row(name: str, lines: int, fast: float, slow: float) -> None:
    print(f"{name:28}{lines / fast:20,.0f}{lines / slow:20,.0f}{slow / fast:8.1f}")


def peak() -> float:
    """Return the peak RSS in MiB. Not from getrusage: that begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    gigabytes = parser.parse_args().gigabytes
    print(f"{'':28}{'reader, lines/s':>20}{'regex, lines/s':>20}{'times':>8}")
    for name, forms in (
        ("KVM events, trace-cmd", TRACE_CMD),
        ("KVM events, ftrace", FTRACE),
        ("KVM, scheduler, IRQs", MIXED),
    ):
        data = text(forms)
        row(name, LINES, least(partial(imported, data)), least(partial(per_line, data), 3))
    for name, listed in listings().items():
        lines = listed.split("\n")
        slow = least(lambda lines=lines: [PER_MSR.search(line) for line in lines])
        row(name, len(lines), least(partial(listing.read, listed, name)), slow)
    # A process of its own, so that the peak is the importer's and not that of the above.
    child = multiprocessing.get_context("spawn").Process(target=large, args=(gigabytes,))
    child.start()
    child.join()


def large(gigabytes: float) -> None:
    data = text(MIXED, LINES // 10)
    times = int(gigabytes * 1e9 / len(data)) + 1
    before = peak()
    begin = time.perf_counter()
    capture = read_capture(lambda: (c for _ in range(times) for c in chunks(data)), "capture")
    trace = capture.trace(capture.vms[0], Known()).trace
    seconds = time.perf_counter() - begin
    print(
        f"\n{times * len(data) / 1e9:.1f} GB, {times * LINES // 10:,} lines, "
        f"{len(trace.events):,} events: {seconds:.1f} s; peak RSS {peak():.0f} MiB, "
        f"of which {before:.0f} were there before"
    )


if __name__ == "__main__":
    main()
