"""What lies between a listing and its paste: each transformation leaves the answer as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.paths import ROOT
from mtrrzap.errors import UserError
from mtrrzap.study.memory_map import States, load
from mtrrzap.x86.mtrr import Mtrrs

FOLDER = ROOT / "tests/data/listings"
LINUX = "".join(
    f"[    0.000000] {line}\n"
    for line in (
        "MTRR default type: write-back",
        "MTRR fixed ranges enabled:",
        "  00000-9FFFF write-back",
        "  A0000-BFFFF uncachable",
        "  C0000-FFFFF write-protect",
        "MTRR variable ranges enabled:",
        "  0 base 0C0000000 mask FC0000000 uncachable",
        "  1 disabled",
        "  2 base 0B0000000 mask FF0000000 write-combining",
        *(f"  {reg} disabled" for reg in range(3, 8)),
    )
)
PROC = (
    "reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n"
    "reg01: base=0x0b0000000 ( 2816MB), size=  256MB, count=2: write-combining\n"
)
DUMP = "0x2ff c06\n0x200 c0000000\n0x201 fc0000800\n0x202 b0000001\n0x203 ff0000800\n"
LISTINGS = {
    "linux": LINUX,
    "/proc/mtrr": PROC,
    "dump": DUMP,
    **{
        name: (FOLDER / name).read_text()
        for name in ("coreboot.log", "edk2.log", "slim_bootloader.txt", "u_boot.txt")
    },
    **{name: (FOLDER / name).read_text() for name in ("memcontrol.txt", "fwts.log")},
}


def each(change: Callable[[int, str], str]) -> Callable[[str], bytes]:
    return lambda text: "".join(
        change(number, line) + "\n" for number, line in enumerate(text.splitlines(), start=1)
    ).encode()


CHANGES: dict[str, Callable[[str], bytes]] = {
    "quoted": each(lambda _, line: f"> {line}"),
    "quoted twice": each(lambda _, line: f">> > {line}"),
    "cat -n": each(lambda number, line: f"{number:6d}\t{line}"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "byte-order mark": lambda text: ("\ufeff" + text).encode(),
    "UTF-16": lambda text: ("\ufeff" + text).encode("utf-16-le"),
    "UTF-16, big endian": lambda text: ("\ufeff" + text).encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "colours": each(lambda _, line: f"\x1b[32m{line[:6]}\x1b[0m\x1b[1;33m{line[6:]}\x1b[0m"),
    "fenced": lambda text: f"```text\n{text}```\n".encode(),
    "no-break spaces": lambda text: text.replace("  ", "\xa0 ").encode(),
    "dashes": lambda text: text.replace("0-0", "0\u20130").encode(),
    "indented": each(lambda _, line: f"    {line}"),
}


def read(tmp_path: Path, data: bytes) -> States:
    path = tmp_path / "pasted"
    path.write_bytes(data)
    return load(path)


def registers(states: States) -> dict[int, Mtrrs]:
    return states.cpus


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("text", LISTINGS.values(), ids=LISTINGS)
def test_a_paste_is_read_as_the_original(
    tmp_path: Path, text: str, change: Callable[[str], bytes]
) -> None:
    expected = read(tmp_path, text.encode())
    found = read(tmp_path, change(text))
    assert (found.what, registers(found)) == (expected.what, registers(expected))


PREFIXES = {
    "journalctl": "Nov 02 10:11:12 host-1 kernel: ",
    "journalctl -o short-monotonic": "[    0.123456] host-1 kernel: ",
    "syslog": "2024-03-01T10:00:00.123456+00:00 host kernel: [    0.000000] ",
    "dmesg -x": "kern  :debug : [    0.000042] ",
    "dmesg -r": "<7>[    0.000042] ",
    "dmesg -T": "[Sat Mar  2 10:00:01 2024] ",
    "dmesg -d": "[    0.000042 <    0.000001>] ",
    "printk.caller": "[    0.000000][    T0] ",
    "none": "",
    "grep": "dmesg.txt:88:[    0.000000] ",
    "grep -A": "dmesg.txt-88-[    0.000000] ",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_prefixes_of_logs(tmp_path: Path, prefix: str) -> None:
    text = "".join(f"{prefix}{line[15:]}\n" for line in LINUX.splitlines())
    assert registers(read(tmp_path, text.encode())) == registers(read(tmp_path, LINUX.encode()))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"dmesg": LINUX}),
        json.dumps(LINUX.splitlines(), indent=1),
        "".join(json.dumps({"MESSAGE": line}) + "\n" for line in LINUX.splitlines()),
    ],
    ids=["one string", "a list", "journalctl -o json"],
)
def test_a_log_in_json(tmp_path: Path, text: str) -> None:
    assert registers(read(tmp_path, text.encode())) == registers(read(tmp_path, LINUX.encode()))


def test_rows_pasted_into_one_line(tmp_path: Path) -> None:
    one = PROC.replace("\n", " ", 1)
    assert registers(read(tmp_path, one.encode())) == registers(read(tmp_path, PROC.encode()))


def test_another_commands_output_is_a_note(tmp_path: Path) -> None:
    session = f"$ cat /proc/mtrr\n{PROC}$ grep bits /proc/cpuinfo\naddress sizes: 39 bits\n"
    found = read(tmp_path, session.encode())
    assert registers(found) == registers(read(tmp_path, PROC.encode()))
    assert "another command's output is left out: lines 5" in found.notes


@pytest.mark.parametrize("first", [1, 3, 6, 8])
def test_a_head_that_was_cut_is_called_so(tmp_path: Path, first: int) -> None:
    text = "".join(LINUX.splitlines(keepends=True)[first:])
    with pytest.raises(UserError, match="the block is cut: no line 'MTRR default type"):
        read(tmp_path, text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "msr,value\n0x2ff,0xc06\n0x200,0xc0000000\n0x201,0x7fc0000800\n",
        "cpu;register;name;value\n0;0x2ff;def;0xc06\n0;0x200;b;c0000000\n0;0x201;m;7fc0000800\n",
        "0x2ff -> 0xc06\n0x200 => 0xc0000000\n0x201; 0x7fc0000800\n",
        "2ffh: 0c06h\n200h: 0c0000000h\n201h: 7fc0000800h\n",
        "0x2ff: 0x0000_0000_0000_0c06\n0x200: 0xc000_0000\n0x201: 0x0000_007f_c000_0800\n",
        "msr[2ff] = 00000000`00000c06\nmsr[200] = 00000000`c0000000\n"
        "msr[201] = 0000007f`c0000800\n",
        "0: kd> rdmsr 2ff\nmsr[2ff] = c06\n0: kd> rdmsr 200\nmsr[200] = 00000000`c0000000\n"
        "0: kd> rdmsr 201\nmsr[201] = 0000007f`c0000800\n",
        "MSR_MTRRdefType: c06\nMTRRphysBase_MSR(0): c0000000\nMTRRphysMask_MSR(0): 7fc0000800\n",
        "0x2ff: EAX=00000c06 EDX=00000000\n0x200: hi=0 lo=c0000000\n0x201: 0000007f:c0000800\n",
        "MSR: 0x2ff, Value: 0xc06\nindex=0x200 data=0xc0000000\nReg=0x201 val=0x7fc0000800\n",
        "- 0x2ff: 0xc06\n* 0x200: 0xc0000000\n| 0x201: 0x7fc0000800\n",
        "for m in 0x2ff 0x200; do echo $m $(rdmsr $m); done\n0x2ff c06\n0x200 c0000000\n"
        "0x201 7fc0000800\n",
        "=== CPU 0 ===\n0x2ff c06\n[cpu0]\n0x200 c0000000\nprocessor : 0\n0x201 7fc0000800\n",
        "CPU#0 MSR 0x2ff: 0xc06\ncore 0: 0x200 = 0xc0000000\nvcpu 0: 0x201 = 0x7fc0000800\n",
        '{"cpu": 0, "msr": "0x2ff", "value": "0xc06"}\n{"cpu": 0, "msr": "0x200", "value": '
        '"0xc0000000"}\n{"cpu": 0, "msr": "0x201", "value": "0x7fc0000800"}\n',
        '{"host": "a", "msrs": {"0x2ff": "0xc06", "0x200": "0xc0000000", "0x201": "7fc0000800"}}',
        '{"cpus": [{"id": 0, "msrs": [{"address": "2ff", "value": "c06"}, {"address": "200", '
        '"value": "c0000000"}, {"address": "201", "value": "7fc0000800"}]}]}',
        json.dumps(
            {
                "snapshots": {
                    "vcpu-manager": {
                        "0": {
                            "state": list(
                                b'{"msrs": [{"index": 767, "data": 3078}, {"index": 512, '
                                b'"data": 3221225472}, {"index": 513, "data": 548682074112}]}'
                            )
                        }
                    }
                }
            }
        ),
    ],
)
def test_spellings_of_a_dump(tmp_path: Path, text: str) -> None:
    expected = read(tmp_path, b"0x2ff 0xc06\n0x200 0xc0000000\n0x201 0x7fc0000800\n")
    assert registers(read(tmp_path, text.encode())) == registers(expected)


def test_the_16_kib_registers_have_a_name(tmp_path: Path) -> None:
    """Its digits contain "K8", which is AMD's prefix of other names."""
    found = read(tmp_path, b"IA32_MTRR_FIX16K_80000: 0606060606060606\nMTRRfix16K_A0000 = 5\n")
    assert found.cpus[0].fixed[1:3] == (0x0606060606060606, 5)


