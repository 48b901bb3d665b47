"""Wrong policies, one field each: a judge that cannot tell them from the right one is none."""

from collections.abc import Iterator
from dataclasses import fields, replace
from enum import Enum
from typing import Any, NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.kernel.alone import alone
from mtrrzap.kernel.judge import ALONE
from mtrrzap.kernel.policy_file import CD_TYPES
from mtrrzap.kvm.policy import Ask, Needs, Policy
from mtrrzap.kvm.ranges import FIXED_AREA

_TYPES = ("cd_type_with_quirk", "honours_mtrrs")
DEEP = frozenset({"walk", "mmu_lock", *_TYPES})
"""Fields about how a zap is done and what is mapped: ``deep`` judges them, ``judge`` does not."""
_RANGES = ("toggle_range", "fixed_range", "by_memslot", "mmu_lock", "walk")
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


def unseen(policy: Policy, *, types: bool = False) -> dict[str, str]:
    """Return the fields whose value cannot be judged on nested paging, and why.

    ``types``: the kernel says EPT types (``ept_types``).
    """
    found: dict[str, str] = {}
    if not types:
        found |= dict.fromkeys(_TYPES, "about EPT types, which only a KVM of 'kernel build' says")
    if len({alone(policy.protocol, (each,)) for each in _FIXED}) == 1:
        found["fixed_range"] = f"the array of {policy.protocol} rounds to the whole area"
    never = Ask.NEVER is policy.mtrr_write is policy.cd_toggle
    if never or policy.needs is Needs.EPT:
        found |= dict.fromkeys(_RANGES, "the policy makes no request here")
    if policy.cd_toggle is Ask.NEVER or policy.needs is Needs.EPT:
        found["protocol"] = "the policy makes no request on a toggle here"
    if never:
        found["needs"] = "the policy makes no request anywhere"
    if policy.needs is Needs.EPT:
        found |= dict.fromkeys(("mtrr_write", "cd_toggle"), "the policy needs EPT")
    return found


def _others(policy: Policy, field: str) -> tuple[object, ...]:
    """Return the other values of a field that mean something else in this policy."""
    value = getattr(policy, field)
    match field:
        case "protocol":
            return ("ticket" if value == ALONE else ALONE,)
        case "cd_type_with_quirk":
            return tuple(each for each in CD_TYPES.values() if each != value)
        case "toggle_range" if policy.cd_toggle in (Ask.WITHOUT_QUIRK, Ask.NEVER):
            # With the quirk off the type while CD = 1 is UC+IPAT, which no default type equals:
            # both values mean everything.
            return ()
    if isinstance(value, bool):
        return (not value,)
    return tuple(each for each in type(value) if each is not value)


def mutants(policy: Policy, *, types: bool = False) -> Iterator[Mutant]:
    """Yield one for each wrong value of each field that can be judged."""
    hidden = {*unseen(policy, types=types), *_TEXT}
    for field in fields(Policy):
        if field.name not in hidden:
            for other in _others(policy, field.name):
                changes: dict[str, Any] = {field.name: other}
                yield Mutant(field.name, replace(policy, **changes))
