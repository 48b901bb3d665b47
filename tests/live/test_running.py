"""Runs for real: counts equal the replay's, memory is intact, all ends, nothing is left behind.

Whatever starts a guest runs in a process of its own, which is killed if it hangs.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.live_host import LIMIT, need_kvm, python
from mtrrzap.cli.run import case_of
from mtrrzap.gfn import Range
from mtrrzap.guest import open as traces
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay, total
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.live.expected import Modelled
from mtrrzap.live.plan import Item, Plan, plan
from mtrrzap.live.running import run
from mtrrzap.study.rescale import with_vcpus

POLICIES = ("direct", "v4", "review", "ticket")
ENGINES = ("live", "threads")


@cache
def data(engine: str, *args: str) -> dict[str, Any]:
    """Run the command; give its JSON. Of findings there is none but that v4 may lose a zap."""
    if engine == "live":
        need_kvm()
    command = [sys.executable, "-m", "mtrrzap", "run", "--json", "--engine", engine, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    findings = [(row["protocol"], each) for row in found["rows"] for each in row["findings"]]
    assert done.returncode == int(bool(findings))
    assert all(who == "v4" and "LOST ZAP" in what for who, what in findings), findings
    return found


def frames(trace: str, vcpus: int, policy: str, memory: int) -> int:
    """The frames that requests ask for inside of the first so many bytes, one by one."""
    whole = with_vcpus(traces.load(Path(trace)), vcpus)
    top = memory >> 12
    return sum(
        max(0, min(end, top) - start)
        for request in replay(whole, case_of(policy).policy, Host())
        for start, end in request.ranges
    )


@pytest.mark.parametrize(
    ("engine", "trace", "vcpus", "memory"),
    [
        ("live", "ovmf-8", 4, 64),
        ("live", "seabios-8", 2, 64),
        ("live", "seabios-16", 8, 256),
        ("live", "ovmf-16", 16, 64),
        ("threads", "seabios-16", 8, 256),
        ("threads", "ovmf-8", 8, 64),
    ],
)
def test_a_recording(engine: str, trace: str, vcpus: int, memory: int) -> None:
    found = data(engine, trace, *f"--vcpus {vcpus} --memory {memory}M -r 1 --touch 64".split())
    rows = {row["policy"]: row for row in found["rows"]}
    assert tuple(rows) == POLICIES
    whole = with_vcpus(traces.load(Path(trace)), vcpus)
    for name, row in rows.items():
        (run,) = row["runs"]
        counted = total(replay(whole, case_of(name).policy, Host()))
        assert (run["requests"], run["ranges"]) == (counted.requests, counted.ranges)
        assert run["lost"] == []
        assert run["zaps"] <= run["ranges"]
        assert run["refaults"] > 0
        assert run["probe"]["refaults"] >= 64 * vcpus
        assert run["probe"]["after"] < run["probe"]["before"] // 2
    (direct,) = rows["direct"]["runs"]
    assert direct["zaps"] == direct["ranges"]
    assert direct["frames"] == frames(trace, vcpus, "direct", memory << 20)
    if vcpus >= 8:
        for name in ("review", "ticket"):
            assert rows[name]["runs"][0]["zaps"] < direct["zaps"], name


@pytest.mark.parametrize("engine", ENGINES)
def test_v4_shares_what_base2_asks_for(engine: str) -> None:
    found = data(engine, "ovmf-8", *["-p", "Base2", "-p", "Base2+9", "-r", "1", "--touch", "16"])
    base2, v4 = (row["runs"][0] for row in found["rows"])
    assert (base2["requests"], base2["zaps"], base2["frames"]) == (74, 74, 74 << 14)
    assert v4["requests"] == 74
    assert v4["zaps"] < 74


@pytest.mark.parametrize("options", ["--page-size 2M --no-meet", "--touch 100000 --no-quirk"])
@pytest.mark.parametrize("engine", ENGINES)
def test_options(engine: str, options: str) -> None:
    args = f"seabios-8 --vcpus 4 --memory 8M -r 1 -p ticket -p v6.1 {options}"
    for row in data(engine, *args.split())["rows"]:
        assert row["runs"][0]["refaults"] > 0


HOSTILE = """\
mtrrzap-trace 1
firmware: Hostile 1
guest-kernel: none
vcpus: 3
memory: 0
maxphyaddr: 40
machine: x
recorder: hand
date: unknown
command: none
host-writes: none

