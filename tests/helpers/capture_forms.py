"""Render accesses of vCPUs in every form that trace-cmd, ftrace and perf print."""

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Seen(NamedTuple):
    """One access; ``us`` is its time in microseconds, ``refused`` a #GP."""

    vcpu: int
    us: int
    register: int
    """The MSR, or 0 for CR0."""
    value: int
    write: bool = True
    refused: bool = False


def usual(seen: Seen) -> tuple[str, str]:
    """Return the event's name and its text."""
    what = "write" if seen.write else "read"
    if seen.register == 0:
        return "kvm_cr", f"cr_{what} 0 = {seen.value:#x}"
    refused = " (#GP)" if seen.refused else ""
    return "kvm_msr", f"msr_{what} {seen.register:x} = {seen.value:#x}{refused}"


def raw(seen: Seen) -> tuple[str, str]:
    if seen.register == 0:
        return "kvm_cr", f"rw={int(seen.write)} cr=0 val={seen.value:#x}"
    fields = f"write={int(seen.write)} ecx={seen.register:x} data={seen.value:#x}"
    return "kvm_msr", f"{fields} exception={int(seen.refused)}"


def fields(seen: Seen) -> tuple[str, str]:
    """As ftrace's option ``fields`` prints them since v6.3."""

    def both(value: int) -> str:
        return f"{value:#x} ({value - (1 << 64) if value >> 63 else value})"

    if seen.register == 0:
        return "kvm_cr", f"rw={both(int(seen.write))} cr={both(0)} val={both(seen.value)}"
    said = f"write={both(int(seen.write))} ecx={both(seen.register)} data={both(seen.value)}"
    return "kvm_msr", f"{said} exception=({int(seen.refused)})"


def spoken(seen: Seen) -> tuple[str, str]:
    """A verb, the register and its value, as a one-liner may print them."""
    refused = " (#GP)" if seen.refused else ""
    what = "wr" if seen.write else "rd"
    if seen.register == 0:
        return "", f"cr_{'write' if seen.write else 'read'} 0x0 {seen.value:#x}"
    return "", f"{what}msr {seen.register:#x} {seen.value:#x}{refused}"


def labelled(seen: Seen) -> tuple[str, str]:
    what = "write" if seen.write else "read"
    if seen.register == 0:
        return "", f"cr0 {what} {seen.value:#x}"
    refused = " FAULT" if seen.refused else ""
    return "", f"MSR: 0x{seen.register:08x}  Value: 0x{seen.value:016x}  Mode: {what}{refused}"


def bpf_fields(seen: Seen) -> tuple[str, str]:
    if seen.register == 0:
        return "kvm_cr", f"rw={int(seen.write)} cr=0 val={seen.value:#x}"
    fault = int(seen.refused)
    return "kvm_msr", (
        f"write={int(seen.write)} ecx={seen.register:#x} data={seen.value:#x} exception={fault}"
    )


def perf_fields(seen: Seen) -> str:
    """As perf trace prints a tracepoint: decimal, what is 0 left out."""
    if seen.register == 0:
        name, fields = "kvm_cr", {"rw": int(seen.write), "cr": 0, "val": seen.value}
    else:
        name = "kvm_msr"
        fields = {"write": int(seen.write), "ecx": seen.register, "data": seen.value}
        fields["exception"] = int(seen.refused)
    said = ", ".join(f"{key}: {value}" for key, value in fields.items() if value)
    return f"kvm:{name}({said})"


def s(us: int, digits: int = 6) -> str:
    return f"{us // 10**6}.{us % 10**6:06}{'0' * (digits - 6)}"


Form = Callable[[Seen, str], str]


def _form(template: str, text: Callable[[Seen], tuple[str, str]] = usual) -> Form:
    def made(seen: Seen, name: str) -> str:
        event, body = text(seen)
        return template.format(
            name=name,
            short=name[:8],
            tid=100 + seen.vcpu,
            cpu=(seen.us * 7) % 4,
            vcpu=seen.vcpu,
            us=seen.us,
            ms=f"{seen.us // 1000}.{seen.us % 1000:03}",
            s=s(seen.us),
            ns=s(seen.us, 9),
            event=event,
            body=body,
        )

    return made


