"""A later pass: run the guest with a breakpoint on each instruction found, and record events."""

from collections.abc import Set as AbstractSet
from time import monotonic

from mtrrzap.guest.record.gdb import CR0, RIP, CodeSegment, Gdb, GdbRegisters, parse_cs
from mtrrzap.guest.record.insn import MAX_LENGTH, Insn, Mnemonic, decode
from mtrrzap.guest.record.qemu import Qemu
from mtrrzap.guest.record.qmp import Qmp
from mtrrzap.guest.record.settings import Progress
from mtrrzap.guest.record.tracker import Tracker, split_resets

_RCX, _RAX, _RDX = 1, 0, 2
_LMA = 1 << 10
_FLAT = 1 << 32
_HARMLESS = 1 << 16 | 0b1110
"""CR0.WP, TS, EM and MP: a write that changes only these has no effect beyond the register."""
_LOW32 = 0xFFFF_FFFF
_LOW64 = 0xFFFF_FFFF_FFFF_FFFF


class NewAddressesError(Exception):
    """The guest ran instructions that no breakpoint caught: the pass must be repeated."""


class BreakpointPass:
    """One pass with breakpoints."""

    def __init__(
        self,
        machine: Qemu,
        qmp: Qmp,
        tracker: Tracker,
        progress: Progress,
        *,
        vcpus: int,
        puts_at_reset: int,
    ) -> None:
        """Attach to the stub of a machine that has not started running."""
        self._machine = machine
        self._qmp = qmp
        self._gdb = Gdb(machine)
        self._tracker = tracker
        self._progress = progress
        self._vcpus = vcpus
        self._puts_at_reset = puts_at_reset
        self._sites: set[int] = set()
        self.last_try = False
        """Keep going when an unknown instruction turns up, and note it as a problem."""

    def run(self, addresses: AbstractSet[int], limit: float) -> str | None:
        """Run the guest to its end; return None, or why it did not come to its own end.

        Raises ``NewAddressesError`` if instructions turn up that are not in ``addresses``,
        ``GoneError`` if QEMU ends, and ``StoppedError``.
        """
        self._breakpoints(addresses)
        self._machine.drain_log()
        self._machine.log.take_resets()
        until = monotonic() + limit
        self._gdb.resume()
        while True:
            stop = self._gdb.stop()
            if self._qmp.ending() is not None:
                if stop is None:
                    self._gdb.settle()
                break
            if stop is None:
                self._machine.turn(until)
                self._check_sites()
                if monotonic() >= until:
                    self._gdb.interrupt()
                    break
                continue
            self._catch_up()
            self._check_sites()
            if stop.vcpu is not None:
                self._at_stop(stop.vcpu)
            self._gdb.resume()
        return self._finish(limit)

    def _finish(self, limit: float) -> str | None:
        """Place what is left, check every vCPU, and return why the guest did not power off."""
        self._catch_up()
        self._check_sites()
        self._check_all()
        ending = self._qmp.ending()
        if ending is None:
            return f"the time limit of {limit:g} s was reached"
        return None if ending == "SHUTDOWN" else f"QEMU reported {ending}"

    def _breakpoints(self, addresses: AbstractSet[int]) -> None:
        for address in sorted(addresses - self._sites):
            self._gdb.insert_breakpoint(address)
            self._sites.add(address)
        self._progress.sites = len(self._sites)

    def _check_sites(self) -> None:
        fresh = [a for a in self._machine.log.take_addresses() if a not in self._sites]
        if not fresh:
            return
        if not self.last_try:
            raise NewAddressesError
        self._tracker.problems.append(
            f"an instruction at {fresh[0]:#x} turned up that no earlier pass had seen "
            "(is the kernel's address random?)"
        )
        self._sites.update(fresh)

    # ---- resets

    def _catch_up(self) -> None:
        """Place the resets that the log tells of; the guest is stopped."""
        self._machine.drain_log()
        resets = self._machine.log.take_resets()
        if not resets:
            return
        # Once QEMU has answered a command, all its events from before have arrived.
        self._qmp.execute("query-status")
        parts = split_resets(resets, self._vcpus, self._qmp.take("RESET"))
        if parts is None:
            self._tracker.problems.append("a machine reset could not be placed")
            return
        for part in parts:
            if part is None:
                self._tracker.reset(self._puts_at_reset)
            else:
                self._tracker.init(part)

    def _check_all(self) -> None:
        """At the end: does every vCPU's CR0 agree with what was recorded?"""
        for vcpu in range(self._vcpus):
            self._tracker.observe(vcpu, self._gdb.registers(vcpu).cr0)

    # ---- stops

    def _segment(self, vcpu: int, regs: GdbRegisters) -> CodeSegment:
        """Return base and mode of the code segment, which GDB's registers do not tell."""
        if regs.efer & _LMA and regs.rip >= _FLAT:
            return CodeSegment(0, long_mode=True, cpl=0)
        return parse_cs(self._qmp.monitor("info registers", vcpu))

    def _at_stop(self, vcpu: int) -> None:
        self._progress.stops += 1
        regs = self._gdb.registers(vcpu)
        segment = self._segment(vcpu, regs)
        linear = segment.linear(regs.rip)
        if linear not in self._sites:
            # A second vCPU's stop, reported late: that vCPU will stop again at its breakpoint.
            self._tracker.observe(vcpu, regs.cr0)
            return
        code = self._code(vcpu, linear)
        insn = decode(code, long_mode=segment.long_mode)
        self._tracker.observe(vcpu, regs.cr0)
        mask = _LOW64 if segment.long_mode else _LOW32
        if insn is not None and self._skip(vcpu, insn, regs, segment):
            return
        self._gdb.step(vcpu)
        if insn is not None:
            self._executed(vcpu, insn, regs, mask)

    def _skip(self, vcpu: int, insn: Insn, regs: GdbRegisters, segment: CodeSegment) -> bool:
        """Do a MOV to CR0 for the guest if it can change neither CD and NW nor the mode.

        OVMF toggles CR0.WP a thousand times. Each stop makes QEMU drop all translated code, and a
        step is one more stop.
        """
        if insn.op is not Mnemonic.MOV_CR0 or not segment.long_mode or segment.cpl:
            return False
        value = regs.gprs[insn.source]
        if (value ^ regs.cr0) & ~_HARMLESS:
            return False
        self._gdb.write_register(vcpu, CR0, value)
        self._gdb.write_register(vcpu, RIP, regs.rip + insn.length)
        return True

    def _code(self, vcpu: int, linear: int) -> bytes:
        """Read the instruction's bytes, without the next page if that is unmapped."""
        to_page_end = 0x1000 - (linear & 0xFFF)
        code = self._gdb.memory(vcpu, linear, min(MAX_LENGTH, to_page_end))
        if to_page_end < MAX_LENGTH:
            code += self._gdb.memory(vcpu, linear + to_page_end, MAX_LENGTH - to_page_end)
        return code

    def _executed(self, vcpu: int, insn: Insn, before: GdbRegisters, mask: int) -> None:
        after = self._gdb.registers(vcpu)
        ran = (after.rip - before.rip) & 0xFFFF == insn.length
        if after.rip == before.rip or self._was_reset(vcpu):
            return
        if insn.op is Mnemonic.WRMSR:
            value = (before.gprs[_RDX] & _LOW32) << 32 | before.gprs[_RAX] & _LOW32
            msr = before.gprs[_RCX] & _LOW32
            self._tracker.wrmsr(vcpu, msr, value, refused=not ran)
        elif ran:
            self._tracker.cr0(vcpu, before.cr0, before.gprs[insn.source] & mask)
            self._tracker.observe(vcpu, after.cr0)

    def _was_reset(self, vcpu: int) -> bool:
        """Whether an INIT overtook the step; it stays in the log for ``_catch_up``."""
        self._machine.drain_log()
        return vcpu in self._machine.log.resets
