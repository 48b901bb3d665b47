"""GDB's remote protocol: packets in and out, registers, stops."""

import pytest

from mtrrzap.guest.record.gdb import (
    Deframer,
    ProtocolError,
    Stop,
    frame,
    parse_registers,
    parse_stop,
)


def test_frame() -> None:
    assert frame(b"g") == b"$g#67"
    assert frame(b"vCont;s:1") == b"$vCont;s:1#23"


def test_deframer_takes_any_pieces() -> None:
    stream = b"+$OK#9a+$T05thread:02;#08"
    for cut in range(len(stream)):
        deframer = Deframer()
        packets = deframer.feed(stream[:cut]) + deframer.feed(stream[cut:])
        assert packets == [b"OK", b"T05thread:02;"]


def test_deframer_undoes_escapes() -> None:
    body = b"a}\x03b"
    assert Deframer().feed(b"$" + body + b"#%02x" % (sum(body) & 0xFF)) == [b"a#b"]


def test_a_wrong_checksum() -> None:
    with pytest.raises(ProtocolError, match="checksum"):
        Deframer().feed(b"$OK#00")


@pytest.mark.parametrize(
    ("packet", "stop"),
    [
        (b"T05thread:01;", Stop(5, 0)),
        (b"T05thread:10;", Stop(5, 15)),
        (b"T02thread:p01.02;", Stop(2, 1)),
        (b"T05", Stop(5, None)),
        (b"S05", Stop(5, None)),
        (b"W00", Stop(9, None)),
        (b"OK", None),
        (b"E14", None),
        (b"", None),
    ],
)
def test_parse_stop(packet: bytes, stop: Stop | None) -> None:
    assert parse_stop(packet) == stop


def test_a_stop_of_nonsense() -> None:
    with pytest.raises(ProtocolError):
        parse_stop(b"T0xthread:zz;")


def test_registers() -> None:
    """Each field has its own number, so that a wrong offset shows."""
    words = [*range(0x100, 0x110), 0xFFF0]
    raw = b"".join(word.to_bytes(8, "little") for word in words)
    raw += b"\2\0\0\0" + bytes(range(24)) + bytes(24)
    raw += b"".join(word.to_bytes(8, "little") for word in (0x60000010, 2, 3, 4, 8, 0x500))
    regs = parse_registers((raw + bytes(100)).hex().encode())
    # GDB: RAX RBX RCX RDX RSI RDI RBP RSP; instructions: RAX RCX RDX RBX RSP RBP RSI RDI.
    assert regs.gprs[:8] == (0x100, 0x102, 0x103, 0x101, 0x107, 0x106, 0x104, 0x105)
    assert regs.gprs[8:] == tuple(range(0x108, 0x110))
    assert (regs.rip, regs.cr0, regs.efer) == (0xFFF0, 0x60000010, 0x500)


@pytest.mark.parametrize("reply", [b"E01", b"00", b"xx", b""])
def test_registers_of_nonsense(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_registers(reply)
