"""What an operation is, and what it does to the order of memory.

An object's class decides what an operation is, never a name alone: an object of the user's own may
have a ``zap`` or a ``lock`` too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mtrrzap.protocol.atomic import Atomic, Sequence
from mtrrzap.protocol.operation import ACQUIRE, FULL, RELEASE, Operation, SharedObject
from mtrrzap.protocol.shared import Spinlock
from mtrrzap.protocol.vm import Allocator, Cpu, Mmu

_LOADS = frozenset({"load", "wait_until", "reached", "wait_reached"})


class Sync(NamedTuple):
    """What an operation does to happens-before, by way of the object number ``target``.

    One that ``acquires`` comes after what its object publishes. One that ``stores`` hides what was
    published before, and publishes its own past if it ``releases``. One that ``exchanges`` adds
    its own past to what is published.
    """

    target: int
    acquires: bool
    stores: bool
    releases: bool
    exchanges: bool


def is_zap(operation: Operation, verb: str = "zap") -> bool:
    """Say whether this is a zap of the MMU; ``verb`` may be one of its halves."""
    return operation.verb == verb and isinstance(operation.target, Mmu)


def is_lock(operation: Operation, verb: str = "lock") -> bool:
    """Say whether this takes a spinlock; ``verb`` may be ``unlock`` or ``join``."""
    return operation.verb == verb and isinstance(operation.target, Spinlock)


def is_alloc(operation: Operation) -> bool:
    """Say whether this is an allocation."""
    return operation.verb == "alloc" and isinstance(operation.target, Allocator)


def is_load(operation: Operation) -> bool:
    """Say whether this only reads a variable."""
    return operation.verb in _LOADS and isinstance(operation.target, Atomic | Sequence)


def is_store(operation: Operation) -> bool:
    """Say whether this only writes: a variable, or the word of a lock that is released."""
    verb, target = operation.verb, operation.target
    if isinstance(target, Atomic):
        return verb == "store"
    return is_lock(operation, "unlock") or (isinstance(target, Sequence) and verb == "post")


def lacks_lock(held: frozenset[SharedObject], operation: Operation) -> bool:
    """Say whether ``operation`` needs a lock that is not among those that are ``held``."""
    guard = operation.target.guard
    if guard is not None and guard not in held:
        return True
    return is_lock(operation, "unlock") and operation.target not in held


def synchronises(target: SharedObject) -> bool:
    """Say whether vCPUs may synchronise through this object: what a lock guards needs no more."""
    return target.guard is None and not isinstance(target, Mmu | Allocator | Cpu)


def sync(operation: Operation, result: Any, target: int) -> Sync | None:
    """Return what an operation that has sent back ``result`` does to happens-before, if anything.

    Its object is one that synchronises. A lock orders its holders; an exchange that fails orders
    nothing.
    """
    order, locks = operation.order, isinstance(operation.target, Spinlock)
    stores, reads = is_store(operation), is_load(operation) or is_lock(operation)
    exchange = isinstance(operation.target, Atomic) and operation.verb == "cmpxchg"
    exchanged = not (stores or reads or (exchange and result != operation.args[0]))
    found = Sync(
        target,
        acquires=(reads or exchanged) and (locks or order in (ACQUIRE, FULL)),
        stores=stores,
        releases=stores and (locks or order in (RELEASE, FULL)),
        exchanges=exchanged and order in (RELEASE, FULL),
    )
    return found if any(found[1:]) else None
