"""What an operation is to the checker, and what it does to a value.

An object's class decides what an operation is, never a name alone: an object of the user's own may
have a ``zap`` or a ``lock`` too. To the checker each of these is one indivisible step, like a
locked instruction, ordered as far as it declares.
"""

from __future__ import annotations

from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import FULL, Allocator, Atomic, Mmu, Operation, Outcome, Sequence, Spinlock

_LOADS = frozenset({"load", "wait_until", "reached", "wait_reached"})


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


def is_buffered(operation: Operation) -> bool:
    """Say whether x86 puts this operation into the store buffer."""
    return is_store(operation) and operation.order is not FULL and operation.target.guard is None


def drains(operation: Operation) -> bool:
    """Say whether x86 lets this operation wait until the store buffer is empty."""
    if operation.target.guard is not None or is_alloc(operation):
        return False
    plain = is_load(operation) or is_store(operation)
    return operation.order is FULL or not plain


def outcomes(value: Any, operation: Operation, vcpu: int, where: str) -> tuple[Outcome, ...]:
    """Return the outcomes of an operation, whose yield stands at ``where``.

    Raises:
        UserError: if the object fails at it, or its next value is not hashable.
    """
    try:
        found = operation.target.effect(value, operation, vcpu)
        for after, _ in found:
            hash(after)
    except UserError:
        raise
    except Exception as error:
        what = f"{operation.target.name}.{operation.verb}{operation.args!r}"
        raise UserError(f"{what}: {type(error).__name__}: {error}", place=where) from error
    return found
