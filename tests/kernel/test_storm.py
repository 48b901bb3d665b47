"""Storms: the judge of a trace, and a protocol's C in a real kernel."""

import json
import os
import struct
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.paths import DATA
from mtrrzap.emit.patch import FILES
from mtrrzap.errors import UserError
from mtrrzap.gfn import Range
from mtrrzap.kernel import build, image
from mtrrzap.kernel.alone import alone
from mtrrzap.kernel.ring import PAGE, Hit, hits
from mtrrzap.kernel.storm import read
from mtrrzap.kvm.policy import by_name
from mtrrzap.protocol import PROTOCOLS

LIMIT = 900
"""Seconds: for a machine on which much else runs."""


TWO = """\
mtrrzap-trace 1
firmware: by hand
guest-kernel: none
vcpus: 2
memory: 536870912
maxphyaddr: 40
machine: none
recorder: none
date: 2026-11-29
command: none
host-writes: none

0 cr0 0x11
1 cr0 0x11
0 wrmsr 0x2ff 0xc06
1 wrmsr 0x2ff 0xc06
0 cr0 0x40000011
1 wrmsr 0x2ff 0xc06
0 cr0 0x11
end 7 complete
"""
"""With Linux 6.1's own types the last toggles leave WB+IPAT behind: what is WB is not zapped."""
ALL = (0, (1 << 52) - 1)
THREADS = (7, 8)


def order(*steps: str) -> list[Hit]:
    """Return hits of ``THREAD EVENT`` steps; a zap without a range is one of everything."""
    found = []
    for number, step in enumerate(steps):
        thread, name, *words = step.split()
        given = tuple(int(word, 0) for word in words)
        part = given or (ALL if name == "zap" else (0, 0))
        found.append(Hit(1000 + number, number % 2, int(thread), name, *part))
    return found


def test_requests_zaps_and_shared_ones() -> None:
    found = read(
        order("7 ask", "8 ask", "7 zap", "7 zapped", "7 asked", "8 asked", "8 ask", "8 zap")
        + order("8 zapped", "8 asked"),
        THREADS,
        "6.1",
    )
    assert (found.requests, found.zaps, found.shared, found.lost) == (3, 2, 1, 0)
    assert found.overlaps == 0


def test_zaps_that_overlap() -> None:
    at_once = ("7 ask", "8 ask", "7 zap", "8 zap", "7 zapped", "7 asked", "8 zapped", "8 asked")
    assert read(order(*at_once), THREADS, "6.1").overlaps == 1


@pytest.mark.parametrize(
    ("steps", "lost"),
    [
        (("7 ask", "7 asked"), 1),
        (("7 ask", "7 zap", "7 asked"), 1),  # it has not ended
        (("7 ask", "7 zap", "8 ask", "7 zapped", "8 asked", "7 asked"), 1),  # it began before
        (("7 ask", "7 zap 0x0 0x100", "7 zapped", "7 asked"), 1),  # it is not of everything
        (("8 ask", "7 ask", "7 zap", "7 zapped", "8 asked", "7 asked"), 0),
        (("7 ask", "7 zap", "8 ask", "7 zapped", "9 ask", "9 zap", "9 zapped", "8 asked"), 0),
    ],
)
def test_lost_requests(steps: tuple[str, ...], lost: int) -> None:
    found = read(order(*steps), THREADS, "6.1")
    assert found.lost == lost
    assert bool(found.first_lost) == bool(lost)


def test_the_story_of_a_lost_request_begins_with_the_oldest_open_one() -> None:
    before = ("8 ask", "8 zap", "8 zapped", "8 asked")
    steps = ("7 ask", "7 zap", "8 ask", "7 add", "7 add_ret", "7 zapped", "7 asked", "8 asked")
    found = read(order(*before, *steps), THREADS, "6.1")
    assert found.first_lost == (
        "1004 CPU 0 vCPU 0: asks",
        "1005 CPU 1 vCPU 0: zap begin [0x0, 0xfffffffffffff)",
        "1006 CPU 0 vCPU 1: asks",
        "1007 CPU 1 vCPU 0: add()",
        "1008 CPU 0 vCPU 0: add() returns",
        "1009 CPU 1 vCPU 0: zap end",
        "1010 CPU 0 vCPU 0: returns",
        "1011 CPU 1 vCPU 1: returns",
    )


