from pathlib import Path

import pytest

import broken_protocols
from mtrrzap.engine.check.check import Options, Verdict, check
from mtrrzap.engine.check.scenario import Scenario, scenario
from mtrrzap.engine.check.strategies.replay import replay, shows, written
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, load

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


@pytest.mark.parametrize(("name", "world"), WORLDS, ids=lambda each: str(each)[-16:])
def test_every_schedule_replays_to_the_same_end(name: str, world: Scenario, tmp_path: Path) -> None:
    for verdict in violated(world):
        assert verdict.counterexample is not None
        file = tmp_path / "schedule"
        text = written(verdict.counterexample, name)
        file.write_text(text)
        again = replay(file)
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
        replay(file)
    assert error.value.place == f"{file}:{at + 1}"
    assert error.value.mend == "it can do list.add(0, ~0) = True"


def test_a_schedule_that_ends_too_early_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    file.write_text("\n".join(schedule_of("v4").splitlines()[:-1]))
    with pytest.raises(UserError, match="runs to its end, and shows no lost zap"):
        replay(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no schedule"),
        ("# mtrrzap schedule 1\nprotocol v4\n", "is no 'key: value'"),
        ("# mtrrzap schedule 1\nprotocol: v4\n\n", "the header does not say 'alloc-fails'"),
        ("# mtrrzap schedule 1\nprotocol: v9\n\n", "no protocol is called 'v9'"),
    ],
)
def test_what_is_no_schedule_is_an_error(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "schedule"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        replay(file)
    assert says in str(error.value)
