"""Run the command line on a pseudo-terminal of a given width."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(width: int, *args: str, stderr: bool = False, code: str | None = None) -> str:
    """Return what ``mtrrzap ARGS`` prints on a terminal so wide, without its styles.

    ``stderr``: standard error is the terminal, too; ``code`` runs in place of the console script.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "TERM")}
    with subprocess.Popen(
        [sys.executable, *(("-c", code) if code else ("-m", "mtrrzap")), *args],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs if stderr else subprocess.DEVNULL,
        env=environment | {"TERM": "xterm-256color"},
    ):
        os.close(theirs)
        pieces = []
        while piece := _read(ours):
            pieces.append(piece)
    os.close(ours)
    return _STYLE.sub("", b"".join(pieces).decode().replace("\r\n", "\n"))


_ALL = """
import json, sys
from mtrrzap.cli.main import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["mtrrzap", *words]
    try:
        main()
    except SystemExit:
        print("\x0c", end="", flush=True)
"""


def all_on_terminal(width: int, commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what each of several commands prints; one process runs them all."""
    *texts, rest = on_terminal(width, json.dumps(commands), code=_ALL).split("\f")
    assert rest == ""
    return texts


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # EIO: the other end is closed
        return b""
