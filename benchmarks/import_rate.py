"""Lines a second of the importer, next to a ``re.match`` per line, and its memory.

Run: ``python benchmarks/import_rate.py [--gigabytes 5]``. The captures are made up of a real boot's
kinds of lines: kvm_entry, kvm_exit and kvm_pio in the two text forms, and a mix with scheduler,
interrupt and system-call events; every few thousand lines there is an MTRR or CR0 access.
"""

import argparse
import multiprocessing
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

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


def chunks(data: bytes) -> Iterator[memoryview]:
    """Not copies: both ways begin with bytes in memory."""
    whole = memoryview(data)
    return (whole[start : start + (1 << 19)] for start in range(0, len(data), 1 << 19))


def imported(data: bytes) -> float:
    begin = time.perf_counter()
    capture = read_capture(lambda: chunks(data), "capture")
    capture.trace(capture.vms[0], Known())
    return LINES / (time.perf_counter() - begin)


def per_line(data: bytes) -> float:
    begin = time.perf_counter()
    found = 0
    for line in data.splitlines():
        match = PER_LINE.match(line)
        found += match is not None and match["event"] in (b"kvm_msr", b"kvm_cr")
    assert found == LINES // 3000
    return LINES / (time.perf_counter() - begin)


def peak() -> float:
    """Return the peak RSS in MiB. Not from getrusage: that begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    gigabytes = parser.parse_args().gigabytes
    print(f"{'capture':28}{'importer, lines/s':>20}{'re.match, lines/s':>20}{'times':>8}")
    for name, forms in (
        ("KVM events, trace-cmd", TRACE_CMD),
        ("KVM events, ftrace", FTRACE),
        ("KVM, scheduler, IRQs", MIXED),
    ):
        data = text(forms)
        fast = max(imported(data) for _ in range(5))
        slow = max(per_line(data) for _ in range(3))
        print(f"{name:28}{fast:20,.0f}{slow:20,.0f}{fast / slow:8.1f}")
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
