"""What an imported trace's header says of its making, and of what no capture can show."""

from statistics import median

from mtrrzap.guest.importer.assemble import Assembled, Cost
from mtrrzap.guest.importer.records import Seen
from mtrrzap.guest.importer.threads import Vm

BLIND_SPOTS = (
    "not in any capture: what user space writes through ioctls (KVM_SET_MSRS, KVM_SET_SREGS)",
    "not in any capture: on Intel, a MOV to CR0 that changes no bit the host owns; on AMD without"
    " decode assists, any MOV to CR0 (KVM emulates it)",
    "a CR0 event's time is before its zap, an MSR event's is after it",
)
"""Of KVM's trace events in general (v6.1: kvm_set_cr0 traces first, kvm_emulate_wrmsr last)."""


def notes(seen: Seen, vm: Vm, made: Assembled, width: str) -> tuple[str, ...]:
    """Return the notes; ``width`` says where MAXPHYADDR is from."""
    start = "the power-on" if made.start.power_on else "a running guest"
    found = [
        f"vCPUs were told apart {vm.attribution()}",
        f"the capture begins with {start}: {made.start.why}",
    ]
    if not made.start.power_on:
        found.append("registers that the guest did not read before writing them are unknown")
    if made.resets:
        found.append(f"the machine was reset {made.resets} times later; all vCPUs are taken along")
    if made.surprises:
        found.append(
            f"{made.surprises} reads gave values that nobody was seen to write (held-cr0, held-msr)"
        )
    if made.foreign_inits:
        found.append(
            f"{made.foreign_inits} INITs to APICs with no vCPU thread in the capture are left out"
        )
    if seen.ipi_events or any(event.kind.value == "init" for event in made.events):
        found.append("APIC ids were taken for vCPU numbers")
    if not seen.counted_time:
        found.append("the capture's clock does not count seconds: there are no times")
    found.append(width)
    if made.costs:
        found.append(f"measured, exit to entry: {summary(made.costs)}")
    return (*found, *BLIND_SPOTS)


def summary(costs: list[Cost]) -> str:
    """Return total, median and worst of some measured costs in one phrase."""
    values = [cost.cost_ns for cost in costs]
    return (
        f"{len(values)} MTRR writes took {_us(sum(values))} us in all, "
        f"median {_us(int(median(values)))} us, worst {_us(max(values))} us"
    )


def _us(nanoseconds: int) -> str:
    return f"{nanoseconds / 1000:.0f}"


def incomplete(seen: Seen) -> str | None:
    """Return why the trace is not whole, None if nothing says so."""
    reasons = list(seen.losses)
    if not seen.cr0_events:
        reasons.append(
            "the capture has no CR0 access: kvm:kvm_cr was not recorded, or KVM emulates"
        )
    return "; ".join(reasons) or None
