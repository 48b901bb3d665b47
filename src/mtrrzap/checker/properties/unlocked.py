"""*No unlocked access*: whoever uses what a lock guards holds that lock.

Also: nobody releases a lock that it does not hold. The objects declare their guard; which locks a
vCPU holds is part of its local state, so this needs no ghost.
"""

from mtrrzap.checker.meaning import is_lock
from mtrrzap.protocol import Operation, SharedObject

NAME = "unlocked access"
FLAG = 2


def problem(held: frozenset[SharedObject], operation: Operation) -> str | None:
    """Say which lock is missing for ``operation``, if one is."""
    guard = operation.target.guard
    if guard is not None and guard not in held:
        return f"{operation} without holding {guard.name}"
    if is_lock(operation, "unlock") and operation.target not in held:
        return f"{operation} of a lock that it does not hold"
    return None
