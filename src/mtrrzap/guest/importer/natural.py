"""Accesses as a bpftrace one-liner may print them, turned into ftrace's form.

A line has the tracepoint's fields by name (``write=1 ecx=0x2ff data=0xc06``), or a verb, the
register and its value (``wrmsr 0x2ff 0xc06``, ``cr0 write 0x11``, ``MSR: 0x2ff Value: 0xc06 Mode:
WRITE``). Beside it there may be the thread's name and number, the host's CPU and a time, by name
(``tid=151 cpu=1 nsecs=26930000000``) or as ``[001]``, ``151`` and ``26.930000``. Registers and
values are hex.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from mtrrzap.guest.importer.event_text import parse
from mtrrzap.guest.importer.search import BadLine

_WORD = re.compile(
    rb"\b(?:(?:wr|rd)msr|msr_(?:write|read)|(?:write|read)_?(?:msr|cr0?)|cr0?_(?:write|read)|cr0"
    rb"|kvm_(?:msr|cr|entry|exit)|ecx|msr)\b",
    re.IGNORECASE,
)
"""One of them is in every access."""
_DIGIT = re.compile(rb"\d")
_BESIDE = re.compile(rb"\s*(?:$|#|@|\^C|Attach|Tracing|Lost \d|\{\"type\": \"(?!printf))")
"""What bpftrace prints beside: any other line may be a piece of an access."""
_HEADING = re.compile(rb"[^\d/]*[^\w\s][^\d/]*")
"""A line before the first access, with no number, and more than a word."""
_NAME = re.compile(rb"CPU \d{1,6}/KVM|(?:\w+_)?vcpu[ _-]?\d{1,6}\b|kvm-vcpu-\d{1,6}|EMT-\d{1,6}")
_PAIR = re.compile(
    rb"\b(?P<key>write|rw|ecx|msr|index|reg|data|value|val|cr|exception|mode|tid|pid|cpu|nsecs|time"
    rb"|ts|comm|vcpu(?:_id)?|rip)(?:\s*[=:]\s*|(?:(?<=msr)|(?<=tid)|(?<=pid)|(?<=cpu))\s+(?=\d))(?P<value>[^\s,;]+)",
    re.IGNORECASE,
)
_SAME = {
    b"rw": b"write",
    b"mode": b"write",
    b"msr": b"ecx",
    b"index": b"ecx",
    b"reg": b"ecx",
    b"val": b"data",
    b"value": b"data",
    b"pid": b"tid",
    b"time": b"nsecs",
    b"ts": b"nsecs",
    b"vcpu_id": b"vcpu",
}
_WRITE = re.compile(rb"\bwrmsr\b|write|<-|^1$", re.IGNORECASE)
_READ = re.compile(rb"\brdmsr\b|read|->|^0$", re.IGNORECASE)
_NUMBER = re.compile(rb"\b(?:0x)?[0-9a-f]+\b", re.IGNORECASE)
_CPU = re.compile(rb"\[(\d{1,6})\]")
_TIME = re.compile(rb"\b\d+\.\d{1,9}\b|\b\d{11,20}\b")
_VERBS = re.compile(
    rb"\b(?:(?:wr|rd)msr|msr_(?:write|read)|(?:write|read)[_ ]?msr|kvm_msr"
    rb"|(?P<cr>cr_(?:write|read)|kvm_cr|(?P<zero>cr0(?:_(?:write|read))?|(?:write|read)[_ ]?cr0))"
    rb"|write|read)\b",
    re.IGNORECASE,
)


def in_json(chunks: Iterable[bytes]) -> bool:
    """Tell if a capture is what ``bpftrace -f json`` prints."""
    return bytes(next(iter(chunks), b"")[:9]) == b'{"type": '


def begins(chunks: Iterable[bytes]) -> bool:
    """Tell if a capture's beginning has something that may be an access."""
    return mentions(bytes(next(iter(chunks), b"")))


def mentions(line: bytes) -> bool:
    """Tell if a line may be an access."""
    return _WORD.search(line) is not None and _DIGIT.search(line) is not None


