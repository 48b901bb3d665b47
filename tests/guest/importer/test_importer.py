"""Importing captures: the real ones against their lists, and one small capture for each oddity."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.captures import (
    ENABLE,
    FOLDER,
    POWER_ON,
    SAME_BOOT,
    WITH_EXITS,
    capture,
    imported,
    line,
    per_vcpu,
    source,
    text,
    timeless,
)
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.importer import Known, Start, read_capture, records, search
from mtrrzap.guest.trace import dumps
from mtrrzap.guest.trace_reader import parse
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.study.trace_summary import summaries

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", [*SAME_BOOT, *WITH_EXITS])
def test_sequences_of_a_real_boot(name: str) -> None:
    trace = imported(text(name))
    assert per_vcpu(trace) == EXPECTED
    assert trace.incomplete is None
    assert (trace.header.vcpus, trace.header.maxphyaddr) == (2, 40)
    assert [row.cd_toggles for row in summaries(trace)] == [5, 3]


@pytest.mark.parametrize("boot", [SAME_BOOT, WITH_EXITS])
def test_all_readers_of_one_boot_agree(boot: tuple[str, ...]) -> None:
    first, *others = (timeless(imported(text(name)).events) for name in boot)
    for other in others:
        assert other == first


@pytest.mark.parametrize(("name", "process"), [("no-cr0-trace", 8810), ("no-cr0-perf", 8780)])
def test_a_real_kvm_that_prints_no_cr0(name: str, process: int) -> None:
    """The commands of docs/capture.md on kernel 6.18: SeaBIOS's 31 MTRR writes on each vCPU."""
    found = capture(text(name))
    assert [vm.process for vm in found.vms] == [process]
    trace = imported(text(name))
    assert [len(mine) for mine in per_vcpu(trace).values()] == [31, 31]
    for mine, boot in zip(per_vcpu(trace).values(), EXPECTED.values(), strict=True):
        # The same firmware as in the other captures, where two writes of CR0 are among them.
        assert mine == [each for each in boot if not each.startswith("cr0")][:31]
    assert [event.vcpu for event in trace.events if event.kind is Kind.INIT] == [1]
    assert trace.incomplete is not None
    assert trace.incomplete.startswith("the capture has no CR0 access")


def test_inits_of_a_real_boot() -> None:
    """SeaBIOS broadcasts INIT; Linux sends one as assert and de-assert, which counts once."""
    events = imported(text("all-events-trace")).events
    assert [event.vcpu for event in events if event.kind is Kind.INIT] == [1, 1]


@pytest.mark.parametrize(
    ("name", "total_us", "worst_us"),
    [("all-events-report", 10878, 703), ("all-events-trace", 10958, 702)],
)
def test_measured_costs(name: str, total_us: int, worst_us: int) -> None:
    """Every one of the 68 MTRR writes has its exit and its entry; the PAT writes are not MTRRs."""
    found = capture(text(name))
    one = found.trace(found.vms[0], Known())
    assert len(one.costs) == 68
    assert sum(cost.cost_ns for cost in one.costs) == total_us * 1000
    assert max(cost.cost_ns for cost in one.costs) == worst_us * 1000
    for cost in one.costs:
        event = one.trace.events[cost.event]
        assert (event.vcpu, event.msr, event.value) == (cost.vcpu, cost.msr, cost.value)


def test_overwritten_ftrace_buffer() -> None:
    """Its only sign is 424/22174 in the header; SeaBIOS's mode switches are no toggles."""
    trace = imported(text("overwritten-ftrace-buffer"))
    assert trace.incomplete == "the ring buffer was overwritten: 424 of 22174 events are left"
    assert timeless(trace.events) == [Event(0, Kind.HELD_CR0, value=0x11)]
    assert any("a running guest: its oldest events are gone" in n for n in trace.header.notes)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(64, 5000), block=st.integers(1 << 10, 1 << 14))
def test_chunks_and_blocks_do_not_matter(size: int, block: int) -> None:
    data = text("all-events-trace")[: 1 << 17]
    whole = capture(data).seen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SIZE", block)
        parts = read_capture(source(data, size), "capture").seen
    assert parts.records == whole.records
    assert len(whole.records) > 30


# ---- attribution --------------------------------------------------------------------------------


def test_unnamed_thread_gets_its_name_from_another_line() -> None:
    """trace_pipe prints <...> for a thread that it has not seen yet."""
    data = line("kvm_cr: cr_read 0 = 0x60000010", name="<...>", tid=7) + line(
        "kvm_cr: cr_write 0 = 0x11", name="CPU 3/KVM", tid=7
    )
    assert imported(data).events[-1] == Event(3, Kind.CR0, value=0x11, time_ns=0)


