"""A counterexample as the kernel list draws it: one column a vCPU, time downwards.

The shared state stands at the right margin, and only what a step changed. At most 100 columns, or
what the terminal has: where they would leave a vCPU less than 14, all share one, and every line
begins with its vCPU's number.
"""

import textwrap

from mtrrzap.checker.check import Counterexample
from mtrrzap.checker.properties import lost_zap, ordering, safety
from mtrrzap.checker.schedule import model_for
from mtrrzap.checker.schedule_run import ScheduleRun, StepLine, run_schedule
from mtrrzap.errors import counted

WIDTH = 100
_MARGIN = 24
_NARROW = 14
_NUMBER = "vCPU "


def drawn(shown: Counterexample, protocol: str, width: int = WIDTH) -> str:
    """Render a counterexample; ``protocol`` is the name it goes by."""
    model, stepper = model_for(shown.scenario, shown.prop)
    run = run_schedule(model, shown.schedule + shown.loop, stepper=stepper)
    table = _Table(run, width)
    steps = counted(len(shown.schedule), "step")
    head = f"{protocol}: {shown.prop}, {shown.scenario.title()}, {steps}"
    if shown.loop:
        head += f" and a loop of {len(shown.loop)}"
    out = [*textwrap.wrap(head, width), "", *table.head()]
    for number, line in enumerate(run.lines):
        if shown.loop and number == len(shown.schedule):
            out.append(" from here on for ever ".center(table.width, "-"))
        out += table.rows(line)
    if shown.loop:
        out.append(" and again ".center(table.width, "-"))
    out.append("")
    for sentence in _ending(shown, run):
        out += textwrap.wrap(sentence, width)
    return "\n".join(line.rstrip() for line in out) + "\n"


class _Table:
    def __init__(self, run: ScheduleRun, width: int) -> None:
        self._run = run
        self._vcpus = sorted({line.vcpu for line in run.lines} | {vcpu for vcpu, _ in run.stuck})
        longest = max((len(text) for line in run.lines for text in line.changed), default=0)
        self._margin = min(_MARGIN, max(longest, 12))
        widest = max((len(text) for line in run.lines for text in _texts(line)), default=8)
        columns = max(1, len(self._vcpus))
        room = (width - self._margin - 2) // columns - 1
        self._one = room < _NARROW
        """Whether the vCPUs share one column, with their numbers before it."""
        if self._one:
            columns, room = 1, width - self._margin - 2 - len(_NUMBER) - 1
        self._column = max(_NARROW, min(room, widest))
        before = len(_NUMBER) if self._one else 0
        self.width = min(width, before + columns * (self._column + 1) + 2 + self._margin)

    def head(self) -> list[str]:
        """Return the names of the columns, and the shared state at the start."""
        vcpus = self._vcpus[:1] if self._one else self._vcpus
        names = "".join(f"vCPU {vcpu}".ljust(self._column + 1) for vcpu in vcpus)
        rule = "".join("-" * self._column + " " for _ in vcpus)
        if self._one:
            names = _NUMBER + " " * (self._column + 1)
            rule = "-" * (len(_NUMBER) - 1) + " " + rule
        state = [text for each in self._run.before for text in self._wrapped(each, self._margin)]
        first = names + "| " + (state[0] if state else "")
        blank = " " * len(names)
        return [first, *(f"{blank}| {text}" for text in state[1:]), f"{rule}| {'-' * self._margin}"]

    def rows(self, line: StepLine) -> list[str]:
        """Return the lines of one step."""
        at = self._vcpus.index(line.vcpu)
        inside = [part for text in _texts(line) for part in self._wrapped(text, self._column)]
        margin = [part for text in line.changed for part in self._wrapped(text, self._margin)]
        rows = []
        first = len(inside) - 1 if line.returns is None else len(inside) - 2
        margin = [""] * max(0, min(first, len(inside) - len(margin))) + margin
        for i in range(max(len(inside), len(margin))):
            text = inside[i] if i < len(inside) else ""
            rows.append(self._cells(at, text) + "| " + (margin[i] if i < len(margin) else ""))
        return rows

    def _cells(self, at: int, text: str) -> str:
        cell = text.ljust(self._column + 1)
        if self._one:
            return f"{self._vcpus[at]:>{len(_NUMBER) - 1}} {cell}"
        cells = [" " * (self._column + 1)] * len(self._vcpus)
        cells[at] = cell
        return "".join(cells)

    def _wrapped(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _texts(line: StepLine) -> list[str]:
    texts = [f"asks for {line.calls}"] if line.calls else []
    texts.append(line.text)
    if line.returns is not None:
        texts.append("returns")
    return texts


def _ending(shown: Counterexample, run: ScheduleRun) -> list[str]:
    last = run.lines[-1] if run.lines else None
    if shown.loop:
        return [
            f"vCPU {shown.starves} never returns, although every vCPU that can make a step makes "
            "one, and locks are served in turn."
        ]
    if run.stuck:
        waits = "; ".join(f"vCPU {vcpu} at {text}" for vcpu, text in run.stuck)
        return [f"Deadlock: nobody can go on. {waits}."]
    if last is None:
        return []
    if last.flags & lost_zap.FLAG:
        return [
            f"vCPU {last.vcpu} returns, and no zap that started after it asked has finished for "
            f"all of {last.returns}."
        ]
    if last.flags & ordering.FLAG:
        return [
            f"vCPU {last.vcpu} returns without an acquire that pairs with the zapper's release: "
            "the kernel's memory model lets it run on as if the zap had not happened. x86 hides "
            "this."
        ]
    if last.flags & safety.UNLOCKED_FLAG:
        return [f"vCPU {last.vcpu} does {last.text} without holding the lock ({last.where})."]
    if last.flags & safety.CAPACITY_FLAG:
        return [f"vCPU {last.vcpu}: {last.text} loses what it was given ({last.where})."]
    return []
