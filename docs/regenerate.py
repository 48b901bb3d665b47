"""Make the parts of the pages that quote the program from what it prints now.

Run: python docs/regenerate.py

It rewrites README.md, findings.md, policies.md and write-a-protocol.md where more than a time has
changed. The tests compare the same pages.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parent
WIDTH = 100
"""Columns of the terminal that the pages show."""
_TERMINAL = {"COLUMNS": str(WIDTH), "LINES": "50", "TERM": "dumb"}
_ROWS = 14
"""Rows of the README's table: one guest under every policy."""


def timeless(text: str) -> str:
    """Return a page without the seconds that its commands took."""
    return re.sub(r" *\d+\.\d\d s", "", text)


def printed(command: str, folder: Path = DOCS) -> str:
    """Run ``mtrrzap …`` in a folder and return what it prints."""
    arguments = shlex.split(command)[1:]
    ran = subprocess.run(
        [sys.executable, "-m", "mtrrzap", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode > 1:
        sys.exit(f"{command}: {ran.stderr}")
    return ran.stdout


def on_terminal(command: str) -> str:
    """Run ``mtrrzap …`` on a terminal of ``WIDTH`` columns and return what it shows."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "mtrrzap", *shlex.split(command)[1:]]
    with subprocess.Popen(words, stdout=theirs, env={**os.environ, **_TERMINAL}):
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as stream:
            pieces = []
            # The end of a terminal is an error: EIO.
            with contextlib.suppress(OSError):
                while piece := stream.read(1 << 16):
                    pieces.append(piece)
    return b"".join(pieces).decode().replace("\r\n", "\n")


def readme(old: str) -> str:
    """Return the README with its table and its counterexample made anew."""
    new = _filled(old, r"```\n(┏.*?)```", _comparison())
    shown = printed('mtrrzap check v4 -p "lost zap"').rstrip() + "\n"
    return _filled(new, r"```text\n(protocol .*?)```", shown)


def tutorial(old: str) -> str:
    """Return the tutorial with what its files and commands print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def fill(found: re.Match[str]) -> str:
            kind, text = found.groups()
            first = text.splitlines()[0]
            if kind == "python":
                (folder / first.removeprefix("# ")).write_text(text, encoding="utf-8")
                return found[0]
            return f"```console\n{first}\n{printed(first.removeprefix('$ '), folder)}```\n"

        return re.sub(r"```(python|console)\n(.*?)```\n", fill, old, flags=re.DOTALL)


def _comparison() -> str:
    """Return the first guest's rows, and what stands below the table."""
    lines = [line.rstrip() for line in on_terminal("mtrrzap compare").splitlines()]
    rows = [line for line in lines if line.startswith("│")]
    end = next(n for n, line in enumerate(lines) if line.startswith("└"))
    more = f"│ … {len(rows) - _ROWS} more rows: SeaBIOS with 8, both with 16 vCPUs"
    return "\n".join([*lines[:3], *rows[:_ROWS], more, *lines[end + 1 :]]) + "\n"


def _filled(text: str, block: str, new: str) -> str:
    found = re.search(block, text, re.DOTALL)
    assert found is not None, block
    return text[: found.start(1)] + new + text[found.end(1) :]


PAGES: dict[Path, Callable[[str], str]] = {
    DOCS.parent / "README.md": readme,
    DOCS / "findings.md": lambda _: printed("mtrrzap check --findings"),
    DOCS / "policies.md": lambda _: printed("mtrrzap policies --markdown"),
    DOCS / "write-a-protocol.md": tutorial,
}
"""Each page that quotes the program, and how it is made from its present text."""


def main() -> None:
    """Rewrite the pages that have changed, and name them."""
    for path, made in PAGES.items():
        old = path.read_text(encoding="utf-8")
        new = made(old)
        if timeless(new) != timeless(old):
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{path} has changed\n")


if __name__ == "__main__":
    main()