THREADS: dict[str, Form] = {
    "trace-cmd": _form("{name:>16}-{tid:<5} [{cpu:03}] {s:>12}: {event}:    {body}"),
    "trace-cmd -t": _form("{name:>16}-{tid:<5} [{cpu:03}] {ns:>15}: {event}:    {body}"),
    "trace-cmd --ts-diff": _form(
        "{name:>16}-{tid:<5} [{cpu:03}] {s:>12}: (+2155) {event}:    {body}"
    ),
    "trace-cmd -R": _form("{name:>16}-{tid:<5} [{cpu:03}] {s:>12}: {event}:    {body}", raw),
    "ftrace": _form("{name:>16}-{tid:<7} [{cpu:03}] d..1. {s:>12}: {event}: {body}"),
    "ftrace, irqs on": _form("{name:>16}-{tid:<7} [{cpu:03}] ..... {s:>12}: {event}: {body}"),
    "ftrace, old": _form("{name:>16}-{tid:<5} [{cpu:03}] .N.. {s:>12}: {event}: {body}"),
    "ftrace, no irq-info": _form("{name:>16}-{tid:<7} [{cpu:03}] {s:>12}: {event}: {body}"),
    "ftrace, record-tgid": _form(
        "{name:>16}-{tid:<7} (     90) [{cpu:03}] ..... {s:>12}: {event}: {body}"
    ),
    "ftrace, fields": _form("{name:>16}-{tid:<7} [{cpu:03}] ..... {s:>12}: {event}: {body}", raw),
    "ftrace, fields since v6.3": _form(
        "{name:>16}-{tid:<7} [{cpu:03}] ..... {s:>12}: {event}: {body}", fields
    ),
    "ftrace, quoted": _form(">> {name:>16}-{tid:<7} [{cpu:03}] ..... {s:>12}: {event}: {body}"),
    "ftrace, grep -n": _form("{tid}:{name:>16}-{tid:<7} [{cpu:03}] ..... {s:>12}: {event}: {body}"),
    "ftrace, verbose": _form(
        "{name:>16} {tid:7} {cpu:3} 0 00000000 00000001 [00000000] {ms}ms (+0.001ms): "
        "{event}: {body}"
    ),
    "perf": _form("{name:>16} {tid:5} [{cpu:03}] {s:>12}:            kvm:{event}: {body}"),
    "perf, pid": _form("{name:>16}    90/{tid:<5} [{cpu:03}] {s:>12}:  kvm:{event}: {body}"),
    "perf, ns": _form("{name:>16} {tid:5} [{cpu:03}] {ns:>15}:  kvm:{event}: {body}"),
    "perf, no cpu": _form("{name:>16} {tid:5} {s:>12}:  kvm:{event}: {body}"),
    "perf, period": _form("{name:>16} {tid:5} [{cpu:03}] {s:>12}:   1 kvm:{event}: {body}"),
    "perf, ip": _form(
        "{name:>16} {tid:5} [{cpu:03}] {s:>12}:  kvm:{event}: {body}  ffffffffc0a1b2c3 "
        "kvm_emulate_wrmsr+0x53 ([kvm])"
    ),
    "perf, cgroup": _form(
        "{name:>16} {tid:5} [{cpu:03}] {s:>12}:  kvm:{event}: {body} /machine.slice"
    ),
    "perf, modifier": _form("{name:>16} {tid:5} [{cpu:03}] {s:>12}:  kvm:{event}:H: {body}"),
    "perf, no event": _form("{name:>16} {tid:5} [{cpu:03}] {s:>12}: {body}"),
    "perf, no comm, no cpu": _form("{tid:5} {s:>12}:  kvm:{event}: {body}"),
    "perf, no comm": _form("  90/{tid} [{cpu:03}] {s:>12}:  kvm:{event}: {body}"),
    "perf trace": lambda seen, name: (
        f"{seen.us // 1000:6}.{seen.us % 1000:03} {name[:14]}/{100 + seen.vcpu} {perf_fields(seen)}"
    ),
    "perf trace --libtraceevent_print": _form("{ms:>10} {name}/{tid} kvm:{event}({body})"),
}
"""Forms with threads and times, so that events come back with both."""
BPFTRACE: dict[str, Form] = {
    "a verb": _form("{ns} tid={tid} {name} {body}", spoken),
    "a verb, numbers bare": _form("{tid} {name} [{cpu:03}] {s} {body}", spoken),
    "fields": _form("{event} tid={tid} comm={name} cpu={cpu} nsecs={us}000 {body}", bpf_fields),
    "labels": _form("[Time: {ns}] tid: {tid} {name} {body}", labelled),
    "json": lambda seen, name: json.dumps(
        {
            "type": "printf",
            "data": f"{s(seen.us, 9)} tid={100 + seen.vcpu} {name} {spoken(seen)[1]}\n",
        }
    ),
}
"""What one-liners may print."""
NAMES_CUT: dict[str, Form] = {
    "ftrace, latency-format": _form("{short:>8}-{tid:<7} {cpu:3}d..1. {us:4}us+: {event}: {body}"),
    "ftrace, latency-format, no mark": _form(
        "{short:>8}-{tid:<7} {cpu:3}..... {us:4}us : {event}: {body}"
    ),
    "trace-cmd -l": _form("{short:>8}-{tid:<5} {cpu:3}.N... {s:>12}: {event}:    {body}"),
    "trace-cmd -l -R": _form("{short:>8}-{tid:<5} {cpu:3}-0x24 {s:>12}: {event}:   {body}", raw),
}
"""Names have 8 characters here, which keeps QEMU's numbers only."""
NO_TIMES: dict[str, Form] = {
    "counter": _form("{name:>16}-{tid:<7} [{cpu:03}] ..... {us:>12}: {event}: {body}"),
    "perf, no time": _form("{name:>16} {tid:5} [{cpu:03}]  kvm:{event}: {body}"),
}
NO_THREADS: dict[str, Form] = {
    "perf, comm and time": _form("{name:>16} {s:>12}:  kvm:{event}: {body}"),
    "perf, comm, cpu and time": _form("{name:>16} [{cpu:03}] {s:>12}:  kvm:{event}: {body}"),
}
"""The thread's name is all that tells the vCPUs apart."""
VMMS = (
    "CPU {}/KVM",
    "vcpu{}",
    "fc_vcpu {}",
    "crosvm_vcpu{}",
    "kvm-vcpu-{}",
    "EMT-{}",
)
"""QEMU and libvirt, cloud-hypervisor, Firecracker, crosvm, kvmtool, VirtualBox."""


def render(form: Form, stream: Iterable[Seen], vmm: str = VMMS[0]) -> bytes:
    return "".join(form(seen, vmm.format(seen.vcpu)) + "\n" for seen in stream).encode()
