"""The zaps that the kernel made, beside those that a policy asks for."""

from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.guest.measured_zaps import KernelZap
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.ranges import clamp
from mtrrzap.kvm.replay import Host, replay


class Agreement(NamedTuple):
    """Whether a policy asks for what the kernel zapped, range by range."""

    calls: int
    """Calls of kvm_zap_gfn_range for MTRR and CR0 writes."""
    others: int
    """Calls by other parts of KVM."""
    difference: str | None
    """The first difference with its event, None if there is none."""

    def __str__(self) -> str:
        return f"{self.calls}, equal" if self.difference is None else self.difference


def is_foreign(call: KernelZap) -> bool:
    """Tell if a call is known to come from a part of KVM that MTRRs and CR0.CD do not reach."""
    known = call.event is None and call.caller
    return bool(known) and not any(part in call.caller for part in ("mtrr", "cr0"))


def agreement(trace: Trace, policy: Policy, host: Host) -> Agreement | None:
    """Compare the kernel's calls with a policy's requests; None if the trace has no calls.

    Both are clamped to the host's MAXPHYADDR, as the TDP MMU clamps them. While the VM has no
    non-coherent DMA, a request is not expected (kvm_arch_has_noncoherent_dma).
    """
    if trace.zaps is None:
        return None
    calls = [call for call in trace.zaps.calls if not is_foreign(call)]
    asked = {r.event: r.ranges for r in replay(trace, policy, host) if _honoured(trace, r.event)}
    made: dict[int, list[Range]] = {}
    for call in calls:
        if call.event is not None:
            made.setdefault(call.event, []).append(call.range)
    zapped = {event: clamp(ranges, host.maxphyaddr) for event, ranges in made.items()}
    different = [e for e in sorted(zapped.keys() | asked) if zapped.get(e) != asked.get(e)]
    first = next((_said(trace, e, zapped.get(e), asked.get(e)) for e in different), None)
    stray = next((call for call in calls if call.event is None), None)
    if first is None and stray is not None:
        first = f"no event: the kernel zapped {stray.range}"
    return Agreement(len(calls), len(trace.zaps.calls) - len(calls), first)


def _honoured(trace: Trace, event: int) -> bool:
    assert trace.zaps is not None
    changes = trace.zaps.dma
    before = [change.on for change in changes if change.event <= event]
    return before[-1] if before else not changes or not changes[0].on


def _said(
    trace: Trace, event: int, kernel: tuple[Range, ...] | None, policy: tuple[Range, ...] | None
) -> str:
    def words(ranges: tuple[Range, ...] | None) -> str:
        return "nothing" if ranges is None else " ".join(map(str, ranges)) or "an empty range"

    line = format_event(trace.events[event]._replace(time_ns=None))
    return f"event {event} ({line}): kernel {words(kernel)}, policy {words(policy)}"


class ZapRow(NamedTuple):
    """One call of kvm_zap_gfn_range in words; "-" or None is unknown."""

    event: int | None
    vcpu: int | None
    line: str
    gfns: str
    us: str
    leaves: int | None
    caller: str


def zap_rows(trace: Trace) -> Iterator[ZapRow]:
    """Yield a row for every call."""
    for call in trace.zaps.calls if trace.zaps is not None else ():
        event = None if call.event is None else trace.events[call.event]._replace(time_ns=None)
        yield ZapRow(
            event=call.event,
            vcpu=call.vcpu,
            line="-" if event is None else format_event(event),
            gfns=str(call.range),
            us="-" if call.duration_ns is None else f"{call.duration_ns / 1000:,.1f}",
            leaves=call.leaves,
            caller=call.caller or "-",
        )
