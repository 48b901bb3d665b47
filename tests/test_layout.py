"""The house: imports point one way, and the core does no I/O, reads no clock and prints nothing."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from helpers.paths import ROOT

SRC = ROOT / "src" / "mtrrzap"
MAY_IMPORT = {
    "x86": "",
    "guest": "x86",
    "kvm": "guest x86",
    "protocol": "",
    "checker": "protocol",
    "simulator": "guest kvm protocol",
    "threads": "protocol",
    "live": "guest kvm protocol threads x86",
    "emit": "checker kvm protocol",
    "study": "checker guest kvm live protocol simulator x86",
    "kernel": "emit guest kvm live protocol x86",
    "report": "checker guest kernel kvm live protocol simulator study x86",
    "sweep": "checker guest kvm protocol report simulator study",
    "api": "checker guest kvm protocol report simulator study x86",
    "cli": "api checker emit guest kernel kvm live protocol report simulator study sweep x86",
}
"""Which rooms each room may import from, beside itself and what belongs to no room."""
NO_ROOM = {"__init__", "__main__", "errors", "gfn", "reading", "toml"}
CORE = ("x86", "kvm", "protocol")
NOT_IN_CORE = {
    "os",
    "time",
    "io",
    "subprocess",
    "socket",
    "threading",
    "random",
    "pathlib",
    "importlib",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(room: str) -> list[Path]:
    return sorted((SRC / room).rglob("*.py"))


def test_every_room_is_known() -> None:
    found = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert found == MAY_IMPORT.keys() | NO_ROOM


def test_no_circle_between_rooms() -> None:
    TopologicalSorter({room: may.split() for room, may in MAY_IMPORT.items()}).prepare()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_between_rooms(room: str) -> None:
    allowed = {*MAY_IMPORT[room].split(), room, "errors", "gfn", "reading", "toml", "__version__"}
    used = set()
    for path in modules(room):
        tops = {name.split(".")[1] for name in imports(path) if name.startswith("mtrrzap.")}
        assert tops <= allowed, f"{path.relative_to(SRC)} imports {tops - allowed}"
        used |= tops & MAY_IMPORT.keys() - {room}
    assert used == set(MAY_IMPORT[room].split()), "the allow-list is wider than the need"


@pytest.mark.parametrize("room", CORE)
def test_the_core_touches_no_world(room: str) -> None:
    """``protocol/load.py`` is the one door: it opens a user's file."""
    for path in set(modules(room)) - {SRC / "protocol" / "load.py"}:
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & NOT_IN_CORE, f"{path.relative_to(SRC)} imports {tops & NOT_IN_CORE}"
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}, path
