"""Recordings of real guests: what must be in them, and how they end when they are cut off."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.proc_mtrr import from_console
from helpers.recording import Recording, running
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.files import partial
from mtrrzap.guest.record import RecordOptions, record, session
from mtrrzap.guest.record.survey import Survey, run_survey
from mtrrzap.guest.trace import Trace
from mtrrzap.guest.trace_reader import parse
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import replay, total

CD = 1 << 30


def read(path: Path) -> Trace:
    with path.open(encoding="utf-8") as lines:
        return parse(lines, path.name)


@pytest.fixture(scope="session")
def trace(seabios_recording: Recording) -> Trace:
    return read(seabios_recording.trace)


def of(trace: Trace, vcpu: int, *kinds: Kind) -> list[Event]:
    return [event for event in trace.events if event.vcpu == vcpu and event.kind in kinds]


def test_it_is_complete(seabios_recording: Recording, trace: Trace) -> None:
    assert seabios_recording.outcome.incomplete is None
    assert trace.incomplete is None
    assert seabios_recording.outcome.events == len(trace.events)


def test_the_header(trace: Trace) -> None:
    header = trace.header
    assert header.family == "SeaBIOS"
    assert header.firmware.split()[1][0].isdigit()
    assert header.guest_kernel.startswith("Linux ")
    assert (header.vcpus, header.memory, header.maxphyaddr) == (2, 512 << 20, 40)
    assert header.machine.startswith("pc-i440fx-")
    assert header.host_writes.startswith("modelled: ")
    assert header.memslots[0].start == 0
    assert max(slot.end for slot in header.memslots if slot.what == "ram") == 512 << 8
    assert max(slot.end for slot in header.memslots) == 1 << 20


def test_power_on_comes_first(trace: Trace) -> None:
    """RESET of each vCPU, then QEMU's two puts of 28 registers each."""
    start = trace.events[: 2 + 2 * 2 * 28]
    assert [e.vcpu for e in start if e.kind is Kind.RESET] == [0, 1]
    assert Counter(e.kind for e in start) == {Kind.RESET: 2, Kind.HOST_WRMSR: 112}
    assert Counter(e.kind for e in trace.events)[Kind.HOST_WRMSR] == 112


def firmware(trace: Trace, vcpu: int) -> list[Event]:
    """The events up to SeaBIOS's last MTRR write on this vCPU, which enables the MTRRs."""
    events = of(trace, vcpu, Kind.WRMSR, Kind.CR0, Kind.INIT)
    last = next(n for n, e in enumerate(events) if (e.msr, e.value) == (0x2FF, 0xC06))
    return events[: last + 1]


@pytest.mark.parametrize("vcpu", [0, 1])
def test_what_seabios_does(trace: Trace, vcpu: int) -> None:
    """CD and NW are cleared once; then 31 writes, the same on each vCPU."""
    events = firmware(trace, vcpu)
    changes = [e for e in events if e.kind is Kind.CR0]
    assert [e.value >> 29 for e in changes] == [0]
    writes = [e.msr for e in events if e.kind is Kind.WRMSR]
    assert len(writes) == 31
    assert writes[0] == writes[-1] == 0x2FF
    assert Counter(writes) == Counter(
        [
            0x2FF,
            0x2FF,
            0x250,
            0x258,
            0x259,
            *range(0x268, 0x270),
            *range(0x200, 0x210),
            0x200,
            0x201,
        ]
    )
    assert [e.kind for e in events].count(Kind.INIT) == vcpu


