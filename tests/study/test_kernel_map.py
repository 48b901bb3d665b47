"""Linux's own map of its MTRRs (v6.5 and newer): read, shown, and held against the registers."""

from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.listings import ALONE, REAL
from mtrrzap.errors import UserError
from mtrrzap.guest.listing import KernelMap, linux_map, read
from mtrrzap.study import kernel_map as report
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

HEAD = "MTRR map: 4 entries (3 fixed + 1 variable; max 19), built from 8 variable MTRRs\n"
WITH_TOM2 = """\
MTRR default type: uncachable
MTRR variable ranges enabled:
  0 base 0000000000000 mask 000FF80000000 write-back
TOM2: 0000000240000000 aka 9216M
MTRR map: 2 entries (1 fixed + 1 variable; max 18), built from 9 variable MTRRs
  0: 0000000000000000-000000007fffffff write-back
  1: 0000000100000000-000000023fffffff write-back
"""


def mapped(text: str) -> KernelMap:
    found = linux_map.read(text.split("\n"), "log")
    assert found is not None
    return found


def test_entries() -> None:
    found = mapped(REAL)
    assert (found.fixed, found.announced, len(found.entries)) == (3, 4, 4)
    assert found.entries[3] == (0xC0000000, 0x100000000, MemType.UC)


def test_registers_of_the_same_log() -> None:
    """Masks have three digits too many in v6.5 and newer: 13 for 40 bits, where v6.4 prints 10."""
    listing = read(REAL, "log")
    assert listing.maxphyaddr == 40
    assert listing.cpus[0].values[0x201] == 0xFFC0000800
    assert listing.kernel_map == mapped(REAL)


def test_the_last_boot_counts() -> None:
    assert mapped(WITH_TOM2 + REAL.replace("write-protect", "write-through"))[2][2].type is (
        MemType.WT
    )
    off = "MTRR default type: uncachable\nMTRR variable ranges disabled:\n  0 disabled\n"
    assert read(REAL + off, "log").kernel_map is None


def registers() -> Mtrrs:
    mtrrs = Mtrrs(40).write(0x2FF, 0xC06).write(0x200, 0xC0000000).write(0x201, 0xFFC0000800)
    for msr, value in ((0x250, 6), (0x258, 6), *((msr, 5) for msr in range(0x268, 0x270))):
        mtrrs = mtrrs.write(msr, value * 0x0101010101010101)
    return mtrrs


def test_it_agrees_with_the_registers() -> None:
    said = report.against(registers(), mapped(REAL))
    assert said == "the kernel's own map, 4 entries, agrees with the manual's lookup"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ((0x200, 0xD0000000), ""),
        ((0x26F, 0), "[0xf8000, 0x100000) WP, not UC"),
        ((0x200, 0x1C0000000), "[0xc0000000, 0x100000000) UC, not WB; [0x1c0000000, 0x200000000) "),
        ((0x201, 0xF7C0000800), "[0x8c0000000, 0x900000000) WB, not UC"),
        # What lies in no entry has the registers' default type.
        ((0x2FF, 0xC04), ""),
    ],
)
def test_it_differs(change: tuple[int, int], place: str) -> None:
    """A base inside the range is the same range to the manual, though not to KVM."""
    said = report.against(registers().write(*change), mapped(REAL)) or ""
    if place:
        assert f"DIFFERS from the manual's lookup of the registers: {place}" in said
    else:
        assert said.endswith("agrees with the manual's lookup")


def test_tom2_is_no_difference() -> None:
    mtrrs = Mtrrs(40).write(0x2FF, 0x800).write(0x200, 6).write(0x201, 0xFF80000800)
    found = mapped(WITH_TOM2)
    said = report.against(mtrrs, found)
    assert said is not None
    assert said.endswith("agrees with the manual's lookup, given AMD's TOM2 = 0x240000000")
    said = report.against(mtrrs, found._replace(tom2=0))
    assert said is not None
    assert said.endswith(
        "DIFFERS from the manual's lookup of the registers: [0x100000000, 0x240000000) WB, not UC"
    )


def test_a_cut_map_is_not_compared() -> None:
    cut = "\n".join(REAL.split("\n")[:13])
    assert report.against(registers(), mapped(cut)) == (
        "the kernel's own map has been cut: 1 entries are missing"
    )
    assert report.against(registers(), mapped(HEAD)) is None


def test_rows_have_the_gaps() -> None:
    assert [(r.start, r.type, r.decider) for r in report.rows(mapped(REAL))] == [
        (0, MemType.WB, "entry 0, fixed MTRRs"),
        (0xA0000, MemType.UC, "entry 1, fixed MTRRs"),
        (0xC0000, MemType.WP, "entry 2, fixed MTRRs"),
        (0x100000, None, "default"),
        (0xC0000000, MemType.UC, "entry 3, variable MTRRs"),
    ]


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (HEAD, ":1", "only the number of entries is in it (4); boot with mtrr=debug"),
        (HEAD.replace("4 entries", "0 entries"), ":1", "has no entries: the MTRRs are off"),
        (ALONE.replace("c0000-", "b0000-"), ":4", "not above the entry before it"),
        (ALONE.replace("a0000-", "d0000-"), ":3", "not above the entry before it"),
    ],
)
def test_errors(text: str, place: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text, "x")
    assert str(caught.value).startswith(f"x{place}: ")
    assert problem in str(caught.value)


def test_a_map_without_registers_on_the_command_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "map.log"
    path.write_text(ALONE)
    ran = run("memtype", str(path))
    assert (ran.status, ran.err) == (0, "")
    assert "0x0000c0000000 │ 0x000100000000 │ UC          │ entry 3, variable MTRRs" in ran.out
    assert "memory outside of all entries has the default type" in ran.out
    assert run("memtype", str(path), "--address", "a1234").out == (
        "0xa1234: UC, by the kernel's map (entry 1, fixed MTRRs)\n"
    )
    assert run("memtype", str(path), "--address", "100000000").out.endswith("(default)\n")
    assert '"type": "the default"' in run("memtype", str(path), "--json").out
    for option in (("--pat",), ("--diff", str(path)), ("--vcpu", "0")):
        ran = run("memtype", str(path), *option)
        assert ran.status == 2
        assert "has no registers" in ran.err


def test_a_whole_log_on_the_command_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dmesg"
    path.write_text(REAL)
    ran = run("memtype", str(path))
    assert ran.status == 0
    assert "note: the kernel's own map, 4 entries, agrees with the manual's lookup" in ran.out
    path.write_text(REAL.replace("00000C0000000 mask", "0000100000000 mask"))
    assert "DIFFERS from the manual's lookup" in run("memtype", str(path)).out


def test_a_mask_with_very_many_holes_ends() -> None:
    mtrrs = registers().write(0x200, 6).write(0x201, 0x1800)
    said = report.against(mtrrs, mapped(REAL)) or ""
    assert "[0xc0000000, 0x100000000)" not in said
