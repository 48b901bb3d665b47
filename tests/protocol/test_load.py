import pytest

from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Range, Steps, Vm
from mtrrzap.protocol.load import load
from mtrrzap.protocol.v4 import v4


def alone(vm: Vm, ranges: tuple[Range, ...]) -> Steps:
    for start, end in ranges:
        yield vm.mmu.zap(start, end)


def test_a_function_is_a_protocol() -> None:
    made = load(alone)
    assert (made.name, made.call, made.vm) == ("alone", alone, Vm)
    assert load(v4).vm is PROTOCOLS["v4"].vm


def test_a_protocol_is_returned_as_it_is() -> None:
    assert load(PROTOCOLS["ticket"]) is load("ticket")


@pytest.mark.parametrize("wrong", [print, 3, abs, test_a_function_is_a_protocol])
def test_what_is_not_a_generator_function_is_refused(wrong: object) -> None:
    with pytest.raises(UserError, match=r"is not a (generator )?function"):
        load(wrong)  # type: ignore[arg-type]
