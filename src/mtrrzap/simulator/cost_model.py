"""The parameters of the model: what each means, its unit, its shipped value, and the error.

``benchmarks/calibrate.py`` fits the values; they are in ``data/cost-model.toml``.
"""

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
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
        """Cycles that one turn at a queued rwlock adds for the next in the queue.

        Six moves of a cache line, for a reader and for a writer (``queued_read_lock_slowpath()``,
        ``queued_write_lock_slowpath()``, v6.1): try the lock word, append to the queue, receive the
        head of the queue (a line of one's own CPU), see the holder's release, pass the head on,
        release. Some of these overlap and some repeat while others touch the line; only the product
        with ``handoff`` matters, and that is fitted. The PAUSE of a walk that yields
        (``__cond_resched_rwlock_write()``) passes during somebody else's turn, so it adds nothing.
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


@cache
def _file() -> dict[str, Any]:
    text = files("mtrrzap").joinpath("data/cost-model.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def costs() -> Costs:
    """Return the fitted parameters."""
    return Costs(**_file()["costs"])


def error_factor() -> float:
    """Return the geometric error of a modelled figure, as found on the held-out cells."""
    return float(_file()["error"]["held_out"])
