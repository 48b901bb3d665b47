"""``rdmsr`` and ``wrmsr`` of msr-tools, as they were called."""

from collections.abc import Iterator, Sequence

from mtrrzap.guest.listing.registers import hex_number, msr_number

BASES = {"u": 10, "d": 10, "o": 8, "x": 16, "X": 16, "c": 16}
_LONG = {
    "unsigned": "u",
    "decimal": "d",
    "octal": "o",
    "hexadecimal": "x",
    "c-language": "c",
    "zero-pad": "0",
    "all": "a",
    "raw": "r",
    "bitfield": "f",
    "processor": "p",
}


class Command:
    """One ``rdmsr`` or ``wrmsr``, as it was called."""

    def __init__(self, words: Sequence[str]) -> None:
        self.letters = ""
        self.cpu = 0
        self.base = 16
        self.operands: list[str] = []
        waiting = list(words)
        while waiting:
            word = waiting.pop(0)
            if not word.startswith("-"):
                self.operands.append(word)
                continue
            for letter, value in _options(word):
                self.letters += letter
                self.base = BASES.get(letter, self.base)
                if letter in "pf":
                    given = value or (waiting.pop(0) if waiting else "")
                    if letter == "p" and given.isascii() and given.isdecimal():
                        self.cpu = int(given[:9])
                    elif letter == "p":
                        self.letters += "?"
        # msr-tools take digits alone for decimal, as strtoul does.
        self.msr = as_c(self.operands[0]) if self.operands else None


def _options(word: str) -> Iterator[tuple[str, str]]:
    """Yield the options of one word, and what is given to -p or -f in it."""
    if word.startswith("--"):
        name, _, value = word[2:].partition("=")
        yield _LONG.get(name, "?"), value
        return
    letters = word[1:]
    while letters:
        if letters[0] in "pf":
            yield letters[0], letters[1:]
            return
        yield letters[0], ""
        letters = letters[1:]


def as_c(word: str, bits: int = 32) -> int | None:
    """Return a number as strtoul reads it, or an MSR's name; None if it is neither."""
    if word.isascii() and word.isdecimal():
        return int(word[:20], 8 if word.startswith("0") and set(word) <= set("01234567") else 10)
    return msr_number(word) if bits == 32 else hex_number(word, bits)
