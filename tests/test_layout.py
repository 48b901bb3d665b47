"""The house: imports point one way, and the core does no I/O, reads no clock and prints nothing."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "mtrrzap"
ROOMS = ("x86", "guest", "kvm", "protocol", "engine", "report", "sweep", "commands")
"""In the order of the flow of data: a room may import from itself and from those before it."""
CORE = ("x86", "kvm", "protocol")
FORBIDDEN = {
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


@pytest.mark.parametrize("room", [room for room in ROOMS if (SRC / room).is_dir()])
def test_imports_point_one_way(room: str) -> None:
    later = ROOMS[ROOMS.index(room) + 1 :]
    for path in modules(room):
        wrong = {
            name for name in imports(path) if name.startswith(tuple(f"mtrrzap.{r}" for r in later))
        }
        assert not wrong, f"{path.relative_to(SRC)} imports {wrong}"


@pytest.mark.parametrize("room", [room for room in CORE if (SRC / room).is_dir()])
def test_the_core_touches_no_world(room: str) -> None:
    for path in modules(room):
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & FORBIDDEN, f"{path.relative_to(SRC)} imports {tops & FORBIDDEN}"
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"print", "open", "input"}, path