def page(stamp: int, *events: bytes) -> bytes:
    data = b"".join(events)
    return (struct.pack("<QQ", stamp, len(data)) + data).ljust(PAGE, b"\0")


def event(delta: int, kind: int, thread: int, *words: int, long: bool = False) -> bytes:
    """Return an event of a kprobe; ``long``: its size has a word of its own."""
    data = struct.pack("<HBBiQ", kind, 0, 0, thread, 0xFFFF) + struct.pack(
        f"<{len(words)}Q", *words
    )
    if long:
        return struct.pack("<II", delta << 5, len(data) + 4) + data
    return struct.pack("<I", delta << 5 | len(data) // 4) + data


def test_a_ring_buffer() -> None:
    names = {5: "ask", 6: "zap"}
    extend, absolute = struct.pack("<II", 1 << 5 | 30, 1), struct.pack("<II", 7 << 5 | 31, 2)
    discarded, rest = struct.pack("<III", 1 << 5 | 29, 8, 0), struct.pack("<I", 29)
    first = page(100, event(0, 5, 7), extend, event(3, 6, 7, *ALL, long=True), rest, b"\xff" * 8)
    second = page(1 << 28, absolute, discarded, event(1, 5, 8), event(1, 99, 8))
    other = page(101, event(0, 5, 9))
    assert list(hits([first + second, other], names)) == [
        Hit(100, 0, 7, "ask"),
        Hit(101, 1, 9, "ask"),
        Hit(100 + (1 << 27) + 4, 0, 7, "zap", *ALL),
        Hit((2 << 27) + 8, 0, 8, "ask"),
    ]


def test_a_ring_buffer_that_lost_events() -> None:
    with pytest.raises(ValueError, match="events are missing"):
        list(hits([struct.pack("<QQ", 0, 1 << 31).ljust(PAGE, b"\0")], {}))


@pytest.mark.parametrize(
    ("name", "ranges", "zaps"),
    [
        ("direct", ((0xF8, 0x100), (0x200, 0x280)), [(0xF8, 0x100), (0x200, 0x280)]),
        ("v4", ((0xF8, 0x100), (0xF8, 0x100)), [(0xF8, 0x100), (0xF8, 0x100)]),
        ("sketch", ((0xF8, 0x100), (0xF8, 0x100)), [(0xF8, 0x100)]),
        ("review", ((0xF8, 0x100), (0x109, 0x200)), [(0, 0x200)]),
        ("ticket", ((0xAB1FB09, 0xAB1FC00),), [(0xAB1FB00, 0xAB1FC00)]),
        ("ticket", (), []),
    ],
)
def test_what_a_vcpu_alone_zaps(name: str, ranges: tuple[Range, ...], zaps: object) -> None:
    assert list(alone(name, ranges)) == zaps


def test_a_protocol_that_waits_for_nobody(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from mtrrzap.protocol import Atomic, Vm\n"
        "class Mine(Vm):\n    flag = Atomic(0)\n"
        "def mine(vm: Mine, ranges):\n    yield vm.flag.wait_until(1)\n"
    )
    with pytest.raises(UserError, match="mine does not come to its end although nobody else asks"):
        alone(f"{own}:mine", ())


def test_a_strip_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = DATA / "emit" / "tree"
    for each in ("virt/kvm", "include/trace/events", "arch/x86/kvm"):
        (tmp_path / "tree" / each).mkdir(parents=True)
    for path in (*FILES, "include/trace/events/kvm.h", "arch/x86/kvm/Makefile"):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        text = (tree / path).read_text() if (tree / path).exists() else ""
        (tmp_path / "tree" / path).write_text(text)
    monkeypatch.setattr(build, "headers", lambda _: tmp_path)
    monkeypatch.setattr(build, "_make", lambda *_: None)
    strip = tmp_path / "bin" / "strip"
    strip.parent.mkdir()
    strip.write_text("#!/bin/sh\necho strip: No such file >&2\nexit 1\n")
    strip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{strip.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(build.ept_types, "FILES", ())
    monkeypatch.setattr(build.ept_types, "traced", lambda _: {})
    patched = build.Patched(PROTOCOLS["v4"], by_name("+9"))
    with pytest.raises(UserError, match=r"kvm\.ko: strip fails: strip: No such file"):
        build.build(patched, tmp_path / "tree", "6.1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_window_is_widened_at_each_store_that_clears_a_flag() -> None:
    text = (
        "static void entry(void)\n"
        "\tif (x)\n\t\tWRITE_ONCE(z->zapping, false);\n"
        "\tatomic_set_release(&z->zapping, 0);\n"
        "\tsmp_store_release(&z->done, mine);\n"
        "\tWRITE_ONCE(z->zapping, true);\n"
    )
    found = build._probed(text, ["entry"], 50)
    assert found.count("{ udelay(50); ") == 3
    assert "\t\t{ udelay(50); WRITE_ONCE(z->zapping, false); }\n" in found
    assert build._probed(text, ["entry"], 0).count("udelay") == 0
    assert found.startswith("static noinline __noclone void entry(void)")


def test_a_tree_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "headers", lambda _: tmp_path)
    patched = build.Patched(PROTOCOLS["v4"], by_name("+9"))
    with pytest.raises(UserError, match="cannot be copied: No such file or directory; give the"):
        build.build(patched, tmp_path / "no", "6.1", tmp_path / "out")


def test_no_headers() -> None:
    with pytest.raises(UserError, match=r"no headers of 0\.0; install them \(Debian: apt install"):
        build.headers("0.0")


def test_an_archive_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = tmp_path / "linux.tar.xz"
    archive.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        build.tree(archive, "6.1")
    assert not list((tmp_path / "cache").rglob(".tree*"))


@pytest.mark.timeout(LIMIT)
def test_a_protocol_in_a_real_kernel(
    run: Run, kernel: image.Kernel, source: Path, tmp_path: Path
) -> None:
    """Its calls are its policy's requests; a storm loses nothing."""
    where = ("--kernel", str(kernel.image))
    made = ("--source", str(source), "-o", str(tmp_path))
    assert run("kernel", "build", "ticket", *where, *made).status == 0
    modules = ("--modules", str(tmp_path))
    two = tmp_path / "two.trace"
    two.write_text(TWO)
    options = ("--random", "300", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "compare", "ovmf-8", "seabios-8", str(two), *where, *modules, *options)
    assert ran.status == 0, ran.err
    data = json.loads(ran.out)
    assert [row["requests"] for row in data["rows"][:6]] == [74, 74, 42, 42, 7, 7]
    assert not any(row["differences"] for row in data["rows"])
    controls = {control["name"]: control["what"] for control in data["controls"]}
    mapped = controls[f"zaps and what is mapped, {two}"]
    assert "EPT types those of 0 leaves differ" in mapped
    assert controls[f"stale types, {two}"].startswith("0 leaves outlived their EPT type")
    counts = ("-n", "2", "-c", "1000", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "storm", "ticket", *where, *modules, *counts)
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    assert (found["requests"], found["lost"]) == (2000, 0)
    assert found["zaps"] + found["shared"] == 2000


@pytest.mark.timeout(LIMIT)
def test_v4_loses_with_its_window_widened(
    run: Run, kernel: image.Kernel, source: Path, tmp_path: Path
) -> None:
    where = ("--kernel", str(kernel.image))
    made = ("--source", str(source), "--window", "1000", "-o", str(tmp_path))
    assert run("kernel", "build", "v4", *where, *made).status == 0
    counts = ("-n", "2", "-c", "3000", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "storm", "v4", *where, "--modules", str(tmp_path), *counts)
    found = json.loads(ran.out)
    assert (ran.status, found["requests"]) == (1, 6000)
    assert found["lost"] > 0
    assert found["threads"]["requests"] == 6000
    story = [line.partition(" vCPU ")[2] for line in found["first_lost"]]
    loser = story[-1].partition(":")[0]
    winner = "1" if loser == "0" else "0"
    steps = [story.index(f"{loser}: asks"), len(story) - 1]
    assert story[-1] == f"{loser}: returns"
    # What 'check v4' draws: the list is seen empty before the range is queued, and the flag is
    # cleared before the loser waits for it.
    emptied = story.index(f"{winner}: kvm_zap_mtrr_zap_list() returns")
    queued = story.index(f"{loser}: kvm_add_mtrr_zap_list() returns", steps[0])
    assert story.index(f"{winner}: zap begin [0x0, 0xfffffffffffff)") < emptied < queued
    assert not any("zap begin" in line for line in story[emptied:])


def test_the_files_that_a_patch_reads_are_unpacked() -> None:
    assert all(path.startswith(build._WANTED) for path in FILES)
