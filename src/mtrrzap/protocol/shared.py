"""The spinlock, and the VM whose class attributes are the shared objects."""

from typing import Any

from mtrrzap.protocol.operation import Operation, Outcome, SharedObject, refuse_to_set


class Spinlock(SharedObject):
    """A kernel spinlock. Its value says only whether it is held. Each engine knows by whom.

    The kernel's spinlock queues its waiters. An engine for which that matters (starvation, time)
    lets a vCPU ``join`` first: then the value is the queue, whose head may take the lock.
    """

    verbs = {"lock": 0, "unlock": 0}  # noqa: RUF012
    symmetric = True  # while nobody joins
    initial = (False, ())  # free, and nobody in the queue

    def lock(self) -> Operation:
        """``spin_lock()``: blocked while it is held."""
        return self._operation("lock")

    def unlock(self) -> Operation:
        """``spin_unlock()``."""
        return self._operation("unlock")

    def effect(self, value: Any, operation: Operation, vcpu: int) -> tuple[Outcome, ...]:
        """Lock, unlock, or join the queue; a lock that is held, or not one's turn, is blocked."""
        held, queue = value
        if operation.verb == "join":
            return (((held, (*queue, vcpu)), None),)
        if operation.verb == "unlock":
            return (((False, queue), None),)
        if held or (queue and queue[0] != vcpu):
            return ()
        return (((True, queue[1:]), None),)

    def draw(self, value: Any) -> str:
        """Say whether it is held, and who queues for it."""
        held, queue = value
        waiting = "+" + ",".join(map(str, queue)) if queue else ""
        return f"{self.name}:{'held' if held else 'free'}{waiting}"


class _Sealed(type):
    """The class of a VM's class, which is shared by all vCPUs like the VM itself."""

    def __setattr__(cls, attribute: str, value: Any) -> None:
        """Refuse, as the VM does.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        refuse_to_set(f"{cls.__name__}.{attribute}")


class SharedState(metaclass=_Sealed):
    """Base class of a protocol's VM: its class attributes are the shared objects.

    >>> class Vm(SharedState):
    ...     lock = Spinlock()
    >>> Vm().objects()[0].name
    'lock'
    """

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Refuse: shared state changes through yielded operations only.

        Raises:
            UserError: always, naming the file and line of the assignment.
        """
        refuse_to_set(f"vm.{attribute}")

    @classmethod
    def objects(cls) -> tuple[SharedObject, ...]:
        """Return the shared objects in the order of their definition, base classes first."""
        found: dict[str, SharedObject] = {}
        for owner in reversed(cls.__mro__):
            mine = vars(owner).items()
            found |= {name: each for name, each in mine if isinstance(each, SharedObject)}
        return tuple(found.values())
