"""MSR dumps as JSON: ``{"0x2ff": "0xc06"}``, the same by processor, or a list of objects.

``{"0": {"0x2ff": "0xc06"}, "1": {…}}`` and ``{"cpus": {…}}`` are by processor; a list holds
``{"cpu": 0, "msr": "0x2ff", "value": "0xc06"}``. Strings are hex, JSON numbers are what they are.
"""

import json
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.guest.listing.registers import Collector, Listing, hex_number, msr_number


def read(text: str, name: str) -> Listing:
    """Read a dump. Raises ``UserError`` where it has another shape."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"not JSON: {error.msg}", place=f"{name}:{error.lineno}", mend="mend the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError("not JSON that can be read", place=f"{name}:1", mend="mend it") from error
    kept = Collector(name)
    if isinstance(value, dict):
        inner = value.get("cpus", value)
        _by_cpu(kept, inner if isinstance(inner, dict | list) else value)
    else:
        _by_cpu(kept, value)
    return kept.listing("MSR dump in JSON")


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


def _put(kept: Collector, cpu: int, msr: Any, value: Any) -> None:
    number = msr if isinstance(msr, int) else msr_number(msr) if isinstance(msr, str) else None
    what = (
        value if isinstance(value, int) else hex_number(value) if isinstance(value, str) else None
    )
    if number is None or what is None or not 0 <= what < 1 << 64:
        problem = f"not an MSR and its value: {str(msr)[:40]!r}: {str(value)[:40]!r}"
        raise kept.error(1, problem, 'write "0x2ff": "0xc06"')
    kept.put(cpu, number, what, 1)
