"""Account full zaps of a 12 TiB guest mapped with 4 KiB pages: time, and memory of the table.

Run: python benchmarks/tdp_accounting.py
"""

import time
import tracemalloc

from mtrrzap.gfn import EVERYTHING
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Walk, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp import Memslot, PageTable
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.mtrr import Mtrrs

TIB = 1 << 28
HOLE = (0xC0000, 0x100000)
WB_WITH_A_HOLE = (
    Mtrrs(46).write(0x2FF, 0x806).write(0x200, HOLE[0] << 12).write(0x201, 0x3FFFC0000800)
)


def measure(scattered: int) -> None:
    """Fill the guest, zap every ``scattered``-th MiB's first page alone, then everything."""
    vcpu = Vcpu(WB_WITH_A_HOLE, 0x80050033)
    mask = MtMask(by_name("v6.1"), Host())
    for walk in Walk:
        tracemalloc.start()
        begin = time.perf_counter()
        table = PageTable([Memslot(0, HOLE[0], 1), Memslot(HOLE[1], 12 * TIB, 1)])
        table.fill(vcpu, mask)
        filled = time.perf_counter()
        for gfn in range(0, scattered << 8, 256):
            table.zap(EVERYTHING._replace(start=gfn, end=gfn + 1), walk)
        holed = time.perf_counter()
        found = table.zap(EVERYTHING, walk)
        done = time.perf_counter()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"{walk.name.lower():8} {scattered:7,} holes: fill {filled - begin:.4f} s, "
            f"holes {holed - filled:.3f} s, full zap {done - holed:.4f} s, "
            f"peak {peak / 2**20:.2f} MiB; {found}"
        )


if __name__ == "__main__":
    for count in (0, 1_000, 100_000):
        measure(count)
