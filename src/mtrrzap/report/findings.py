"""``docs/findings.md``: what each published version does wrong, with the shortest schedule."""

from mtrrzap.checker.any_number.prove import PROPERTIES as EVERY_NUMBER
from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.prove import check as prove
from mtrrzap.checker.check import VIOLATED, Options, Verdict, check
from mtrrzap.checker.properties import lost_zap, ordering, starvation, work
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.report.counterexample import drawn

_HEAD = """# What each published version does wrong

Read this page to know how each published protocol fails. Every schedule is a shortest one: no
interleaving of fewer steps shows the same (for starvation: the way in and the loop together).
`mtrrzap check --findings` generates this page; do not edit. All vCPUs ask for everything, `[0,~0)`.
*Holds* means in every interleaving of the size named. [check.md](check.md#properties) defines
steps and properties.
"""

_SIZES = ((2, 1), (2, 2), (3, 1), (3, 2), (4, 1))


def findings() -> str:
    """Return the page."""
    parts = [_HEAD]
    verdicts = {}
    for name, row in PROTOCOLS.items():
        verdicts[name] = check(scenario(row, 2, 1, alloc_fails=row.allocates))
        if verdicts[name][-1].interrupted:
            raise KeyboardInterrupt
    parts.append(_summary(verdicts))
    parts.append(_every_number())
    parts.append(_without_failure())
    parts.append(_work())
    for name, row in PROTOCOLS.items():
        parts.append(_section(row, verdicts[name]))
    return "\n".join(parts)


def _summary(verdicts: dict[str, list[Verdict]]) -> str:
    names = [each.prop for each in next(iter(verdicts.values())) if each.prop != work.NAME]
    lines = [
        "## 2 vCPUs, one request each; allocation may fail",
        "",
        "| protocol | " + " | ".join(names) + " | source |",
        "| --- |" + " --- |" * (len(names) + 1),
    ]
    for name, found in verdicts.items():
        said = {each.prop: each for each in found}
        cells = [
            f"**{said[prop].detail}**" if said[prop].verdict == VIOLATED else said[prop].verdict
            for prop in names
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {PROTOCOLS[name].source} |")
    return "\n".join(lines) + "\n"


def _every_number() -> str:
    """Return the verdicts for every number of vCPUs; the schedules are those of 2 vCPUs."""
    lines = [
        "## Every number of vCPUs; allocation may fail",
        "",
        "Proved for any number of vCPUs that ask for everything, for ever",
        "([how](any-number.md)). A cell with steps is violated, by a schedule of that length.",
        "",
        "| protocol | " + " | ".join(EVERY_NUMBER) + " |",
        "| --- |" + " --- |" * len(EVERY_NUMBER),
    ]
    for name, row in PROTOCOLS.items():
        found = prove(Proof(row))
        if any(each.interrupted for each in found):
            raise KeyboardInterrupt
        lines.append(f"| `{name}` | {' | '.join(map(_cell, found))} |")
    return "\n".join(lines) + "\n"


def _cell(verdict: Verdict) -> str:
    if verdict.verdict == VIOLATED:
        return f"**{verdict.detail.partition(' (')[0]}**"
    bound = verdict.detail.partition(": ")[2]
    return f"{verdict.verdict}: {bound}" if bound else verdict.verdict


def _without_failure() -> str:
    lines = [
        "## With and without failing allocations",
        "",
        "v3 and patch 10 lose a zap soonest when an allocation fails. All three published versions",
        "lose one if none ever does, through the same window:",
        "",
        "| protocol | steps, an allocation fails | steps, none does |",
        "| --- | --- | --- |",
    ]
    only = Options(properties=(lost_zap.NAME,))
    for name in ("v3", "v4", "v4_patch10"):
        found = [
            check(scenario(PROTOCOLS[name], 2, 1, alloc_fails=fails), only)[0].detail
            for fails in (True, False)
        ]
        lines.append(f"| `{name}` | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def _work() -> str:
    lines = [
        "## Work and waiting",
        "",
        "*Zaps*: how many end in a whole run, best..worst over all interleavings; one is enough if",
        "all calls come together. *Waiting*: the most zaps that one call sits through, its own and",
        "those of others that end while it is blocked. No allocation fails.",
        "",
        "| protocol | " + " | ".join(f"{n} vCPUs x {r}" for n, r in _SIZES) + " |",
        "| --- |" + " --- |" * len(_SIZES),
    ]
    for name, row in PROTOCOLS.items():
        cells = []
        for vcpus, requests in _SIZES:
            found = work.measure(scenario(row, vcpus, requests))
            if found.cut:
                raise KeyboardInterrupt  # there is no other reason
            cells.append(f"zaps {found.zaps}, waiting {found.waiting}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _section(row: Protocol, verdicts: list[Verdict]) -> str:
    lines = [f"## `{row.name}`: {row.source}", ""]
    if row.name in _ABOUT:
        lines += [_ABOUT[row.name], ""]
    wrong = [each for each in verdicts if each.verdict == VIOLATED]
    if not wrong:
        lines.append("Nothing was found against it.\n")
    for verdict in wrong:
        assert verdict.counterexample is not None
        lines += [f"### {verdict.prop}", ""]
        note = _NOTES.get((row.name, verdict.prop)) or _NOTES.get(("", verdict.prop))
        if note:
            lines += [note, ""]
        if (row.name, verdict.prop) not in _DRAWN:
            command = f'mtrrzap check {row.name} -p "{verdict.prop}"'
            lines += [f"{verdict.detail.capitalize()}: `{command}` draws it.", ""]
            continue
        lines += ["```text", drawn(verdict.counterexample, row.name).rstrip(), "```", ""]
    return "\n".join(lines)


_ABOUT = {
    "review": (
        "Beyond the review's words, *add* drops a range that an entry of the array already covers: "
        "the merge at the drain, which the review asks for, would absorb it."
    ),
}

_NOTES = {
    ("v4", "lost zap"): (
        "The window is between the last release of the list's lock and the store that clears "
        "`zapping`: no vCPU zaps a range queued there."
    ),
    ("v3", "lost zap"): (
        "The allocation fails, and the list is cleared with another vCPU's range in it. That vCPU "
        "drains an empty list and returns. Without a failing allocation v3 loses zaps as v4 does."
    ),
    ("v4_patch10", "lost zap"): (
        "The failure path clears the list, then zaps everything outside `zapping`: the owner of "
        "the cleared range returns before that zap has ended, or begun."
    ),
    ("", starvation.NAME): (
        "The waiter must see the flag clear at the moment it looks. If another vCPU asks again in "
        "between, it never does."
    ),
    ("", ordering.NAME): (
        "Not visible on x86: the waiter leaves on a plain read. An acquire there would fix it."
    ),
}

_DRAWN = {("v4", lost_zap.NAME), ("sketch", ordering.NAME), ("review", starvation.NAME)}
"""One violation of each property; the others fail for the reason that the page gives."""
