"""The arguments for QEMU after ``--``: those that would take what the recorder itself needs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mtrrzap.errors import UserError

_LOG = "the recorder reads QEMU's log itself"
_GDB = "the recorder is the debugger"
_QMP = "the recorder steers QEMU itself"
_TCG = "the recorder needs TCG with one thread per vCPU"
_USED = {
    "d": _LOG,
    "D": _LOG,
    "dfilter": _LOG,
    "gdb": _GDB,
    "s": _GDB,
    "qmp": _QMP,
    "qmp-pretty": _QMP,
    "mon": _QMP,
    "monitor": _QMP,
    "daemonize": "the recorder must see QEMU end",
    "accel": _TCG,
    "enable-kvm": _TCG,
}
_HARMLESS = {("monitor", "none"), ("qmp", "none"), ("qmp-pretty", "none")}


def check_extra(extra: Sequence[str]) -> None:
    """Raise ``UserError`` for the first argument that the recorder cannot do with.

    QEMU would take some of them silently, and the recording would hang or be empty.
    """
    # Words before -- come first. An option there is refused earlier, except for a mere dash.
    if extra and (not extra[0].startswith("-") or extra[0] == "-"):
        raise UserError(
            f"unexpected argument {extra[0]!r}",
            place="record",
            mend="only options for QEMU may follow, after --; name a disk with -drive",
        )
    for index, word in enumerate(extra):
        value = extra[index + 1] if index + 1 < len(extra) else ""
        if (why := _conflict(word, value)) is not None:
            raise UserError(f"{word} cannot be used: {why}", place="--", mend="leave it out")


def _conflict(word: str, value: str) -> str | None:
    if not word.startswith("-"):
        return None
    # QEMU takes one dash or two.
    name = word[2:] if word.startswith("--") else word[1:]
    settings = value.split(",")
    if name in ("machine", "M") and any(text.startswith("accel=") for text in settings):
        return _TCG
    if name == "action" and any(text.startswith("shutdown=") for text in settings):
        return "the recorder reads QEMU's state after the shutdown"
    return None if (name, value) in _HARMLESS else _USED.get(name)


def files_in(extra: Sequence[str]) -> Iterator[Path]:
    """Yield what may be a file's name in QEMU's arguments, such as FILE in -drive file=FILE."""
    for word in extra:
        for part in (word, *word.split(",")):
            text = part.partition("=")[2] or part
            if not text.startswith("-"):
                yield Path(text)
