"""A client for QEMU's gdb stub: GDB's remote serial protocol as far as the recorder needs it.

The functions and ``Deframer`` turn bytes into packets and do no I/O. ``Gdb`` sets breakpoints,
waits for stops, reads registers and memory, and steps one vCPU.
"""

import re
from time import monotonic
from typing import NamedTuple

from mtrrzap.guest.record.qemu import GoneError, Qemu

# QEMU's 64-bit x86 register order in a 'g' reply (gdb-xml/i386-64bit.xml), in bytes: 16 general
# registers of 8, RIP 8, EFLAGS 4, six selectors of 4, three bases of 8, then CR0, CR2, CR3, CR4,
# CR8 and EFER of 8.
_GPRS = 16
_RIP = 8 * _GPRS
_CR0 = _RIP + 8 + 4 + 6 * 4 + 3 * 8
_EFER = _CR0 + 5 * 8
RIP = 16
CR0 = 27
"""Numbers of single registers in the same order."""
# The encoding of instructions counts RAX RCX RDX RBX RSP RBP RSI RDI, GDB RAX RBX RCX RDX RSI RDI
# RBP RSP.
_GDB_ORDER = (0, 2, 3, 1, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)


class ProtocolError(Exception):
    """The other side does not speak the protocol as expected; the text says where."""


class GdbRegisters(NamedTuple):
    """One vCPU's registers. ``gprs`` are in the order of instruction encodings."""

    gprs: tuple[int, ...]
    rip: int
    """The offset into CS, not the linear address."""
    cr0: int
    efer: int


def parse_registers(reply: bytes) -> GdbRegisters:
    """Decode the reply to ``g``. Raises ``ProtocolError`` if it is an error or too short."""
    try:
        raw = bytes.fromhex(reply.decode("ascii"))
    except ValueError:
        raise ProtocolError(f"not a register packet: {reply[:32]!r}") from None
    if len(raw) < _EFER + 8:
        raise ProtocolError(f"a register packet of {len(raw)} bytes, {_EFER + 8} are needed")

    def word(offset: int) -> int:
        return int.from_bytes(raw[offset : offset + 8], "little")

    gprs = tuple(word(8 * number) for number in _GDB_ORDER)
    return GdbRegisters(gprs, word(_RIP), word(_CR0), word(_EFER))


_CS = re.compile(r"^CS =([0-9a-f]{4}) ([0-9a-f]{8,16}) [0-9a-f]{8} ([0-9a-f]{8})", re.MULTILINE)
_EFER_LINE = re.compile(r"^EFER=([0-9a-f]{16})", re.MULTILINE)
_CS_L = 1 << 21
_LMA = 1 << 10


class CodeSegment(NamedTuple):
    """Base of CS, and whether it is a 64-bit one (where the base does not count)."""

    base: int
    long_mode: bool
    cpl: int
    """The low bits of the selector: the privilege level, if in protected mode."""

    def linear(self, rip: int) -> int:
        """Return the linear address of an offset into the segment."""
        return rip if self.long_mode else self.base + rip & 0xFFFF_FFFF


def parse_cs(text: str) -> CodeSegment:
    """Read CS out of the monitor's ``info registers``."""
    code = _CS.search(text)
    efer = _EFER_LINE.search(text)
    if code is None:
        raise ProtocolError("the monitor's register dump has no CS")
    flags = int(code[3], 16)
    lma = int(efer[1], 16) & _LMA if efer else 0
    selector = int(code[1], 16)
    return CodeSegment(int(code[2], 16), long_mode=bool(lma and flags & _CS_L), cpl=selector & 3)


class Stop(NamedTuple):
    """A stop reply: the signal (5 = breakpoint or step) and the vCPU that it names, if any."""

    signal: int
    vcpu: int | None


def parse_stop(packet: bytes) -> Stop | None:
    """Decode a stop reply, or return None if the packet is something else.

    QEMU numbers threads from 1 in the order of its CPUs.
    """
    if packet[:1] not in (b"T", b"S", b"W", b"X"):
        return None
    try:
        if packet[:1] in (b"W", b"X"):
            return Stop(9, None)
        signal = int(packet[1:3], 16)
        for pair in packet[3:].split(b";"):
            key, _, value = pair.partition(b":")
            if key == b"thread":
                return Stop(signal, int(value.rpartition(b".")[2], 16) - 1)
    except ValueError:
        raise ProtocolError(f"not a stop reply: {packet[:40]!r}") from None
    return Stop(signal, None)


def frame(payload: bytes) -> bytes:
    """Return the packet that carries ``payload`` (plain text without ``$ # }``)."""
    return b"$" + payload + b"#%02x" % (sum(payload) & 0xFF)


class Deframer:
    """Cut a byte stream into packets; acknowledgements are dropped."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that are whole now. Raises ``ProtocolError`` on a bad checksum."""
        self._buffer += data
        packets = []
        while (start := self._buffer.find(b"$")) >= 0:
            end = self._buffer.find(b"#", start)
            if end < 0 or len(self._buffer) < end + 3:
                break
            body = self._buffer[start + 1 : end]
            check = self._buffer[end + 1 : end + 3]
            self._buffer = self._buffer[end + 3 :]
            if check.lower() != b"%02x" % (sum(body) & 0xFF):
                raise ProtocolError(f"a packet with a wrong checksum: {body[:40]!r}")
            packets.append(_unescape(body))
        else:
            self._buffer = b""
        return packets


def _unescape(body: bytes) -> bytes:
    if b"}" not in body:
        return body
    out = bytearray()
    source = iter(body)
    for byte in source:
        out.append(next(source, 0) ^ 0x20 if byte == ord("}") else byte)
    return bytes(out)


_PATIENCE = 60.0
"""Seconds for the stub to answer."""
_STEP_PATIENCE = 5.0
"""Seconds for one instruction. A vCPU that gets an INIT at that moment halts and never finishes."""
_SETTLE = 2.0
_INTERRUPT = b"\x03"


class Gdb:
    """The stub of a machine. The guest is stopped except between ``resume`` and the next stop."""

    def __init__(self, machine: Qemu) -> None:
        """Attach to the stub of a machine started with ``-S``."""
        self._machine = machine
        self._deframer = Deframer()
        self._packets: list[bytes] = []
        self._raw_send = machine.attach("gdb", self._feed)
        self._selected: int | None = None
        self._ack = b""
        self.ask(b"qSupported:vContSupported+")
        # GdbRegisters can be written only after the client has asked for their description.
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

    def registers(self, vcpu: int) -> GdbRegisters:
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
