"""MSR dumps as JSON.

``{"0x2ff": "0xc06"}``, the same by processor (``{"0": {"0x2ff": "0xc06"}}``, also inside
``{"cpus": {...}}``), or a list of ``{"cpu": 0, "msr": "0x2ff", "value": "0xc06"}``. Strings are
hex; JSON numbers are taken as they are.

Two more forms are found wherever they stand. A snapshot by the rust-vmm crates (Cloud Hypervisor,
Firecracker) has ``{"index": 767, "data": 3078}``, as numbers, in one list a vCPU; parts of it may
be JSON inside of strings. QEMU's ``scripts/analyze-migration.py`` prints ``env.mtrr_fixed``,
``env.mtrr_deftype`` and ``env.mtrr_var``.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.registers import Collector, Listing, hex_number, msr_number
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


def messages(lines: Iterable[str]) -> list[str]:
    """Return a log's lines, each of which may be a JSON object with the message in it."""
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


def read_json(text: str, name: str) -> Listing:
    """Read a dump. Raises ``UserError`` where it has another shape."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: {error.msg}", place=f"{name}:{error.lineno}", mend="fix the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            "JSON that cannot be read", place=f"{name}:1", mend="fix the file"
        ) from error
    kept = Collector(name)
    if '"env.mtrr_deftype"' in text:
        _Migration(kept).walk(value, 0)
        return kept.listing("QEMU's migration state")
    if re.search(r'"index\\*"\s*:\s*\d', text):
        _Snapshot(kept).walk(value, None, "", 0)
        return kept.listing("rust-vmm snapshot")
    if isinstance(value, dict):
        inner = value.get("cpus", value)
        _by_cpu(kept, inner if isinstance(inner, dict | list) else value)
    else:
        _by_cpu(kept, value)
    return kept.listing("MSR dump in JSON")


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is inside of a value, with its key or position; JSON in a string is unpacked."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(n), inner) for n, inner in enumerate(value))
    elif isinstance(value, str) and value[:1] in ("{", "["):
        try:
            yield "", json.loads(value)
        except (ValueError, RecursionError):
            return


class _Snapshot:
    """Finds lists of ``{"index": ..., "data": ...}``. Without a vCPU's number, the order counts."""

    def __init__(self, kept: Collector) -> None:
        self._kept = kept
        self._next = 0

    def walk(self, value: Any, cpu: int | None, within: str, depth: int) -> None:
        """``within`` is the key of the value: a list's positions are vCPUs if it names CPUs."""
        if depth > _DEPTH:
            raise self._kept.error(1, f"nested more than {_DEPTH} deep", "give the vCPUs' part")
        found = [item for item in value if _is_msr(item)] if isinstance(value, list) else []
        if found:
            number = self._next if cpu is None else cpu
            self._next = number + 1
            for item in found:
                self._kept.put(number, item["index"], item["data"] % (1 << 64), 1)
            return
        numbered = isinstance(value, dict) or "cpu" in within.lower()
        for key, inner in _children(value):
            named = _CPU_KEY.match(key) if numbered and cpu is None else None
            below = key if isinstance(value, dict) else within
            self.walk(inner, int(named[1]) if named else cpu, below, depth + 1)


def _is_msr(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(index := item.get("index"), int)
        and isinstance(item.get("data"), int)
        and 0 <= index < 1 << 32
    )


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


def _by_cpu(kept: Collector, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _item(kept, item)
        return
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            cpu = key.lower().removeprefix("v").removeprefix("cpu").strip()
            if not (cpu.isascii() and cpu.isdecimal() and len(cpu) <= 4):
                raise kept.error(1, f"not a processor's number: {key[:40]!r}", 'write "0": {…}')
            for msr, number in inner.items():
                _put(kept, int(cpu), msr, number)
        else:
            _put(kept, 0, key, inner)


def _item(kept: Collector, item: Any) -> None:
    if not isinstance(item, dict) or not {"msr", "value"} <= item.keys():
        raise kept.error(
            1, "an item without msr and value", 'write {"cpu": 0, "msr": …, "value": …}'
        )
    cpu = item.get("cpu", 0)
    if not isinstance(cpu, int) or cpu < 0:
        raise kept.error(1, f"not a processor's number: {str(cpu)[:40]!r}", "write a number")
    _put(kept, cpu, item["msr"], item["value"])


def _put(kept: Collector, cpu: int, msr: Any, value: Any, *, any_number: bool = False) -> None:
    number = msr if isinstance(msr, int) else msr_number(msr) if isinstance(msr, str) else None
    what = (
        value if isinstance(value, int) else hex_number(value) if isinstance(value, str) else None
    )
    known = number is not None and number >= 0 and (any_number or number < 1 << 32)
    if number is None or not known or what is None or not 0 <= what < 1 << 64:
        problem = f"not an MSR and its value: {str(msr)[:40]!r}: {str(value)[:40]!r}"
        raise kept.error(1, problem, 'write "0x2ff": "0xc06"')
    kept.put(cpu, number, what, 1)
