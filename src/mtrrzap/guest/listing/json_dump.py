"""MSR dumps as JSON.

``{"0x2ff": "0xc06"}``, the same by processor (``{"0": {"0x2ff": "0xc06"}}``) or in a list, or items
``{"cpu": 0, "msr": "0x2ff", "value": "0xc06"}``, also one a line. They are found wherever they
stand. Strings are hex; JSON numbers are taken as they are. A snapshot by the rust-vmm crates (Cloud
Hypervisor, Firecracker) has items ``{"index": 767, "data": 3078}``, one list a vCPU; parts of it
may be JSON inside of strings or of lists of bytes.

QEMU's ``scripts/analyze-migration.py`` prints ``env.mtrr_fixed``, ``env.mtrr_deftype`` and
``env.mtrr_var``.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.registers import (
    Collector,
    Listing,
    hex_number,
    is_kept,
    msr_number,
)
from mtrrzap.x86 import msr as m

BEGIN = re.compile(r'\s*(?:\{|\[\s*(?:[\[{"\]]|\Z))')
"""How JSON begins. A boot log, a prompt and chipsec's lines begin with ``[`` too."""
_CPU_KEY = re.compile(r"(?:v?cpu[-_ ]?)?(\d{1,4})$", re.IGNORECASE)
_DEPTH = 40


def is_json(text: str) -> bool:
    """Tell if a text is JSON, or begins like it."""
    if BEGIN.match(text):
        return True
    if not text.lstrip().startswith("["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def messages(lines: Iterable[str], whole: str) -> list[str]:
    """Return a log's lines: of JSON's strings, or of objects that have the message, one a line."""
    with suppress(ValueError, RecursionError):
        texts = list(_strings(json.loads(whole), 0))
        if len(texts) == 1 or any("\n" in text for text in texts):
            return [line for text in texts for line in text.split("\n")]
    found = []
    for line in lines:
        text = line
        if line.lstrip().startswith("{"):
            with suppress(ValueError, RecursionError):
                value = json.loads(line.strip().rstrip(","))
                inside = (value.get(key) for key in ("MESSAGE", "message", "msg", "log"))
                text = next((each for each in inside if isinstance(each, str)), line)
        found.append(text)
    return found


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth <= _DEPTH:
        for _, inner in _children(value):
            yield from _strings(inner, depth + 1)


def read_json(text: str, name: str) -> Listing:
    """Read a dump. Raises ``UserError`` where it has another shape."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if twice := [key for key, value in pairs if found[key] != value]:
            problem = f"{twice[0][:40]!r} stands twice, with two values"
            raise UserError(problem, place=f"{name}:1", mend="delete one")
        return found

    def parsed(part: str) -> Any:
        return json.loads(part, object_pairs_hook=once)

    try:
        value = parsed(text)
    except json.JSONDecodeError as error:
        with suppress(ValueError):
            return _read(Collector(name), [parsed(line) for line in text.splitlines()], text)
        raise UserError(
            f"not JSON: {error.msg}", place=f"{name}:{error.lineno}", mend="fix the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            "JSON that cannot be read", place=f"{name}:1", mend="fix the file"
        ) from error
    return _read(Collector(name), value, text)


def _read(kept: Collector, value: Any, text: str) -> Listing:
    if '"env.mtrr_deftype"' in text:
        _Migration(kept).walk(value, 0)
        return kept.listing("QEMU's migration state")
    dump = _Dump(kept)
    dump.walk(value, None, "", 0)
    if dump.next == 0:
        raise kept.error(1, "no MSR and its value in it", 'write {"0x2ff": "0xc06"}')
    return kept.listing(dump.what)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is inside of a value, with its key or position; JSON in a string is unpacked."""
    if isinstance(value, list) and value[:1] in ([ord("{")], [ord("[")]):
        with suppress(ValueError, TypeError):
            value = bytes(value).decode()
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(n), inner) for n, inner in enumerate(value))
    elif isinstance(value, str) and value[:1] in ("{", "["):
        try:
            yield "", json.loads(value)
        except (ValueError, RecursionError):
            return


_MSR_KEYS = ("index", "msr", "address", "addr", "register", "reg")
_VALUE_KEYS = ("data", "value", "val")
_CPU_KEYS = ("cpu", "vcpu", "cpu_id", "vcpu_id")
_HOLDERS = ("", "msrs", "mtrrs", "mtrr", "registers", "regs")
"""Keys of a processor's registers, which are no processor's number."""


def _either(item: Any, keys: Sequence[str]) -> Any:
    """Return the first of some keys' values that is a number, or a string; else None."""
    if isinstance(item, dict):
        for key in keys:
            if isinstance(found := item.get(key), int | str) and not isinstance(found, bool):
                return found
    return None


def _is_msr(item: Any) -> bool:
    return _either(item, _MSR_KEYS) is not None and _either(item, _VALUE_KEYS) is not None


def _has_registers(values: dict[str, Any]) -> bool:
    return any(not isinstance(v, dict) and is_kept(msr_number(key)) for key, v in values.items())


