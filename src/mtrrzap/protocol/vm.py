"""What every VM has: an MMU whose ranges can be zapped, and an allocator that may fail."""

from typing import Any

from mtrrzap.protocol.operation import Operation, Outcome, SharedObject, show_range
from mtrrzap.protocol.shared import SharedState


class Mmu(SharedObject):
    """``kvm_zap_gfn_range()``. A zap takes time: it begins, and later it has ended.

    An engine performs ``zap`` as it sees fit. The checker takes it apart into ``zap_begin`` and
    ``zap_end``, because what other vCPUs do in between is what it is about.
    """

    verbs = {"zap": 2}  # noqa: RUF012
    of_ranges = True
    symmetric = True
    initial = ()  # which zap began when is the business of a property

    def zap(self, start: int, end: int) -> Operation:
        """Zap every frame of ``[start, end)``."""
        return self._operation("zap", start, end)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Change nothing that a protocol could see."""
        return ((value, None),)

    def describe(self, operation: Operation) -> str:
        """Render with the range, and without the object: there is one MMU."""
        start, end = operation.args
        return f"{operation.verb.replace('_', ' ')} {show_range(start, end)}"


class Allocator(SharedObject):
    """``kmalloc()`` of one list entry: the result says whether it worked."""

    verbs = {"alloc": 0}  # noqa: RUF012
    symmetric = True
    initial = ()

    def alloc(self) -> Operation:
        """Allocate one entry: sends back True, or False where allocation may fail and does."""
        return self._operation("alloc")

    def choices(self, operation: Operation) -> int:  # noqa: ARG002
        """Success and failure."""
        return 2

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Succeed, or fail."""
        return ((value, True), (value, False))

    def describe(self, operation: Operation) -> str:  # noqa: ARG002
        """Render as the call in the C."""
        return "kmalloc()"


MOST_TIMES = 1_000_000
"""Times ``cpu_relax()``, some 50 ms: to wait longer one should sleep."""


class Cpu(SharedObject):
    """``cpu_relax()``, so and so many times: time passes and nothing changes."""

    verbs = {"relax": 1}  # noqa: RUF012
    symmetric = True
    initial = ()

    def relax(self, times: int) -> Operation:
        """Spin for a bounded time: ``times`` PAUSE instructions."""
        return self._operation("relax", times)

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:  # noqa: ARG002
        """Change nothing."""
        return ((value, None),)

    def refuses(self, operation: Operation) -> str | None:
        """Refuse an invalid count too."""
        wrong = super().refuses(operation)
        if wrong is not None or operation.verb != "relax":
            return wrong
        (times,) = operation.args
        if type(times) is int and 0 < times <= MOST_TIMES:
            return None
        return f"{self.name}.relax of {times!r}: invalid count; use 1 to {MOST_TIMES:,}"

    def describe(self, operation: Operation) -> str:
        """Render as the call in the C."""
        return f"cpu_relax() x {operation.args[0]}"


class Vm(SharedState):
    """The base of every protocol's VM."""

    mmu = Mmu()
    memory = Allocator()
