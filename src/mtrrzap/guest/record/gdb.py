"""A client for QEMU's gdb stub: breakpoints, stops, registers, memory, one step."""

from time import monotonic

from mtrrzap.guest.record.qemu import GoneError, Machine
from mtrrzap.guest.record.rsp import (
    Deframer,
    ProtocolError,
    Registers,
    Stop,
    frame,
    parse_registers,
    parse_stop,
)

_PATIENCE = 60.0
"""Seconds for the stub to answer."""
_STEP_PATIENCE = 5.0
"""Seconds for one instruction. A vCPU that gets an INIT at that moment halts and never finishes."""
_SETTLE = 2.0
_INTERRUPT = b"\x03"


class Gdb:
    """The stub of a machine. The guest is stopped except between ``resume`` and the next stop."""

    def __init__(self, machine: Machine) -> None:
        """Attach to the stub of a machine started with ``-S``."""
        self._machine = machine
        self._deframer = Deframer()
        self._packets: list[bytes] = []
        self._raw_send = machine.attach("gdb", self._feed)
        self._selected: int | None = None
        self._ack = b""
        self.ask(b"qSupported:vContSupported+")
        # Registers can be written only after the client has asked for their description.
        self.ask(b"qXfer:features:read:target.xml:0,ffb")
        if b"vCont" not in self.ask(b"vCont?"):
            raise ProtocolError("this QEMU's gdb stub cannot step a single vCPU (no vCont)")

    def _feed(self, data: bytes) -> None:
        self._packets += self._deframer.feed(data)

    def _send(self, payload: bytes) -> None:
        # The acknowledgement of the last reply goes with the next command: one that comes while
        # the guest runs would stop it.
        self._raw_send(self._ack + frame(payload))
        self._ack = b"+"

    def ask(self, payload: bytes) -> bytes:
        """Send a command to the stopped guest and return the reply. Stop replies are skipped."""
        self._send(payload)
        until = monotonic() + _PATIENCE
        while True:
            while self._packets:
                packet = self._packets.pop(0)
                if not parse_stop(packet):
                    return packet
            self._machine.turn(until)
            if monotonic() >= until and not self._packets:
                raise GoneError(f"QEMU's gdb stub does not answer ({payload.decode()})")

    def insert_breakpoint(self, address: int) -> None:
        """Stop every vCPU at this linear address, before the instruction there."""
        reply = self.ask(b"Z0,%x,1" % address)
        if reply != b"OK":
            raise ProtocolError(
                f"no breakpoint at {address:#x}: {reply.decode('ascii', 'replace')}"
            )

    def _select(self, vcpu: int) -> None:
        if self._selected != vcpu:
            self.ask(b"Hg%x" % (vcpu + 1))
            self._selected = vcpu

    def registers(self, vcpu: int) -> Registers:
        """Return the registers of a vCPU."""
        self._select(vcpu)
        return parse_registers(self.ask(b"g"))

    def write_register(self, vcpu: int, number: int, value: int) -> None:
        """Set a 64-bit register by its number in GDB's order (``rsp.RIP``, ``rsp.CR0``)."""
        self._select(vcpu)
        reply = self.ask(b"P%x=%s" % (number, value.to_bytes(8, "little").hex().encode()))
        if reply != b"OK":
            raise ProtocolError(
                f"cannot write register {number}: {reply.decode('ascii', 'replace')}"
            )

    def memory(self, vcpu: int, address: int, length: int) -> bytes:
        """Return guest memory at a linear address, as this vCPU sees it; empty if unmapped."""
        self._select(vcpu)
        reply = self.ask(b"m%x,%x" % (address, length))
        if reply.startswith(b"E"):
            return b""
        return bytes.fromhex(reply.decode())

    def resume(self) -> None:
        """Let all vCPUs run; ``stop`` tells when they have stopped."""
        self._send(b"vCont;c")

    def stop(self) -> Stop | None:
        """Return the stop that has come, if one has."""
        while self._packets:
            if stop := parse_stop(self._packets.pop(0)):
                # QEMU makes the vCPU that stopped the selected one.
                self._selected = None
                return stop
        return None

    def settle(self) -> None:
        """Wait for the stop that comes with the guest's end, should it still be under way."""
        self._wait_stop(_SETTLE)

    def step(self, vcpu: int) -> None:
        """Run one instruction of one vCPU, with breakpoints and interrupts held off.

        The caller checks where the vCPU is then: a late stop of another vCPU, or an INIT, may end
        the step before the instruction ran.
        """
        self._send(b"vCont;s:%x" % (vcpu + 1))
        if self._wait_stop(_STEP_PATIENCE) is None:
            self.interrupt()

    def interrupt(self) -> None:
        """Stop the running guest."""
        self._raw_send(_INTERRUPT)
        if self._wait_stop(_PATIENCE) is None:
            raise GoneError("QEMU does not stop the guest when asked to")

    def _wait_stop(self, patience: float) -> Stop | None:
        until = monotonic() + patience
        while (stop := self.stop()) is None:
            if monotonic() >= until:
                return None
            self._machine.turn(until)
        return stop
