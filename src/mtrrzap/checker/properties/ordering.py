"""*Ordering*: a call that returns is ordered after the zap that let it return.

A diagnostic of its own, for what the kernel's memory model permits and x86 hides: every property
here is explored under strong orders, where a relaxed read that sees a released value also sees all
that came before it. The memory model promises that only if the read *acquires*. A waiter that
leaves on a plain ``atomic_read()`` may run on as if the zap had not happened yet.

The ghost follows acquires that read from releases, as vector clocks do (not the A-cumulativity of
a release after a relaxed read, which the kernel's model has too). It keeps only what matters: which
vCPU, and which release of which object, comes after the end of a zap that counts for whose call.
A lock orders its holders; a failed exchange orders nothing; a relaxed store hides what was
released before.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from mtrrzap.checker.ghost import GhostStep
from mtrrzap.checker.properties.lost_zap import LostZap, swap_bits
from mtrrzap.checker.scenario import Scenario
from mtrrzap.protocol import SharedObject
from mtrrzap.protocol.meaning import Sync, sync, synchronises

NAME = "ordering"
FLAG = 8

Known = tuple[int, ...]
"""For each vCPU: which atoms of its call are known to be zapped."""


class OrderedCall(NamedTuple):
    """One vCPU's call: atoms asked for, atoms zapped, and vCPUs whose zap began after the call."""

    asked: int
    zapped: int
    zappers: int


class Value(NamedTuple):
    """The calls, what each vCPU knows of them, and what each object publishes."""

    calls: tuple[OrderedCall, ...]
    vcpus: tuple[Known, ...]
    objects: tuple[Known, ...]


_NO_CALL = OrderedCall(0, 0, 0)


class Ordering:
    """The ghost of *ordering*."""

    def __init__(self, scenario: Scenario, objects: tuple[SharedObject, ...]) -> None:
        self._zaps = LostZap(scenario)
        self._vcpus = scenario.vcpus
        synchronising = filter(synchronises, objects)
        self._numbers = {target: number for number, target in enumerate(synchronising)}

    def initial(self) -> Hashable:
        """Nobody knows of any zap."""
        nothing = (0,) * self._vcpus
        vcpus, objects = (nothing,) * self._vcpus, (nothing,) * len(self._numbers)
        return Value((_NO_CALL,) * self._vcpus, vcpus, objects)

    def event(self, step: GhostStep) -> Hashable:
        """Keep what *lost zap* keeps, and what orders."""
        zap = self._zaps.event(step)
        target = self._numbers.get(step.operation.target)
        orders = None if target is None else sync(step.operation, step.result, target)
        return None if zap is None and orders is None else (zap, orders)

    def after(self, value: Any, event: Any, vcpu: int) -> tuple[Hashable, int]:
        """Follow one step; the flag says that the call returns unordered."""
        zap, orders = event
        called, begun, ended, returns = zap or (-1, -1, -1, False)
        if called >= 0:
            value = _opened(value, vcpu, OrderedCall(called, 0, 0))
        if orders:
            value = _synchronised(value, orders, vcpu)
        if begun >= 0:
            calls = (_begun(call, begun, vcpu) for call in value.calls)
            value = value._replace(calls=tuple(calls))
        if ended >= 0:
            value = _ended(value, ended, vcpu)
        if not returns:
            return value, 0
        asked, zapped, _ = value.calls[vcpu]
        unordered = zapped == asked != value.vcpus[vcpu][vcpu]
        return _opened(value, vcpu, _NO_CALL), FLAG if unordered else 0

    def key(self, value: Any, vcpu: int) -> int:
        """Sort by the call, then by what the vCPU knows of it."""
        asked, zapped, zappers = value.calls[vcpu]
        share: int = zapped << 5 | asked << 4 | zappers.bit_count()
        known: int = value.vcpus[vcpu][vcpu]
        return (share << 8 | known) & 0x7FFFFFFF

    def swapped(self, value: Any, vcpu: int) -> Hashable:
        """Exchange two vCPUs, in what they know and in what is known of them."""
        calls = (call._replace(zappers=swap_bits(call.zappers, vcpu)) for call in value.calls)
        return Value(
            _exchanged(tuple(calls), vcpu),
            _exchanged(tuple(_exchanged(known, vcpu) for known in value.vcpus), vcpu),
            tuple(_exchanged(known, vcpu) for known in value.objects),
        )


def _synchronised(value: Value, orders: Sync, vcpu: int) -> Value:
    vcpus, objects = list(value.vcpus), list(value.objects)
    if orders.acquires:
        vcpus[vcpu] = _union(vcpus[vcpu], objects[orders.target])
    if orders.stores:
        objects[orders.target] = vcpus[vcpu] if orders.releases else (0,) * len(vcpus)
    elif orders.exchanges:
        objects[orders.target] = _union(vcpus[vcpu], objects[orders.target])
    return value._replace(vcpus=tuple(vcpus), objects=tuple(objects))


def _begun(call: OrderedCall, begun: int, zapper: int) -> OrderedCall:
    return call._replace(zappers=call.zappers | 1 << zapper) if call.asked & begun else call


def _ended(value: Value, ended: int, zapper: int) -> Value:
    calls, known = list(value.calls), list(value.vcpus[zapper])
    for vcpu, (asked, zapped, zappers) in enumerate(calls):
        if zappers >> zapper & 1:
            calls[vcpu] = OrderedCall(asked, zapped | asked & ended, zappers & ~(1 << zapper))
            known[vcpu] |= asked & ended
    return value._replace(
        calls=tuple(calls),
        vcpus=(*value.vcpus[:zapper], tuple(known), *value.vcpus[zapper + 1 :]),
    )


def _opened(value: Value, vcpu: int, call: OrderedCall) -> Value:
    """Begin or end a call: nobody knows anything of it."""
    return Value(
        (*value.calls[:vcpu], call, *value.calls[vcpu + 1 :]),
        tuple(_set(known, vcpu, 0) for known in value.vcpus),
        tuple(_set(known, vcpu, 0) for known in value.objects),
    )


def _set(known: Known, vcpu: int, bits: int) -> Known:
    return (*known[:vcpu], bits, *known[vcpu + 1 :])


def _union(one: Known, other: Known) -> Known:
    return tuple(a | b for a, b in zip(one, other, strict=True))


def _exchanged(items: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return (*items[:at], items[at + 1], items[at], *items[at + 2 :])
