"""Wrong policies, one field each: a judge that cannot tell them from the right one is none."""

from collections.abc import Iterator
from dataclasses import fields, replace
from enum import Enum
from typing import Any, NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.kernel.alone import alone
from mtrrzap.kvm.policy import Ask, Needs, Policy
from mtrrzap.kvm.ranges import FIXED_AREA

DEEP = frozenset({"walk", "mmu_lock"})
"""Fields about how a zap is done: ``deep`` judges them, ``judge`` does not."""
_UNSEEN = {
    "cd_type_with_quirk": "an EPT type: nested paging has none",
    "honours_mtrrs": "about EPT types: nested paging has none",
    "protocol": "about vCPUs that ask at once: here one event is over before the next begins",
}
_RANGES = ("toggle_range", "fixed_range", "by_memslot", *sorted(DEEP))
_FIXED = (Range(0xF8, 0x100), FIXED_AREA)
"""The window of one MSR, and the whole area."""
_TEXT = frozenset({"name", "says", "source"})


class Mutant(NamedTuple):
    """A policy that differs from the right one in one field."""

    field: str
    policy: Policy

    @property
    def name(self) -> str:
        """The field and its wrong value."""
        value = getattr(self.policy, self.field)
        return f"{self.field} = {value.name.lower() if isinstance(value, Enum) else value}"


def unseen(policy: Policy) -> dict[str, str]:
    """Return the fields whose value calls and walks do not tell, on nested paging, and why."""
    found = dict(_UNSEEN)
    if policy.cd_toggle in (Ask.WITHOUT_QUIRK, Ask.NEVER):
        found["toggle_range"] = "without the quirk both values mean everything"
    if len({alone(policy.protocol, (each,)) for each in _FIXED}) == 1:
        found["fixed_range"] = f"the array of {policy.protocol} rounds to the whole area"
    never = Ask.NEVER is policy.mtrr_write is policy.cd_toggle
    if never or policy.needs is Needs.EPT:
        found |= dict.fromkeys(_RANGES, "the policy makes no request here")
    if never:
        found["needs"] = "the policy makes no request anywhere"
    if policy.needs is Needs.EPT:
        found |= dict.fromkeys(("mtrr_write", "cd_toggle"), "the policy needs EPT")
    return found


def mutants(policy: Policy) -> Iterator[Mutant]:
    """Yield one for each other value of each field that calls or walks can tell apart."""
    hidden = unseen(policy)
    for field in fields(Policy):
        value = getattr(policy, field.name)
        others: tuple[object, ...] = ()
        if field.name in hidden or field.name in _TEXT:
            continue
        if isinstance(value, bool):
            others = (not value,)
        elif isinstance(value, Enum):
            others = tuple(each for each in type(value) if each is not value)
        for other in others:
            changes: dict[str, Any] = {field.name: other}
            yield Mutant(field.name, replace(policy, **changes))
