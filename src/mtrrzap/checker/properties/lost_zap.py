"""*No lost zap*: when a call returns, every frame of its ranges has been zapped for it.

Zapped by a zap that **started after the call was made** and finished before the return: an earlier
one may have passed a frame before the guest changed its type.

The gfn space is cut into atoms at the ends of the requested ranges. The ghost holds for every vCPU
the atoms that its call still waits for, and the zaps in flight (by vCPU) that began after the call.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import Any

from mtrrzap.checker.ghost import GhostStep
from mtrrzap.checker.scenario import Scenario
from mtrrzap.protocol import Range
from mtrrzap.protocol.meaning import is_zap

NAME = "lost zap"
FLAG = 1

Value = tuple[tuple[int, int], ...]
"""For each vCPU: bits of the atoms outstanding, bits of the vCPUs whose zap counts for them."""


class Atoms:
    """The pieces of the gfn space that no request tells apart, as bits."""

    def __init__(self, scenario: Scenario) -> None:
        wanted = {entry for each in scenario.requests for request in each for entry in request}
        ends = sorted({end for entry in wanted for end in entry})
        pieces = pairwise(ends)
        self._atoms: list[Range] = [
            Range(low, high)
            for low, high in pieces
            if any(start <= low and high <= end for start, end in wanted)
        ]

    def __len__(self) -> int:
        return len(self._atoms)

    def mask(self, ranges: tuple[tuple[int, int], ...]) -> int:
        """Return the bits of the atoms that lie fully inside one of ``ranges``."""
        return sum(
            1 << bit
            for bit, (low, high) in enumerate(self._atoms)
            if any(start <= low and high <= end for start, end in ranges)
        )


class LostZap:
    """The ghost of *no lost zap*."""

    def __init__(self, scenario: Scenario) -> None:
        self._vcpus = scenario.vcpus
        self._atoms = Atoms(scenario)

    @property
    def atoms(self) -> int:
        """How many bits an outstanding range takes."""
        return len(self._atoms)

    def initial(self) -> Hashable:
        """Nobody has asked for anything."""
        return ((0, 0),) * self._vcpus

    def event(self, step: GhostStep) -> Hashable:
        """Keep the call, the zap's begin or end, and the return."""
        called = -1 if step.call is None else self._atoms.mask(step.call)
        begun = ended = -1
        if is_zap(step.operation, "zap_begin"):
            begun = self._atoms.mask((step.operation.args,))
        elif is_zap(step.operation, "zap_end"):
            ended = self._atoms.mask((step.operation.args,))
        event = (called, begun, ended, step.returns)
        return None if event == (-1, -1, -1, False) else event

    def after(self, value: Value, event: Any, vcpu: int) -> tuple[Value, int]:
        """Follow one step; the flag says that the call returns too early."""
        called, begun, ended, returns = event
        shares = list(value)
        me = 1 << vcpu
        if called >= 0:
            shares[vcpu] = (called, 0)
        if begun >= 0:
            shares = [(out, ours | me) if out & begun else (out, ours) for out, ours in shares]
        if ended >= 0:
            shares = [_finish(out, ours, ended, me) for out, ours in shares]
        flag = 0
        if returns:
            flag = FLAG if shares[vcpu][0] else 0
            shares[vcpu] = (0, 0)
        return tuple(shares), flag

    def key(self, value: Value, vcpu: int) -> int:
        """Return what is outstanding, how many zaps count for it, and for how many mine counts."""
        outstanding, ours = value[vcpu]
        mine = sum(1 for _, others in value if others >> vcpu & 1)
        return (outstanding << 8 | ours.bit_count() << 4 | mine) & 0x7FFFFFFF

    def swapped(self, value: Value, vcpu: int) -> Value:
        """Exchange two shares, and the two vCPUs' bits in all of them."""
        shares = [(out, swap_bits(ours, vcpu)) for out, ours in value]
        shares[vcpu], shares[vcpu + 1] = shares[vcpu + 1], shares[vcpu]
        return tuple(shares)


def _finish(outstanding: int, ours: int, ended: int, zapper: int) -> tuple[int, int]:
    if not ours & zapper:
        return outstanding, ours
    outstanding &= ~ended
    return (outstanding, ours & ~zapper) if outstanding else (0, 0)


def swap_bits(bits: int, at: int) -> int:
    """Exchange the bits ``at`` and ``at + 1``."""
    low, high = bits >> at & 1, bits >> at + 1 & 1
    return bits & ~(3 << at) | low << at + 1 | high << at