def test_threads_without_names_are_told_apart_by_their_entries() -> None:
    data = b""
    for tid, vcpu in ((51, 1), (50, 0)):
        data += line(f"kvm_entry: vcpu {vcpu}, rip 0x1", name="qemu", tid=tid)
        data += line("kvm_msr: msr_write 2ff = 0xc06", name="qemu", tid=tid)
    found = capture(data)
    assert found.vms[0].vcpus == {50: 0, 51: 1}
    assert "kvm_entry" in found.vms[0].attribution()
    assert len(found.vms) == 1


def test_threads_without_anything_are_numbered_as_they_appear() -> None:
    data = b"".join(
        line("kvm_msr: msr_write 2ff = 0xc06", name="<...>", tid=tid) for tid in (90, 80, 90)
    )
    found = capture(data)
    assert found.vms[0].vcpus == {90: 0, 80: 1}
    assert found.vms[0].attribution().startswith("by the order")


@pytest.mark.parametrize("tgids", [("", ""), ("(   10) ", "(   20) ")])
def test_two_vms_in_one_capture(tgids: tuple[str, str]) -> None:
    """The second has two vCPUs and is grouped right with and without ftrace's record-tgid."""
    threads = (
        ("CPU 0/KVM", 11, tgids[0]),
        ("CPU 0/KVM", 21, tgids[1]),
        ("CPU 1/KVM", 22, tgids[1]),
    )
    data = b"".join(
        line("kvm_cr: cr_read 0 = 0x60000010", name=name, tid=tid, tgid=tgid)
        + line("kvm_cr: cr_write 0 = 0x11", name=name, tid=tid, tgid=tgid)
        for name, tid, tgid in threads
    )
    found = capture(data)
    assert [vm.vcpus for vm in found.vms] == [{11: 0}, {21: 0, 22: 1}]
    assert [vm.process for vm in found.vms] == ([10, 20] if tgids[0] else [None, None])
    assert per_vcpu(imported(data, vm=1)) == {"0": ["cr0=11"], "1": ["cr0=11"]}


def test_a_vcpu_number_beyond_kvms_is_none() -> None:
    data = line("kvm_msr: msr_write 2ff = 0xc06", name="CPU 99999/KVM")
    assert imported(data).header.vcpus == 1


# ---- the state at the start ---------------------------------------------------------------------


def test_power_on_makes_the_first_clear_a_toggle() -> None:
    trace = imported(POWER_ON + ENABLE)
    assert timeless(trace.events) == [Event(0, Kind.RESET), Event(0, Kind.CR0, value=0x11)]
    assert [event.time_ns for event in trace.events] == [0, 1000]


def test_power_on_on_intel_shows_no_cr_read() -> None:
    """There, firmware's first CR0 write with paging off is the sign, if MTRRs are set up later."""
    first = line("kvm_cr: cr_write 0 = 0x11")
    assert imported(first).events[0].kind is Kind.HELD_CR0
    trace = imported(first + line("kvm_msr: msr_write 2ff = 0x0"))
    assert [event.kind for event in trace.events] == [Kind.RESET, Kind.CR0, Kind.WRMSR]


def test_a_running_guest_does_not_begin_in_reset() -> None:
    """Its first CR0 write sets CD: a toggle. Reads before a write tell what a register held."""
    data = (
        line("kvm_msr: msr_read 2ff = 0xc06")
        + line("kvm_cr: cr_write 0 = 0xc0050033")
        + line("kvm_msr: msr_write 2ff = 0x0")
        + line("kvm_msr: msr_write 2ff = 0xc06")
        + line("kvm_cr: cr_write 0 = 0x80050033")
    )
    trace = imported(data)
    assert timeless(trace.events)[:2] == [
        Event(0, Kind.HELD_CR0, value=0x80050033),
        Event(0, Kind.HELD_MSR, 0x2FF, 0xC06),
    ]
    assert summaries(trace)[0].cd_toggles == 2
    forced = imported(data, Known(start=Start.POWER_ON))
    assert summaries(forced)[0].cd_toggles == 1


