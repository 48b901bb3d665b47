"""What a kernel that follows a policy to the letter would leave behind."""

from mtrrzap.kernel.perform import MSRS, Record
from mtrrzap.kernel.program import Program
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.x86 import cr0

WIDE = 52
CALLS = {
    ("SeaBIOS", 8): (50, 76),
    ("OVMF", 8): (84, 158),
    ("SeaBIOS", 16): (98, 148),
    ("OVMF", 16): (164, 310),
}
"""The calls of Linux 6.1 for the shipped recordings, with the quirk on and off."""


def line(number: int, text: str) -> str:
    return f"      python3.11-107     [000] .....    14.{number:06d}: {text}\n"


def call(number: int, start: int, end: int, by: str = "kvm_mtrr_set_msr") -> str:
    where = "(kvm_zap_gfn_range+0x0/0x100 [kvm])"
    text = f"zap: {where} start={start:#x} end={end:#x} by={by}+0xd4/0x320 [kvm]"
    done = f"zapped: ({by}+0xd4/0x320 [kvm] <- kvm_zap_gfn_range)"
    return line(number, text) + line(number + 7, done)


def record(program: Program, policy: Policy, host: Host) -> Record:
    """The calls are the requests; refusals and registers are the model's."""
    asked = {request.event: request.ranges for request in replay(program.trace, policy, host)}
    states = [power_on(program.trace.header.maxphyaddr)] * program.trace.header.vcpus
    text, refused = "", ""
    for number, event in enumerate(program.trace.events):
        text += line(number, f"tracing_mark_write: e {number}")
        # KVM's call has an end above it all where the range is empty after clamping.
        for start, end in asked.get(number, ()) or ([(1, 0)] if number in asked else []):
            text += call(number, start, end)
        states[event.vcpu], rule = step(states[event.vcpu], event)
        refused += "01"[rule is not None]
    registers = [[state.cr0 & (cr0.CD_NW), *map(state.mtrrs.read, MSRS)] for state in states]
    return Record(text, refused, registers, [], "6.1.0-none", "NPT", 40, coherent=False)
