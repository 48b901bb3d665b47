"""What an operation does to a value, asked of an object that a user may have written."""

from __future__ import annotations

from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import Operation
from mtrrzap.protocol.operation import Outcome


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
