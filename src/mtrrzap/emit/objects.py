"""The C of the shared objects: a field of ``struct kvm_mtrr_zap``, its helpers, its operations.

A user's own class carries the same thing as its attribute ``c`` (docs/emit.md). Operations are
templates: ``{obj}`` is the address of the field, ``{z}`` the state, ``{0}``, ``{1}`` … the
arguments, ``{lagged}`` the first less the second, ``{out}`` the local variable that receives a
range or a batch, ``{spare}`` the entries that the call has allocated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files

from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    ACQUIRE,
    FULL,
    RELAXED,
    RELEASE,
    Allocator,
    Atomic,
    Cpu,
    Mmu,
    Order,
    Sequence,
    SharedObject,
    Spinlock,
    Variable,
    ZapArray,
    ZapList,
)


class Type(Enum):
    """What a value is in C."""

    NONE = "void"
    BOOL = "bool"
    INT = "int"
    GFN = "gfn_t"
    NUMBER = "unsigned long"
    RANGE = "struct kvm_mtrr_zap_range"
    BATCH = "struct kvm_mtrr_zap_range *"


@dataclass(frozen=True)
class Operation:
    """The C of one operation. A statement may end in ``;`` and have several lines."""

    text: str
    type: Type = Type.NONE


@dataclass(frozen=True)
class Field:
    """The C of one shared object."""

    declaration: str | None
    """The field, with ``{name}``; None: the object has no state of its own."""
    init: str | None = None
    """A statement; None: zeroed memory is right."""
    helpers: str | None = None
    """The name of a text in data/emit, or C text if it has several lines."""
    operations: Mapping[tuple[str, Order] | str, Operation] = field(default_factory=dict)
    """By verb, or by verb and order where the order decides."""
    needs_spare: frozenset[str] = frozenset()
    """The verbs that allocate an entry, or use one."""

    def operation(self, shared: SharedObject, verb: str, order: Order) -> Operation:
        """Return the C of an operation.

        Raises:
            UserError: if there is none.
        """
        found = self.operations.get((verb, order)) or self.operations.get(verb)
        if found is None:
            raise UserError(f"no C is known for {shared.name}.{verb} ({order.value})")
        return found


_LOCK = Field(
    "spinlock_t {name};",
    "spin_lock_init({obj});",
    operations={
        "lock": Operation("spin_lock({obj})"),
        "unlock": Operation("spin_unlock({obj})"),
    },
)

_MMU = Field(
    None,
    operations={"zap": Operation("kvm_zap_gfn_range(kvm, {0}, {1})")},
)

_MEMORY = Field(
    None,
    helpers="entry.c",
    operations={"alloc": Operation("kvm_mtrr_zap_alloc({spare})", Type.BOOL)},
    needs_spare=frozenset({"alloc"}),
)

_CPU = Field(
    None,
    helpers="relax.c",
    operations={"relax": Operation("kvm_mtrr_zap_relax({0})")},
)

_LIST = Field(
    "struct list_head {name};",
    "INIT_LIST_HEAD({obj});",
    helpers="list.c",
    operations={
        "add": Operation("kvm_mtrr_zap_list_add({obj}, {spare}, {0}, {1})", Type.BOOL),
        "pop_first": Operation("kvm_mtrr_zap_list_pop({obj}, {out})", Type.RANGE),
        "clear": Operation("kvm_mtrr_zap_list_clear({obj})"),
    },
    needs_spare=frozenset({"add"}),
)

_ARRAY = Field(
    "struct kvm_mtrr_zap_array {name};",
    helpers="array.c",
    operations={
        "add": Operation("kvm_mtrr_zap_array_add({obj}, {0}, {1})", Type.BOOL),
        "take": Operation("kvm_mtrr_zap_array_take({obj}, {out})", Type.BATCH),
        "is_empty": Operation("kvm_mtrr_zap_array_empty({obj})", Type.BOOL),
    },
)


def _flag(initial: bool) -> Field:
    """A bool, which waiters read outside its lock."""
    load = Type.BOOL
    return Field(
        "bool {name};",
        "WRITE_ONCE(*{obj}, true);" if initial else None,
        operations={
            ("load", RELAXED): Operation("READ_ONCE(*{obj})", load),
            ("load", ACQUIRE): Operation("smp_load_acquire({obj})", load),
            ("store", RELAXED): Operation("WRITE_ONCE(*{obj}, {0})"),
            ("store", RELEASE): Operation("smp_store_release({obj}, {0})"),
            ("store", FULL): Operation("smp_store_mb(*{obj}, {0})"),
            **_exchanges("", "{obj}", load),
            ("wait_until", RELAXED): _until("READ_ONCE(*{obj}) != {0}"),
            ("wait_until", ACQUIRE): _until("smp_load_acquire({obj}) != {0}"),
        },
    )


def _atomic(initial: int) -> Field:
    """``atomic_t``; its waits are the posted loop and the kernel's own, which keep the CPU."""
    load = Type.INT
    return Field(
        "atomic_t {name};",
        f"atomic_set({{obj}}, {initial});",
        operations={
            ("load", RELAXED): Operation("atomic_read({obj})", load),
            ("load", ACQUIRE): Operation("atomic_read_acquire({obj})", load),
            ("store", RELAXED): Operation("atomic_set({obj}, {0})"),
            ("store", RELEASE): Operation("atomic_set_release({obj}, {0})"),
            **_exchanges("atomic_", "{obj}", load),
            ("wait_until", RELAXED): Operation("while (atomic_read({obj}) != {0})\n\tcpu_relax();"),
            ("wait_until", ACQUIRE): Operation("atomic_cond_read_acquire({obj}, VAL == {0})"),
        },
    )


