"""What identifies the code of a sweep: every file of the package."""

import sys
from importlib.resources import files
from pathlib import Path

import pytest

from mtrrzap.sweep import grid


def test_every_module_that_is_imported_counts() -> None:
    counted = {
        f"/{Path(name).as_posix().lstrip('/')}" for name, _ in grid._files(files("mtrrzap"), "")
    }
    root = str(files("mtrrzap"))
    imported = {
        str(module.__file__).removeprefix(root)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "mtrrzap"
    }
    assert imported <= counted
    assert "/data/cost-model.toml" in counted
    assert not [name for name in counted if "__pycache__" in name]


def test_a_change_of_any_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "files", lambda _: tmp_path)
    seen = []
    for name in ("a.py", "room/b.py", "data/c.toml", "data/d.csv", "room/e.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        for text in ("one", "other"):
            path.write_text(text)
            seen.append(grid.identity.__wrapped__())
    (tmp_path / "a.py").rename(tmp_path / "f.py")
    seen.append(grid.identity.__wrapped__())
    assert len(set(seen)) == len(seen) == 11
    (tmp_path / "room/__pycache__").mkdir()
    for name in ("room/__pycache__/b.pyc", "room/.b.py.swp", "a.py~"):
        (tmp_path / name).write_bytes(b"x")
    assert grid.identity.__wrapped__() == seen[-1]
