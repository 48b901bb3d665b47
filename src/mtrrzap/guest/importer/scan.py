"""Read a capture into records: parse only the lines that matter, keep only what changes something.

A small model of each thread's registers drops the accesses that change nothing.
"""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

from mtrrzap.errors import UserError, docs_page
from mtrrzap.guest.importer import event_text, natural
from mtrrzap.guest.importer.event_text import EventLine, parse, vcpu_of_body, vcpu_of_name
from mtrrzap.guest.importer.probes import ProbeReader
from mtrrzap.guest.importer.records import (
    MAX_RECORDS,
    MAX_THREADS,
    Record,
    Seen,
    Thread,
    What,
)
from mtrrzap.guest.importer.search import (
    ENTRY,
    EXIT,
    Absence,
    BadLine,
    Block,
    Blocks,
    Needles,
    before,
    entry_after,
    exit_before,
    line_number,
    reset_before,
    style,
)
from mtrrzap.guest.importer.wrapped import FRAGMENT, rejoined
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86 import msr as m

_WRITTEN = re.compile(rb"^# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})", re.MULTILINE)
_LOST = re.compile(
    rb"\[LOST (?:(\d{1,18}) )?EVENTS\]|\[(?:(\d{1,18}) )?EVENTS DROPPED\]"
    rb"|RECORD_LOST lost (\d{1,18})|\bLost (\d{1,18}) events"
)
_HEAD = 1 << 16
"""Bytes at the start in which a reader's own header is."""
_KEPT = m.MTRR_MSRS | {m.PAT}

_ACCESSES = (b"kvm_msr", b"kvm_cr")
_EVENT = re.compile(rb"[: ]kvm_(?:msr: +(?:msr_|write=)|cr: +(?:cr_|rw=))")

Source = Callable[[], Iterable[bytes]]
"""Begins to read a capture from its start. A second call is made only to number a bad line."""