@pytest.mark.parametrize("vcpu", [0, 1])
def test_what_linux_does(trace: Trace, vcpu: int) -> None:
    """Each window sets CD, disables the MTRRs, enables them, clears CD; INIT makes no window."""
    events = of(trace, vcpu, Kind.WRMSR, Kind.CR0)[len(firmware(trace, vcpu)) - vcpu :]
    cd = [bool(e.value & CD) for e in events if e.kind is Kind.CR0]
    # The first on an AP is the trampoline's: TCG set CD at the INIT.
    assert cd in ([True, False] * (len(cd) // 2), [False] + [True, False] * (len(cd) // 2))
    assert cd.count(True) >= 1
    assert len([e for e in events if e.msr == 0x2FF]) == 2 * cd.count(True)
    assert events[-1].kind is Kind.CR0


def test_request_counts(trace: Trace) -> None:
    """6n + 2 and 5n + 2 for n = 2: this very boot, replayed."""
    assert total(replay(trace, by_name("Base1"))).requests == 14
    assert total(replay(trace, by_name("Base2"))).requests == 12


def test_nothing_is_refused(trace: Trace) -> None:
    assert not [event for event in trace.events if event.refused]


def test_the_guests_own_view(seabios_recording: Recording) -> None:
    """Linux sees what SeaBIOS wrote: one uncachable range up to 4 GiB."""
    view = from_console(seabios_recording.console)
    assert view is not None
    assert view.count("uncachable") == len(view.splitlines()) == 1


# ---- cut off


def test_a_guest_that_never_powers_off(qemu: str, tmp_path: Path) -> None:
    """Firmware alone, with a time limit: both passes run to it, the trace says so."""
    output = tmp_path / "t.trace"
    outcome = record(RecordOptions(output=output, memory="64M", timeout=2, qemu=qemu))
    assert outcome.incomplete == "the time limit of 2 s was reached"
    trace = read(output)
    assert trace.incomplete == outcome.incomplete
    assert trace.header.guest_kernel == "none"
    assert trace.header.notes == ("pass 1: the guest did not power off in 2 s",)
    assert trace.events[0] == Event(0, Kind.RESET)


@pytest.fixture
def power_off(tmp_path: Path) -> tuple[str, ...]:
    """QEMU arguments for a disk whose boot sector powers the machine off, through ACPI's port."""
    out_0x2000_to_0x604 = bytes.fromhex("ba0406 b80020 ef f4")
    disk = tmp_path / "power-off.img"
    disk.write_bytes(out_0x2000_to_0x604.ljust(510, b"\0") + b"\x55\xaa")
    return ("-drive", f"file={disk},format=raw")


def test_firmware_alone_that_powers_off(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...]
) -> None:
    output = tmp_path / "t.trace"
    outcome = record(RecordOptions(output=output, memory="64M", qemu=qemu, extra=power_off))
    assert outcome.incomplete is None
    assert len(of(read(output), 0, Kind.WRMSR)) == 31


def test_an_instruction_that_pass_1_did_not_see(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code page that is new to a recording pass makes the recorder repeat the pass."""

    def forgetful(*arguments: Any) -> None:
        run_survey(*arguments)
        survey: Survey = arguments[2]
        wrmsr = max(survey.addresses)  # SeaBIOS relocates it to the end of memory.
        survey.addresses.discard(wrmsr)
        survey.pages.discard(wrmsr >> 12)

    monkeypatch.setattr(session, "run_survey", forgetful)
    output = tmp_path / "t.trace"
    outcome = record(RecordOptions(output=output, memory="64M", qemu=qemu, extra=power_off))
    assert outcome.passes == 2
    assert outcome.incomplete is None
    assert len(of(read(output), 0, Kind.WRMSR)) == 31


def test_a_missed_cr0_write_marks_the_trace(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No breakpoint at all: at the end CR0 does not agree, and the trace says so."""

    def blind(*arguments: Any) -> None:
        run_survey(*arguments)
        arguments[2].addresses.clear()

    monkeypatch.setattr(session, "run_survey", blind)
    output = tmp_path / "t.trace"
    outcome = record(RecordOptions(output=output, memory="64M", qemu=qemu, extra=power_off))
    assert outcome.incomplete is not None
    assert "a write was missed" in outcome.incomplete
    assert read(output).incomplete == outcome.incomplete


def recorder(output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mtrrzap", "record", "-o", str(output)]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)


def wait_for(output: Path, text: str, process: subprocess.Popen[str]) -> None:
    """Poll until the trace contains ``text``."""
    while process.poll() is None:
        # The recorder first tries whether it can make the file, and removes it again.
        with contextlib.suppress(FileNotFoundError):
            if text in partial(output).read_text(encoding="utf-8"):
                return
    pytest.fail(f"the recorder ended: {process.communicate()[1]}")


def children(pid: int) -> list[int]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(word) for word in words]


@pytest.mark.parametrize(
    ("number", "status", "mark"),
    [(signal.SIGINT, 130, "pass 1"), (signal.SIGTERM, 1, "pass 1")],
)
def test_a_signal_in_pass_1(
    qemu: str, tmp_path: Path, number: signal.Signals, status: int, mark: str
) -> None:
    output = tmp_path / "t.trace"
    with recorder(output, "--qemu", qemu, "--memory", "64M") as process:
        wait_for(output, "killed during pass 1", process)
        guests = children(process.pid)
        process.send_signal(number)
        errors = process.communicate()[1]
    assert process.returncode == status
    first, _ = errors.splitlines()
    assert first.startswith("note: without --kernel only the firmware runs")
    assert f"incomplete after 57 events: {mark}: interrupted by {number.name}" in errors
    assert read(output).incomplete == f"{mark}: interrupted by {number.name}"
    assert len(guests) == 1
    assert not running(guests[0])


def test_a_killed_qemu(qemu: str, tmp_path: Path, power_off: tuple[str, ...]) -> None:
    output = tmp_path / "t.trace"
    arguments = ("--qemu", qemu, "--memory", "64M", "--", *power_off)
    with recorder(output, *arguments) as process:
        wait_for(output, "0 wrmsr", process)
        (guest,) = children(process.pid)
        os.kill(guest, signal.SIGKILL)
        errors = process.communicate()[1]
    assert process.returncode == 1
    assert "QEMU was killed by SIGKILL" in errors
    trace = read(output)
    assert trace.incomplete == "QEMU was killed by SIGKILL"
    assert [e for e in trace.events if e.kind is Kind.WRMSR]


def test_a_killed_recorder_leaves_no_qemu(qemu: str, tmp_path: Path) -> None:
    output = tmp_path / "t.trace"
    with recorder(output, "--qemu", qemu, "--memory", "64M") as process:
        wait_for(output, "killed during pass 1", process)
        (guest,) = children(process.pid)
        process.kill()
        process.communicate()
    while running(guest):
        pass
    assert read(partial(output)).incomplete == "the recorder was killed during pass 1"
    assert [path.name for path in tmp_path.iterdir()] == ["t.trace.part"]


def test_an_existing_trace_is_replaced_only_by_a_whole_one(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...]
) -> None:
    output = tmp_path / "t.trace"
    output.write_text("before")
    arguments = ("--qemu", qemu, "--memory", "64M", "--force")
    with recorder(output, *arguments) as process:
        wait_for(output, "killed during pass 1", process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert f"{partial(output)}: incomplete after 57 events" in errors
    assert errors.endswith(f"; {output} is kept as it was\n")
    assert output.read_text() == "before"
    assert read(partial(output)).incomplete == "pass 1: interrupted by SIGINT"

    options = RecordOptions(output=output, memory="64M", qemu=qemu, extra=power_off)
    partial(tmp_path / "u.trace").write_text("of a recorder that was killed")
    with pytest.raises(UserError, match=r"output: .*u\.trace\.part exists already"):
        record(replace(options, output=tmp_path / "u.trace"))
    assert record(replace(options, force=True)).output == output
    assert read(output).incomplete is None
    assert not partial(output).exists()


def test_a_killed_recorder_and_a_wrapper(qemu: str, tmp_path: Path) -> None:
    """QEMU is the child of a script that does not exec it, so the kernel kills only the script."""
    output, wrapper, pid = tmp_path / "t.trace", tmp_path / "qemu", tmp_path / "pid"
    wrapper.write_text(f'#!/bin/sh\n{qemu} "$@" &\necho $! > {pid}\nwait\n', encoding="ascii")
    wrapper.chmod(0o755)
    with recorder(output, "--qemu", str(wrapper), "--memory", "64M") as process:
        wait_for(output, "killed during pass 1", process)
        guest = int(pid.read_text(encoding="ascii"))
        assert running(guest)
        process.kill()
        process.communicate()
    while running(guest):
        pass


def test_a_console_that_cannot_be_written(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trace is whole all the same, and the error names the console."""
    output, console = tmp_path / "t.trace", tmp_path / "there" / "console"
    console.parent.mkdir()

    def rename(*arguments: Any) -> None:
        console.parent.rmdir()
        run_survey(*arguments)

    monkeypatch.setattr(session, "run_survey", rename)
    options = RecordOptions(
        output=output, memory="64M", qemu=qemu, console=console, extra=power_off
    )
    with pytest.raises(UserError) as caught:
        record(options)
    trace = read(output)
    assert trace.incomplete is None
    assert str(caught.value) == (
        f"{console}: cannot write: No such file or directory; the trace {output} is "
        f"kept, with {len(trace.events)} events, complete; free some space, or choose another "
        "place"
    )


@pytest.mark.parametrize(
    ("redirection", "told"),
    [("2>&-", "out"), (">/dev/full", "err"), (">&-", "err"), ("<&- >&- 2>&-", ""), ("2>&1", "out")],
)
def test_standard_files_do_not_matter(
    qemu: str, tmp_path: Path, power_off: tuple[str, ...], redirection: str, told: str
) -> None:
    """The trace is complete, so the status is 0, whether or not that can be printed."""
    name = os.fsdecode(b"rec\xff.trace")
    words = [sys.executable, "-m", "mtrrzap", "record", "-o", name, "--memory", "64M"]
    words += ["--qemu", qemu, "--", *power_off]
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *words],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    said = {"out": done.stdout, "err": done.stderr}
    for stream, text in said.items():
        text = b"".join(each for each in text.splitlines(True) if not each.startswith(b"note: "))
        expected = rb"rec\xff.trace: " if stream == told else b""
        assert text[: len(expected) or None] == expected
        assert text.count(b"\n") == bool(expected)
    trace = read(tmp_path / name)
    assert trace.incomplete is None
    assert trace.header.command.startswith(r"mtrrzap record -o $'rec\xff.trace' ")


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (("-nonsense",), "-nonsense: invalid option"),
        (("-machine", "nonsense"), "unsupported machine type"),
    ],
)
def test_arguments_that_qemu_refuses(
    qemu: str, tmp_path: Path, extra: tuple[str, ...], problem: str
) -> None:
    output = tmp_path / "t.trace"
    with pytest.raises(UserError, match="QEMU did not start") as caught:
        record(RecordOptions(output=output, qemu=qemu, extra=extra))
    assert problem in str(caught.value)
    assert not output.exists()
