from pathlib import Path

import pytest

from helpers import broken_protocols
from mtrrzap.checker.check import Options, Verdict, check
from mtrrzap.checker.scenario import Scenario, scenario
from mtrrzap.checker.schedule import replay, shows, written
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.protocol.load import load

BROKEN = Path(broken_protocols.__file__)


def violated(world: Scenario) -> list[Verdict]:
    return [each for each in check(world) if each.counterexample]


WORLDS = [
    (name, scenario(load(name), 2 + (memory == "tso"), 1, alloc_fails=True, memory=memory))
    for name in (
        *PROTOCOLS,
        f"{BROKEN}:no_lock",
        f"{BROKEN}:crossed_locks",
        f"{BROKEN}:unlock_twice",
    )
    for memory in ("sc", "tso")
]


WITHOUT = {"direct", "ticket"}
"""Protocols that nothing is found against, and so have no schedule to replay."""


def test_only_these_have_no_schedule() -> None:
    assert {name for name, world in WORLDS if not violated(world)} == WITHOUT
    assert {name for name, world in WORLDS if violated(world)} == {n for n, _ in WORLDS} - WITHOUT


@pytest.mark.parametrize(
    ("name", "world"),
    [each for each in WORLDS if each[0] not in WITHOUT],
    ids=lambda each: str(each)[-16:],
)
def test_every_schedule_replays_to_the_same_end(name: str, world: Scenario, tmp_path: Path) -> None:
    found = violated(world)
    assert found
    for verdict in found:
        assert verdict.counterexample is not None
        file = tmp_path / "schedule"
        text = written(verdict.counterexample, name)
        file.write_text(text)
        again = replay(file.read_text(encoding="utf-8"), str(file), load)
        assert again.schedule == verdict.counterexample.schedule
        assert again.loop == verdict.counterexample.loop
        assert shows(again)
        assert written(again, name) == text


def schedule_of(name: str) -> str:
    found = check(scenario(load(name), 2, 1), Options(properties=("lost zap",)))
    assert found[0].counterexample is not None
    return written(found[0].counterexample, name)


def test_a_step_that_the_protocol_does_not_do_is_an_error(tmp_path: Path) -> None:
    lines = schedule_of("v4").splitlines()
    at = lines.index("0 list.add(0, ~0) = True")
    lines[at] = "0 list.clear()"
    file = tmp_path / "schedule"
    file.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"vCPU 0 cannot do 'list\.clear") as error:
        replay(file.read_text(encoding="utf-8"), str(file), load)
    assert error.value.place == f"{file}:{at + 1}"
    assert error.value.mend == "it can do list.add(0, ~0) = True"


def test_a_schedule_that_ends_too_early_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    file.write_text("\n".join(schedule_of("v4").splitlines()[:-1]))
    with pytest.raises(UserError, match="runs to its end and does not show lost zap"):
        replay(file.read_text(encoding="utf-8"), str(file), load)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a schedule file"),
        ("# mtrrzap schedule 1\nprotocol v4\n", "invalid header line"),
        ("# mtrrzap schedule 1\nprotocol: v4\n\n", "the header lacks 'alloc-fails'"),
        (
            "# mtrrzap schedule 1\nprotocol: v9\nalloc-fails: no\nmemory: sc\nforever: no\n"
            "vcpu 0: 0-1\n\n",
            "unknown protocol 'v9'",
        ),
    ],
)
def test_what_is_no_schedule_is_an_error(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        replay(file.read_text(encoding="utf-8"), str(file), load)
    assert says in str(error.value)


def starving(name: str) -> list[str]:
    found = check(scenario(load(name), 2, 1), Options(properties=("starvation",)))
    assert found[0].counterexample is not None
    return written(found[0].counterexample, name).splitlines()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("starves: 1", "starves: 7", "unknown vCPU '7'"),
        ("starves: 1", "starves: abc", "unknown vCPU 'abc'"),
        ("starves: 1", "starves: \u00b2", "unknown vCPU"),
        ("shows: starvation", "shows: work", "unknown property that a schedule can show 'work'"),
        ("shows: starvation", "shows: foo", "unknown property that a schedule can show 'foo'"),
        ("memory: sc", "memory: foo", "unknown memory model 'foo'"),
        ("0 lock.join()", "\u00b2 lock.join()", "invalid step"),
        ("0 lock.join()", "2 lock.join()", "invalid step"),
        ("0 lock.join()", "\x1b]0;x\x07", r"invalid step '\x1b]0;x\x07'"),
        ("forever: yes", "forever: \x9b1m", r"unknown forever '\x9b1m'"),
        ("forever: yes", "for\x1bever: yes", r"unexpected key 'for\x1bever'"),
        ("forever: yes", "memory: sc", "unexpected key 'memory'"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 2: 0-1", "unexpected key 'vcpu 2'"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 1: 5-3", "invalid range '5-3'"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 1: 0-0x10000000000001", "invalid range"),
        ("vcpu 1: 0x0-0x10000000000000", f"vcpu 1: {'9' * 9999}-1", "invalid range '999"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 1: " + "; ".join(["0-1"] * 1001), "too many"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 1: " + "0-1 " * 1001, "too many"),
        ("vcpu 1: 0x0-0x10000000000000", "vcpu 1: 0-1; ; 0-1", "a request without a range"),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_an_error(old: str, new: str, says: str) -> None:
    lines = [each.replace("starves: 0", "starves: 1") for each in starving("review")]
    at = lines.index(old)
    lines[at] = new
    with pytest.raises(UserError) as error:
        replay("\n".join(lines), "file", load)
    assert says in error.value.problem
    assert error.value.place == f"file:{at + 1}"


def test_a_loop_that_is_unfair_shows_nothing() -> None:
    text = [
        "# mtrrzap schedule 1", "protocol: direct", "shows: starvation", "alloc-fails: no",
        "memory: sc", "forever: yes", "starves: 0", "vcpu 0: 0x0-0x10", "vcpu 1: 0x0-0x10", "",
        "0 zap begin [0,0x10)", "for ever:", "1 zap begin [0,0x10)", "1 zap end [0,0x10)",
    ]  # fmt: skip
    with pytest.raises(UserError, match="does not show starvation"):
        replay("\n".join(text), "file", load)


def test_nothing_is_loaded_before_the_file_is_judged() -> None:
    def never(_: str) -> Protocol:
        raise AssertionError

    for line in ("0 what", "9 lock.lock()"):
        lines = [*schedule_of("v4").splitlines(), line]
        with pytest.raises(AssertionError if line == "0 what" else UserError):
            replay("\n".join(lines), "file", never)
