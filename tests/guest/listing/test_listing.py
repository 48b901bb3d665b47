"""Listings of MTRRs: every form gives the same registers; a wrong line is named."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.listings import (
    ALL_CPUS_A_LINE,
    CLEANUP,
    EXPECTED,
    IN_CPUS,
    ITEMS,
    LOG,
    OLD_PROC,
    ONE_A_LINE,
    PROC,
    RDMSR_A,
)
from helpers.proc_mtrr import proc_mtrr
from mtrrzap.errors import UserError
from mtrrzap.guest.listing import Listing, read
from mtrrzap.x86.mtrr import Mtrrs

BY_CPU = json.dumps(
    {
        str(cpu): {f"{msr:#x}": f"{v:#x}" for msr, v in found.items()}
        for cpu, found in EXPECTED.items()
    }
)


def values(listing: Listing) -> dict[int, dict[int, int]]:
    return {found.cpu: found.values for found in listing.cpus}


@pytest.mark.parametrize("text", [ONE_A_LINE, ALL_CPUS_A_LINE, RDMSR_A, BY_CPU, IN_CPUS, ITEMS])
def test_forms_of_a_dump(text: str) -> None:
    listing = read(text, "dump")
    assert values(listing) == EXPECTED
    assert listing.maxphyaddr == 40


@pytest.mark.parametrize("text", [PROC, OLD_PROC, CLEANUP])
def test_variable_ranges_that_linux_lists(text: str) -> None:
    listing = read(text, "mtrr")
    assert values(listing) == {
        0: {
            0x200: 6,
            0x201: 0xF80000800,
            0x202: 0x7C000000,
            0x203: 0xFFC000800,
            0x204: 0xD0000001,
            0x205: 0xFFFF80800,
            0x2FF: 0x800,
        }
    }
    assert "UC is assumed, because not all ranges are UC" in listing.notes[0]


def test_ranges_that_are_all_uc_mean_a_default_of_wb() -> None:
    text = "reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable\n"
    listing = read(text, "mtrr")
    assert listing.cpus[0].values[0x2FF] == 0x806


def test_boot_log() -> None:
    """Two boots in one file: the last one counts. Range 8 is disabled."""
    listing = read(LOG, "dmesg")
    found = listing.cpus[0].values
    assert found[0x2FF] == 0xC06
    assert (found[0x250], found[0x258]) == (0x0606060606060606, 0x0606060606060606)
    assert (found[0x259], found[0x268], found[0x26A]) == (0, 0x0505050505050505, 0x0404040405050505)
    assert (found[0x200], found[0x201], found[0x203]) == (0x80000000, 0xFF80000800, 0)
    assert (found[0x20E], found[0x20F]) == (0xFF000005, 0xFFFF000800)
    assert (listing.what, listing.maxphyaddr, len(found)) == ("boot log", 40, 21)


def test_a_mask_with_leading_zeros_in_a_log() -> None:
    """A real BIOS: 36 bits wide, but the mask leaves out the top ones."""
    text = "MTRR default type: uncachable\nMTRR variable ranges enabled:\n"
    listing = read(text + "  0 base 000000000 mask 0C0000000 write-back\n", "dmesg")
    assert listing.maxphyaddr == 36


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("", ":1", "no MTRR found"),
        ("cafe babe\n", ":1", "no MTRR found"),
        ("0x2ff c06\nhello\n", ":2", "not an MSR and its value: 'hello'"),
        ("0x2ff 1ffffffffffffffff\n", ":1", "not an MSR and its value"),
        ("cpu 9999: 0x2ff c06\n", ":1", "CPU 9999 is beyond 4095"),
        (PROC + "what\n", ":4", "not a line of /proc/mtrr: 'what'"),
        (PROC.replace("0MB)", "1MB)", 1), ":1", "base=0x000000000 is not 1MB"),
        (PROC.replace("  64MB", "  65MB"), ":2", "a size of 0x4100000 is not a power of two"),
        (PROC.replace("reg02", "reg256"), ":3", "range 256: a processor has at most 256"),
        (LOG.replace("  7 base", "  256 base"), ":13", "range 256: a processor has at most 256"),
        (LOG.replace("mask FF80000000", "mask FF8000000G"), ":11", "not a variable range: "),
        (LOG.replace("write-through", "write-thru"), ":9", "not a fixed range: "),
        (LOG.replace("MTRR variable ranges enabled:", ""), ":11", "the block is cut: "),
        ("MTRR default type: write-back\n", ":1", "the block is cut: "),
        ("rdmsr -f 7:0 0x2ff\n6\n", ":1", "rdmsr -f: a field of a register is no register"),
        ("rdmsr -a 0x2ff | sort | uniq -c\n 3 c06\n 1 c00\n", ":3", "sorted: which processor"),
        ("$ for i in 200 201; do rdmsr 0x$i; done\n6\n", ":1", "a shell variable in place"),
        ("rdmsr 0x2ff\nc06\nc06\n", ":3", "not an MSR and its value: 'c06'"),
        ("rdmsr -a 0x2ff; rdmsr -a 0x200\nc06\n6\n", ":1", "several rdmsr -a in one line"),
        ("0x2ff: 00000000 00000c06\n", ":1", "two halves of one value, or the values of two"),
        ("EAX=00000000 EBX=00000000 ECX=0\n", ":1", "QEMU's 'info registers' has no MTRR"),
        (LOG + ONE_A_LINE + PROC, "", "several listings are in it: linux, proc-mtrr"),
        ("{", ":1", "not JSON: "),
        ("[" * 100000, ":1", "JSON that cannot be read"),
        ("[1]", ":1", "no MSR and its value in it"),
        ('{"0x2ff": []}', ":1", "not an MSR and its value"),
        ('{"x": {"0x2ff": 1}}', ":1", "not a processor's number: 'x'"),
        ('[{"cpu": -1, "msr": 1, "value": 1}]', ":1", "not a processor's number"),
    ],
)
def test_errors_name_the_line(text: str, place: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text, "x")
    message = str(caught.value)
    assert message.startswith(f"x{place}: "), message
    assert problem in message
    assert "\n" not in message


@given(
    st.dictionaries(
        st.integers(0, 7),
        st.tuples(st.sampled_from([0, 1, 4, 5, 6]), st.integers(12, 35), st.integers(0, 15)),
        min_size=1,
    )
)
def test_proc_mtrr_round_trip(ranges: dict[int, tuple[int, int, int]]) -> None:
    """What a Linux guest would show of some registers, read again, gives the same registers."""
    mtrrs = Mtrrs(36)
    for index, (kind, bits, place) in ranges.items():
        base = (place << bits) & (1 << 36) - 1
        mtrrs = mtrrs.write(0x200 + 2 * index, base | kind)
        mtrrs = mtrrs.write(0x201 + 2 * index, ((1 << 36) - (1 << bits)) | 0x800)
    found = read("\n".join(proc_mtrr(mtrrs)) + "\n", "/proc/mtrr").cpus[0].values
    for index in ranges:
        assert found[0x200 + 2 * index] == mtrrs.bases[index]
        assert found[0x201 + 2 * index] == mtrrs.masks[index]


@given(
    st.text(max_size=100) | st.sampled_from([LOG, PROC, ONE_A_LINE, BY_CPU]).map(lambda s: s[::-1])
)
def test_any_text_is_a_listing_or_a_user_error(text: str) -> None:
    with contextlib.suppress(UserError):
        read(text, "x")
