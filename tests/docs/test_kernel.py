"""The pages' tables of a real kernel's own calls are what the kernel is found to do."""

import pytest

from helpers.kernel_records import CALLS
from helpers.paths import ROOT
from mtrrzap.guest.open import shipped
from mtrrzap.simulator import published


@pytest.mark.parametrize(
    ("page", "cells"),
    [
        ("README.md", "{known} | {on} | {on} | {off} | {off} |"),
        ("docs/kernel.md", "{known} | {on} | {off} |"),
        ("docs/validation.md", "{known} | {on} | {off} |"),
        ("benchmarks/validation-text.md", "{known} | {on} | {off} |"),
    ],
)
def test_the_table(page: str, cells: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for _, trace in shipped():
        family, vcpus = trace.header.family, trace.header.vcpus
        on, off = CALLS[family, vcpus]
        known = published.requests(trace.header)["Base1"]
        line = f"| {family} | {vcpus} | " + cells.format(known=known, on=on, off=off)
        assert line in text, line
