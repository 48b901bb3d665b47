"""The test guest: its code is what the assembler makes of its listing, its pages are its own."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recording import missing
from mtrrzap.errors import UserError
from mtrrzap.live import guest
from mtrrzap.live import memory as m
from mtrrzap.live.guest import PAGE, GuestOp, TableEntry

LISTING = f"""
.intel_syntax noprefix
user:   mov rcx, r8
        mov rdi, r9
touch:  inc qword ptr [rdi]
        add rdi, r10
        dec rcx
        jnz touch
        int3
        jmp user
handler: mov rcx, [rsi]
        mov rax, [rsi+8]
        add rsi, 16
        mov rdx, rcx
        shr rdx, 32
        cmp edx, {GuestOp.HALT}
        je halt
        ja cr
        mov rdx, rax
        shr rdx, 32
        wrmsr
        iretq
halt:   hlt
        jmp halt
cr:     cmp edx, {GuestOp.SET_CD_NW}
        jne raw
        mov rdx, cr0
        and rdx, ~0x60000000
        or rax, rdx
raw:    mov cr0, rax
        out {guest.BELL}, al
        iretq
gp:     out {guest.PROTECTION}, al
        mov rsp, [rsp+32]
        iretq
stub:   mov al, 0
        out {guest.PANIC}, al
stop:   hlt
        jmp stop
"""


def test_the_code_is_the_assemblers(tmp_path: Path) -> None:
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        missing("no assembler (Debian: apt install binutils)")
    thing, raw = tmp_path / "guest.o", tmp_path / "guest.bin"
    subprocess.run(["as", "-o", thing], input=LISTING, text=True, check=True, timeout=60)
    subprocess.run(["objcopy", "-O", "binary", thing, raw], check=True, timeout=60)
    ours = guest._USER + guest._HANDLER + guest._GP_HANDLER + guest._PANIC_STUB
    assert ours == raw.read_bytes()


@given(
    memory=st.integers(1, 300).map(lambda mib: mib << 20),
    tables=st.lists(st.integers(0, 2000), min_size=1, max_size=70),
    touch=st.integers(1, 5000),
)
def test_every_page_has_one_owner(memory: int, tables: list[int], touch: int) -> None:
    try:
        where = guest.layout(memory, tables, touch)
    except UserError as error:
        least = int(str(error).rpartition("give ")[2].removesuffix("M or more"))
        assert least << 20 > memory
        assert guest.layout(least << 20, tables, touch).touched >= 1
        return
    owned = [page for vcpu in range(where.vcpus) for page in where.pages(vcpu)]
    assert len(set(owned)) == len(owned) == where.touched * len(tables)
    assert all(page % PAGE == 0 and 0 <= page < where.system for page in owned)
    assert where.touched == min(touch, where.system // PAGE // len(tables))
    last = where.private[-1] + 2 * PAGE + 16 * (tables[-1] + 1)
    assert where.system < where.private[0] <= last <= memory
    for base, following, entries in zip(where.private, where.private[1:], tables, strict=False):
        assert base + 2 * PAGE + 16 * (entries + 1) <= following


def test_lost_data_is_seen() -> None:
    """Each page's counter and both words of its pattern count; so do pages that nobody touches."""
    where = guest.layout(1 << 20, [1, 1], 8)
    view = memoryview(bytearray(where.memory))
    m.fill(view, where)
    guest.write(view, where, [[TableEntry(GuestOp.WRMSR, 0x2FF, 0xC06)]] * 2)
    assert list(m.lost(view, where, [0, 0])) == []
    touched = where.pages(1)[3]
    view[touched] = 2
    assert list(m.lost(view, where, [0, 2])) == [
        f"gfn {page // PAGE:#x}: counted 0 of 2" for page in where.pages(1) if page != touched
    ]
    view[touched] = 0
    idle = next(a for a in range(0, where.system, PAGE) if a not in where.pages(0))
    for at in (idle, idle + 8, idle + PAGE - 1):
        view[at] ^= 1
        assert [line.split(":")[0] for line in m.lost(view, where, [0, 0])] == [
            f"gfn {idle // PAGE:#x}"
        ]
        view[at] ^= 1


def test_more_than_the_guest_maps_is_refused() -> None:
    with pytest.raises(UserError, match="give at most 64G"):
        guest.layout(guest.MOST_MEMORY + (1 << 20), [1], 1)
