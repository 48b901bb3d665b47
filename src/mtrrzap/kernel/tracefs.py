"""What KVM did, from ftrace: kprobes on its zaps, in an instance of tracefs of our own.

Source: Documentation/trace/kprobetrace.rst, Documentation/trace/events.rst. Lines come out in the
order of one CPU's buffer, because the monitor keeps to one CPU.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mtrrzap.errors import UserError
from mtrrzap.kernel.ring import PAGE

FUNCTION = "mtrrzap_ept_type"
"""Called for each leaf by a KVM that ``build`` made: its gfn, bits 3 to 6 of the EPT entry."""
PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
"""Where tracefs is mounted, on newer and older systems."""
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_TDP_MMU = Path("/sys/module/kvm/parameters/tdp_mmu")
GROUP = f"mtrrzap_{os.getpid()}"
"""Of the probes: two runs at once have probes of their own."""
RETURN = "_ret"
"""What the name of a probe of a function's return ends with."""
_ZAP = "kvm_zap_gfn_range"
# Of two probes at one address the one that was set last runs first: the entry probe, which must
# see the real caller and not the return probe's trampoline.
_ZAPS = (
    f"r:{GROUP}/zapped {_ZAP}",
    f"p:{GROUP}/zap {_ZAP} start=$arg2:x64 end=$arg3:x64 by=$stack0:symbol",
)
_VISITS = (f"p:{GROUP}/visit tdp_iter_next", f"p:{GROUP}/again tdp_iter_restart")
_TYPE = f"p:{GROUP}/type {FUNCTION} gfn=$arg1:x64 bits=$arg2:x8"
_LOCKS = (f"p:{GROUP}/wlock _raw_write_lock", f"p:{GROUP}/rlock _raw_read_lock")
# What KVM is asked to do, for guests that another monitor runs. Each name in a tuple is tried in
# turn: compilers clone functions.
_ASKED = (
    (f"p:{GROUP}/msr kvm_set_msr_common host=+0($arg2):u8 index=+4($arg2):x32",),
    (f"p:{GROUP}/mtrr kvm_mtrr_set_msr msr=$arg2:x32 data=$arg3:x64",),
    (f"r:{GROUP}/written kvm_mtrr_set_msr ret=$retval:s32",),
    (f"p:{GROUP}/cr0 kvm_post_set_cr0 old=$arg2:x64 new=$arg3:x64",),
    (f"p:{GROUP}/reset kvm_vcpu_reset init=$arg2:u8",),
    (
        f"p:{GROUP}/sregs __set_sregs_common cr0=+224($arg2):x64",
        f"p:{GROUP}/sregs __set_sregs_common.constprop.0 cr0=+224($arg2):x64",
    ),
)
_FILTER = "index >= 0x200 && index <= 0x2ff"
_SPTE = "kvmmmu:kvm_tdp_mmu_spte_changed"
_READ = 1 << 16


