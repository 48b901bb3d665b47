"""MSR dumps as text: what msr-tools, chipsec, ``cpucontrol`` and scripts print.

``0x2ff 0xc06``, ``msr 0x2ff = 0xc06``, ``cpu 3: IA32_MTRR_DEF_TYPE: c06``, ``0x2ff: c06 c06`` (one
value a processor); a line ``rdmsr -a 0x2ff``, with or without a prompt, followed by its output;
``wrmsr -p 0 0x2ff 0xc06``; chipsec's ``RDMSR( 0x2ff ): EAX = ..., EDX = ...``; a high and a low
half, as ``cpucontrol -m`` prints them. A line ``CPU 3:`` names the processor of the next ones.
Numbers are hex with or without 0x; ``#`` begins a comment.
"""

import re
from collections.abc import Callable, Sequence

from mtrrzap.errors import docs_page
from mtrrzap.guest.listing.msr_tools import BASES, Command, as_c
from mtrrzap.guest.listing.pasted import cleaned, command_of
from mtrrzap.guest.listing.registers import MAX_CPUS, Collector, Listing, hex_number, msr_number
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import broken_rule

HALVES, CPUS = "msr-halves", "msr-cpus"
"""The two readings of two words of eight digits: one value's halves, or two processors' values."""

_CPU = re.compile(
    r"[=\-\[ ]*(?:v?cpu|core|processor)\s*[#:]?\s*(\d{1,4})\s*[\]=\-:,]*(?:\s+|$)", re.IGNORECASE
)
_PLAIN = re.compile(
    r"(?:cpu ?(?P<cpu>\d{1,4})[ :]\s*)?(?:msr )?(?P<msr>\w+)\s*(?:[:=]|\s)\s*=?\s*(?P<value>\w+)$"
)
_FAILED = re.compile(r"(?:rdmsr|wrmsr|cpucontrol|cat|sudo|\w*sh): ")
_DEBUGGER = re.compile(r"(\d{1,4}): \w?kd> ")
"""WinDbg's prompt, which names the processor."""
_TOOL = re.compile(r"(?:^|[\s;&|(/])(?P<tool>rdmsr|wrmsr)\s+(?P<words>[^|;&#<>]*)")
_COUNTED = re.compile(r"(?P<count>\d{1,4})\s+(?P<value>\w+)$")
_PAIR = re.compile(
    r"(?:msr\s*)?[\[(]?(?P<msr>\w+)[\])]?\s*(?:[:=]|\s)\s*=?\s*(?P<values>\w+(?:\s+\w+)*)\s*$",
    re.IGNORECASE,
)
_NAMED_PAIR = re.compile(
    r"(?P<name>\w+)\s*\((?:MSR\s*)?(?P<msr>0x[0-9a-f]+)\)\s*[:=]\s*(?P<values>\w+)$", re.IGNORECASE
)
_CHIPSEC = re.compile(
    r"(?:cpu\s*(?P<cpu>\d{1,4})\]?:?\s+)?RDMSR\(\s*(?P<msr>0x[0-9a-f]+)\s*\)\s*"
    r"(?:=\s*(?P<value>[0-9a-f]{16})\b|:\s*EAX = (?P<eax>0x[0-9a-f]+), EDX = (?P<edx>0x[0-9a-f]+))",
    re.IGNORECASE,
)
_CPUCONTROL = re.compile(
    r"MSR 0x(?P<msr>[0-9a-f]+): 0x(?P<high>[0-9a-f]{8}) 0x(?P<low>[0-9a-f]{8})$"
)
_TWO_HALVES = re.compile(r"(?:0x)?[0-9a-f]{8}\s+(?:0x)?[0-9a-f]{8}$", re.IGNORECASE)
_COLUMNS = {
    **dict.fromkeys(("cpu", "vcpu", "core", "processor"), "cpu"),
    **dict.fromkeys(("msr", "register", "reg", "address", "addr", "index"), "msr"),
    **dict.fromkeys(("value", "val", "data", "hex"), "value"),
    "name": "",
}
"""Words of a table's heading."""
_VARIABLE = "a shell variable in place of a register or a value", "give what 'set -x' shows"
_BYTES = re.compile(r"(?:[0-9a-f]{2} ){7}[0-9a-f]{2}$", re.IGNORECASE)
_HARMLESS = re.compile(r"(?:sudo\s+)?(?:modprobe|set|echo|sleep|sync|exit|uname|lscpu)\b")
"""What a script does beside: it changes no MTRR."""


