"""For every engine: check what a protocol yields, and find the line where it stands."""

from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import Operation, SharedObject, Steps


class UnyieldedError(UserError):
    """An operation, or a generator of operations, that no engine ever gets to perform."""


def judged(operation: Any, steps: Steps, objects: Iterable[SharedObject]) -> Operation:
    """Return what a protocol has yielded, if it is a valid operation.

    Raises:
        UserError: with the file and line of the yield, if it is not.
    """
    if not isinstance(operation, Operation):
        kind = type(operation)
        shown = repr(operation)[:60] if kind in _PLAIN else f"a {kind.__name__}"
        raise UserError(
            f"the protocol yielded {shown}, which is not an operation", place=where(steps)
        )
    if not any(operation.target is known for known in objects):
        raise UserError(
            f"{operation} is an operation of an object outside this VM",
            place=where(steps),
            mend="make the object a class attribute of the VM",
        )
    wrong = operation.target.refuses(operation)
    if wrong:
        raise UserError(wrong, place=where(steps))
    return operation


_PLAIN = (int, bool, float, str, bytes, type(None))


def chain(steps: Any) -> Iterator[Any]:
    """Yield a generator, the one it delegates to, and so on inwards."""
    while isinstance(steps, GeneratorType):
        yield steps
        steps = steps.gi_yieldfrom


def where(steps: Steps | None) -> str:
    """Return ``file:line`` of the yield at which a generator stands, innermost frame."""
    place = ""
    for generator in chain(steps):
        frame = generator.gi_frame
        if frame is not None:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return place