0 reset
0 wrmsr 0x2ff 0xc06 #GP
0 wrmsr 0x2ff 0x1000
0 wrmsr 0xc0000080 0x0
0 wrmsr 0x1b 0x0
0 wrmsr 0x808 0x0
0 wrmsr 0x0 0x0
0 wrmsr 0xffffffff 0xffffffffffffffff
0 cr0 0x20000010
0 cr0 0x100000000
0 cr0 0x80000000
0 cr0 0x10
0 wrmsr 0x2ff 0xc06
1 held-cr0 0x10
1 wrmsr 0x2ff 0xc06
1 host-wrmsr 0x2ff 0x0
1 init
1 cr0 0x40000011
1 reset
1 held-cr0 0x20000010
1 cr0 0x11
1 wrmsr 0x277 0x0
0 host-wrmsr 0x2ff 0x6
end 23 incomplete: written by hand
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_events_that_end_in_gp_do_so(engine: str, tmp_path: Path) -> None:
    """MSRs that would kill a guest, values that are refused, an incomplete trace, an idle vCPU."""
    file = tmp_path / "hostile.trace"
    file.write_text(HOSTILE)
    found = data(engine, str(file), *["-p", "Base1", "-p", "review", "-r", "1", "--memory", "4M"])
    assert found["incomplete"] == "written by hand"
    assert [row["runs"][0]["requests"] for row in found["rows"]] == [4, 7]


class Log(Modelled):
    """A target that keeps a log; appending to a list is indivisible."""

    def __init__(self, made: Plan, policy: Policy) -> None:
        super().__init__(made, policy, Host(), 4 << 20, 1)
        self.performed: list[Item] = []
        self.zapped: list[Range] = []

    def perform(self, vcpu: int, item: Item, state: Vcpu) -> None:
        assert vcpu == item.event.vcpu
        self.performed.append(item)
        super().perform(vcpu, item, state)

    def zap(self, start: int, end: int) -> None:
        self.zapped.append(Range(start, end))
        super().zap(start, end)


@pytest.mark.parametrize("meet", [True, False])
@pytest.mark.parametrize("name", ["ovmf-8", "seabios-8"])
def test_phases_follow_each_other_and_direct_zaps_what_is_asked(name: str, meet: bool) -> None:
    whole = traces.load(Path(name))
    case, made = case_of("direct"), plan(whole)
    target = Log(made, case.policy)
    run(case, made, Host(), target, timeout=60, meet=meet)
    assert sorted(item.position for item in target.performed) == list(range(len(whole.events)))
    phases = [item.phase for item in target.performed if item.phase is not None]
    assert phases == sorted(phases)
    asked = [
        Range(start, min(end, target.frames))
        for request in replay(whole, case.policy, Host())
        for start, end in request.ranges
        if start < target.frames
    ]
    probe, *zapped = target.zapped
    assert probe == (0, target.frames)
    assert sorted(zapped) == sorted(asked)


def broken(how: str, timeout: float = 60) -> str:
    """What a run in a guest that was tampered with says; its threads have ended."""
    need_kvm()
    code = (
        "from helpers.live_guests import broken\n"
        "try:\n"
        f"    print(broken({how!r}, timeout={timeout}).lost)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    threads, said = python(code).splitlines()
    assert threads == "threads 1"
    return said


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("undefined", "exception 6 instead of a write of CR0; rax=0x"),
        ("no IDT", "vCPU 2: exit 8, SHUTDOWN; rax=0x"),
        ("no memory", "exit 6, MMIO; rax=0x"),
        ("another value", "vCPU 1: WRMSR of 0x1 to 0x2ff instead of WRMSR of 0x0 to 0x2ff"),
    ],
)
def test_a_failing_vcpu_ends_the_run_with_its_registers(how: str, says: str) -> None:
    said = broken(how)
    assert said.startswith("UserError vCPU ")
    assert says in said
    assert " rip=0x" in said
    assert " cr2=0x" in said


def test_a_guest_without_end_meets_the_timeout() -> None:
    said = broken("endless", timeout=0.5)
    assert said.startswith("UserError timeout: not done after 0.5 s; events done: vCPU 0 0/")


def test_lost_data_is_a_finding() -> None:
    assert "holds 0x" in broken("a page less")


def test_ctrl_c_ends_a_guest_without_end() -> None:
    need_kvm()
    code = "from helpers.live_guests import interrupted; interrupted()"
    assert python(code) == "interrupted\n"


def test_a_machine_half_built_is_given_back() -> None:
    """It lacks one descriptor or another: it needs 3, and 2 for its vCPU."""
    need_kvm()
    before, after, said = python("from helpers.live_guests import starved; starved()").splitlines()
    assert before == after
    assert said == "5 ulimit -n"


@pytest.mark.parametrize("engine", ENGINES)
def test_200_runs_leave_nothing_behind(engine: str) -> None:
    """Every tenth of them is ended by its timeout."""
    if engine == "live":
        need_kvm()
    code = f"from helpers.live_guests import left_behind; left_behind({engine!r}, 200)"
    out = python(code, limit=200)
    early, late = (tuple(map(int, line.split())) for line in out.splitlines())
    assert early[:3] == late[:3]
    assert early[1:3] == (1, 0)
    assert late[3] - early[3] < 18  # one mapping in ten runs would be 18
