"""``mtrrzap memtype``: sources, options, and the one error line."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from helpers.captures import FOLDER
from helpers.cli import Run
from helpers.listings import ALL_CPUS_A_LINE, ALONE, LOG, PROC, REAL
from helpers.proc_mtrr import proc_mtrr
from helpers.traces import FINE, trace
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import dumps
from mtrrzap.study.memory_map import of_trace

OVERLAP = "2ff 800\n200 6\n201 f00000800\n202 c0000000\n203 fc0000800\n"


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot.trace"
    path.write_text(dumps(trace(*FINE)))
    return path


def test_a_trace_at_an_event(run: Run, boot: Path) -> None:
    end = json.loads(run("memtype", str(boot), "--json").out)
    start = json.loads(run("memtype", str(boot), "--at", "0", "--json").out)
    assert [row["sdm"] for row in start["map"]] == ["UC"]
    assert len(end["map"]) > 1
    assert end["vcpus_alike"] == [[0], [1, 2, 3]]
    assert "note: after event 0: " in run("memtype", str(boot), "--at", "0").out
    shown = run("memtype", str(boot), "--vcpu", "1").out
    assert "The vCPUs' MTRRs DIFFER" in shown
    assert "CR0.CD = 1 on vCPU 1, 2, 3" in shown


def test_an_overlap_is_explained(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "overlap.msr"
    path.write_text(OVERLAP)
    shown = run("memtype", str(path)).out
    assert "overlap, KVM-specific: the order of KVM's list gives WB" in shown
    assert "PHYS0 PHYS1 (KVM: PHYS1 PHYS0)" in shown
    assert "meaning" not in run("memtype", str(path), "--lookup", "sdm").out
    one = run("memtype", str(path), "--address", "c0000000").out
    assert one.startswith("0xc0000000: manual UC, KVM WB\n")
    assert (
        len([row for row in run("memtype", str(path), "--pat").out.splitlines() if "UC-" in row])
        == 2
    )


def test_strip_reads_without_colour(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "overlap.msr"
    path.write_text(OVERLAP)
    strips = [
        row for row in run("memtype", str(path)).out.splitlines() if row[:6] in ("manual", "KVM   ")
    ]
    assert [set(row[8:]) for row in strips] == [{"B", "u"}, {"B", "u"}]
    assert strips[0].count("B") < strips[1].count("B")


@pytest.mark.parametrize(("text", "what"), [(PROC, "/proc/mtrr"), (LOG, "boot log")])
def test_listings(run: Run, tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "listing"
    path.write_text(text)
    assert json.loads(run("memtype", str(path), "--json").out)["source"] == what


def test_diff(run: Run, boot: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(ALL_CPUS_A_LINE)
    same = run("memtype", str(dump), "--diff", "0")
    assert (same.status, same.out) == (0, "vCPU 0 and vCPU 0 have the same MTRRs and PAT.\n")
    other = run("memtype", str(dump), "--diff", "1")
    assert other.status == 1
    assert "│ DEF_TYPE │ 0xc06  │ 0xc00  │" in other.out
    found = json.loads(run("memtype", str(dump), "--diff", "1", "--json").out)
    assert found["registers"] == [{"register": "DEF_TYPE", "left": 0xC06, "right": 0xC00}]
    assert [part["start"] for part in found["map"]] == [1 << 20, 1 << 32]
    assert run("memtype", str(boot), "--diff", str(dump)).status == 1


def test_a_real_boot_ends_as_its_guest_printed(run: Run, tmp_path: Path) -> None:
    """SeaBIOS below 1 MiB, UC from 2 GiB to 4 GiB: what such a guest's /proc/mtrr says."""
    out = tmp_path / "boot.trace"
    run("import", str(FOLDER / "report.txt.xz"), "-o", str(out))
    proc = tmp_path / "mtrr"
    proc.write_text("reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable\n")
    found = json.loads(run("memtype", str(out), "--json").out)
    listed = json.loads(run("memtype", str(proc), "--maxphyaddr", "40", "--json").out)
    above = [
        [row[key] for key in ("start", "end", "sdm")]
        for row in found["map"]
        if row["start"] > 1 << 20
    ]
    assert above == [[row[key] for key in ("start", "end", "sdm")] for row in listed["map"][1:]]


@pytest.mark.parametrize("name", ["seabios-8", "seabios-16", "ovmf-8", "ovmf-16"])
def test_a_recording_ends_as_its_guest_printed(run: Run, tmp_path: Path, name: str) -> None:
    """The guest's own /proc/mtrr: letter for letter, and the same types above the first MiB."""
    printed = files("mtrrzap").joinpath(f"data/recordings/{name}.proc-mtrr").read_text()
    mtrrs = of_trace(traces.load(Path(name)), None).cpus[0]
    assert "\n".join(proc_mtrr(mtrrs)) + "\n" == printed
    listed = tmp_path / "mtrr"
    listed.write_text(printed)
    ran = run("memtype", name, "--maxphyaddr", "40", "--diff", str(listed), "--json")
    parts = json.loads(ran.out)["map"]
    assert all(part["end"] <= 1 << 20 for part in parts)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("/nothing/x",), "/nothing/x: cannot be read: No such file"),
        (("{dump}", "--at", "1"), "--at: only a trace has events"),
        (("{dump}", "--vcpu", "7"), "--vcpu: no vCPU 7; there are 0 to 1"),
        (("{dump}", "--address", "zz"), "--address: invalid address 'zz'"),
        (("{dump}", "--address", "10000000000"), "--address: invalid address"),
        (("{dump}", "--diff", "9"), "--diff: no vCPU 9"),
        (("{boot}", "--at", "999"), "--at: no event 999; the trace has 7, from 0"),
        (("{boot}", "--at", "-1"), "--at: no event -1; the trace has 7, from 0"),
        (("{bad}",), "{bad}:1: DEF_TYPE cannot hold 0x3"),
    ],
)
def test_errors_are_one_line(
    run: Run,
    boot: Path,
    tmp_path: Path,
    args: tuple[str, ...],
    message: str,
) -> None:
    places = {"dump": tmp_path / "dump", "boot": boot, "bad": tmp_path / "bad"}
    places["dump"].write_text(ALL_CPUS_A_LINE)
    places["bad"].write_text("2ff 3\n")
    ran = run("memtype", *(word.format(**places) for word in args))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("mtrrzap: " + message.format(**places))


