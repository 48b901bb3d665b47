"""What real zaps, faults and exits take on this host, and the policies side by side on it.

Run: python benchmarks/live.py [REPEAT]

Writes the end of docs/live-inside.md: needs /dev/kvm, an otherwise idle machine, some minutes.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter

from mtrrzap.cli.run import USUAL, case_of
from mtrrzap.guest import open as traces
from mtrrzap.kvm.replay import Host
from mtrrzap.live import guest, host
from mtrrzap.live import ioctl as k
from mtrrzap.live.guest import GuestOp, TableEntry
from mtrrzap.live.host import environment
from mtrrzap.live.measure import Engine, RunSettings, measure
from mtrrzap.live.plan import plan
from mtrrzap.live.tally import Run
from mtrrzap.live.vm import LiveVm
from mtrrzap.report.live import COUNTED, MODELLED, TIMED, line
from mtrrzap.study.live_runs import measured
from mtrrzap.study.rescale import with_vcpus

DOC = Path(__file__).parent.parent / "docs/live-inside.md"
MARK = "<!-- what follows is made by benchmarks/live.py; do not edit -->"
MIB = 64
TIMES = 50


def machine(touch: int, entries: int, *, huge: bool) -> LiveVm:
    """One vCPU of this thread, which touches so many pages before each of so many WRMSRs."""
    table = [TableEntry(GuestOp.WRMSR, 0x2FF, 0xC06)] * entries
    where = guest.layout(MIB << 20, [entries], touch)
    made = LiveVm(where, [table], [0], huge=huge)
    made.enter(0)
    return made


def zaps(*, huge: bool) -> tuple[float, float, float]:
    """Return µs of a zap of all memory, and of touching it after a zap and without one."""
    made = machine(MIB << 8, 2 * TIMES + 1, huge=huge)
    vcpu, zap, again, warm = made.vcpus[0], [], [], []
    with closing(made):
        vcpu.run()
        for _ in range(TIMES):
            begin = perf_counter()
            made.memory.zap(0, MIB << 20 >> 12)
            done = perf_counter()
            vcpu.run()
            refaulted = perf_counter()
            vcpu.run()
            zap.append(done - begin)
            again.append(refaulted - done)
            warm.append(perf_counter() - refaulted)
        made.leave(0)
    return tuple(1e6 * statistics.median(each) for each in (zap, again, warm))  # type: ignore[return-value]


def exits() -> tuple[float, float]:
    """Return µs from one WRMSR's exit to the next one's, and how many of them are Python's."""
    count = 20_000
    made = machine(1, count, huge=False)
    vcpu = made.vcpus[0]
    with closing(made):
        fd = vcpu._fd
        begin = perf_counter()
        for _ in range(count // 2):
            vcpu.run()
        whole = perf_counter() - begin
        inside = 0.0
        for _ in range(count // 2):
            begin = perf_counter()
            host.ioctl(fd, k.RUN)
            inside += perf_counter() - begin
        made.leave(0)
    each = 1e6 * whole / (count // 2)
    return each, each - 1e6 * inside / (count // 2)


def costs() -> Iterator[str]:
    """Yield the table of costs."""
    yield f"| {MIB} MiB, {TIMES} times | 4 KiB pages | 2 MiB pages |"
    yield "| --- | ---: | ---: |"
    small, large = zaps(huge=False), zaps(huge=True)
    yield f"| a zap of all of it, µs a MiB | {small[0] / MIB:.1f} | {large[0] / MIB:.2f} |"
    pages = MIB << 20 >> 12
    for what, at in (("after a zap", 1), ("without one", 2)):
        cells = " | ".join(f"{each[at] / pages:.3f}" for each in (small, large))
        yield f"| one access to each page {what}, µs a page | {cells} |"
    whole, python = exits()
    yield ""
    yield f"A WRMSR and one access take {whole:.1f} µs, {python:.1f} of them in Python."


def table(repeat: int) -> Iterator[str]:
    """Yield the table of policies, in fixed columns; a heading has one word a line."""
    headings = ("guest", "vCPUs", "MiB", *COUNTED, *TIMED, *MODELLED)
    height = max(len(each.split()) for each in headings)
    stacked = [[""] * (height - len(each.split())) + each.split() for each in headings]
    yield "```text"
    yield from (_columns(line) for line in zip(*stacked, strict=True))
    for name in ("seabios", "ovmf"):
        for vcpus in (2, 8, 16):
            for memory in (64, 256):
                yield from map(_columns, rows(name, vcpus, memory, repeat))
    yield "```"


def _columns(cells: Sequence[str]) -> str:
    """Return a line: the guest and the policy to the left, figures to the right."""
    words = [cell.ljust(7) if n in (0, 3) else cell.rjust(9) for n, cell in enumerate(cells)]
    return " ".join(words).rstrip()


def rows(name: str, vcpus: int, memory: int, repeat: int) -> Iterator[list[str]]:
    trace = with_vcpus(traces.load(Path(f"{name}-{max(vcpus, 8)}")), vcpus)
    cases = [case_of(policy) for policy in USUAL]
    settings = RunSettings(engine=Engine.LIVE, memory=memory << 20)
    runs: list[list[Run]] = [[] for _ in cases]
    for index, made in measure(cases, plan(trace), Host(), settings, repeat=repeat):
        runs[index].append(made)
    for row in measured(trace, Host(), 1, list(zip(cases, runs, strict=True))):
        for finding in row.findings:
            print(f"{name} {vcpus} {memory}: {finding}", file=sys.stderr)
        yield [trace.header.family, str(vcpus), str(memory), *map(_cell, line(row))]


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def main(arguments: Sequence[str]) -> None:
    repeat = int(arguments[0]) if arguments else 5
    around = environment()
    host_is = f"Linux {around.kernel}, {around.second_stage}, {around.cores} cores"
    made = [
        MARK,
        "",
        f"{host_is}; medians of {repeat} runs, times in ms, modelled ones in Mcycles.",
    ]
    for part in ([""], costs(), [""], table(repeat)):
        for text in part:
            print(text, flush=True)
            made.append(text)
    kept, _, _ = DOC.read_text(encoding="utf-8").partition(MARK)
    DOC.write_text(kept + "\n".join(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
