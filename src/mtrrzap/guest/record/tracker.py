"""Turn what the debugger sees into events, and notice a write that was missed.

No I/O here: the breakpoint pass reports what happened, ``emit`` gets the events in order.

TCG sets CR0.CD and CR0.NW on INIT; the architecture preserves both. So after an INIT the two bits
of the emulated register mean nothing until the guest changes one of them. A write that keeps them
(such as "read CR0, set PE, write it") is not an event. A write that changes them is an event with
the value that the guest wrote.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtrrzap.guest.event import Event, Kind
from mtrrzap.x86 import msr as m
from mtrrzap.x86.cr0 import CD_NW


def is_mtrr_msr(msr: int) -> bool:
    """Whether KVM's MTRR code gets this MSR: MTRRs, IA32_PAT and the holes between them.

    The MCi_CTL2 registers, 0x280 to 0x29f, lie in the middle and are not MTRRs.
    """
    return 0x200 <= msr <= 0x27F or 0x2A0 <= msr <= 0x2FF


@dataclass(slots=True)
class _Cpu:
    expected: int = CD_NW
    """CD and NW as the emulated register should have them."""
    architectural: int = CD_NW
    """CD and NW as a processor (and KVM) would have them."""
    after_init: bool = False
    """An INIT came and the register was not read since: TCG may have set or kept the bits."""


class Tracker:
    """Turn observations into events, and notice when one cannot be explained."""

    def __init__(
        self,
        vcpus: int,
        put: Sequence[tuple[int, int]],
        emit: Callable[[Event], None],
    ) -> None:
        """``put`` is what user space writes to each vCPU per put, as (MSR, value)."""
        self._cpus = [_Cpu() for _ in range(vcpus)]
        self._put = put
        self._emit = emit
        self.problems: list[str] = []

    def reset(self, puts: int) -> None:
        """RESET every vCPU, at power-on or later; then the host writes all MTRRs ``puts`` times."""
        for vcpu in range(len(self._cpus)):
            self._cpus[vcpu] = _Cpu()
            self._emit(Event(vcpu, Kind.RESET))
        for _ in range(puts):
            for vcpu in range(len(self._cpus)):
                for msr, value in self._put:
                    self._emit(Event(vcpu, Kind.HOST_WRMSR, msr, value))

    def init(self, vcpu: int) -> None:
        """INIT of one vCPU."""
        self._cpus[vcpu].after_init = True
        self._emit(Event(vcpu, Kind.INIT))

    def observe(self, vcpu: int, cr0: int) -> None:
        """Check the register against what the recorded writes explain."""
        cpu = self._cpus[vcpu]
        bits = cr0 & CD_NW
        allowed = {CD_NW, cpu.architectural} if cpu.after_init else {cpu.expected}
        if bits not in allowed:
            self.problems.append(
                f"CR0 of vCPU {vcpu} is {cr0:#x}, but the recorded writes leave CD and NW at "
                f"{cpu.expected:#x}: a write was missed"
            )
        cpu.expected = bits
        cpu.after_init = False

    def wrmsr(self, vcpu: int, msr: int, value: int, *, refused: bool) -> None:
        """A WRMSR was executed; MSRs that are not the MTRR code's are dropped."""
        if is_mtrr_msr(msr):
            self._emit(Event(vcpu, Kind.WRMSR, msr, value, refused))

    def cr0(self, vcpu: int, before: int, value: int) -> None:
        """A MOV to CR0 was executed; it is an event if it changes CD or NW of the register."""
        self.observe(vcpu, before)
        if not (before ^ value) & CD_NW:
            return
        cpu = self._cpus[vcpu]
        cpu.expected = cpu.architectural = value & CD_NW
        self._emit(Event(vcpu, Kind.CR0, 0, value))


def split_resets(resets: Sequence[int], vcpus: int, machine_resets: int) -> list[int | None] | None:
    """Tell INITs from machine resets in the log's list of CPU resets.

    A machine reset resets all CPUs in the order of their numbers, and nothing comes in between
    since all are stopped then. Returns vCPU numbers for INITs and None for a machine reset, in
    order; or None altogether if the resets that QMP announced are not found.
    """
    out: list[int | None] = []
    index = 0
    while index < len(resets):
        group = resets[index : index + vcpus]
        if machine_resets and list(group) == list(range(vcpus)):
            out.append(None)
            machine_resets -= 1
            index += vcpus
        else:
            out.append(resets[index])
            index += 1
    return None if machine_resets else out


PUT: tuple[tuple[int, int], ...] = tuple(
    (msr, 0) for msr in (m.DEF_TYPE, *m.FIXED_INDEX, *m.VARIABLE)
)
"""One put as (MSR, value), in QEMU's order; every value is 0 after a reset."""

PUTS_AT_START = 2
PUTS_AT_RESET = 1

HOST_WRITES = (
    "modelled: QEMU on KVM writes all MTRRs of every vCPU, twice before the first KVM_RUN and once "
    "at a machine reset; TCG makes no such writes"
)
