"""The kernel's calls of ``kvm_zap_gfn_range``, out of ftrace's lines, each with its event."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

_LINE = re.compile(r"\[\d+\] \S+ +(\d+)\.(\d+): (\w+): (.*)")
_SPTE = re.compile(
    r"gfn (?:0x)?([0-9a-f]+) level (\d+) old_spte ([0-9a-fx]+) new_spte ([0-9a-fx]+)"
)
_PRESENT = 1 << 11
"""``SPTE_MMU_PRESENT_MASK``: an entry that KVM's walks take for present, on EPT and NPT alike."""
_LARGE = 1 << 7


class Call(NamedTuple):
    """One call; ``start`` and ``end`` are gfns as the kernel passed them.

    ``event`` is the position of the event that was under way, -1 before the first. ``seconds`` is
    how long the call took. The other figures are 0 unless they were asked for.
    """

    event: int
    start: int
    end: int
    by: str
    """The function that called."""
    seconds: float
    leaves: int = 0
    """Leaves of the second-stage page table that it cleared."""
    others: int = 0
    """Other entries that it cleared: whole subtrees."""
    visits: int = 0
    restarts: int = 0
    """How often it gave up the lock and began again where it was."""
    lock: str = ""
    """How it first took a read-write lock: ``write`` or ``read``."""


class Change(NamedTuple):
    """An entry that changed: ``new`` is what it is now, 0 for cleared."""

    event: int
    gfn: int
    level: int
    old: int
    new: int
    type: EptType | None = None
    """The type that EPT would have, if the kernel computes it (``ept_types``)."""
    zapped: bool = False
    """It changed during a call."""

    @property
    def was_present(self) -> bool:
        """It mapped memory or pointed to a page-table page."""
        return bool(self.old & _PRESENT)

    @property
    def was_leaf(self) -> bool:
        """It was present and mapped memory."""
        return _leaf(self.old, self.level)

    @property
    def is_leaf(self) -> bool:
        """It is present and maps memory."""
        return _leaf(self.new, self.level)

    @property
    def is_table(self) -> bool:
        """It is present and points to a page-table page."""
        return bool(self.new & _PRESENT) and not self.is_leaf


def _leaf(entry: int, level: int) -> bool:
    return bool(entry & _PRESENT and (level == 1 or entry & _LARGE))


def typed(trace: str) -> int:
    """Return how many leaves were made whose EPT type is known."""
    return trace.count(": type: (")


def calls(trace: str) -> list[Call]:
    """Return the calls, in order. Raises ``UserError`` for a line that cannot be read."""
    return [item for item in read(trace) if isinstance(item, Call)]


def read(trace: str) -> Iterator[Call | Change]:
    """Yield calls, when they end, and entries that changed, in order. Raises ``UserError``."""
    event = -1
    begun: Call | None = None
    types: dict[int, EptType] = {}
    begin = 0
    for line in trace.splitlines():
        match = _LINE.search(line)
        if match is None:
            if line.strip() and "LOST" in line:
                raise UserError(f"ftrace lost events: {line.strip()}")
            continue
        now = int(match[1]) * 1_000_000 + int(match[2].ljust(6, "0")[:6])
        name, text = match[3], match[4]
        if name == "tracing_mark_write":
            event = int(text.split()[1])
        elif name == "zap":
            words = dict(word.split("=", 1) for word in text.split() if "=" in word)
            by = words["by"].partition("+")[0]
            begun = Call(event, int(words["start"], 16), int(words["end"], 16), by, 0.0)
            begin = now
        elif name == "zapped" and begun is not None:
            # Each walk calls tdp_iter_restart once to begin with.
            again = max(0, begun.restarts - 1)
            yield begun._replace(seconds=(now - begin) / 1e6, restarts=again)
            begun = None
        elif name == "type":
            gfn, bits = (int(word.partition("=")[2], 16) for word in text.split()[-2:])
            types[gfn] = _type(bits)
        elif name == "kvm_tdp_mmu_spte_changed":
            change = _change(event, text)
            change = change._replace(type=types.pop(change.gfn, None), zapped=begun is not None)
            if begun is not None:
                begun = _with(begun, change)
            yield change
        elif begun is not None:
            begun = _seen(begun, name)


def _type(bits: int) -> EptType:
    """Read the bits 3 to 6 of an EPT entry (SDM vol. 3, "EPT and Memory Typing")."""
    return EptType(MemType(bits >> 3 & 7), ipat=bool(bits & 1 << 6))


def _change(event: int, text: str) -> Change:
    match = _SPTE.search(text)
    if match is None:
        raise UserError(f"an unknown form of kvm_tdp_mmu_spte_changed: {text}")
    gfn, level, old, new = match.groups()
    return Change(event, int(gfn, 16), int(level), int(old, 16), int(new, 16))


def _with(call: Call, change: Change) -> Call:
    """Count an entry that was present and was cleared."""
    if change.new or not change.was_present:
        return call
    if change.was_leaf:
        return call._replace(leaves=call.leaves + 1)
    return call._replace(others=call.others + 1)


def _seen(call: Call, name: str) -> Call:
    match name:
        case "visit":
            return call._replace(visits=call.visits + 1)
        case "again":
            return call._replace(restarts=call.restarts + 1)
        case "wlock" | "rlock" if not call.lock:
            return call._replace(lock="write" if name == "wlock" else "read")
    return call
