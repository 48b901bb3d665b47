"""The guest: a few dozen instructions, and a table of register writes for each vCPU.

User mode adds one to a counter in each of its vCPU's pages and executes INT3; the handler in ring
0 performs the next entry of the table; and so on until an entry says HLT. Only user mode touches
pages, because a hypervisor may emulate ring 0 without making second-stage entries (a
software-nested KVM does). Ring 0 keeps to instructions that KVM's emulator knows.

One memslot from 0 on contains all of it, mapped one to one by guest pages of 2 MiB::

    [0, system)         data pages: what the vCPUs touch
    [system, memory)    code, page tables; for each vCPU a GDT, TSS and IDT, a stack, its table
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.live.ioctl import KvmSegment, Regs, Sregs
from mtrrzap.x86 import cr0

PAGE = 1 << 12
LARGE = 1 << 21
_GIB = 1 << 30
MOST_MEMORY = 1 << 36
"""Bytes: KVM assumes a MAXPHYADDR of 36 for a vCPU without CPUID, like these."""


class GuestOp(IntEnum):
    """What ring 0 does with an entry of the table."""

    WRMSR = 0
    HALT = 1
    SET_CD_NW = 2
    """Write CR0 with CD and NW as in the value, the other bits as they are; ring ``BELL``."""
    MOV_CR0 = 3
    """Write the value to CR0 as it is, ring ``BELL``: for values that end in #GP."""


class TableEntry(NamedTuple):
    """One entry. ``msr`` is a number of 32 bits, for WRMSR only; ``value`` has 64."""

    op: GuestOp
    msr: int = 0
    value: int = 0


BELL, PROTECTION, PANIC = 0x10, 0x11, 0x12
"""Ports: CR0 has been written; #GP was delivered instead; another exception was (number in AL)."""

_USER = bytes.fromhex(
    "4c89c1"  # user:   mov rcx, r8       pages
    "4c89cf"  #         mov rdi, r9       the first one
    "48ff07"  # touch:  inc qword [rdi]
    "4c01d7"  #         add rdi, r10      bytes from one to the next
    "48ffc9"  #         dec rcx
    "75f5"  #           jnz touch
    "cc"  #             int3
    "ebec"  #           jmp user
)
_HANDLER = bytes.fromhex(
    "488b0e"  #         mov rcx, [rsi]    the operation above 32 bits of MSR number
    "488b4608"  #       mov rax, [rsi+8]
    "4883c610"  #       add rsi, 16
    "4889ca"  #         mov rdx, rcx
    "48c1ea20"  #       shr rdx, 32
    "83fa01"  #         cmp edx, HALT
    "740d"  #           je halt
    "770e"  #           ja cr
    "4889c2"  #         mov rdx, rax
    "48c1ea20"  #       shr rdx, 32
    "0f30"  #           wrmsr
    "48cf"  #           iretq
    "f4"  #     halt:   hlt
    "ebfd"  #           jmp halt
    "83fa02"  # cr:     cmp edx, SET_CD_NW
    "750d"  #           jne raw
    "0f20c2"  #         mov rdx, cr0
    "4881e2ffffff9f"  # and rdx, ~(CD | NW)
    "4809d0"  #         or rax, rdx
    "0f22c0"  # raw:    mov cr0, rax
    "e610"  #           out BELL, al
    "48cf"  #           iretq
)
_GP_HANDLER = bytes.fromhex(
    "e611"  #           out PROTECTION, al
    "488b642420"  #     mov rsp, [rsp+32] back to the frame of INT3
    "48cf"  #           iretq
)
_PANIC_STUB = bytes.fromhex("b000e612f4ebfd")  # mov al, VECTOR; out PANIC, al; hlt; jmp $-1

_VECTORS = 32
_BREAKPOINT, _GP = 3, 13
_HANDLER_AT = 0x40
_GP_AT = 0xC0
_STUBS_AT, _STUB = 0x100, 8
_TABLES_AT = PAGE
"""Offsets of the system area: code, then a PML4, a PDPT and a page directory for each GiB."""

_USER_CODE, _KERNEL_CODE, _USER_DATA, _TSS = 0x08, 0x10, 0x18, 0x20
_TSS_AT, _TSS_SIZE, _IDT_AT = 0x100, 0x68, 0x200
"""Offsets in a vCPU's first page; its GDT is at 0."""

