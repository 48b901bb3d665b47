"""A plan's test guest on /dev/kvm: it checks that each event causes the right exit."""

from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.live import guest
from mtrrzap.live import ioctl as k
from mtrrzap.live import memory as m
from mtrrzap.live.guest import GuestOp, TableEntry
from mtrrzap.live.plan import Item, Plan
from mtrrzap.live.target import WARM_UPS
from mtrrzap.live.turns import RunStoppedError
from mtrrzap.live.vcpu import BrokenVcpuError, KickedError
from mtrrzap.live.vm import LiveVm
from mtrrzap.x86 import cr0

_PORTS = {guest.BELL: "a write of CR0", guest.PROTECTION: "#GP"}


class OnKvm(LiveVm):
    """The test guest in a real VM."""

    def __init__(self, plan: Plan, memory: int, touch: int, *, huge: bool = False) -> None:
        """Build it with so many bytes. Raises ``UserError``."""
        tables = [
            [*[TableEntry(GuestOp.SET_CD_NW, 0, bits)] * WARM_UPS, *table]
            for bits, table in zip(plan.cd_nw, plan.tables(), strict=True)
        ]
        self._cd_nw = plan.cd_nw
        self._rounds = [len(table) + 1 for table in tables]  # one before each entry, one to halt
        where = guest.layout(memory, [len(table) for table in tables], touch)
        super().__init__(where, tables, plan.cd_nw, huge=huge)

    def warm(self, vcpu: int) -> None:
        """Run to the next bell."""
        self._bell(vcpu, self._cd_nw[vcpu])

    def perform(self, vcpu: int, item: Item, state: Vcpu) -> None:  # noqa: ARG002
        """Run to the exit of an event. Raises ``BrokenVcpuError`` if another exit comes."""
        if item.entry is None:
            return
        op, msr, value = item.entry
        if op is GuestOp.SET_CD_NW:
            self._bell(vcpu, value)
        elif op is GuestOp.MOV_CR0:
            self._port(vcpu, guest.PROTECTION)
        else:
            self._wrmsr(vcpu, msr, value)
            self.vcpus[vcpu].state.exit.msr.error = int(item.refused)
            if item.refused:
                self._port(vcpu, guest.PROTECTION)

    def finish(self, vcpu: int) -> None:
        """Run to HLT."""
        if (reason := self._run(vcpu)) != k.Exit.HLT:
            raise self._unexpected(vcpu, "HLT", reason)

    def _run(self, vcpu: int) -> int:
        try:
            return self.vcpus[vcpu].run()
        except KickedError as error:
            raise RunStoppedError from error

    def _wrmsr(self, vcpu: int, msr: int, value: int) -> None:
        reason = self._run(vcpu)
        seen = self.vcpus[vcpu].state.exit.msr
        if reason != k.Exit.X86_WRMSR or (seen.index, seen.data) != (msr, value):
            raise self._unexpected(vcpu, f"WRMSR of {value:#x} to {msr:#x}", reason)

    def _bell(self, vcpu: int, bits: int) -> None:
        self._port(vcpu, guest.BELL)
        seen = int(self.vcpus[vcpu].state.sregs.cr0)
        if seen & cr0.CD_NW != bits:
            raise BrokenVcpuError(
                f"vCPU {vcpu}: CR0 is {seen:#x} after a write of {bits:#x} to CD and NW"
            )

    def _port(self, vcpu: int, port: int) -> None:
        reason = self._run(vcpu)
        if reason != k.Exit.IO or self.vcpus[vcpu].state.exit.io.port != port:
            raise self._unexpected(vcpu, _PORTS[port], reason)

    def _unexpected(self, vcpu: int, wanted: str, reason: int) -> BrokenVcpuError:
        mine = self.vcpus[vcpu]
        seen = k.Exit(reason).name
        if reason == k.Exit.IO:
            seen = _PORTS.get(mine.state.exit.io.port, "OUT to another port")
            if mine.state.exit.io.port == guest.PANIC:
                seen = f"exception {mine.state.regs.rax & 0xFF}"
        elif reason == k.Exit.X86_WRMSR:
            seen = f"WRMSR of {mine.state.exit.msr.data:#x} to {mine.state.exit.msr.index:#x}"
        return BrokenVcpuError(mine.dump(f"{seen} instead of {wanted}"))

    def lost(self) -> list[str]:
        """Compare every data page with what it must contain."""
        return list(m.lost(self.memory.view, self.where, self._rounds))
