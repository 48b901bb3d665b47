"""What a protocol yields: a description of one step on one shared object, never the step itself."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

# Part of the vocabulary: protocols import both from here.
from mtrrzap.gfn import ALL_GFNS as ALL_GFNS
from mtrrzap.gfn import Range as Range

if TYPE_CHECKING:
    from mtrrzap.protocol.shared import SharedObject


class Order(Enum):
    """The memory order a step declares, with the meaning of the kernel's ``_acquire``/``_release``.

    ``RELAXED`` is a plain atomic access: ``atomic_read()``, ``READ_ONCE()``, ``atomic_set()``.
    ``FULL`` is a full barrier before and after: a bare ``atomic_cmpxchg()`` that succeeds.
    """

    RELAXED = "relaxed"
    ACQUIRE = "acquire"
    RELEASE = "release"
    FULL = "full"


RELAXED = Order.RELAXED
ACQUIRE = Order.ACQUIRE
RELEASE = Order.RELEASE
FULL = Order.FULL


@dataclass(frozen=True, slots=True)
class Operation:
    """One step: what (``verb`` and ``args``) on which object, with which declared order."""

    target: SharedObject
    verb: str
    args: tuple[Any, ...] = ()
    order: Order = RELAXED

    def __str__(self) -> str:
        """Render as a kernel developer would write it, for example ``zapping.cmpxchg(0, 1)``."""
        return self.target.describe(self)


Outcome = tuple[Hashable, Any]
"""``(value', result)``: the object's next value and what the protocol is sent."""

Steps = Generator[Operation, Any, None]
"""What a protocol function returns: it yields operations and is sent their results."""
