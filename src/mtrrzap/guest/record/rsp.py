"""GDB's remote serial protocol as far as QEMU's stub needs it: bytes in, packets out, no I/O."""

from typing import NamedTuple

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


class Registers(NamedTuple):
    """One vCPU's registers. ``gprs`` are in the order of instruction encodings."""

    gprs: tuple[int, ...]
    rip: int
    """The offset into CS, not the linear address."""
    cr0: int
    efer: int


def parse_registers(reply: bytes) -> Registers:
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
    return Registers(gprs, word(_RIP), word(_CR0), word(_EFER))


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
        """Start with an empty buffer."""
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
