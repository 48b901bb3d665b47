"""A whole recording: the survey, then passes until one of them misses nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from mtrrzap import __version__
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event
from mtrrzap.guest.files import moved, partial, replacing
from mtrrzap.guest.record.asmlog import other_pages
from mtrrzap.guest.record.breakpoint_pass import BreakpointPass, NewAddressesError
from mtrrzap.guest.record.gdb import ProtocolError
from mtrrzap.guest.record.qemu import GoneError, Qemu, StoppedError, StopRequest
from mtrrzap.guest.record.qmp import Qmp, QmpError
from mtrrzap.guest.record.settings import (
    Progress,
    RecordOptions,
    check,
    kernel_command_line,
    qemu_command,
)
from mtrrzap.guest.record.survey import (
    Survey,
    hardware,
    name_firmware,
    run_survey,
    unknown_hardware,
    watch_console,
)
from mtrrzap.guest.record.tracker import (
    HOST_WRITES,
    PUT,
    PUTS_AT_RESET,
    PUTS_AT_START,
    Tracker,
)
from mtrrzap.guest.trace import Header, Trace, Writer, dumps

MAX_PASSES = 5
"""Passes with breakpoints before an instruction that still turns up is only noted."""
MAX_PROBLEMS = 3
"""Problems that the closing line of a trace tells; more of the same kind say no more."""
ENDINGS = (GoneError, StoppedError, QmpError, ProtocolError)
"""What can end a pass early, each with a text that says why."""
INIT_NOTE = (
    "TCG's INIT also resets the MTRRs and IA32_PAT, which KVM preserves: after an INIT, a guest "
    "that writes only what differs repeats writes that it would not make on KVM"
)
_STANDARD_ERROR = 2
MAX_RANGES = 1000
"""Ranges in QEMU's log filter, which it searches one by one."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a recording ended. ``incomplete`` is why the trace is not whole, or None."""

    header: Header
    events: int
    passes: int
    stops: int
    incomplete: str | None
    output: Path
    """The trace: where it was asked for, or the part if it is incomplete and a file was there."""


