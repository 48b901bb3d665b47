"""A random stream of events in every form that a reader prints: it comes back the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.capture_forms import (
    BPFTRACE,
    NAMES_CUT,
    NO_THREADS,
    NO_TIMES,
    THREADS,
    VMMS,
    Form,
    Seen,
    render,
)
from helpers.captures import capture, imported, timeless
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.importer import Known, Start
from mtrrzap.x86 import cr0 as cr0_rules

MSRS = (0x200, 0x201, 0x20F, 0x250, 0x268, 0x2FF, 0x277)
FORMS = THREADS | NAMES_CUT | NO_TIMES | NO_THREADS


@st.composite
def streams(draw: st.DrawFn) -> list[Seen]:
    """Writes of up to 12 vCPUs after power-on; each CR0 write changes CD or NW."""
    stream: list[Seen] = []
    caches_off: dict[int, bool] = {}
    vcpus = draw(st.integers(1, 12))
    us = 0
    for _ in range(draw(st.integers(1, 12))):
        us += draw(st.integers(1, 3000))
        vcpu = draw(st.integers(0, vcpus - 1))
        if draw(st.booleans()):
            off = not caches_off.get(vcpu, True)
            caches_off[vcpu] = off
            stream.append(Seen(vcpu, us, 0, 0xC0050033 if off else 0x80050033))
        else:
            refused = draw(st.booleans())
            value = draw(st.integers(0, (1 << 64) - 1))
            stream.append(Seen(vcpu, us, draw(st.sampled_from(MSRS)), value, True, refused))
    return stream


def expected(stream: list[Seen], *, times: bool) -> list[Event]:
    start = stream[0].us
    found = []
    for seen in stream:
        time = (seen.us - start) * 1000 if times else None
        kind = Kind.CR0 if seen.register == 0 else Kind.WRMSR
        found.append(Event(seen.vcpu, kind, seen.register, seen.value, seen.refused, time))
    return found


def events(data: bytes) -> list[Event]:
    trace = imported(data, Known(start=Start.POWER_ON))
    return [event for event in trace.events if event.kind is not Kind.RESET]


@settings(max_examples=40, deadline=None)
@given(streams(), st.sampled_from(VMMS))
def test_every_form_of_every_vmm(stream: list[Seen], vmm: str) -> None:
    for name, form in (THREADS | NO_THREADS | BPFTRACE).items():
        if "no comm" in name:
            continue
        assert events(render(form, stream, vmm)) == expected(stream, times=True), name


@settings(max_examples=40, deadline=None)
@given(streams())
def test_forms_without_times_or_whole_names(stream: list[Seen]) -> None:
    for name, form in NAMES_CUT.items():
        assert events(render(form, stream)) == expected(stream, times=True), name
    for name, form in NO_TIMES.items():
        assert events(render(form, stream)) == expected(stream, times=False), name


@settings(max_examples=40, deadline=None)
@given(streams())
def test_threads_without_names_count_as_they_appear(stream: list[Seen]) -> None:
    order = {vcpu: n for n, vcpu in enumerate(dict.fromkeys(seen.vcpu for seen in stream))}
    renamed = [seen._replace(vcpu=order[seen.vcpu]) for seen in stream]
    for name in ("perf, no comm", "perf, no comm, no cpu"):
        found = events(render(THREADS[name], stream))
        assert found == expected(renamed, times=True), name


@settings(max_examples=60, deadline=None)
@given(streams(), st.sampled_from(sorted(THREADS | BPFTRACE)), st.data())
def test_a_wrapped_line_is_read_or_refused(
    stream: list[Seen], name: str, data: st.DataObject
) -> None:
    """Where mail wraps a line, at a space: nothing is lost in silence, nothing is changed."""
    if "no comm" in name:
        return
    text = render((THREADS | BPFTRACE)[name], stream).decode()
    spaces = [at for at, char in enumerate(text) if char == " " and text[at - 1] not in " \n"]
    at = data.draw(st.sampled_from(spaces))
    wrapped = f"{text[:at]}\n{text[at + 1 :]}".encode()
    wanted = expected(stream, times=False)
    found: list[Event] | None
    place = ""
    try:
        found = events(wrapped)
    except UserError as error:
        found, place = None, error.place or ""
    assert place.startswith("capture:") if found is None else timeless(found) == wanted


@pytest.mark.parametrize("column", [40, 60, 72, 80])
def test_a_terminal_wraps_anywhere(column: int) -> None:
    stream = [Seen(0, 10, 0, 0x11), Seen(1, 20, 0x2FF, 0xC06), Seen(1, 31, 0x200, 0xC0000000)]
    lines = render(THREADS["ftrace"], stream).decode().splitlines()
    pieces = [line[at : at + column] for line in lines for at in range(0, len(line), column)]
    assert timeless(events(("\n".join(pieces) + "\n").encode())) == expected(stream, times=False)


@pytest.mark.parametrize("form", [FORMS["trace-cmd"], FORMS["perf trace"]], ids=["=", "("])
def test_large_captures_too(form: Form) -> None:
    """Beyond one block other searches apply than to what is pasted."""
    stream = [Seen(n % 3, n * 10, 0x2FF, n % 2 * 0xC06) for n in range(20_000)]
    assert len(events(render(form, stream))) == 20_000


def test_no_context() -> None:
    """Neither thread nor CPU nor time: read for a guest of one vCPU, else told what is missing."""
    data = b"kvm_cr: cr_write 0 = 0x11\nkvm_msr: msr_write 2ff = 0xc06\n"
    trace = imported(data, Known(vcpus=1))
    assert timeless(trace.events)[1:] == [
        Event(0, Kind.CR0, value=0x11),
        Event(0, Kind.WRMSR, 0x2FF, 0xC06),
    ]
    with pytest.raises(UserError, match="no thread and no CPU"):
        imported(data)


def test_a_cpu_stands_for_a_thread_that_is_not_named() -> None:
    data = (
        b"[003]  1.5: kvm:kvm_msr: msr_write 2ff = 0x0\n[001] 1.6: kvm:kvm_cr: cr_write 0 = 0x11\n"
    )
    found = capture(data)
    assert sorted(found.vms[0].vcpus.values()) == [0, 1]
    assert "no thread moved" in found.vms[0].attribution()


def test_a_line_without_a_thread_among_others() -> None:
    data = render(THREADS["ftrace"], [Seen(0, 1, 0, 0x11)] * 2) + b"kvm_msr: msr_write 2ff = 0x0\n"
    with pytest.raises(UserError, match="names no thread, unlike others") as caught:
        capture(data)
    assert caught.value.place == "capture:3"


@pytest.mark.parametrize("first", [0x40000033, 0x40000023])
def test_ovmf_power_on(first: int) -> None:
    """OVMF's first CR0 write leaves CD set; without kvm_entry this is all that tells."""
    stream = [Seen(0, 1, 0, first), Seen(0, 2, 0x2FF, 0x806), Seen(0, 3, 0, 0x33)]
    trace = imported(render(THREADS["ftrace"], stream))
    assert timeless(trace.events)[0] == Event(0, Kind.RESET)
    assert trace.events[1].value & cr0_rules.CD


def test_entries_of_perf_trace_tell_the_vcpu() -> None:
    data = b"".join(
        f"     {tid}.000 qemu-kvm/{tid} kvm:kvm_entry(vcpu_id: {vcpu}, rip: 65520)\n"
        f"     {tid}.001 qemu-kvm/{tid} kvm:kvm_msr(write: 1, ecx: 767, data: 3078)\n".encode()
        for tid, vcpu in ((51, 1), (52, 2))
    )
    assert capture(data).vms[0].vcpus == {51: 1, 52: 2}


def test_marks_of_long_delays_with_another_clock() -> None:
    data = b"CPU 0/KV-264       1..... 1234+: kvm_msr: msr_write 2ff = 0x0\n"
    assert imported(data).events[-1] == Event(0, Kind.WRMSR, 0x2FF, 0)