class Scanner:
    """Read a capture block by block into ``seen``."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._needles: Needles | None = None
        self._owed: dict[int, Record] = {}
        """Records whose entry was not yet seen, by thread."""
        self._absence = Absence()
        self._probes = ProbeReader(self.seen)
        self._with_thread: bool | None = None
        self._pasted = False
        self._done = 0
        """Where the last line that was read ends."""
        self._lost = 0
        self._losses = 0
        self._handlers: dict[bytes, Callable[[Block, int, EventLine], None]] = {
            b"kvm_msr": self._msr,
            b"kvm_cr": self._cr,
            b"kvm_apic_accept_irq": self._accept,
            b"kvm_apic_ipi": self._ipi,
            b"kvm_tdp_mmu_spte_changed": self._spte,
        }

    def read(self, chunks: Iterable[bytes]) -> Seen:
        """Read all. Raises ``BadLine`` at an event that cannot be understood."""
        seen = self.seen
        blocks = Blocks(chunks)
        for block in blocks:
            self._block(block)
            if len(seen.records) >= MAX_RECORDS:
                seen.losses.append(f"only its first {MAX_RECORDS:,} records are kept")
                break
        if blocks.cut:
            seen.losses.append("the capture's last line is cut short")
        if self._losses:
            count = f"{self._lost} events" if self._lost else "events"
            places = "place" if self._losses == 1 else "places"
            seen.losses.append(f"the capture lost {count}, in {self._losses} {places}")
        for record in self._owed.values():
            record.cost_ns = None
        if seen.reader == "perf script":
            self._doubt_times()
        return seen

    def _doubt_times(self) -> None:
        """Give up times that are not in order, which perf script prints with ``--deltatime``."""
        times = [record.time_ns for record in self.seen.records if record.time_ns is not None]
        if any(later < earlier for earlier, later in pairwise(times)):
            self.seen.counted_time = False
            for record in self.seen.records:
                record.cost_ns = None

    @property
    def knows_form(self) -> bool:
        """Whether a reader's form was recognised."""
        return self._needles is not None

    # -- finding

    def _block(self, block: Block) -> None:
        if block.offset == 0:
            self._head(block.data[:_HEAD])
        if self._needles is None:
            self._sniff(block)
        if self._needles is None:
            return
        for tid, record in list(self._owed.items()):
            self._pay(block, block.start, tid, record)
        self._done = block.start
        for position in self._positions(block):
            start, end = block.line_at(position)
            if start < self._done or start == end:
                continue
            self._done = end
            self._hit(block, start, end)
            if len(self.seen.records) >= MAX_RECORDS:
                return

    def _positions(self, block: Block) -> list[int]:
        """Return the positions worth a look; what people paste is small, and may be wrapped."""
        assert self._needles is not None
        found = self._needles.positions(block)
        self._pasted = block.offset == 0 and block.last
        if self._pasted:
            pieces = FRAGMENT.finditer(block.data, block.start, block.end)
            found = sorted({*found, *(piece.start() for piece in pieces)})
        return found

    def _head(self, data: bytes) -> None:
        self.seen.reader = "trace-cmd report" if b"\ncpus=" in b"\n" + data else "ftrace"
        if b"entries-written" not in data:
            return
        for left, written in (map(int, found.groups()) for found in _WRITTEN.finditer(data)):
            if left < written:
                self.seen.start_lost = True
                self.seen.losses.append(
                    f"the ring buffer was overwritten: {left} of {written} events are left"
                )

    def _sniff(self, block: Block) -> None:
        """Learn from the first block with KVM events how the reader prints them."""
        if (found := style(block)) is not None:
            self._needles = Needles(found)
            if found.perf:
                self.seen.reader = "perf script"

    def _hit(self, block: Block, start: int, end: int) -> None:
        line = parse(block.data, start, end)
        # Readers indent their lines; what follows at the margin may belong to this one.
        alone = line is not None and line.tid >= 0 and block.data[end + 1 : end + 2] == b" "
        if line is None or (line.event in _ACCESSES and (self._pasted or not alone)):
            pieces = rejoined(block, start, end, line, pasted=self._pasted)
            if pieces is not None:
                line, self._done = pieces
        if line is not None:
            self._threaded(block, start, line)
            handler = self._handlers.get(line.event)
            if handler is not None:
                handler(block, start, line)
            elif line.body.startswith(b"("):
                self._probe(block, start, line)
        elif (lost := _LOST.search(block.data, start, end)) is not None:
            self._losses += 1
            self._lost += int(next(filter(None, lost.groups()), 0))
            self._forget()
        elif _EVENT.search(block.data, start, end):
            raise _bad(block, start, "a KVM event in an unknown form")

    def _threaded(self, block: Block, start: int, line: EventLine) -> None:
        """Refuse a mixture of lines with and without a thread: they are no reader's."""
        if self._with_thread is None:
            self._with_thread = line.tid >= 0
        elif self._with_thread != (line.tid >= 0):
            what = "names no thread" if line.tid < 0 else "names a thread"
            raise _bad(block, start, f"a line that {what}, unlike others (was it wrapped?)")

    def _probe(self, block: Block, start: int, line: EventLine) -> None:
        problem = self._probes.read(self._thread(block, start, line), line)
        if problem is not None:
            raise _bad(block, start, problem)

    def _spte(self, block: Block, start: int, line: EventLine) -> None:
        self._probes.spte(self._thread(block, start, line), line)

    # -- keeping

    def _forget(self) -> None:
        for thread in self.seen.threads.values():
            thread.forget()

    def _thread(self, block: Block, start: int, line: EventLine) -> Thread:
        threads = self.seen.threads
        thread = threads.get(line.tid)
        if thread is None:
            if len(threads) >= MAX_THREADS:
                raise _bad(block, start, f"more than {MAX_THREADS:,} vCPU threads")
            thread = threads[line.tid] = Thread(line.tid)
        thread.name = line.name or thread.name
        thread.tgid = line.tgid if line.tgid is not None else thread.tgid
        return thread

    def _keep(
        self, block: Block, start: int, line: EventLine, thread: Thread, record: Record
    ) -> None:
        if vcpu_of_name(thread.name) is None:
            for needle in (EXIT, ENTRY):
                near = self._absence.near(block, start, needle)
                found = before(block, start, line.tid, needle) if near else None
                number = vcpu_of_body(found[0].body) if found else None
                thread.vcpu = thread.vcpu if number is None else number
        record.vcpu = thread.vcpu
        self.seen.counted_time = self.seen.counted_time and line.time_ns is not None
        self.seen.records.append(record)

    def _msr(self, block: Block, start: int, line: EventLine) -> None:
        access = event_text.msr(line.body)
        if access is None:
            raise _bad(block, start, "a malformed kvm_msr")
        if access.number not in _KEPT:
            return
        thread = self._thread(block, start, line)
        thread.cr0_write = None
        if access.write and (told := thread.told) is not None:
            thread.told = None
            if (told.number, told.value) == (access.number, access.value):
                told.refused = access.refused
                self._measure(block, start, line, told)
                return
        known = thread.msrs.get(access.number)
        if not access.write and (access.refused or access.value == known):
            return
        if not access.refused:
            thread.msrs[access.number] = access.value
        what = What.WRITE if access.write else What.READ
        record = Record(what, line.tid, line.time_ns, access.number, access.value, access.refused)
        self._keep(block, start, line, thread, record)
        if access.write and not access.refused and access.number != m.PAT:
            if thread.early is not None:
                thread.early.cause, thread.early = record, None
            self._measure(block, start, line, record)

    def _measure(self, block: Block, start: int, line: EventLine, record: Record) -> None:
        if record.refused or record.number == m.PAT:
            return
        near = self._absence.near(block, start, EXIT)
        left = exit_before(block, start, line.tid) if near else None
        if (unpaid := self._owed.pop(line.tid, None)) is not None:
            unpaid.cost_ns = None
        if left is None or left.time_ns is None:
            return
        record.cost_ns = -left.time_ns
        self._pay(block, start, line.tid, record)

    def _pay(self, block: Block, start: int, tid: int, record: Record) -> None:
        """Look for the entry that ends a measured write; until then the cost is minus its exit."""
        entry, later = entry_after(block, start, tid)
        self._owed.pop(tid, None)
        if entry is not None and entry.time_ns is not None:
            assert record.cost_ns is not None
            cost = entry.time_ns + record.cost_ns
            record.cost_ns = cost if cost >= 0 else None
        elif later and len(self._owed) < MAX_THREADS:
            self._owed[tid] = record
        else:
            record.cost_ns = None

    def _cr(self, block: Block, start: int, line: EventLine) -> None:
        access = event_text.cr(line.body)
        if access is None:
            raise _bad(block, start, "a malformed kvm_cr")
        if access.number != 0:
            return
        thread = self._thread(block, start, line)
        self.seen.cr0_events += 1
        paging = bool(access.value & cr0_rules.PG)
        if not paging and thread.paging is not False:
            self._reset(block, start, line, thread)
        thread.paging = paging
        thread.cr0_told = access.value if access.write else None
        thread.cr0_write = None
        if thread.cr0 is not None and not (thread.cr0 ^ access.value) & cr0_rules.CD_NW:
            return
        if not access.write and access.value == cr0_rules.RESET:
            self._forget()
        thread.cr0 = access.value
        what = What.WRITE_CR0 if access.write else What.READ_CR0
        record = Record(what, line.tid, line.time_ns, 0, access.value)
        self._keep(block, start, line, thread, record)
        thread.cr0_write = record if access.write else None

    def _reset(self, block: Block, start: int, line: EventLine, thread: Thread) -> None:
        """Note the entry at the reset vector that led to a CR0 access with paging off, if any."""
        entry = reset_before(block, start, line.tid)
        if entry is not None and entry.time_ns != thread.reset_ns:
            self._forget()
            thread.cr0 = cr0_rules.RESET
            thread.reset_ns = entry.time_ns
            self._keep(block, start, line, thread, Record(What.RESET, line.tid, entry.time_ns))

    def _accept(self, block: Block, start: int, line: EventLine) -> None:
        init = event_text.accepted(line.body)
        if init is None:
            return
        thread = self._thread(block, start, line)
        # KVM prints the de-assert of a level-triggered INIT too, and then ignores it.
        ends = thread.deassert if self.seen.ipi_events else init.apic in thread.half_init
        if init.level and ends:
            thread.half_init.discard(init.apic)
            return
        if init.level and len(thread.half_init) < MAX_THREADS:
            thread.half_init.add(init.apic)
        self._keep(block, start, line, thread, Record(What.INIT, line.tid, line.time_ns, init.apic))

    def _ipi(self, block: Block, start: int, line: EventLine) -> None:
        init = event_text.ipi(line.body)
        if init is None:
            return
        thread = self._thread(block, start, line)
        self.seen.ipi_events = True
        thread.deassert = init.deassert
        if init.physical and not init.deassert:
            record = Record(What.INIT_IPI, line.tid, line.time_ns, init.dst, int(init.to))
            self._keep(block, start, line, thread, record)


