import pytest

from mtrrzap.engine.check.check import check
from mtrrzap.engine.check.scenario import scenario
from mtrrzap.protocol import EVERYTHING, PROTOCOLS, load
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
    ranges = (((0x80, 0xA0), (0x1000, 0x2000)),) if vcpus == 2 else ((EVERYTHING,),)
    for verdict in check(scenario(row, vcpus, 1, ranges=ranges)):
        if verdict.counterexample:
            lines = drawn(verdict.counterexample, name).splitlines()
            assert max(map(len, lines)) <= WIDTH
            assert all(line == line.rstrip() for line in lines)
