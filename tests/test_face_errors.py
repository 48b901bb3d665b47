"""The face's errors: bad values and wrong types are a ``UserError`` of one line."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import mtrrzap
from mtrrzap.protocol import Range, Spinlock, Steps, Vm


class OwnVm(Vm):
    lock = Spinlock()


def raising(vm: OwnVm, _: tuple[Range, ...]) -> Steps:
    yield vm.lock.lock()
    raise ValueError("seeded")


def not_a_protocol(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: mtrrzap.load("ovmf-7"), "ovmf-7"),
        (lambda: mtrrzap.load("no/such.trace"), "no/such.trace: cannot be read"),
        (lambda: mtrrzap.load(__file__), "not a trace"),
        (lambda: mtrrzap.replay("ovmf-8", "Base3"), "Base3"),
        (lambda: mtrrzap.compare("ovmf-8", ["v6.1", "v7"]), "v7"),
        (lambda: mtrrzap.compare("ovmf-8", page_size="3K"), "invalid page size '3K'"),
        (lambda: mtrrzap.rescale("ovmf-8", vcpus=1), "vCPU 0"),
        (lambda: mtrrzap.audit("ovmf-8", "Base3"), "Base3"),
        (lambda: mtrrzap.simulate("ovmf-7", "v6.1"), "ovmf-7"),
        (lambda: mtrrzap.simulate("ovmf-8", replace(mtrrzap.POLICIES[0], protocol="x")), "'x'"),
        (lambda: mtrrzap.check("v5"), "v5"),
        (lambda: mtrrzap.check(len), "builtin_function_or_method is not a protocol"),
        (lambda: mtrrzap.check(not_a_protocol), "not_a_protocol"),
        (lambda: mtrrzap.check(raising), f"{__file__}:"),
        (lambda: mtrrzap.check("v4", vcpus=0), "vCPUs: 0"),
        (lambda: mtrrzap.check("v4", vcpus=13), "vCPUs: 13"),
        (lambda: mtrrzap.check("v4", requests=0), "requests: 0"),
        (lambda: mtrrzap.check("v4", memory_model="pso"), "pso"),
        (lambda: mtrrzap.check("v4", properties="lost zaps"), "lost zaps"),
        (
            lambda: mtrrzap.check("v4", properties="deadlock")["lost zap"],
            "no verdict on 'lost zap'",
        ),
        (lambda: mtrrzap.check("v4", ranges=[[(5, 5)]]), "0x5"),
        (lambda: mtrrzap.check("v4", ranges=[(0, 5)]), "invalid ranges"),
        (lambda: mtrrzap.check("v4", ranges=[[]]), "without ranges"),
        (lambda: mtrrzap.check("v4", strategy="dfs"), "unknown strategy 'dfs'"),
        (lambda: mtrrzap.check("v4", engine="c"), "unknown engine 'c'"),
        (lambda: mtrrzap.check("v4", runs=0), "runs: invalid number 0"),
        (lambda: mtrrzap.check("v4", max_states=0), "max_states: invalid number 0"),
        (lambda: mtrrzap.check("v4", max_seconds=-1), "max_seconds: invalid number -1"),
        (lambda: mtrrzap.check("v4", properties=[]), "properties: none is given"),
        (lambda: mtrrzap.check("v4", ranges=[[(0, 1.5)]]), "invalid ranges"),
        (lambda: mtrrzap.replay("ovmf-8", "v6.1", host=mtrrzap.Host(maxphyaddr=99)), "MAXPHYADDR"),
        (lambda: mtrrzap.memory_map("no/dump.txt"), "no/dump.txt: cannot be read"),
        (lambda: mtrrzap.memory_map("ovmf-8", event=5000), "no event 5000"),
        (lambda: mtrrzap.memory_map("ovmf-8", vcpu=8), "no vCPU 8"),
        (lambda: mtrrzap.memory_map("ovmf-8", maxphyaddr=60), "invalid MAXPHYADDR 60"),
        (lambda: mtrrzap.memory_map("ovmf-8").at(1 << 40), "0x10000000000 is not an address"),
        (lambda: mtrrzap.memory_map("ovmf-8").at(-1), "-0x1 is not an address"),
        (lambda: mtrrzap.memory_map("ovmf-8").at("0xc0000000"), "'0xc0000000' is not an address"),
    ],
)
def test_errors(call: Callable[[], object], problem: str) -> None:
    with pytest.raises(mtrrzap.UserError) as caught:
        call()
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG: tuple[Any, ...] = (5, 1.5, b"x", object())


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "call",
    [
        mtrrzap.load,
        mtrrzap.compare,
        mtrrzap.check,
        mtrrzap.memory_map,
        lambda value: mtrrzap.compare([value]),
        lambda value: mtrrzap.compare("ovmf-8", value),
        lambda value: mtrrzap.compare("ovmf-8", page_size=value),
        lambda value: mtrrzap.compare("ovmf-8", host=value),
        lambda value: mtrrzap.replay("ovmf-8", value),
        lambda value: mtrrzap.audit("ovmf-8", value),
        lambda value: mtrrzap.simulate("ovmf-8", value),
        lambda value: mtrrzap.check("v4", ranges=value),
        lambda value: mtrrzap.check("v4", engine=value),
        lambda value: mtrrzap.check("v4", memory_model=value),
        lambda value: mtrrzap.check("v4", properties=value),
    ],
)
def test_a_wrong_type_is_a_user_error(call: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(mtrrzap.UserError):
        call(value)


@pytest.mark.parametrize(
    "value", [1.5, "3", b"x", object()], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize(
    "call",
    [
        lambda value: mtrrzap.check("v4", vcpus=value),
        lambda value: mtrrzap.check("v4", requests=value),
        lambda value: mtrrzap.check("v4", runs=value),
        lambda value: mtrrzap.check("v4", seed=value),
        lambda value: mtrrzap.rescale("ovmf-8", vcpus=value),
        lambda value: mtrrzap.rescale("ovmf-8", memory=value),
        lambda value: mtrrzap.memory_map("ovmf-8", event=value),
        lambda value: mtrrzap.memory_map("ovmf-8", vcpu=value),
        lambda value: mtrrzap.memory_map("ovmf-8", maxphyaddr=value),
    ],
)
def test_a_number_that_is_not_whole_is_a_user_error(
    call: Callable[[Any], object], value: Any
) -> None:
    with pytest.raises(mtrrzap.UserError):
        call(value)


def test_a_missing_verdict_is_a_missing_key() -> None:
    with pytest.raises(KeyError):
        mtrrzap.check("v4", properties="deadlock")["lost zap"]


def test_an_unknown_keyword_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'vcpu'"):
        mtrrzap.check("v4", vcpu=3)