def test_address_goes_with_lookup_pat_and_json(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "overlap.msr"
    path.write_text(OVERLAP)
    words = ("memtype", str(path), "--address", "c0000123")
    assert run(*words, "--lookup", "sdm").out.startswith("0xc0000123: manual UC\n")
    assert run(*words, "--lookup", "kvm").out.startswith("0xc0000123: KVM WB\n")
    shown = run(*words, "--pat").out
    assert "│ entry ┃ PAT type ┃ MTRR UC ┃ MTRR WB ┃" in shown.replace("┃ entry", "│ entry")
    assert "│ 1     │ WT       │ UC      │ WT      │" in shown
    found = json.loads(run(*words, "--json").out)
    assert (found["start"], found["end"]) == (0xC0000000, 0xC0001000)
    assert (found["sdm"], found["kvm"]) == ("UC", "WB")
    assert found["explanation"][-1] == "the default type is UC"
    assert found["pat"][1] == {"entry": 1, "type": "WT", "effective": {"UC": "UC", "WB": "WT"}}
    every = json.loads(run("memtype", str(path), "--json").out)["pat"]
    assert [entry["type"] for entry in every] == ["WB", "WT", "UC-", "UC"] * 2
    assert every[0]["effective"] == {"UC": "UC", "WC": "WC", "WT": "WT", "WP": "WP", "WB": "WB"}


def test_diff_goes_with_neither_address_nor_pat(run: Run) -> None:
    for option in (("--address", "0"), ("--pat",)):
        ran = run("memtype", "ovmf-8", "--diff", "1", *option)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("mtrrzap: --diff compares whole maps and cannot be combined")


IOMEM = "00001000-bfffffff : System RAM\nc0000000-cfffffff : System RAM\nd0000000-dfffffff : PCI\n"


def test_against_iomem(run: Run, tmp_path: Path) -> None:
    dump, iomem = tmp_path / "dump", tmp_path / "iomem"
    dump.write_text("2ff 806\n200 c0000000\n201 7fc0000800\n")
    iomem.write_text(IOMEM)
    ran = run("memtype", str(dump), "--against", str(iomem), "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["against"]) == (1, "/proc/iomem")
    assert [(f["start"], f["what"], f["sdm"]) for f in found["findings"]] == [
        (0xC0000000, "RAM is not WB", "UC")
    ]
    iomem.write_text(IOMEM.replace("c0000000-cfffffff : System RAM\n", ""))
    ran = run("memtype", str(dump), "--against", str(iomem))
    assert (ran.status, ran.out) == (0, "By /proc/iomem all RAM is WB, and no MMIO is.\n")


def test_against_a_kernels_map(run: Run, tmp_path: Path) -> None:
    log, alone = tmp_path / "log", tmp_path / "map"
    log.write_text(REAL[: REAL.index("[    0.000000] MTRR map")])
    alone.write_text(ALONE)
    ran = run("memtype", str(log), "--against", str(alone))
    assert (ran.status, ran.out) == (0, "The kernel's map agrees with the manual's lookup.\n")
    alone.write_text(ALONE.replace("write-protect", "write-through"))
    ran = run("memtype", str(log), "--against", str(alone), "--json")
    assert json.loads(ran.out)["map"] == [
        {"start": 0xC0000, "end": 0x100000, "kernel": "WT", "registers": "WP"}
    ]


def test_against_another_source_is_a_diff(run: Run, boot: Path, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(ALL_CPUS_A_LINE)
    for second in ("1", str(boot)):
        words = ("memtype", str(dump), "--json")
        assert run(*words, "--against", second).out == run(*words, "--diff", second).out


def test_ept(run: Run, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text("2ff 806\n200 c0000000\n201 7fc0000800\n")
    rows = json.loads(run("memtype", str(dump), "--ept", "--address", "c0000000", "--json").out)
    found = {(row["kernel"], row["case"]): row for row in rows["ept"]}
    assert len(found) == 12
    assert found["v6.7 to v6.10", "non-coherent DMA"]["ept"] == "UC"
    assert found["v6.7 to v6.10", "non-coherent DMA"]["effective"]["WC"] == "WC"
    assert found["v6.11 on", "non-coherent DMA"]["effective"]["UC"] == "UC"
    assert found["v6.11 on", "coherent DMA"]["effective"]["UC"] == "WB"
    assert "AMD's NPT: KVM sets no type there" in run("memtype", str(dump), "--ept").out


def test_format(run: Run, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text("0x2ff: 00000000 00000c06\n")
    ran = run("memtype", str(dump))
    assert (ran.status, "choose a format: msr-halves or msr-cpus" in ran.err) == (2, True)
    found = json.loads(run("memtype", str(dump), "--format", "msr-halves", "--json").out)
    assert (found["vcpu"], found["map"][-1]["sdm"]) == (0, "WB")
    assert "8 variable ranges, as a KVM guest's vCPU has" in found["processor"]
    ran = run("memtype", str(dump), "--format", "nothing")
    assert ran.err.startswith("mtrrzap: --format: no format 'nothing'; use linux, proc-mtrr, ")
