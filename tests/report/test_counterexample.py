import pytest

from mtrrzap.checker.check import Counterexample, Options, check
from mtrrzap.checker.result import Choice
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.schedule import model_for
from mtrrzap.checker.schedule_run import StepLine, run_schedule
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS
from mtrrzap.protocol.load import load
from mtrrzap.report.counterexample import WIDTH, drawn

V4 = """\
v4: lost zap, 2 vCPUs, 1 request each, 20 steps

vCPU 0                            vCPU 1                            | lock:free
                                                                    | list:empty
                                                                    | zapping=0
--------------------------------- --------------------------------- | ------------
asks for [0,~0)                                                     |
kmalloc() = True                                                    |
lock.lock()                                                         | lock:held
list.add(0, ~0) = True                                              | list:[0,~0)
lock.unlock()                                                       | lock:free
zapping.cmpxchg_acquire(0, 1) = 0                                   | zapping=1
lock.lock()                                                         | lock:held
list.pop_first() = [0,~0)                                           | list:empty
lock.unlock()                                                       | lock:free
zap begin [0,~0)                                                    |
                                  asks for [0,~0)                   |
                                  kmalloc() = True                  |
zap end [0,~0)                                                      |
lock.lock()                                                         | lock:held
list.pop_first() = None                                             |
lock.unlock()                                                       | lock:free
                                  lock.lock()                       | lock:held
                                  list.add(0, ~0) = True            | list:[0,~0)
                                  lock.unlock()                     | lock:free
                                  zapping.cmpxchg_acquire(0, 1) = 1 |
zapping.store_release(0)                                            | zapping=0
returns                                                             |
                                  zapping.wait_until(0)             |
                                  returns                           |

vCPU 1 returns, and no zap that started after it asked has finished for all of [0,~0).
"""


def test_v4_loses_a_zap() -> None:
    verdict = check(scenario(load("v4"), 2, 1))[0]
    assert verdict.counterexample is not None
    assert drawn(verdict.counterexample, "v4") == V4


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("vcpus", [2, 5])
def test_nothing_is_wider_than_a_mail(name: str, vcpus: int) -> None:
    row = load(name)
    ranges = (((0x80, 0xA0), (0x1000, 0x2000)),) if vcpus == 2 else ((ALL_GFNS,),)
    for verdict in check(scenario(row, vcpus, 1, ranges=ranges)):
        if verdict.counterexample:
            lines = drawn(verdict.counterexample, name).splitlines()
            assert max(map(len, lines)) <= WIDTH
            assert all(line == line.rstrip() for line in lines)


def many(vcpus: int) -> list[str]:
    """Every vCPU allocates, one after the other."""
    world = scenario(load("v4"), vcpus, 1)
    steps = tuple(Choice(vcpu, 0) for vcpu in range(vcpus))
    return drawn(Counterexample(world, "lost zap", steps), "v4").splitlines()


def test_many_vcpus_share_one_column() -> None:
    assert many(12)[2:10] == [
        "vCPU                  | lock:free",
        "                      | list:empty",
        "                      | zapping=0",
        "---- ---------------- | ------------",
        "   0 asks for [0,~0)  |",
        "   0 kmalloc() = True |",
        "   1 asks for [0,~0)  |",
        "   1 kmalloc() = True |",
    ]
    assert many(12)[-3:-1] == ["  11 asks for [0,~0)  |", "  11 kmalloc() = True |"]


def test_few_vcpus_have_a_column_each() -> None:
    assert many(5)[2].startswith("vCPU 0           vCPU 1           vCPU 2 ")
    assert many(6)[2].startswith("vCPU   ")


def test_vcpus_are_numbered_as_the_user_gave_their_ranges() -> None:
    one, other = ((0x1000, 0x2000),), ((0x100, 0x200),)
    world = scenario(load("v4"), 3, 1, ranges=(one, other))
    assert world.requests == ((one,), (other,), (one,))
    found = check(world, Options(properties=("lost zap",)))[0].counterexample
    assert found is not None
    assert found.scenario.requests == world.requests
    text = drawn(found, "v4")
    asked = {line.vcpu: line.calls for line in _lines(found) if line.calls}
    assert asked == {v: ("[0x1000,0x2000)", "[0x100,0x200)")[v % 2] for v in asked}
    assert "and no zap that started after it asked has finished" in text


def _lines(found: Counterexample) -> tuple[StepLine, ...]:
    model, stepper = model_for(found.scenario, found.prop)
    return run_schedule(model, found.schedule, stepper=stepper).lines
