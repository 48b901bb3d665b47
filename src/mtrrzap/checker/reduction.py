"""Which steps a vCPU may make alone: partial-order reduction where vCPUs ask for different ranges.

A step that nobody can meet is made at once, and the state before it is not kept. Such a step is

- on an object whose lock the vCPU holds: others use the object only with that lock;
- the release of a lock that it holds: until then others can only wait for it;
- an allocation that cannot fail, or ``cpu_relax()``: both leave nothing behind.

It raises no flag, and leaves the ghost of *lost zap* as it is. (The one event that may do so is the
return of a call with nothing outstanding. No step of others changes that share of the ghost.)

Why it suffices. Take a shortest run from a kept state to a first violation. The kept state is
expanded fully, so the run's first step is made. Now its vCPU may go on alone. If the rest of the
run has this vCPU's next step, it may as well come first: it gives the same result and what others
do in between does the same. If the rest has no such step, it may be put first: a violation by
another vCPU remains one. Either way a run that is no longer leads from the next kept state to a
violation. A deadlock is a kept state: a step that nobody can meet is enabled until it is made. A
chain of such steps is cut after some, so nobody is put off for ever.

All this takes that locks are respected. An unlocked access is a violation itself, but it may be
blocked when others went on first. So a reduced search doubts as soon as a vCPU stands at one. In
doubt the full search follows: it decides, and finds the shortest schedules.
"""

from mtrrzap.checker.model import Model
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.protocol import Allocator, Cpu, Mmu, Spinlock
from mtrrzap.protocol.meaning import is_lock, lacks_lock


def applies(model: Model) -> bool:
    """Say whether to reduce: vCPUs that are all alike share more by symmetry alone."""
    alike = len(set(model.groups)) == 1
    return not alike and model.scenario.memory == "sc" and isinstance(model.ghost, LostZap)


def goes_on_alone(model: Model, local: int) -> bool:
    """Say whether nobody can meet the next step of a vCPU in a local state."""
    at = model.locals.items[local]
    operation = model.operation(at)
    if operation is None or len(model.alternatives[local]) > 1:
        return False
    target = operation.target
    if is_lock(operation, "unlock"):
        return type(target) is Spinlock
    if isinstance(target, Allocator | Cpu | Mmu):
        return type(target) in (Allocator, Cpu)
    return type(target.guard) is Spinlock and target.guard in at.held


def is_unlocked(model: Model, local: int) -> bool:
    """Say whether a vCPU in a local state is about to use what it lacks the lock of."""
    at = model.locals.items[local]
    operation = model.operation(at)
    return operation is not None and lacks_lock(at.held, operation)
