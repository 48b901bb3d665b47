"""What a protocol zaps for one vCPU that asks while nobody else does.

A list drops duplicates, an array rounds ranges to blocks and joins them: the calls that KVM makes
then are not the ranges of the request, but they are certain.
"""

from functools import lru_cache
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.gfn import Range
from mtrrzap.protocol.load import load

_MOST = 10_000
"""Operations of one call."""


@lru_cache(maxsize=4096)
def alone(spec: str, ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Return the zaps of a protocol, in order; allocations succeed.

    ``spec`` is as in ``protocol.load``. Raises ``UserError`` if the protocol waits, or never ends.
    """
    protocol = load(spec)
    values: dict[str, Any] = {each.name: each.initial for each in protocol.vm.objects()}
    call = protocol.call(protocol.vm(), ranges)
    made: list[Range] = []
    result: Any = None
    for _ in range(_MOST):
        try:
            operation = call.send(result)
        except StopIteration:
            return tuple(made)
        if operation.verb == "zap":
            made.append(Range(*operation.args))
        name = operation.target.name
        outcomes = operation.target.effect(values[name], operation, 0)
        if not outcomes:
            break
        values[name], result = outcomes[0]
    raise UserError(f"{protocol.name} does not come to its end although nobody else asks")