class _Session:
    def __init__(self, options: RecordOptions, stop: StopRequest, progress: Progress) -> None:
        self.options = options
        self.stop = stop
        self.progress = progress
        self.put = PUT if options.host_writes else ()
        self.part = partial(options.output)
        self.notes: list[str] = []
        self.passes = 0
        self.written = 0
        self.console: bytes | None = None
        """What the guest printed in the last pass."""
        if options.kernel is not None and (note := kernel_command_line(options.append)[1]):
            self.notes.append(note)

    # ---- QEMU

    @contextmanager
    def qemu(self, known: Survey | None = None) -> Iterator[tuple[Qemu, Qmp]]:
        """Start QEMU and connect. Raises ``UserError`` if it does not start.

        With the findings of a survey it has the gdb stub, and logs only the pages in which the
        survey saw no code: with a log of everything each stop is so slow that OVMF only runs from
        one timer tick to the next.
        """
        ranges = other_pages(known.pages, MAX_RANGES) if known else []
        command = qemu_command(self.options)
        try:
            machine = Qemu(command, self.stop, debug=known is not None, log_ranges=ranges)
        except OSError as error:
            raise UserError(
                f"cannot run {self.options.qemu}: {error.strerror}",
                place="qemu",
                mend="name a QEMU 7.2 or newer for x86_64 guests",
            ) from error
        with machine:
            try:
                qmp = Qmp(machine)
            except (GoneError, ValueError) as error:
                raise UserError(
                    f"QEMU did not start ({machine.how_it_ended()})",
                    place=self.options.qemu,
                    mend="fix the settings, or QEMU's extra arguments",
                ) from error
            yield machine, qmp

    # ---- pass 1

    def survey(self) -> tuple[Survey, str | None]:
        """Run pass 1; return what it found, and why the recording cannot go on, or None."""
        self.progress.phase = "pass 1: looking for instructions"
        found = unknown_hardware(self.options)
        reason = None
        try:
            with self.qemu() as (machine, qmp):
                self.ask_hardware(qmp, found)
                self.write_stub(found, "the recorder was killed during pass 1")
                try:
                    run_survey(machine, qmp, found, self.options.timeout, self.progress)
                finally:
                    name_firmware(machine, found, self.options.firmware)
        except ENDINGS as error:
            reason = f"pass 1: {error}"
        if found.vcpus > 1:
            self.notes.append(INIT_NOTE)
        if found.problem:
            self.notes.append(f"pass 1: {found.problem}")
        return found, reason

    def ask_hardware(self, qmp: Qmp, found: Survey) -> None:
        """Let QEMU say what the guest is; refuse what cannot be recorded."""
        try:
            if qmp.execute("query-kvm")["enabled"]:
                raise UserError(
                    "the guest runs on KVM",
                    place="extra",
                    mend="leave out what selects KVM; the recorder needs TCG",
                )
            hardware(qmp, found)
        except (QmpError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"QEMU does not describe the guest ({error})",
                place=self.options.qemu,
                mend="name a qemu-system-x86_64 of version 7.2 or newer",
            ) from error

    # ---- later passes

    def capture(self, found: Survey) -> str | None:
        """Repeat the boot with breakpoints until nothing is missed; return why not, or None."""
        while True:
            self.passes += 1
            self.progress.phase = f"pass {self.passes + 1}: recording"
            self.progress.events = self.progress.stops = 0
            with self.trace_file() as stream:
                writer = Writer(stream, self.header(found))
                tracker = Tracker(found.vcpus, self.put, self.emitter(writer))
                tracker.reset(PUTS_AT_START)
                try:
                    reason = self.one_pass(found, tracker)
                except NewAddressesError:
                    writer.end("the pass was repeated")
                    continue
                except (*ENDINGS, UserError) as error:
                    reason = str(error)
                reasons = [*([reason] if reason else []), *tracker.problems[:MAX_PROBLEMS]]
                writer.end("; ".join(reasons) or None)
                self.written = writer.count
                return "; ".join(reasons) or None

    def emitter(self, writer: Writer) -> Callable[[Event], None]:
        """Return what takes an event to the trace and to the display."""

        def emit(event: Event) -> None:
            writer.write(event)
            self.progress.events += 1
            self.progress.seen.add(event.vcpu)

        return emit

    def one_pass(self, found: Survey, tracker: Tracker) -> str | None:
        """Record one boot; return why the guest did not come to its own end, or None."""
        with self.qemu(found) as (machine, qmp):
            watch_console(machine, self.progress)
            try:
                capture = BreakpointPass(
                    machine,
                    qmp,
                    tracker,
                    self.progress,
                    vcpus=found.vcpus,
                    puts_at_reset=PUTS_AT_RESET,
                )
                capture.last_try = self.passes >= MAX_PASSES
                return capture.run(found.addresses, self.options.timeout)
            except NewAddressesError:
                found.addresses |= machine.log.addresses
                found.pages |= machine.log.pages
                raise
            finally:
                self.console = bytes(machine.console)

    def save_console(self) -> None:
        """Write what the guest printed, if the user wants it and a pass has begun.

        The trace has its end by then, so only the console can be lost here.
        """
        if self.options.console is not None and self.console is not None:
            with replacing(self.options.console) as stream:
                stream.write(self.console)

    def give_up(self) -> None:
        """Save what can be saved where the trace cannot be written."""
        with suppress(OSError):
            self.save_console()
        with suppress(OSError):
            if self.part.stat().st_size == 0:
                self.part.unlink()

    # ---- the trace

    def header(self, found: Survey) -> Header:
        """Return the header as far as it is known."""
        return Header(
            firmware=found.firmware,
            guest_kernel=found.kernel,
            vcpus=found.vcpus,
            memory=found.memory,
            maxphyaddr=found.maxphyaddr,
            machine=found.machine,
            recorder=f"mtrrzap {__version__}, QEMU {found.qemu}, TCG",
            date=datetime.now(UTC).date().isoformat(),
            command=self.options.command,
            host_writes=HOST_WRITES if self.put else "none",
            memslots=found.memslots,
            notes=tuple(self.notes),
        )

    @contextmanager
    def trace_file(self) -> Iterator[TextIO]:
        """Open the part, empty; each line is written at once, and all are on disk at the end."""
        # A file's name need not be UTF-8, and may turn up in the command line and in errors.
        with self.part.open(
            "w", encoding="utf-8", errors="backslashreplace", buffering=1
        ) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())

    def finish(self, reason: str | None) -> Path:
        """Give the trace its name, unless it is incomplete and a file is there; return its path."""
        output = self.options.output
        if reason is not None and output.exists():
            return self.part
        moved(self.part, Path(os.path.realpath(output)))
        return output

    def write_stub(self, found: Survey, reason: str) -> None:
        """Write a trace of the power-on alone."""
        events: list[Event] = []
        Tracker(found.vcpus, self.put, events.append).reset(PUTS_AT_START)
        with self.trace_file() as stream:
            stream.write(dumps(Trace(self.header(found), tuple(events), reason)))
        self.written = len(events)


def _unwritten(error: OSError, place: object, more: str = "") -> UserError:
    problem, mend = (
        f"cannot write: {error.strerror}{more}",
        "free some space, or choose another place",
    )
    return UserError(problem, place=str(place), mend=mend)


def _open_standard_files() -> None:
    """Put /dev/null where standard input, output or error are closed.

    A channel that took such a number would be replaced in QEMU by its own standard files.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(fd)


def record(options: RecordOptions, progress: Progress | None = None) -> Recorded:
    """Record a guest as ``options`` say. The trace is valid however the recording ends.

    It is written to ``OUTPUT.part``, which becomes the output at the end. A file that is there
    already is only replaced by a complete trace. Killed, the recorder leaves the part.

    ``progress`` is kept up to date meanwhile, for a display in another thread.

    Raises ``UserError`` if it cannot begin, or if the trace cannot be written.
    """
    _open_standard_files()
    check(options)
    progress = progress or Progress()
    with StopRequest() as stop:
        session = _Session(options, stop, progress)
        try:
            found, reason = session.survey()
            if reason is not None:
                session.write_stub(found, reason)
            else:
                reason = session.capture(found)
            output = session.finish(reason)
        except OSError as error:
            session.give_up()
            raise _unwritten(error, error.filename or session.part) from error
        try:
            session.save_console()
        except OSError as error:
            state = f"incomplete: {reason}" if reason else "complete"
            kept = f"; the trace {output} is kept, with {session.written} events, {state}"
            raise _unwritten(error, options.console, kept) from error
        return Recorded(
            session.header(found), session.written, session.passes, progress.stops, reason, output
        )
