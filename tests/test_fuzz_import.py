"""A short run of the fuzzer of tests/fuzz_import.py, and the seeds that once found something."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz_import import TARGETS, case, check

FOUND = (125802,)
"""Seeds of cases that ended in something else than a result or a UserError once."""


@pytest.mark.parametrize("first", range(0, 1500, 300))
def test_mutated_files(first: int) -> None:
    for seed in (*range(first, first + 300), *FOUND):
        assert check(*case(seed)) in ("read", "UserError"), seed


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TARGETS), st.binary(max_size=400))
def test_any_bytes(target: tuple[object, ...], data: bytes) -> None:
    assert check(target[0], data) in ("read", "UserError")  # type: ignore[arg-type]