def in_ftraces_form(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a capture with the accesses in ftrace's form. Raises ``BadLine`` at an unclear one."""
    offset, rest = 0, b""
    usual: _Shape | None = None
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        made = []
        for line in lines:
            found = _translated(line)
            text, shape = found or (line, usual)
            usual = usual or shape
            beside = _BESIDE.match(line) or (usual is None and _HEADING.fullmatch(line))
            if shape != usual or not (found or beside or parse(line, 0, len(line))):
                shown = line.decode("utf-8", "replace").strip()[:160]
                raise BadLine(offset, f"an access in an unknown form: {shown!r}")
            made.append(text + b"\n")
            offset += len(line) + 1
        yield b"".join(made)
    yield rest


_Shape = tuple[bool, bool, bool, bool]
"""Whether a line has the thread's name, its number, the CPU and a time: all lines have the same."""


def _translated(line: bytes) -> tuple[bytes, _Shape] | None:
    """Return a line of an access in ftrace's form, and its shape; None for another line."""
    if line.startswith(b'{"type": "printf"'):
        with suppress(ValueError, KeyError):
            line = str(json.loads(line)["data"]).strip().encode()
    if not mentions(line):
        return None
    name = _NAME.search(line)
    rest = _NAME.sub(b" ", line, count=1)
    pairs = {}
    for pair in _PAIR.finditer(rest):
        key = pair["key"].lower()
        pairs[_SAME.get(key, key)] = pair["value"].strip(b'"()[]')
    rest = _PAIR.sub(b" ", rest)
    found = _entry(rest, pairs) or _access(rest, pairs)
    if found is None:
        return None
    who = _thread(found[0], pairs, name[0] if name else pairs.get(b"comm"))
    return None if who is None else (who[0] + found[1], who[1])


def _entry(rest: bytes, pairs: dict[bytes, bytes]) -> tuple[bytes, bytes] | None:
    found = re.search(rb"\bkvm_(?:entry|exit)\b", rest)
    if found is None or not pairs.get(b"vcpu", b"").isdigit():
        return None
    rip = pairs.get(b"rip", b"0x0")
    return rest[: found.start()], b"%s: vcpu %s, rip %s" % (found[0], pairs[b"vcpu"], rip)


def _access(rest: bytes, pairs: dict[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """Return what stands before an access, and its event; None if it is not clear."""
    verb = _VERBS.search(rest)
    of_cr = b"cr" in pairs or (verb is not None and verb["cr"] is not None)
    said = pairs.get(b"write", rest)
    write = _WRITE.search(said) is not None
    if write == (_READ.search(said) is not None):
        return None
    behind = rest[verb.end() :] if verb else b""
    failed = pairs.get(b"exception") == b"1" or re.search(rb"#GP|FAULT", rest)
    refused = b" (#GP)" if failed else b""
    numbers = _NUMBER.findall(re.sub(rb"\(?#GP\)?|FAULT|write|read", b" ", behind))
    register = pairs.get(b"cr") if of_cr else pairs.get(b"ecx")
    if register is None and verb is not None and verb["zero"] is not None:
        register = b"0"
    given = [register, pairs.get(b"data")]
    if len(numbers) != given.count(None):
        return None
    number, value = (_hex(numbers.pop(0) if each is None else each) for each in given)
    if number is None or value is None:
        return None
    kind = b"cr" if of_cr else b"msr"
    what = b"write" if write else b"read"
    event = b"kvm_%s: %s_%s %x = 0x%x%s" % (kind, kind, what, number, value, refused)
    return rest[: verb.start()] if verb else rest, event


def _hex(word: bytes) -> int | None:
    try:
        return int(word, 16)
    except ValueError:
        return None


def _thread(
    before: bytes, pairs: dict[bytes, bytes], name: bytes | None
) -> tuple[bytes, _Shape] | None:
    """Return the beginning of ftrace's line; None if a number's meaning is not clear."""
    cpu, stamp, tid = pairs.get(b"cpu"), pairs.get(b"nsecs"), pairs.get(b"tid")
    if cpu is None and (found := _CPU.search(before)) is not None:
        cpu, before = found[1], _CPU.sub(b" ", before)
    if stamp is None and (found := _TIME.search(before)) is not None:
        stamp, before = found[0], _TIME.sub(b" ", before)
    numbers = re.findall(rb"\b\d+\b", before)
    if tid is None and len(numbers) == 1:
        tid = numbers[0]
    elif numbers:
        return None
    start = name or (b"<...>" if tid else b"")
    start += b"-%d " % int(tid) if tid else b" "
    if cpu is not None and cpu.isdigit():
        start += b"[%03d] " % int(cpu)
    if stamp is not None:
        start += (b"%d.%09d: " % divmod(int(stamp), 10**9)) if stamp.isdigit() else stamp + b": "
    return start, (name is not None, tid is not None, cpu is not None, stamp is not None)
