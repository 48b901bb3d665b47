"""What an operation does to a value, and to x86's store buffer.

To the checker each operation is one indivisible step, like a locked instruction, ordered as far as
it declares.
"""

from __future__ import annotations

from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import FULL, Operation, Outcome
from mtrrzap.protocol.meaning import is_alloc, is_load, is_store


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
    if len(found) > operation.target.choices(operation):
        raise UserError(
            f"{operation} has {len(found)} outcomes on {value!r}",
            place=where,
            mend=f"let {operation.target.name}.choices() return the largest number",
        )
    return found