def test_a_read_of_what_nobody_wrote_is_held() -> None:
    """User space's writes leave no event; a read shows them."""
    data = POWER_ON + line("kvm_msr: msr_read 2ff = 0x806") + line("kvm_msr: msr_read 2ff = 0x806")
    trace = imported(data)
    assert timeless(trace.events)[1:] == [Event(0, Kind.HELD_MSR, 0x2FF, 0x806)]
    state, rule = step(power_on(40), trace.events[1])
    assert (state.mtrrs.def_type, rule) == (0x806, None)
    assert any(note.startswith("1 reads gave values") for note in trace.header.notes)


@pytest.mark.parametrize(
    "sign",
    [
        line("kvm_cr: cr_read 0 = 0x60000010", us=9),
        line("kvm_entry: vcpu 0, rip 0xfff0", us=9),
    ],
)
def test_a_machine_reset_in_the_middle_resets_every_vcpu(sign: bytes) -> None:
    paging = line("kvm_cr: cr_write 0 = 0x80000011", us=2)
    ap = line("kvm_cr: cr_write 0 = 0x11", name="CPU 1/KVM", tid=101, us=3)
    again = line("kvm_cr: cr_write 0 = 0x11", us=10)
    trace = imported(POWER_ON + ENABLE + paging + ap + sign + again)
    assert [(event.vcpu, event.kind.value, event.time_ns) for event in trace.events] == [
        (0, "reset", 0),
        (1, "reset", 0),
        (0, "cr0", 1000),
        (1, "cr0", 3000),
        (0, "reset", 9000),
        (1, "reset", 9000),
        (0, "cr0", 10000),
    ]


# ---- events -------------------------------------------------------------------------------------


def test_a_refused_write_is_marked() -> None:
    data = POWER_ON + line("kvm_msr: msr_write 2ff = 0x1c06 (#GP)")
    raw = line("kvm_msr: write=1 ecx=2ff data=0x1c06 exception=1")
    expected = Event(0, Kind.WRMSR, 0x2FF, 0x1C06, refused=True)
    assert timeless(imported(data).events)[-1] == expected
    assert timeless(imported(raw).events)[-1] == expected


def test_only_cd_and_nw_make_a_cr0_write_news() -> None:
    values = (0x11, 0x10, 0x80000011, 0xC0000011, 0xC0050033, 0x80050033)
    data = POWER_ON + b"".join(line(f"kvm_cr: cr_write 0 = {value:#x}") for value in values)
    kept = [event.value for event in imported(data).events if event.kind is Kind.CR0]
    assert kept == [0x11, 0xC0000011, 0x80050033]


@pytest.mark.parametrize(
    ("bodies", "targets"),
    [
        (["kvm_apic_accept_irq: apicid 1 vec 0 (INIT|edge)"], [1]),
        (["kvm_apic_accept_irq: apicid 1 vec 0 (INIT|level)"] * 2, [1]),
        (["kvm_apic_accept_irq: apicid 9 vec 0 (INIT|edge)"], []),
        (["kvm_apic_accept_irq: apicid=1 dm=1280 tm=0 vec=0"], [1]),
        (["kvm_apic_accept_irq: apicid 1 vec 48 (Fixed|edge)"], []),
        (["kvm_apic_ipi: dst 1 vec 0 (INIT|physical|assert|edge|dst)"], [1]),
        (["kvm_apic_ipi: dst 0 vec 0 (INIT|physical|assert|edge|all-but-self)"], [1]),
        (["kvm_apic_ipi: dst 0 vec 0 (INIT|physical|assert|edge|all-incl-self)"], [0, 1]),
        (["kvm_apic_ipi: dst 0 vec 0 (INIT|physical|assert|edge|self)"], [0]),
        (
            [
                "kvm_apic_ipi: dst 1 vec 0 (INIT|physical|assert|level|dst)",
                "kvm_apic_accept_irq: apicid 1 vec 0 (INIT|level)",
                "kvm_apic_ipi: dst 1 vec 0 (INIT|physical|de-assert|level|dst)",
                "kvm_apic_accept_irq: apicid 1 vec 0 (INIT|level)",
            ],
            [1],
        ),
    ],
)
def test_inits(bodies: list[str], targets: list[int]) -> None:
    raw = "dm=" in bodies[0]
    begin = line("kvm_cr: rw=0 cr=0 val=0x60000010") if raw else POWER_ON
    word = "rw=1 cr=0 val=0x11" if raw else "cr_write 0 = 0x11"
    ap = line(f"kvm_cr: {word}", name="CPU 1/KVM", tid=101)
    data = begin + ap + b"".join(line(body) for body in bodies)
    inits = [event.vcpu for event in imported(data).events if event.kind is Kind.INIT]
    assert inits == targets


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (b"CPU:0 [LOST 123 EVENTS]\n", "the capture lost 123 events, in 1 place"),
        (b"CPU:1 [LOST EVENTS]\n" * 2, "the capture lost events, in 2 places"),
        (b"CPU:0 [7 EVENTS DROPPED]\n", "the capture lost 7 events, in 1 place"),
    ],
)
def test_lost_events_make_a_trace_incomplete(lost: bytes, why: str) -> None:
    assert imported(POWER_ON + lost + ENABLE).incomplete == why


