"""A policy of the user's own: one row in a TOML file, as changes to one that has a name."""

from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.protocol import load as protocols
from mtrrzap.reading import whole_text
from mtrrzap.toml import read_toml
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

_VERSIONS = ((6, 11), (6, 7), (6, 1))
"""The first version of each policy that is a kernel's, newest first."""
_LIKE = "like"
CD_TYPES = {
    "WB": EptType(MemType.WB),
    "WB+IPAT": EptType(MemType.WB, ipat=True),
    "UC+IPAT": EptType(MemType.UC, ipat=True),
    "none": None,
}
"""The values of ``cd_type_with_quirk``, by their words."""


def named(name: str) -> Policy:
    """Return the named policy, or the one in the named file. Raises ``UserError``."""
    if name.endswith(".toml") or "/" in name:
        return load(Path(name))
    return by_name(name)


def of_version(version: tuple[int, int]) -> Policy:
    """Return a kernel's policy. Raises ``UserError`` for one before 6.1."""
    for first in _VERSIONS:
        if version >= first:
            return by_name("v{}.{}".format(*first))
    raise UserError(
        "no policy here is that of Linux {}.{}".format(*version), mend="name a policy yourself"
    )


def load(path: Path) -> Policy:
    """Read ``like = "v6.1"`` and changed fields. Raises ``UserError``."""
    data = read_toml(whole_text(path, "name a TOML file with a policy"), str(path))
    like = data.pop(_LIKE, None)
    if like not in [policy.name for policy in POLICIES]:
        names = ", ".join(policy.name for policy in POLICIES)
        raise UserError(
            f"like = {like!r} is no policy", place=str(path), mend=f"known are: {names}"
        )
    base = replace(by_name(like), name=path.stem, source=str(path))
    return replace(base, **{key: _value(path, base, key, data[key]) for key in data})


def _value(path: Path, base: Policy, key: str, value: object) -> Any:
    known = {field.name for field in fields(Policy)}
    if key not in known:
        raise UserError(
            f"no field {key!r}", place=str(path), mend=f"known are: {', '.join(sorted(known))}"
        )
    old = getattr(base, key)
    if key == "cd_type_with_quirk":
        words: dict[str, Any] = dict(CD_TYPES)
    elif isinstance(old, Enum):
        words = {each.name.lower(): each for each in type(old)}
    else:
        if type(value) is not type(old):
            raise UserError(f"{key} = {value!r} must be like {old!r}", place=str(path))
        if key == "protocol":
            protocols.load(str(value))
        return value
    if not isinstance(value, str) or value not in words:
        raise UserError(f"{key} = {value!r} must be one of {', '.join(words)}", place=str(path))
    return words[value]