class _Dump:
    """Finds registers. Where nothing numbers the processors, the order counts."""

    def __init__(self, kept: Collector) -> None:
        self._kept = kept
        self.next = 0
        self.what = "MSR dump in JSON"

    def walk(self, value: Any, cpu: int | None, within: str, depth: int) -> None:
        """``within`` is the key of the value: a list's positions are vCPUs if it names CPUs."""
        if depth > _DEPTH:
            raise self._kept.error(1, f"nested more than {_DEPTH} deep", "give the vCPUs' part")
        if isinstance(value, list) and any(map(_is_msr, value)):
            self._items(value, cpu)
        elif _is_msr(value):
            self._items([value], cpu)
        elif isinstance(value, dict) and _has_registers(value):
            self._registers(value, cpu, within)
        else:
            self._inside(value, cpu, within, depth)

    def _inside(self, value: Any, cpu: int | None, within: str, depth: int) -> None:
        of_cpus = "cpu" in within.lower()
        keys = (*_CPU_KEYS, "id") if of_cpus else _CPU_KEYS
        if (said := _either(value, keys)) is not None:
            cpu = self._number(said)  # which a list's positions need not agree with
        numbered = cpu is None and (isinstance(value, dict) or of_cpus)
        for key, inner in _children(value):
            named = _CPU_KEY.match(key) if numbered else None
            below = key if isinstance(value, dict) else within
            self.walk(inner, int(named[1]) if named else cpu, below, depth + 1)

    def _number(self, said: int | str) -> int:
        text = str(said)
        if not (text.isascii() and text.isdecimal() and len(text) <= 4):
            raise self._kept.error(1, f"not a processor's number: {text[:40]!r}", "write a number")
        return int(text)

    def _items(self, items: list[Any], cpu: int | None) -> None:
        default = self.next if cpu is None else cpu
        for item in items:
            msr, value = _either(item, _MSR_KEYS), _either(item, _VALUE_KEYS)
            if msr is None or value is None:
                mend = 'write {"cpu": 0, "msr": …, "value": …}'
                raise self._kept.error(1, "an item without msr and value", mend)
            if isinstance(value, int) and "data" in item:
                self.what = "rust-vmm snapshot"
                value %= 1 << 64
            said = _either(item, _CPU_KEYS)
            if said is None:
                self.next = default + 1
            number = default if said is None else self._number(said)
            _put(self._kept, number, msr, value)
        self.next = max(self.next, 1)

    def _registers(self, values: dict[str, Any], cpu: int | None, within: str) -> None:
        if cpu is None and within.lower() not in _HOLDERS and not _CPU_KEY.match(within):
            problem = f"not a processor's number: {within[:40]!r}"
            raise self._kept.error(1, problem, 'write "0": {…}')
        said = _either(values, _CPU_KEYS) if cpu is None else cpu
        number = self.next if said is None else self._number(said)
        self.next = number + 1
        for msr, value in values.items():
            if msr not in _CPU_KEYS and msr != "id":
                _put(self._kept, number, msr, value)


class _Migration:
    """Finds the sections that have ``env.mtrr_deftype``, in the order of the vCPUs."""

    def __init__(self, kept: Collector) -> None:
        self._kept = kept
        self._next = 0

    def walk(self, value: Any, depth: int) -> None:
        if depth > _DEPTH:
            raise self._kept.error(1, f"nested more than {_DEPTH} deep", "give the vCPUs' part")
        if isinstance(value, dict) and "env.mtrr_deftype" in value:
            self._take(value)
            return
        for _, inner in _children(value) if isinstance(value, dict | list) else ():
            self.walk(inner, depth + 1)

    def _take(self, state: dict[str, Any]) -> None:
        cpu = self._next
        self._next += 1
        _put(self._kept, cpu, m.DEF_TYPE, state["env.mtrr_deftype"])
        fixed = _children(state.get("env.mtrr_fixed"))
        for register, (_, value) in zip(m.FIXED, fixed, strict=False):
            _put(self._kept, cpu, register.msr, value)
        for index, (_, pair) in enumerate(_children(state.get("env.mtrr_var"))):
            named = pair if isinstance(pair, dict) else {}
            for half, key in enumerate(("base", "mask")):
                _put(self._kept, cpu, m.variable(index) + half, named.get(key), any_number=True)
        if "env.pat" in state:
            _put(self._kept, cpu, m.PAT, state["env.pat"])


def _put(kept: Collector, cpu: int, msr: Any, value: Any, *, any_number: bool = False) -> None:
    number = msr if isinstance(msr, int) else msr_number(msr) if isinstance(msr, str) else None
    what = hex_number(value) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        what = value
    known = number is not None and number >= 0 and (any_number or number < 1 << 32)
    if number is None or not known or what is None or not 0 <= what < 1 << 64:
        problem = f"not an MSR and its value: {str(msr)[:40]!r}: {str(value)[:40]!r}"
        raise kept.error(1, problem, 'write "0x2ff": "0xc06"')
    kept.put(cpu, number, what, 1)
