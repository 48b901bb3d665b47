"""The guest of a VM whose MTRR and CR0 writes KVM handles: one instruction at a time, in ring 0.

Memory, page tables, GDT and IDT are those of ``live.guest``. The monitor sets RIP and the operands,
runs the vCPU, and gets it back at a port: ``BELL`` after the instruction, ``PROTECTION`` if it
ended in #GP instead.
"""

from mtrrzap.live import guest
from mtrrzap.live.ioctl import KvmSegment, Regs, Sregs

BELL, PROTECTION = guest.BELL, guest.PROTECTION
PAGE = guest.PAGE

_CODE_AT = 0x800
"""In guest page 0, between the two patterns of ``live.memory``."""
_CODES = {
    "wrmsr": "0f30",  #          wrmsr
    "cr0": "0f22c0",  #          mov cr0, rax
    "touch": (
        "8a07"  #         touch: mov al, [rdi]
        "4881c700100000"  #      add rdi, 4096
        "48ffc9"  #              dec rcx
        "75f2"  #                jnz touch
    ),
}
_RING = "e610ebfe"
"""out BELL, al; jmp $"""
_KERNEL_CODE = 0x10


class Guest:
    """Where everything is; the same for every vCPU but its stack and tables."""

    def __init__(self, memory: int, vcpus: int) -> None:
        """Lay out ``memory`` bytes. Raises ``UserError`` if they are too few."""
        self.where = guest.layout(memory, [0] * vcpus, 0)
        self.rip: dict[str, int] = {}
        self._code = bytearray()
        for name, code in _CODES.items():
            self.rip[name] = _CODE_AT + len(self._code)
            self._code += bytes.fromhex(code + _RING)

    def write(self, view: memoryview) -> None:
        """Write code and tables into guest memory."""
        guest.write(view, self.where, [[]] * self.where.vcpus)
        view[_CODE_AT : _CODE_AT + len(self._code)] = bytes(self._code)

    def registers(self, vcpu: int, cd_nw: int) -> tuple[Regs, Sregs]:
        """Return a vCPU's registers in ring 0, in long mode, with these bits CD and NW of CR0."""
        regs, sregs = guest.registers(self.where, vcpu, cd_nw)
        flat = {"limit": 0xFFFFFFFF, "present": 1, "s": 1, "g": 1}
        sregs.cs = KvmSegment(selector=_KERNEL_CODE, type=11, l=1, **flat)
        data = KvmSegment(type=3, db=1, **flat)
        for name in ("ds", "es", "fs", "gs", "ss"):
            setattr(sregs, name, data)
        regs.rsp = self.where.private[vcpu] + 2 * PAGE
        return regs, sregs