def _high_low(found: re.Match[str]) -> str:
    high, low = (found["high"] or found["high2"], found["low"] or found["low2"])
    return f"{high:0>8}{low:0>8}"


_SPELLINGS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"^[-*|\u2022]\s+|`"), ""),
    (
        re.compile(
            r"\b(?:hi(?:gh)?|edx)\s*[=:]\s*(?:0x)?(?P<high>[0-9a-f]{1,8})[\s,]+"
            r"(?:low?|eax)\s*[=:]\s*(?:0x)?(?P<low>[0-9a-f]{1,8})\b"
            r"|\b(?:low?|eax)\s*[=:]\s*(?:0x)?(?P<low2>[0-9a-f]{1,8})[\s,]+"
            r"(?:hi(?:gh)?|edx)\s*[=:]\s*(?:0x)?(?P<high2>[0-9a-f]{1,8})\b",
            re.IGNORECASE,
        ),
        _high_low,
    ),
    (re.compile(r"\b([0-9a-f]{8}):([0-9a-f]{8})$", re.IGNORECASE), r"\1\2"),
    (
        re.compile(
            r"\b(?:msr|index|reg(?:ister)?|addr(?:ess)?|val(?:ue)?|data)\s*[=:]\s*", re.IGNORECASE
        ),
        " ",
    ),
    (re.compile(r"(?<=\w)_MSR\b", re.IGNORECASE), ""),
    (re.compile(r"(?<=\w)[(\[](\d{1,3})[)\]]"), r"\1"),
    (re.compile(r"(?<=[0-9a-f])_(?=[0-9a-f]{4}(?:_|\b))", re.IGNORECASE), ""),
    (re.compile(r"\s*(?:[,;|]|[-=]>)\s*"), " "),
)
"""What may be written otherwise: bullets, halves with names, labels, indices, separators."""


def _respelled(text: str) -> str:
    for pattern, usual in _SPELLINGS:
        text = pattern.sub(usual, text)
    return text.strip()