def test_wrmsr_a_writes_every_processor(tmp_path: Path) -> None:
    script = "#!/bin/sh\n# wrmsr -a 0x2ff 0\nwrmsr -a 0x2ff 0xc06\nwrmsr -p 3 0x200 6\n"
    found = read(tmp_path, script.encode())
    assert {cpu: mtrrs.def_type for cpu, mtrrs in found.cpus.items()} == {0: 0xC06, 3: 0xC06}


def test_a_vcpu_is_numbered_by_its_id_before_its_position(tmp_path: Path) -> None:
    states = [
        {"cpu_id": cpu, "saved_msrs": [[{"index": 767, "data": 0xC00 + cpu}]]} for cpu in (6, 5)
    ]
    found = read(tmp_path, json.dumps({"vcpu_states": states}).encode())
    assert {cpu: mtrrs.def_type for cpu, mtrrs in found.cpus.items()} == {6: 0xC06, 5: 0xC05}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0x2ff: 00 00 00 00 00 00 0c 06\n", "eight bytes, of which it is not clear"),
        ("767 3078\n512 6\n", "only MSR 0x767 (line 1), 0x512 (line 2); MSR numbers are read"),
        ("# rdmsr -a 0x2ff\nrdmsr: CPU 0 cannot read MSR 0x000002ff\n", "the tool failed"),
        ("MTRRs disabled by BIOS\n", "because the kernel found them off"),
        (
            "Setting variable MTRR 0, base: 0MB, range: 1024MB, type WB\n",
            "tried to set, with no list of what it set",
        ),
        ('{"return": "CPU#0\\r\\nRAX=00 RBX=00\\r\\n"}', "'info registers' has no MTRR"),
        ("0xd0000000/0x10000000 drm write-combine active bogus\n", "not a line of memcontrol"),
    ],
)
def test_refusals(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text.encode())
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (LINUX + LINUX, "the block of line 15 counts; there are earlier ones: 1"),
        (
            "reg 0, base: 0GB, range: 4GB, type WB\nFound optimal setting for mtrr clean up\n",
            "the registers shown are no longer what the processor holds",
        ),
        (
            "Reg Valid Write-type   Base\n0   Y     Back         0000000000000000 "
            "0000007f80000000 0000000080000000\n\nCPU 1:\nFailed to read CPU 1 (err=-110)\n",
            "line 5: U-Boot says: Failed to read CPU 1",
        ),
    ],
)
def test_notes(tmp_path: Path, text: str, note: str) -> None:
    assert any(note in said for said in read(tmp_path, text.encode()).notes)


