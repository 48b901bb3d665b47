"""``ticket`` as it was at first: who zaps next has read the number of the batch before, relaxed."""

from mtrrzap.protocol import ACQUIRE, RELAXED, Range, Steps
from mtrrzap.protocol.ticket import Vm, zap_batch


def hasty(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    yield vm.lock.lock()
    mine = yield vm.open.load()
    alone = (yield vm.array.is_empty()) and (yield vm.done.reached(mine, lag=1, order=RELAXED))
    for start, end in ranges:
        yield vm.array.add(start, end)
    if not alone:
        yield vm.lock.unlock()
        yield vm.done.wait_reached(mine, lag=1, order=RELAXED)
        yield vm.lock.lock()
        if (yield vm.open.load()) != mine:
            yield vm.lock.unlock()
            yield vm.done.wait_reached(mine, order=ACQUIRE)
            return
    yield from zap_batch(vm, mine)
