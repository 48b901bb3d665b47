"""What things cost: the parameters of the model, each with a physical meaning and a unit.

Their values are fitted by ``benchmarks/calibrate.py`` and live in ``data/cost-model.toml``.
"""

from dataclasses import dataclass, field, fields
from typing import Any

PAUSE = 140.0
"""Cycles of one PAUSE, ``cpu_relax()``, since Skylake (Intel's optimization manual)."""


def _is(says: str, unit: str) -> Any:
    return field(metadata={"says": says, "unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """One host and the habits of its guests."""

    visit: float = _is("look at one page-table entry, nobody queueing", "cycles")
    handoff: float = _is("pass a contended cache line to another vCPU", "cycles")
    retry: float = _is(
        "a page fault: from one attempt at mmu_lock to the next, or to a vCPU that goes on",
        "cycles",
    )
    pages: float = _is(
        "pages that all vCPUs use, with paging: code, a word that is polled, page tables", "pages"
    )
    flush: float = _is("a remote TLB flush, for each vCPU that runs", "cycles")
    free: float = _is("free one page-table page, 512 entries, with a subtree (patch 12)", "cycles")
    leave: float = _is("one exit of the guest: a write to an MSR or CR0 without its zap", "cycles")
    wake: float = _is(
        "exits that no trace shows, of a vCPU that a SIPI wakes in firmware with paging", "cycles"
    )
    stagger: float = _is("between the arrivals of vCPUs that are woken together", "cycles")
    again: float = _is("blocks of 2 MiB of RAM that running vCPUs use between zaps", "blocks")
    unpaged_blocks: float = _is(
        "blocks of 2 MiB of RAM that firmware has touched that runs without paging", "blocks"
    )
    firmware_blocks: float = _is(
        "blocks of 2 MiB of RAM that firmware has touched that has paging on", "blocks"
    )
    kernel_blocks: float = _is("blocks of 2 MiB that a kernel has touched, per GiB", "blocks/GiB")
    mmio_blocks: float = _is("blocks of 2 MiB with emulated devices below 4 GiB", "blocks")

    @property
    def turn(self) -> float:
        """Return the cycles that a turn at a queued rwlock adds for whoever comes next.

        A reader's or a writer's: taken as six moves of a cache line for either. Both try the lock
        word, append themselves, are handed the queue (a line of their CPU's), see the release
        before them, pass the queue on, and release (``queued_read_lock_slowpath()``,
        ``queued_write_lock_slowpath()``, v6.1). Some of that overlaps, some is repeated as others
        touch the line; only the product with ``handoff`` matters. The PAUSE of whoever yields
        (``__cond_resched_rwlock_write()``) passes during somebody else's turn.
        """
        return 6 * self.handoff

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the parameters in order."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def about(cls, name: str) -> tuple[str, str]:
        """Return what a parameter means, and its unit."""
        found = next(f for f in fields(cls) if f.name == name)
        return found.metadata["says"], found.metadata["unit"]