def _until(unless: str) -> Operation:
    return Operation(f"while ({unless})\n\tkvm_mtrr_zap_yield();")


def _exchanges(prefix: str, obj: str, kind: Type) -> dict[tuple[str, Order] | str, Operation]:
    suffix = {FULL: "", ACQUIRE: "_acquire", RELEASE: "_release", RELAXED: "_relaxed"}
    return {
        ("cmpxchg", order): Operation(f"{prefix}cmpxchg{end}({obj}, {{0}}, {{1}})", kind)
        for order, end in suffix.items()
    }


def _variable(initial: int | bool) -> Field:
    """A plain variable: its lock makes it one that nobody else touches meanwhile."""
    kind = Type.BOOL if isinstance(initial, bool) else Type.INT
    return Field(
        f"{kind.value} {{name}};",
        f"WRITE_ONCE(*{{obj}}, {int(initial)});" if initial else None,
        operations={
            "load": Operation("READ_ONCE(*{obj})", kind),
            "store": Operation("WRITE_ONCE(*{obj}, {0})"),
        },
    )


def _sequence(first: int) -> Field:
    """``unsigned long``; numbers are compared by their distance, so they may wrap around."""
    acquire, relaxed = "smp_load_acquire({obj})", "READ_ONCE(*{obj})"
    return Field(
        "unsigned long {name};",
        f"WRITE_ONCE(*{{obj}}, {first});" if first else None,
        helpers="sequence.c",
        operations={
            ("load", RELAXED): Operation(relaxed, Type.NUMBER),
            ("load", ACQUIRE): Operation(acquire, Type.NUMBER),
            "advance": Operation("kvm_mtrr_seq_advance({obj})"),
            ("post", RELEASE): Operation("smp_store_release({obj}, {0})"),
            ("post", RELAXED): Operation("WRITE_ONCE(*{obj}, {0})"),
            ("reached", ACQUIRE): Operation(_REACHED.replace("@", acquire), Type.BOOL),
            ("reached", RELAXED): Operation(_REACHED.replace("@", relaxed), Type.BOOL),
            ("wait_reached", ACQUIRE): _until(f"!{_REACHED.replace('@', acquire)}"),
            ("wait_reached", RELAXED): _until(f"!{_REACHED.replace('@', relaxed)}"),
        },
    )


_REACHED = "kvm_mtrr_seq_reached(@, {lagged})"


def of(shared: SharedObject) -> Field:
    """Return the C of a shared object: a user's class has it as its attribute ``c``.

    Raises:
        UserError: if the object has none.
    """
    own = getattr(type(shared), "c", None)
    if isinstance(own, Field):
        return own
    for kind, known in _SIMPLE.items():
        if type(shared) is kind:
            return known
    if type(shared) is Sequence:
        return _sequence(shared.first)
    if type(shared) in (Atomic, Variable) and isinstance(shared.initial, int):
        value = shared.initial
        if type(shared) is Variable:
            return _variable(value)
        return _flag(value) if isinstance(value, bool) else _atomic(value)
    raise UserError(
        f"{shared.name}: {type(shared).__name__} has no C",
        mend="give its class an attribute c, a mtrrzap.emit.objects.Field",
    )


_SIMPLE = {
    Spinlock: _LOCK,
    Mmu: _MMU,
    Allocator: _MEMORY,
    Cpu: _CPU,
    ZapList: _LIST,
    ZapArray: _ARRAY,
}


@cache
def text(name: str) -> str:
    """Return a C text that comes with the package."""
    return files("mtrrzap").joinpath("data", "emit", name).read_text(encoding="utf-8")
