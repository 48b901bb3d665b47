"""``ticket``: the review's array, with numbered batches. A vCPU waits for its own batch only.

``open`` is the number of the batch that collects requests, ``done`` that of the last batch zapped.
So ``done == open - 1`` says that nobody zaps, and no flag is needed. A request joins the open
batch.

- If it is the first and nobody zaps, the vCPU closes the batch (``open`` + 1), takes the array and
  zaps it.
- Else it waits for the batch before its own, and a moment longer. Then the first of its batch to
  get the lock closes it and zaps; the others find it closed, and wait until it is done.

Every vCPU returns when *its* batch is done: it waits for the rest of one batch and for its own. A
zapper zaps one batch, its own. Both waits are for a number to be reached, and a number once reached
stays reached: no vCPU can miss it, however late it looks. A zapper's release pairs with the acquire
of every vCPU that leaves and of the next zapper. So a vCPU that leaves on a later number has seen
all batches before it.

The moment is for vCPUs that are still on their way. While an invalidation is in progress no page
fault succeeds (``mmu_invalidate_in_progress``). So a vCPU that has lost a page stands still until
the batch is done, and would come just too late for the next batch, with a zap of its own. A vCPU
that asks while nobody else does never waits the moment.
"""

from mtrrzap.protocol.atomic import Number, Sequence
from mtrrzap.protocol.operation import ACQUIRE, RELEASE, Range, Steps
from mtrrzap.protocol.shared import Spinlock
from mtrrzap.protocol.vm import Cpu
from mtrrzap.protocol.vm import Vm as BaseVm
from mtrrzap.protocol.zap_array import ZapArray

MOMENT = 128
"""Times ``cpu_relax()``, some 6 microseconds: a page fault and a few exits of the guest."""


class Vm(BaseVm):
    """The array, the number of its batch, the lock of both, and the last number done."""

    lock = Spinlock()
    array = ZapArray(guard=lock)
    open = Sequence(1, guard=lock)
    done = Sequence(0)
    cpu = Cpu()


def ticket(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    """Join the open batch; return when it is done."""
    yield vm.lock.lock()
    mine = yield vm.open.load()
    # pairs with the release of the batch before
    alone = (yield vm.array.is_empty()) and (yield vm.done.reached(mine, lag=1, order=ACQUIRE))
    for start, end in ranges:
        yield vm.array.add(start, end)
    if not alone:
        yield vm.lock.unlock()
        yield vm.done.wait_reached(mine, lag=1, order=ACQUIRE)
        yield vm.cpu.relax(MOMENT)
        yield vm.lock.lock()
        if (yield vm.open.load()) != mine:  # closed by another vCPU of this batch
            yield vm.lock.unlock()
            yield vm.done.wait_reached(mine, order=ACQUIRE)
            return
    yield from zap_batch(vm, mine)


def zap_batch(vm: Vm, mine: Number) -> Steps:
    """Close the open batch and zap it. Called with the lock held, while nobody else zaps."""
    yield vm.open.advance()
    batch = yield vm.array.take()
    yield vm.lock.unlock()
    for start, end in batch:
        yield vm.mmu.zap(start, end)
    yield vm.done.post(mine, RELEASE)  # pairs with the acquire of all that wait, and of the next
