"""Who zaps and who waits: the protocols, each written once, and the vocabulary for them.

A protocol is a generator function ``(vm, ranges)`` that yields operations and is sent their
results. It does not know the engine: checker, simulator or real threads perform the operations. Its
first parameter's annotation names the VM's class, whose attributes are the shared objects::

    >>> import mtrrzap
    >>> class OwnVm(Vm):
    ...     lock = Spinlock()
    >>> def own(vm: OwnVm, ranges: tuple[Range, ...]) -> Steps:
    ...     yield vm.lock.lock()
    ...     for start, end in ranges:
    ...         yield vm.mmu.zap(start, end)
    ...     yield vm.lock.unlock()
    >>> mtrrzap.check(own, vcpus=3).holds
    True
"""

from mtrrzap.protocol.atomic import Atomic, Number, Sequence, Variable
from mtrrzap.protocol.operation import (
    ACQUIRE,
    ALL_GFNS,
    FULL,
    RELAXED,
    RELEASE,
    Operation,
    Order,
    Outcome,
    Range,
    SharedObject,
    Steps,
)
from mtrrzap.protocol.registry import PROTOCOLS, Protocol, protocol
from mtrrzap.protocol.shared import SharedState, Spinlock
from mtrrzap.protocol.vm import Allocator, Cpu, Mmu, Vm
from mtrrzap.protocol.zap_array import ZapArray
from mtrrzap.protocol.zap_list import ZapList

__all__ = [
    "ACQUIRE",
    "ALL_GFNS",
    "FULL",
    "PROTOCOLS",
    "RELAXED",
    "RELEASE",
    "Allocator",
    "Atomic",
    "Cpu",
    "Mmu",
    "Number",
    "Operation",
    "Order",
    "Outcome",
    "Protocol",
    "Range",
    "Sequence",
    "SharedObject",
    "SharedState",
    "Spinlock",
    "Steps",
    "Variable",
    "Vm",
    "ZapArray",
    "ZapList",
    "protocol",
]