def _bad(block: Block, start: int, problem: str) -> BadLine:
    line = block.data[start : min(block.line_at(start)[1], start + 160)]
    shown = line.decode("utf-8", "replace").strip()
    return BadLine(block.offset + start - block.start, f"{problem}: {shown!r}")


def _read(source: Source) -> Seen:
    """Read a capture; one in which no reader's form is found may be a bpftrace one-liner's."""
    scanner = Scanner()
    try:
        seen = scanner.read(source())
    except BadLine:
        if not natural.in_json(source()):
            raise
    else:
        if seen.records or scanner.knows_form or not natural.begins(source()):
            return seen
    seen = Scanner().read(natural.in_ftraces_form(source()))
    seen.reader = "bpftrace"
    return seen


def scan(source: Source, name: str) -> Seen:
    """Return what a capture holds; ``name`` is used in errors only.

    Raises ``UserError`` at an event that cannot be understood, and if there is no access to an MTRR
    or to CR0.
    """
    try:
        seen = _read(source)
    except BadLine as bad:
        number = line_number(source(), bad.offset)
        raise UserError(
            str(bad),
            place=f"{name}:{number}" if number else f"{name}, byte {bad.offset}",
            mend="delete the line if it is damaged; the forms that are read are in "
            f"{docs_page('capture')}",
        ) from None
    if not seen.records:
        raise UserError(
            "no guest access to an MTRR or to CR0 found",
            place=f"{name}:1",
            mend="capture kvm:kvm_msr and kvm:kvm_cr while the guest boots, see "
            f"{docs_page('capture')}",
        )
    return seen