def test_events_lost_by_perf() -> None:
    data = b"CPU 0/KVM 151 [001] 26.1:  kvm:kvm_cr: cr_write 0 = 0x11\n"
    lost = b"CPU 0/KVM 151 [001] 26.2: PERF_RECORD_LOST lost 9\n"
    assert imported(data + lost).incomplete == "the capture lost 9 events, in 1 place"


def test_a_capture_without_cr0_is_incomplete() -> None:
    trace = imported(line("kvm_msr: msr_write 2ff = 0xc06"))
    assert trace.incomplete is not None
    assert "no CR0 access" in trace.incomplete


def test_a_last_line_cut_short_is_not_read() -> None:
    trace = imported(POWER_ON + ENABLE + line("kvm_msr: msr_write 2ff = 0xc06")[:-3])
    assert len(trace.events) == 2
    assert trace.incomplete == "the capture's last line is cut short"


def test_a_clock_that_counts_cycles_gives_no_times() -> None:
    data = b"CPU 0/KVM-100 [001] ..... 1234567: kvm_cr: cr_read 0 = 0x60000010\n" + ENABLE
    assert {event.time_ns for event in imported(data).events} == {None}


def test_files_of_several_host_cpus_one_behind_the_other() -> None:
    """per_cpu/cpuN/trace: vCPUs are merged by time; a thread keeps its order whatever its times."""
    early = line("kvm_cr: cr_write 0 = 0x11", us=4, name="CPU 1/KVM", tid=101)
    late = line("kvm_msr: msr_write 2ff = 0x0", us=7)
    back = line("kvm_msr: msr_write 250 = 0x0", us=6)
    trace = imported(POWER_ON + ENABLE + late + back + early)
    assert [(e.vcpu, e.msr) for e in trace.events[2:]] == [(0, 0), (1, 0), (0, 0x2FF), (0, 0x250)]


def test_nanosecond_stamps() -> None:
    """trace-cmd report -t and perf script --ns print nine digits."""
    data = b"CPU 0/KVM-1 [001] 5.000000001: kvm_cr: cr_read 0 = 0x60000010\n"
    data += b"CPU 0/KVM-1 [001] 5.123456789: kvm_cr: cr_write 0 = 0x11\n"
    assert imported(data).events[-1].time_ns == 123456788


def test_a_line_longer_than_any_event_is_passed_over() -> None:
    noise = b"x" * (1 << 17) + b" kvm_msr: msr_write 2ff = 0x0\n"
    assert len(imported(POWER_ON + noise + ENABLE).events) == 2


def test_a_capture_with_too_many_records_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["mtrrzap.guest.importer.scan"], "MAX_RECORDS", 5)
    assert records.MAX_RECORDS == 500_000
    trace = imported(POWER_ON + line("kvm_msr: msr_write 2ff = 0x0") * 9)
    assert len(trace.events) == 5
    assert trace.incomplete == "only its first 5 records are kept"


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (line("kvm_msr: msr_write 2ff = 0xzz"), "a malformed kvm_msr"),
        (line("kvm_msr: msr_write 2ff = 0x1ffffffffffffffff"), "a malformed kvm_msr"),
        (line("kvm_cr: cr_write 0 = "), "a malformed kvm_cr"),
        (b"CPU 0/KVM kvm_msr: msr_write 2ff = 0x0\n", "names no thread"),
    ],
)
def test_errors_name_the_line(bad: bytes, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        capture(POWER_ON + ENABLE + bad + ENABLE)
    message = str(caught.value)
    assert message.startswith("capture:3: ")
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize("foreign", [b"", b"hello\n", bytes(range(256)) * 5000, b"\0" * 3000000])
def test_foreign_files(foreign: bytes) -> None:
    with pytest.raises(UserError, match="no guest access to an MTRR or to CR0"):
        capture(foreign)


def test_an_import_round_trips_as_a_trace() -> None:
    trace = imported(text("all-events-report"))
    assert parse(dumps(trace).splitlines(keepends=True), "t") == trace
