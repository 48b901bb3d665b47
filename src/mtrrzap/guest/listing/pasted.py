"""Text as people paste it: encodings, colours, quotes, line numbers, prompts, wrapped lines."""

import re
from collections.abc import Sequence

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TYPOGRAPHY = {0xFEFF: None, 0x200B: None, 0xA0: " ", 0x2010: "-", 0x2011: "-", 0x2013: "-"}
"""Byte-order mark, spaces and dashes that word processors, chats and web pages put in."""
_QUOTE = re.compile(r"^[ \t]*>[> \t]*", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```.*$", re.MULTILINE)
_NUMBER = re.compile(r"\s*(\d{1,6})(?:[:.)|]\s?|\s|$)")
"""The number that ``cat -n``, ``nl`` or an editor puts before a line."""


def decoded(data: bytes) -> str:
    """Return a file's text; UTF-16 is recognised by its mark, or by the zeros of ASCII in it."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    head = data[:512]
    for code, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if zeros and zeros.count(0) > len(zeros) * 3 // 4:
            return data.decode(code, "replace")
    return data.decode("utf-8", "replace")


def plain(text: str) -> str:
    """Return a text without what a terminal, mail or an editor added; lines keep their numbers."""
    if not text.isascii():
        text = text.translate(_TYPOGRAPHY)
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "`" in text and "```" in text:
        text = _FENCE.sub("", text)
    if ">" in text and _quoted(text):
        text = _QUOTE.sub("", text)
    return _without_numbers(text)


def _quoted(text: str) -> bool:
    """Tell if most lines begin with ``>``: then it is mail's quote, not a prompt."""
    if _QUOTE.match(text) is None and "\n>" not in text:
        return False
    return 2 * len(_QUOTE.findall(text)) > sum(not line.isspace() for line in text.split("\n"))


def _without_numbers(text: str) -> str:
    first = _NUMBER.match(text)
    if first is None or first[1] != "1":
        return text
    lines = text.split("\n")
    shown = [line for line in lines if line and not line.isspace()]
    matches = [_NUMBER.match(line) for line in shown]
    numbers = [int(found[1]) if found else 0 for found in matches]
    if len(shown) < 2 or numbers != list(range(1, len(shown) + 1)):
        return text
    return "\n".join(_NUMBER.sub("", line, count=1) for line in lines)


_TAIL = re.compile(r"(?:<br\s*/?>|</?\w{1,10}>|&nbsp;|\\[nrt]|[\s\"',}\]\\])+$")
_PROMPT = re.compile(
    r"\s*(?:\[[^\]\s]+@[^\]]*\]|[\w.-]+@[\w.:~/-]+|[\w.:~/-]{0,40})\s*[$#%>\u276f]\s*(?P<command>.*)$"
)
_SIGN = re.compile("[$#%>\u276f+]")
_TRACED = re.compile(r"\s*\++ (?P<command>\S.*)$")


def cleaned(line: str) -> str:
    """Return a line without what mail, HTML or JSON put behind it."""
    if line[-1:].isalnum() and "\\" not in line:
        return line
    return _TAIL.sub("", line)


def command_of(line: str) -> str | None:
    """Return the command of a line with a shell's prompt (or ``set -x``'s plus), else None."""
    if _SIGN.search(line) is None:
        return None
    found = _PROMPT.match(line) or _TRACED.match(line)
    return found["command"].strip() if found else None


def joined(lines: Sequence[str], at: int, pattern: re.Pattern[str]) -> tuple[re.Match[str], int]:
    """Match a line, or a line that was wrapped, with the one or two behind it.

    Returns the match and how many lines it took, at least one. Raises ``LookupError`` for none.
    """
    if (whole := pattern.search(lines[at])) is not None:
        return whole, 1
    for count in range(1, 4):
        wrapped = lines[at : at + count]
        for parts in ([cleaned(line) for line in wrapped], [line.rstrip() for line in wrapped]):
            # Quoted-printable mail ends a wrapped line with "=".
            parts = [part.removesuffix("=") for part in parts]
            parts[1:] = [part.lstrip("> \t") for part in parts[1:]]
            for glue in (" ", ""):
                found = pattern.search(glue.join(parts))
                if found is not None and found.start() < len(parts[0]):
                    return found, count
    raise LookupError
