"""What a kernel that follows a policy to the letter would leave behind."""

from collections.abc import Iterator
from dataclasses import replace

from mtrrzap.guest.event import Kind
from mtrrzap.kernel.perform import MSRS, Record
from mtrrzap.kernel.program import Program
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Policy, by_name
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


# -- with all memory mapped, page by page

FRAMES = 512
V61 = by_name("v6.1")
_LEAF, TABLE = 0x6D97E67, 0xB609827


def spte(number: int, gfn: int, level: int, old: int, new: int) -> str:
    text = f"as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"
    return line(number, f"kvm_tdp_mmu_spte_changed: {text}")


def _walk(start: int, end: int) -> Iterator[str]:
    """Visit every entry of four levels that overlaps the range; one table page at each level."""
    yield line(1, "wlock: (_raw_write_lock+0x0/0x30)")
    yield line(1, "again: (tdp_iter_restart+0x0/0x70 [kvm])")
    for level in (4, 3, 2, 1):
        size = 1 << 9 * (level - 1)
        for gfn in range(0, 512 * size, size):
            if gfn < end and gfn + size > start:
                yield line(1, "visit: (tdp_iter_next+0x0/0x170 [kvm])")
                if level == 1:
                    yield spte(1, gfn, 1, _LEAF, 0)


def _installed(number: int, gfn: int, kind: object) -> Iterator[str]:
    if kind is not None:
        bits = kind.type << 3 | kind.ipat << 6  # type: ignore[attr-defined]
        yield line(number, f"type: (mtrrzap_ept_type+0x0/0x10 [kvm]) gfn={gfn:#x} bits={bits:#x}")
    yield spte(number, gfn, 1, 0, _LEAF)


def walked(
    made: Program,
    *,
    quirk: bool = True,
    wrong: str = "",
    types: bool = False,
    leaves_root: bool = False,
) -> Record:
    """A kernel that zaps leaves for each request; ``wrong`` says what it does wrong.

    ``leaves_root``: it has a new root, without a word, after each INIT.
    """
    host = Host(maxphyaddr=40, ept=False, quirk_cd_nw_cleared=quirk)
    asked = {r.event: r.ranges for r in replay(made.trace, V61, host)}
    vcpus = [power_on(40)] * made.trace.header.vcpus
    mask = MtMask(V61, replace(host, ept=types))
    text, mapped = "", set[int]()
    new_root = True
    for number, event in enumerate(made.trace.events):
        text += line(number, f"tracing_mark_write: e {number}")
        if new_root:
            text += "".join(spte(number, 0, level, 0, TABLE) for level in (4, 3, 2))
        stretches = list(mask.stretches(vcpus[event.vcpu]))
        for gfn in sorted(set(range(FRAMES)) - mapped):
            kind = next(each.type for each in stretches if gfn < each.end)
            text += "".join(_installed(number, gfn, kind))
        mapped = set(range(FRAMES))
        vcpus[event.vcpu], _ = step(vcpus[event.vcpu], event)
        for start, end in asked.get(number, ()) or ([(1, 0)] if number in asked else []):
            begin, done = call(number, start, end).splitlines(keepends=True)
            lines = list(_walk(start, end)) if start < end else []
            if wrong and mapped & set(range(start, min(end, FRAMES))):
                lines = [each for each in lines if wrong not in each]
            text += begin + "".join(lines) + done
            if "gfn" not in wrong:
                mapped -= set(range(start, min(end, FRAMES)))
        new_root = leaves_root and event.kind is Kind.INIT
        mapped = set() if new_root else mapped
    return Record(text, "", [], [], "6.1.0-none", "NPT", 40, coherent=False)