_PRESENT, _WRITE, _USER_PAGE, _ACCESSED, _DIRTY, _PS = 1, 2, 4, 0x20, 0x40, 0x80
_EFER_LME_LMA_NX = 0x100 | 0x400 | 0x800
_CR4_PAE = 1 << 5
_CR0 = cr0.PG | cr0.PE | cr0.ET | 1 << 5 | 1 << 16
"""Paging and protection on, NE, WP."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is in guest memory; addresses and sizes in bytes."""

    memory: int
    system: int
    """The first byte behind the data pages."""
    private: tuple[int, ...]
    """Where each vCPU's own tables begin."""
    stride: int
    """From one touched page to the next one of the same vCPU."""
    touched: int
    """Pages that each vCPU touches."""

    @property
    def vcpus(self) -> int:
        """How many there are."""
        return len(self.private)

    def pages(self, vcpu: int) -> range:
        """Return the addresses of the pages that a vCPU touches."""
        first = vcpu * (self.stride // self.vcpus)
        return range(first, first + self.touched * self.stride, self.stride)


def layout(memory: int, tables: Sequence[int], touch: int) -> Layout:
    """Lay out a guest; ``tables`` are the numbers of entries of each vCPU's table.

    ``touch`` is how many pages each vCPU shall touch, if there are so many. Raises ``UserError``
    if the memory is too small for one data page each.
    """
    directories = -(-memory // _GIB)
    sizes = [2 * PAGE + -(-(entries + 1) * 16 // PAGE) * PAGE for entries in tables]
    fixed = _TABLES_AT + (2 + directories) * PAGE
    system = memory - fixed - sum(sizes)
    data, vcpus = system // PAGE, len(tables)
    if data < vcpus:
        least = -(-(fixed + sum(sizes) + vcpus * PAGE) // (1 << 20))
        raise UserError(
            f"{memory >> 20} MiB leave no page to touch beside stacks and tables of {vcpus} vCPUs",
            place="memory",
            mend=f"give {least}M or more",
        )
    if memory > MOST_MEMORY:
        raise UserError("more than the test guest can map", place="memory", mend="give at most 64G")
    touched = min(touch, data // vcpus)
    step = data // (vcpus * touched) if touched else 1
    begin, private = system + fixed, []
    for size in sizes:
        private.append(begin)
        begin += size
    return Layout(memory, system, tuple(private), step * vcpus * PAGE, touched)


def write(view: memoryview, where: Layout, tables: Sequence[Sequence[TableEntry]]) -> None:
    """Write code, page tables and every vCPU's tables into guest memory."""
    _write_code(view, where.system)
    _write_page_tables(view, where)
    for base, table in zip(where.private, tables, strict=True):
        _write_private(view, where.system, base)
        entries = (*table, TableEntry(GuestOp.HALT))
        for number, (op, msr, value) in enumerate(entries):
            struct.pack_into("<QQ", view, base + 2 * PAGE + 16 * number, op << 32 | msr, value)


def _write_code(view: memoryview, base: int) -> None:
    for at, code in ((0, _USER), (_HANDLER_AT, _HANDLER), (_GP_AT, _GP_HANDLER)):
        view[base + at : base + at + len(code)] = code
    for vector in range(_VECTORS):
        at = base + _STUBS_AT + _STUB * vector
        view[at : at + len(_PANIC_STUB)] = _PANIC_STUB
        view[at + 1] = vector


def _write_page_tables(view: memoryview, where: Layout) -> None:
    pml4 = where.system + _TABLES_AT
    pdpt, directory = pml4 + PAGE, pml4 + 2 * PAGE
    table = _PRESENT | _WRITE | _USER_PAGE | _ACCESSED
    struct.pack_into("<Q", view, pml4, pdpt | table)
    for gib in range(-(-where.memory // _GIB)):
        struct.pack_into("<Q", view, pdpt + 8 * gib, directory + gib * PAGE | table)
    for number in range(-(-where.memory // LARGE)):
        leaf = number * LARGE | table | _DIRTY | _PS
        struct.pack_into("<Q", view, directory + 8 * number, leaf)


def _write_private(view: memoryview, code: int, base: int) -> None:
    tss = base + _TSS_AT
    code64 = 1 << 53 | 1 << 47 | 0b11011 << 40  # L, P, S, code, readable, accessed
    gdt = (0, code64 | 3 << 45, code64, 1 << 47 | 0b10011 << 40 | 3 << 45)
    struct.pack_into("<4Q", view, base, *gdt)
    busy = (tss & 0xFFFFFF) << 16 | 0x8B << 40 | (tss >> 24 & 0xFF) << 56 | _TSS_SIZE - 1
    struct.pack_into("<QQ", view, base + _TSS, busy, tss >> 32)
    struct.pack_into("<Q", view, tss + 4, base + 2 * PAGE)  # RSP0: the end of the second page
    for vector in range(_VECTORS):
        handler = code + _STUBS_AT + _STUB * vector
        if vector in (_BREAKPOINT, _GP):
            handler = code + (_HANDLER_AT if vector == _BREAKPOINT else _GP_AT)
        gate = (handler & 0xFFFF, _KERNEL_CODE, 0xEE00, handler >> 16 & 0xFFFF, handler >> 32)
        struct.pack_into("<HHHHQ", view, base + _IDT_AT + 16 * vector, *gate)


def registers(where: Layout, vcpu: int, cd_nw: int) -> tuple[Regs, Sregs]:
    """Return the registers of a vCPU that is about to run in user mode, in long mode.

    ``cd_nw`` holds the bits CD and NW of CR0.
    """
    base, pages = where.private[vcpu], where.pages(vcpu)
    regs = Regs(
        rip=where.system,
        rflags=2,
        rsi=base + 2 * PAGE,
        r8=len(pages),
        r9=pages.start,
        r10=where.stride,
    )
    flat = {"limit": 0xFFFFFFFF, "present": 1, "s": 1, "g": 1}
    data = KvmSegment(selector=_USER_DATA | 3, type=3, dpl=3, db=1, **flat)
    sregs = Sregs(
        cs=KvmSegment(selector=_USER_CODE | 3, type=11, dpl=3, l=1, **flat),
        tr=KvmSegment(base=base + _TSS_AT, limit=_TSS_SIZE - 1, selector=_TSS, type=11, present=1),
        ldt=KvmSegment(unusable=1, type=2),
        **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data),
        cr0=_CR0 | cd_nw & cr0.CD_NW,
        cr3=where.system + _TABLES_AT,
        cr4=_CR4_PAE,
        efer=_EFER_LME_LMA_NX,
    )
    sregs.gdt.base, sregs.gdt.limit = base, _TSS + 16 - 1
    sregs.idt.base, sregs.idt.limit = base + _IDT_AT, 16 * _VECTORS - 1
    return regs, sregs