class Probes:
    """Probes for one thread, which made this object and pins itself to a CPU; a context manager.

    ``leaves``: each entry that changes during a zap; ``visits``: each entry that a zap looks at,
    and how it takes locks; ``installs``: each entry that changes at all. These are slow. ``asked``:
    what any thread of the system asks KVM to do, for guests that another monitor runs.
    ``functions``: calls of the first of them, which KVM must have, and of the others as far as it
    has them, by any thread, on any CPU, in their true order.
    """

    def __init__(
        self,
        *,
        leaves: bool = False,
        visits: bool = False,
        installs: bool = False,
        asked: bool = False,
        functions: Sequence[str] = (),
        buffer_kib: int = 8192,
    ) -> None:
        """Set them. Raises ``UserError`` without root, tracefs or KVM's functions."""
        if (leaves or visits or installs) and _text(_TDP_MMU) == "N":
            raise UserError(
                "KVM's TDP MMU is off; only its walks can be looked at",
                place=str(_TDP_MMU),
                mend="load kvm with tdp_mmu=1",
            )
        self._functions = functions
        self._types: list[str] = []
        self._root = next((each for each in PLACES if _has_kprobes(each)), PLACES[0])
        self._folder = self._root / "instances" / GROUP
        self._stack = ExitStack()
        before = os.sched_getaffinity(0)
        cpu = min(before)
        os.sched_setaffinity(0, {cpu})
        self._stack.callback(os.sched_setaffinity, 0, before)
        everywhere = asked or bool(functions)
        try:
            self._set("" if everywhere else f"per_cpu/cpu{cpu}/", buffer_kib)
            self._look_at(leaves=leaves, visits=visits, installs=installs, asked=asked)
        except OSError as error:
            self.close()
            raise UserError(
                f"cannot trace: {error.strerror}",
                place=str(error.filename or self._root),
                mend=_needed(),
            ) from error
        except BaseException:
            self.close()
            raise

    def _set(self, cpus: str, buffer_kib: int) -> None:
        """Make the instance, with a buffer for these CPUs and probes on the zaps alone."""
        self._folder.mkdir()
        self._stack.callback(self._folder.rmdir)
        self._write("trace_clock", "counter" if self._functions else "mono")
        self._write(f"{cpus}buffer_size_kb", str(buffer_kib))
        for line in _ZAPS:
            self._probe(line)
        self._marker = self._open("trace_marker", os.O_WRONLY)
        self._pipe = self._open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK)

    def _look_at(self, *, leaves: bool, visits: bool, installs: bool, asked: bool) -> None:
        if not asked and not self._functions:
            self._write("set_event_pid", str(os.getpid()))
        for lines in _ASKED if asked else ():
            self._enable(f"{GROUP}/{_name(self._probe(*lines))}")
        if asked:
            self._write(f"events/{GROUP}/msr/filter", _FILTER)
        for number, function in enumerate(self._functions):
            with suppress(UserError) if number else nullcontext():
                names = (function + RETURN, function) if number else ("asked", "ask")
                for kind, name in zip("rp", names, strict=True):
                    line = self._probe(f"{kind}:{GROUP}/{name} {function}")
                    self._enable(f"{GROUP}/{_name(line)}")
                    self._types.append(name)
        for line in (*_VISITS, *_LOCKS) if visits else ():
            self._while_zapping(f"{GROUP}:{_name(self._probe(line))}")
        if installs:
            self._enable(_SPTE.replace(":", "/"))
            with suppress(UserError):
                self._enable(f"{GROUP}/{_name(self._probe(_TYPE))}")
        elif leaves:
            self._while_zapping(_SPTE)
        for line in _ZAPS:
            self._enable(f"{GROUP}/{_name(line)}")

    def _enable(self, event: str) -> None:
        self._write(f"events/{event}/enable", "1")
        self._stack.callback(self._write, f"events/{event}/enable", "0")

    def _open(self, name: str, flags: int) -> int:
        fd = os.open(self._folder / name, flags | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        return fd

    def _probe(self, *lines: str) -> str:
        """Set the first of these that can be set, and return it."""
        for line in lines:
            try:
                _append(self._root / "kprobe_events", line)
            except PermissionError:
                raise
            except OSError as error:
                why = error.strerror
                continue
            gone = f"-:{GROUP}/{_name(line)}"
            self._stack.callback(_append, self._root / "kprobe_events", gone)
            return line
        raise UserError(
            f"this kernel has no function {lines[0].split()[1]} to probe ({why})",
            place=str(self._root / "kprobe_events"),
            mend="load kvm, and use a kernel with kprobes",
        )

    def _while_zapping(self, event: str) -> None:
        """Have an event only between a zap's begin and its end."""
        for edge, action in (("zap", "enable_event"), ("zapped", "disable_event")):
            path = f"events/{GROUP}/{edge}/trigger"
            self._write(path, f"{action}:{event}")
            self._stack.callback(self._write, path, f"!{action}:{event}")

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        _append(path, text)

    def mark(self, number: int) -> None:
        """Note that an event begins."""
        os.write(self._marker, b"e %d" % number)

    def drain(self) -> str:
        """Return the lines since the last call. Raises ``UserError`` if some were lost."""
        parts = []
        with suppress(BlockingIOError):
            while part := os.read(self._pipe, _READ):
                parts.append(part)
        self._complain_of_losses()
        return b"".join(parts).decode("ascii", "replace")

    def raw(self) -> list[bytes]:
        """Return each CPU's pages of the ring buffer (``ring``). Raises ``UserError`` as above."""
        self._complain_of_losses()
        return [
            b"".join(_pages(folder / "trace_pipe_raw"))
            for folder in sorted((self._folder / "per_cpu").iterdir(), key=_number)
        ]

    def types(self) -> dict[str, int]:
        """Return the numbers of the types of events in these pages, by name."""
        folder, names = self._folder / "events" / GROUP, (*self._types, "zap", "zapped")
        return {name: int((folder / name / "id").read_text(encoding="ascii")) for name in names}

    def _complain_of_losses(self) -> None:
        for stats in (self._folder / "per_cpu").glob("cpu*/stats"):
            for line in stats.read_text(encoding="ascii").splitlines():
                key, _, count = line.partition(": ")
                if key in ("overrun", "dropped events") and count.strip() != "0":
                    raise UserError(f"the ring buffer lost {count} events", place=str(stats))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take every probe away again."""
        self._stack.close()


def _pages(path: Path) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            while page := os.read(fd, PAGE):
                yield page.ljust(PAGE, b"\0")
    finally:
        os.close(fd)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("cpu"))


def _has_kprobes(root: Path) -> bool:
    return (root / "kprobe_events").exists()


def _needed() -> str:
    """Return what this host lacks for tracing."""
    if os.geteuid():
        return "run it as root"
    if "[confidentiality]" in _text(_LOCKDOWN):
        return "the kernel is locked down: boot it without lockdown=confidentiality"
    if not any(map(_has_kprobes, PLACES)):
        return "mount -t tracefs none /sys/kernel/tracing, in a kernel with CONFIG_KPROBE_EVENTS"
    return "this needs kprobes and tracefs"


def _text(path: Path) -> str:
    """Return a file's text, empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _append(path: Path, text: str) -> None:
    """Append a line; an error names the file, which one of ``write`` would not."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii") + b"\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)


def _name(probe: str) -> str:
    return probe.split()[0].partition("/")[2]