class _DumpReader:
    def __init__(self, lines: Sequence[str], name: str, form: str | None) -> None:
        self._lines = lines
        self.kept = Collector(name)
        self.what = "MSR dump"
        self._form = form
        self._asked = False
        self._cpu = 0
        self._commands: list[Command] = []
        """The last line's rdmsr; the next bare values are their output."""
        self._sorted = False
        self._values = 0
        self._loop = 0
        """Line of an rdmsr whose register is a shell variable."""
        self._everywhere: dict[int, tuple[int, int]] = {}
        """What ``wrmsr -a`` wrote, and in which line."""
        self._written = {0}
        self._columns: list[str] = []
        self.script = bool(lines) and lines[0].startswith("#!")

    def line(self, number: int, text: str) -> None:
        if not self._commands and not self._columns and self._plain(number, text):
            return
        if "msr" in text and self._tools(number, text):
            return
        if "RDMSR(" in text and (found := _CHIPSEC.search(text)) is not None:
            self.what = "MSR dump (chipsec)"
            low, high = found["eax"], found["edx"]
            value = int(found["value"] or f"{int(high, 16):08x}{int(low, 16):08x}", 16)
            self.kept.put(int(found["cpu"] or self._cpu), int(found["msr"], 16), value, number)
            return
        if self._commands and self._output(number, text):
            return
        if _FAILED.match(text):
            problem = f"the tool failed: {text[:60]!r}"
            raise self.kept.error(number, problem, "run it as root after modprobe msr")
        if (cpu := _CPU.match(text)) is not None:
            if cpu.end() == len(text):
                self._cpu, self._commands = int(cpu[1]), []
                return
        elif _HARMLESS.match(text) or (command_of(text) is not None and not _PAIR.match(text)):
            if not text.startswith(">"):
                self._commands = []  # another command, or a comment
                return
            text = text.lstrip("> ")
        text = cleaned(text if cpu else text.split("#", 1)[0]).strip()
        if not text or (self._commands and self._output(number, text)):
            return
        self._commands = []
        self._pair(number, text)

    def _plain(self, number: int, text: str) -> bool:
        """Read one value of one MSR, as most lines are; False if it is something else."""
        found = _PLAIN.match(text)
        if found is None:
            return False
        msr = msr_number(found["msr"])
        try:
            value = int(found["value"], 16)
        except ValueError:
            return False
        if msr is None or value >> 64:
            return False
        cpu = found["cpu"]
        self.kept.put(self._cpu if cpu is None else int(cpu), msr, value, number)
        return True

    def _tools(self, number: int, text: str) -> bool:
        """Read a line's commands; False if it has none, or only talks of the tools."""
        reads = []
        known = False
        if (prompt := _DEBUGGER.match(text)) is not None:
            self._cpu = int(prompt[1])
        for found in _TOOL.finditer(text):
            command = Command(found["words"].split())
            if any("$" in word for word in command.operands):
                self._loop, known = number, True
                if found["tool"] == "wrmsr":
                    raise self.kept.error(number, *_VARIABLE)
            if command.msr is None:
                continue
            known = True
            if found["tool"] == "wrmsr":
                self._write(number, command)
            else:
                self._check(number, command)
                reads.append(command)
        if known:
            self._commands, self._values, self._sorted = reads, 0, "sort" in text
        if len(reads) > 1 and any("a" in command.letters for command in reads):
            problem = "several rdmsr -a in one line: whose values are whose cannot be known"
            raise self.kept.error(number, problem, "run them one by one")
        return known

    def _check(self, number: int, command: Command) -> None:
        if unknown := set(command.letters) - set("aphV0fr") - BASES.keys():
            problem = f"rdmsr with an unknown option (-{min(unknown)}) or an invalid processor"
            raise self.kept.error(number, problem, "give the command as it was run")
        for letter, what in (("f", "a field of a register is no register"), ("r", "raw bytes")):
            if letter in command.letters:
                mend = f"run rdmsr without -{letter}"
                raise self.kept.error(number, f"rdmsr -{letter}: {what}", mend)

    def _write(self, number: int, command: Command) -> None:
        value = as_c(command.operands[1], 64) if len(command.operands) == 2 else None
        if value is None or value >> 64 or command.msr is None:
            problem = "wrmsr with no value, or several"
            raise self.kept.error(number, problem, "give one value a command")
        self.what = "wrmsr script"
        cpu = command.cpu
        if "a" in command.letters:
            self._everywhere[command.msr] = (value, number)
            for each in self._written:
                self.kept.put(each, command.msr, value, number)
            return
        if cpu not in self._written:
            self._written.add(cpu)
            for msr, (earlier, line) in self._everywhere.items():
                self.kept.put(cpu, msr, earlier, line)
        self.kept.put(cpu, command.msr, value, number, again=bool(self._everywhere))

    def _output(self, number: int, text: str) -> bool:
        """Read a line of rdmsr's output; False if it is none."""
        command = self._commands[0]
        counted = _COUNTED.match(text) if " " in text else None
        word, count = (counted["value"], int(counted["count"])) if counted else (text, 1)
        digits = word.lower().removeprefix("0x") if command.base == 16 else word
        try:
            value = int(digits, command.base)
        except ValueError:
            return False
        if not -(1 << 63) <= value < 1 << 64 or command.msr is None:
            return False
        self._values += 1
        if self._sorted and self._values > 1:
            problem = "sorted: which processor has which value cannot be known"
            raise self.kept.error(number, problem, "leave out sort")
        if command.cpu + count > MAX_CPUS:
            raise self.kept.error(number, f"more than {MAX_CPUS} processors", "fix the line")
        for _ in range(count):
            self.kept.put(command.cpu, command.msr, value % (1 << 64), number)
            command.cpu += 1
        if "a" not in command.letters:
            self._commands.pop(0)
        return True

    def _pair(self, number: int, text: str) -> None:
        if (cpu := _CPU.match(text)) is not None:
            text = text[cpu.end() :]
        usual = _read_pair(text)
        if usual is None:
            if self._heading(text):
                return
            if self._loop and hex_number(text) is not None:
                raise self.kept.error(self._loop, *_VARIABLE)
            respelled = self._of_columns(_respelled(text))
            if (cpu := _CPU.match(respelled) or cpu) is not None and cpu.string is respelled:
                respelled = respelled[cpu.end() :]
            usual = _read_pair(respelled)
        if usual is None:
            raise self.kept.error(
                number,
                f"not an MSR and its value: {text[:60]!r}",
                f"write 'msr 0x2ff = 0xc06', or one of the forms in {docs_page('memtype')}",
            )
        msr, words, listed = usual
        first = int(cpu[1]) if cpu else self._cpu
        if _TWO_HALVES.match(words) and self._are_halves(number, text, msr, listed):
            listed = [listed[0] << 32 | listed[1]]
            self.what = "MSR dump (cpucontrol -m)" if _CPUCONTROL.match(text) else self.what
        elif len(listed) == 8 and _BYTES.match(words):
            problem = f"eight bytes, of which it is not clear which is the lowest: {text[:60]!r}"
            raise self.kept.error(number, problem, "write the value as one number")
        for offset, value in enumerate(listed):
            self.kept.put(first + offset, msr, value, number)

    def _heading(self, text: str) -> bool:
        """Take the heading of a table, with or without commas; False if the line is none."""
        words = re.findall(r"\w+", text.lower())
        columns = [_COLUMNS.get(word) for word in words]
        if None in columns or not {"msr", "value"} <= set(columns):
            return False
        self._columns = [each or "" for each in columns]
        return True

    def _of_columns(self, text: str) -> str:
        """Return a row of such a table as a line."""
        words = text.split()
        if not self._columns or len(words) != len(self._columns):
            return text
        row = dict(zip(self._columns, words, strict=True))
        cpu = f"cpu {row['cpu'].removeprefix('cpu')}: " if "cpu" in row else ""
        return f"{cpu}{row['msr']} {row['value']}"

    def _are_halves(self, number: int, text: str, msr: int, words: Sequence[int]) -> bool:
        """Tell if two words of eight digits are one value's halves, by which reading is valid."""
        if self._form is not None:
            return self._form == HALVES
        if (proved := _proved(msr, words)) is not None:
            return proved
        if not self._asked:
            self._asked, self._form = True, _form_of(self._lines)
            if self._form is not None:
                return self._form == HALVES
        if _CPUCONTROL.match(text):
            return True
        raise self.kept.error(
            number,
            f"two halves of one value, or the values of two processors: {text[:60]!r}",
            f"choose a format: {HALVES} or {CPUS}",
        )


