"""The kinds of listings that people paste; the files are named for their oddities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import ROOT
from mtrrzap.errors import UserError
from mtrrzap.guest import listing
from mtrrzap.study.memory_map import States, load, of_listing
from mtrrzap.x86 import physmap

FOLDER = ROOT / "tests/data/listings"
HOLE = "100000:UC c0000000:WB 100000000:UC 8000000000:WB"
"""Fixed MTRRs not listed, default WB, and [3 GiB, 4 GiB) UC."""
TO_HALF = "80000000:WB 100000000:UC 8000000000:WB"


def spans(states: States, cpu: int) -> str:
    """The manual's map: the end of each type's stretch."""
    found: list[tuple[int, str]] = []
    for part in physmap.physical_map(states.cpus[cpu]):
        if found and found[-1][1] == str(part.type):
            found.pop()
        found.append((part.end, str(part.type)))
    return " ".join(f"{end:x}:{kind}" for end, kind in found)


@pytest.mark.parametrize(
    ("name", "what", "cpu", "expected"),
    [
        (
            "linux_replaced_by_mtrr_cleanup.log",
            "boot log",
            0,
            "a0000:WB 100000:UC e0000000:WB 100000000:UC 200000000:WB 1000000000:UC",
        ),
        (
            "linux_ten_ranges.log",
            "boot log",
            0,
            "78000000:WB 100000000:UC 200000000:WC 8000000000:WB",
        ),
        (
            "xen_lower_case.log",
            "Xen's boot log",
            0,
            "a0000:WB c0000:UC 100000:WP 70000000:WB 10000000000:UC",
        ),
        (
            "linux_tom2.log",
            "boot log",
            0,
            "a0000:WB 100000:UC d0000000:WB e0000000:UC 430000000:WB 1000000000000:UC",
        ),
        ("linux_wrapped_by_mail.log", "boot log", 0, f"a0000:WB c0000:UC 100000:WP {TO_HALF}"),
        ("linux_as_json_strings.log", "boot log", 0, TO_HALF),
        ("linux_html.log", "boot log", 0, TO_HALF),
        ("prompt_and_set_x.txt", "MSR dump", 1, HOLE),
        ("prompt_and_set_x.txt", "MSR dump", 2, TO_HALF),
        ("rdmsr_options.txt", "MSR dump", 2, HOLE),
        ("cpucontrol.txt", "MSR dump (cpucontrol -m)", 0, HOLE),
        ("two_words_proved_halves.txt", "MSR dump", 0, HOLE),
        ("chipsec_new.txt", "MSR dump (chipsec)", 0, "40000000:UC 8000000000:WB"),
        ("chipsec_old.txt", "MSR dump (chipsec)", 1, "40000000:UC 8000000000:WB"),
        ("wrmsr_script.sh", "wrmsr script", 0, HOLE.removeprefix("100000:UC ")),
        (
            "amd_host.msr",
            "MSR dump",
            0,
            "a0000:WB 100000:UC 80000000:WB 100000000:UC 280000000:WB 1000000000000:UC",
        ),
        ("intel_host.msr", "MSR dump", 0, f"100000:UC {TO_HALF}"),
        (
            "coreboot.log",
            "coreboot's log",
            0,
            "a0000:WB c0000:UC 80000000:WB c0000000:UC d0000000:WC 8000000000:WB",
        ),
        ("edk2.log", "EDK2's log", 0, f"a0000:WB {HOLE}"),
        (
            "slim_bootloader.txt",
            "Slim Bootloader's mtrr command",
            0,
            "100000:UC 80000000:WB c0000000:UC d0000000:WC 8000000000:UC",
        ),
        (
            "slim_bootloader_short.txt",
            "Slim Bootloader's mtrr command",
            0,
            "100000:UC 80000000:WB c0000000:UC d0000000:WC 1000000000:UC",
        ),
        ("u_boot.txt", "U-Boot's mtrr list", 1, "80000000:WB 1000000000:UC"),
        (
            "memcontrol.txt",
            "memcontrol list",
            0,
            "a0000:WB 100000:UC 80000000:WB d0000000:UC e0000000:WC 1000000000:UC",
        ),
        ("fwts.log", "fwts' MTRR overview", 0, "7f000000:WB 1000000000:UC"),
        ("rust_vmm_snapshot.json", "rust-vmm snapshot", 0, HOLE),
        ("cloud_hypervisor_nested.json", "rust-vmm snapshot", 1, "100000:UC 10000000000000:WB"),
        ("qemu_migration.json", "QEMU's migration state", 0, f"a0000:WB {HOLE}"),
    ],
)
def test_kinds(name: str, what: str, cpu: int, expected: str) -> None:
    states = load(FOLDER / name)
    assert states.what == what
    assert spans(states, cpu) == expected


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("linux_replaced_by_mtrr_cleanup.log", "line 20: the kernel replaced the variable ranges"),
        ("linux_replaced_without_a_list.log", "no longer what the processor holds"),
        ("linux_ten_ranges.log", "lines between the registers that are not about them: 13"),
        ("linux_inconsistent_and_pat.log", "line 6: the processors had different fixed MTRR"),
        ("linux_inconsistent_and_pat.log", "line 7: the processors had different MTRRdefType"),
        ("linux_html.log", "which may be cut; they are taken as disabled"),
        ("amd_host.msr", "RdMem and WrMem bits"),
        ("amd_host.msr", "TOP_MEM = 0x80000000"),
        ("intel_host.msr", "SMRR: [0x7b000000, 0x7b800000) is WB in system-management mode"),
        ("coreboot.log", "line 21: coreboot's temporary MTRRs are left out"),
        ("memcontrol.txt", "numbered in the order of the list"),
    ],
)
def test_notes(name: str, note: str) -> None:
    assert [said for said in load(FOLDER / name).notes if note in said]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("xen_with_a_damaged_register.log", ":3: not a variable range: "),
        ("linux_cut_before_the_variable_ranges.log", ":1: the block is cut: "),
        ("linux_without_mtrrs.log", ":3: no MTRR is listed, because the kernel found them off"),
        ("two_words_either_way.txt", ":1: two halves of one value, or the values of two"),
        ("edk2_cut.log", ":3: the table is cut: no variable MTRR"),
    ],
)
def test_errors(name: str, error: str) -> None:
    with pytest.raises(UserError) as caught:
        load(FOLDER / name)
    assert f"{name}{error}" in str(caught.value)


def test_the_pat_of_a_log() -> None:
    assert load(FOLDER / "linux_inconsistent_and_pat.log").cpus[0].pat == 0x7010600070106


@pytest.mark.parametrize(("form", "cpus"), [("msr-halves", {0: 0xC06}), ("msr-cpus", {1: 0xC06})])
def test_the_format_chooses(form: str, cpus: dict[int, int]) -> None:
    states = load(FOLDER / "two_words_either_way.txt", form=form)
    assert {cpu: m.def_type for cpu, m in states.cpus.items() if m.def_type} == cpus


@pytest.mark.parametrize(
    ("name", "processor"),
    [
        ("amd_host.msr", "an AMD processor with 8 variable ranges"),
        ("linux_tom2.log", "an AMD processor with 8 variable ranges"),
        ("intel_host.msr", "a processor with 10 variable ranges; a KVM guest has 8"),
        ("cpucontrol.txt", "a processor with 8 variable ranges, as a KVM guest's vCPU has"),
    ],
)
def test_which_processor(name: str, processor: str) -> None:
    assert load(FOLDER / name).processor == processor


@pytest.mark.parametrize("count", [40, 200, 255])
def test_as_many_ranges_as_vcnt_allows(
    count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ranges") / "mtrr"
    path.write_text(
        "".join(
            f"reg{n:02}: base=0x{n << 20:09x} ({n:5}MB), size=    1MB, count=1: uncachable\n"
            for n in range(count)
        )
    )
    states = load(path)
    assert spans(states, 0) == f"{count << 20:x}:UC 1000000000:WB"
    assert states.cpus[0].vcnt == count


WRAPPED = sorted(
    path.name
    for path in FOLDER.iterdir()
    if path.suffix in (".log", ".txt") and "cut" not in path.name and "damaged" not in path.name
)


@given(st.sampled_from(WRAPPED), st.data())
def test_a_wrapped_line_is_read_or_named(name: str, data: st.DataObject) -> None:
    """Wherever a line is broken: the same registers, an error, or a note that says what is lost."""
    lines = (FOLDER / name).read_text().split("\n")
    try:
        before = of_text("\n".join(lines))
    except UserError:
        return
    at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if len(line) > 1]))
    place = data.draw(st.integers(1, len(lines[at]) - 1))
    lines[at] = lines[at][:place] + "\n" + lines[at][place:]
    try:
        after = of_text("\n".join(lines))
    except UserError:
        return
    assert after.cpus == before.cpus or after.notes != before.notes, lines[at]


def of_text(text: str) -> States:
    return of_listing(listing.read(text, "x"), "x", None)
