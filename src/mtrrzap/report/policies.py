"""The policies in words, generated from their rows."""

from collections.abc import Sequence

from mtrrzap.kvm.policy import Ask, FixedRange, Policy
from mtrrzap.report.text import markdown_table

COLUMNS = (
    "policy",
    "what it is",
    "an MTRR write asks",
    "a CR0.CD toggle asks",
    "for",
    "mmu_lock",
    "a zap clears",
    "protocol",
    "EPT type while CD=1",
)


_MTRR_WRITE = "MTRR write: all for DEF_TYPE, the new range of a variable MTRR; "


def _for(policy: Policy) -> str:
    if policy.mtrr_write is Ask.NEVER and policy.cd_toggle is Ask.NEVER:
        return "-"
    area = policy.fixed_range is FixedRange.AREA
    fixed = "the whole fixed area" if area else "the MSR's window"
    words = [f"{_MTRR_WRITE}{fixed} for a fixed one", f"toggle: {policy.toggle_range.value}"]
    if policy.by_memslot:
        words.append('"all" is split by memslots (patch 11)')
    return "; ".join(words)


def _cd_type(policy: Policy) -> str:
    on, off = policy.cd_type(quirk=True), policy.cd_type(quirk=False)
    return "not looked at" if on is None else f"{on}; quirk off: {off}"


def cells(policy: Policy) -> tuple[str, ...]:
    """Return one policy as the cells of ``COLUMNS``."""
    nothing = policy.mtrr_write is Ask.NEVER and policy.cd_toggle is Ask.NEVER
    return (
        policy.name,
        policy.says,
        policy.mtrr_write.value,
        policy.cd_toggle.value,
        _for(policy),
        "-" if nothing else policy.mmu_lock.value,
        "-" if nothing else policy.walk.value,
        "-" if nothing else policy.protocol,
        _cd_type(policy),
    )


def markdown(policies: Sequence[Policy]) -> str:
    """Return ``docs/policies.md``."""
    blocks = [
        "# The zap policies",
        "Look up here when each policy asks for a zap, for which frames, and how it zaps. "
        "`mtrrzap policies --markdown` generates this page; do not edit. The column *for* leaves "
        "out what all policies have in common: a write to DEF_TYPE asks for everything, one to a "
        "variable MTRR for its new range. A policy makes requests only for a VM that has what the "
        "second table says it needs.",
        markdown_table(COLUMNS, map(cells, policies)).replace(_MTRR_WRITE, ""),
        markdown_table(
            ("policy", "needs", "source"), [(p.name, p.needs.value, p.source) for p in policies]
        ),
    ]
    return "\n\n".join(blocks) + "\n"