def _read_pair(text: str) -> tuple[int, str, list[int]] | None:
    """Return an MSR, its values as words, and as numbers; None if the text is something else."""
    found = _NAMED_PAIR.match(text) or _PAIR.match(text)
    msr = msr_number(found["msr"]) if found else None
    if found is None or msr is None:
        return None
    values = [hex_number(word) for word in found["values"].split()]
    listed = [value for value in values if value is not None]
    return (msr, found["values"], listed) if len(listed) == len(values) else None


def _proved(msr: int, words: Sequence[int]) -> bool | None:
    """Tell if two words must be halves; None if they may be either."""
    whole = _valid(msr, words[0] << 32 | words[1])
    return whole if whole != all(_valid(msr, word) for word in words) else None


def _form_of(lines: Sequence[str]) -> str | None:
    """Return the reading of two words that the lines prove which allow but one."""
    votes = set[bool | None]()
    for line in lines:
        found = _PAIR.match(cleaned(line).strip())
        if found and _TWO_HALVES.match(found["values"]):
            msr = msr_number(found["msr"])
            words = [hex_number(word) or 0 for word in found["values"].split()]
            votes.add(None if msr is None else _proved(msr, words))
    votes.discard(None)
    return (HALVES if True in votes else CPUS) if len(votes) == 1 else None


def _valid(msr: int, value: int) -> bool:
    """Tell if any processor could have a value; of the registers that no rule is known for, all."""
    rule = broken_rule(msr, value, 52, m.MAX_VCNT)
    return rule is None or rule in ("not an MTRR", "the MSR is read-only")


def read_text(lines: Sequence[str], name: str, form: str | None = None) -> Listing:
    """Read a dump. Raises ``UserError`` at a line that is not an MSR and its value.

    ``form`` is ``HALVES`` or ``CPUS`` where two words of eight digits could be either.
    """
    reader = _DumpReader(lines, name, form)
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not (reader.script and text.startswith("#")):
            reader.line(number, text)
    return reader.kept.listing(reader.what)
