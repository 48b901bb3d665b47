"""The zaps that a real kernel made, as kprobes saw them: the last section of a trace, version 2.

::

    zaps 2
    zap 14 0 0x0 0xfffffffffffff 232000 512 kvm_mtrr_set_msr
    dma 2 on
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from mtrrzap.gfn import Range

ZAPS = "zaps "
"""How the section begins; the number of its lines follows."""
_LINE = re.compile(
    r"zap (-|\d{1,18}) (-|\d{1,4}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})"
    r" (-|\d{1,18}) (-|\d{1,18}) (-|\w{1,64})"
    r"|dma (\d{1,18}) (on|off)",
    re.ASCII,
)


class KernelZap(NamedTuple):
    """One call of ``kvm_zap_gfn_range``; None is unknown."""

    event: int | None
    """Position of the event that asked for it; None if no event did."""
    vcpu: int | None
    range: Range
    """As the kernel asked: gfns, not clamped."""
    duration_ns: int | None
    """From the call to its return."""
    leaves: int | None
    """Leaf entries that it cleared."""
    caller: str
    """KVM's function that called it, empty if not recorded."""


class Dma(NamedTuple):
    """From event ``event`` on the VM had non-coherent DMA, or no longer."""

    event: int
    on: bool


class KernelZaps(NamedTuple):
    """What the kernel did while a guest was captured. No call at all is an answer, too."""

    calls: tuple[KernelZap, ...] = ()
    dma: tuple[Dma, ...] = ()


def _word(number: int | None) -> str:
    return "-" if number is None else str(number)


def format_zaps(zaps: KernelZaps) -> list[str]:
    """Return the section's lines, without line ends."""
    lines = [f"{ZAPS}{len(zaps.calls) + len(zaps.dma)}"]
    for call in zaps.calls:
        range_ = f"{call.range.start:#x} {call.range.end:#x}"
        rest = f"{_word(call.duration_ns)} {_word(call.leaves)} {call.caller or '-'}"
        lines.append(f"zap {_word(call.event)} {_word(call.vcpu)} {range_} {rest}")
    lines += [f"dma {change.event} {'on' if change.on else 'off'}" for change in zaps.dma]
    return lines


def parse_zaps(
    first: str, next_line: Callable[[], str | None], events: int, vcpus: int
) -> KernelZaps:
    """Read the section that begins with the line ``first``. Raises ``ValueError``."""
    number = first.removeprefix(ZAPS)
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise ValueError(f"malformed zaps: {first[:60]!r}")
    found = [_parse(next_line() or "", events, vcpus) for _ in range(int(number))]
    return KernelZaps(
        tuple(each for each in found if isinstance(each, KernelZap)),
        tuple(each for each in found if isinstance(each, Dma)),
    )


def _parse(line: str, events: int, vcpus: int) -> KernelZap | Dma:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"malformed zap: {line[:60]!r}")
    event, vcpu, duration, leaves, change = (
        None if word in (None, "-") else int(word) for word in found.group(1, 2, 5, 6, 8)
    )
    if (event or 0) >= max(events, 1) or (vcpu or 0) >= vcpus or (change or 0) > events:
        raise ValueError(f"a zap of an unknown event or vCPU: {line[:60]!r}")
    if change is not None:
        return Dma(change, found[9] == "on")
    range_ = Range(int(found[3], 16), int(found[4], 16))
    caller = "" if found[7] == "-" else found[7]
    return KernelZap(event, vcpu, range_, duration, leaves, caller)