def test_coreboots_last_solution_counts_whole(tmp_path: Path) -> None:
    first = "MTRR: UC selected as default type.\n" + "".join(
        f"MTRR: {reg} base 0x{reg << 30:016x} mask 0x0000007fc0000000 type 6\n" for reg in range(3)
    )
    last = (
        "apic_id 0x0: MTRR: Fixed MSR 0x250 0x0606060606060606\n"
        "MTRR: WB selected as default type.\n"
        "MTRR: 0 base 0x0000000080000000 mask 0x0000007f80000000 type 0\n"
        "MTRR check\nFixed MTRRs   : Disabled\nVariable MTRRs: Enabled\n"
    )
    found = read(tmp_path, (first + last).encode())
    mtrrs = found.cpus[0]
    assert (mtrrs.def_type, mtrrs.bases[:3]) == (0x806, (0x80000000, 0, 0))
    assert "line 6: a later table replaces the one before it" in found.notes


def test_memcontrol_a_lists_registers_that_are_off(tmp_path: Path) -> None:
    """Their length is that of an empty mask, which shows MAXPHYADDR; their place is a number."""
    rows = (
        "0x0/0x8000000000 BIOS uncacheable set-by-firmware \n"
        "0x0/0x80000000 BIOS write-back set-by-firmware active \n"
    )
    found = read(tmp_path, rows.encode())
    assert found.cpus[0].maxphyaddr == 39
    assert found.cpus[0].bases[:2] == (0, 6)


@pytest.mark.parametrize(
    "line",
    [
        "x86/PAT: Configuration [0-7]: WB  WC  UC- UC  WB  WP  UC- WT  \n",
        "x86 PAT enabled: cpu 0, old 0x7040600070406, new 0x407050600070106\n",
    ],
)
def test_a_pat_before_the_block_or_after_it(tmp_path: Path, line: str) -> None:
    other = "x86 PAT enabled: cpu 0, old 0x7040600070406, new 0x7010600070106\n"
    for text in (line + LINUX, other + LINUX + line, LINUX + other + line):
        assert read(tmp_path, text.encode()).cpus[0].pat == 0x407050600070106


def test_an_iorr_of_48_bits(tmp_path: Path) -> None:
    found = read(tmp_path, b"0x2ff c00\n0xc0010016 0xc0000018\n0xc0010017 0xfffff0000800\n")
    assert any("IORR_BASE0: [0xc0000000, 0xd0000000) reads RAM" in note for note in found.notes)
