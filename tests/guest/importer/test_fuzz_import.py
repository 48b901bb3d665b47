"""A short run of the fuzzer of tests/fuzz_import.py, and the inputs that once found something."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.fuzz_import import TARGETS, all_targets, case, check, kept, read_trace
from helpers.fuzz_readers import read_schedule
from helpers.traces import GOOD

NO_VCPU = b"""# mtrrzap schedule 1
protocol: v3
shows: ordering
alloc-fails: yes
memory: sc
forever: no
"""
FOUND = ((read_trace, GOOD.replace("0 reset", "@0").encode()), (read_schedule, NO_VCPU))
"""Readers and inputs that ended in something else than a result or a UserError once."""


@pytest.mark.parametrize("first", range(0, 1500, 300))
def test_mutated_files(first: int) -> None:
    for seed in range(first, first + 300):
        assert check(*case(seed)) in ("read", "UserError"), seed


@pytest.mark.parametrize(("target", "data"), FOUND)
def test_inputs_that_found_something(target: Callable[[bytes], None], data: bytes) -> None:
    assert check(target, data) == "UserError"


def test_inputs_that_atheris_kept() -> None:
    ended = Counter(check(TARGETS[data[0] % len(TARGETS)][0], data[1:]) for data in kept())
    assert set(ended) == {"read", "UserError"}
    assert ended.total() == 355


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([target for target, _ in all_targets()]), st.binary(max_size=400))
def test_any_bytes(target: Callable[[bytes], None], data: bytes) -> None:
    assert check(target, data) in ("read", "UserError")
