"""The table of verdicts: at most 100 columns, and every word of it there."""

import pytest

from helpers import broken_protocols
from mtrrzap.checker.check import Verdict, check
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol
from mtrrzap.report.verdicts import WIDTH, table


@pytest.mark.parametrize("name", ["v4", "ticket", "path/to/" + "x" * 30 + ".py:f", "y" * 250])
def test_no_line_is_too_long(name: str) -> None:
    verdicts = check(scenario(load("v4"), 2, 1, alloc_fails=True))
    text = table([(name, verdicts), (name, verdicts)])
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "".join(text.split()).count(name) == 2
    told = " ".join(text.split())
    for each in verdicts:
        assert told.count(each.detail) >= 2


def test_huge_numbers_leave_the_last_word_a_line_of_its_own() -> None:
    big = Verdict("lost zap", "unknown", "limit", "2 vCPUs", 10**9, 10**10, 10.0**4)
    assert table([("a_protocol_of_some_name", [big])]).splitlines()[2:] == [
        "a_protocol_of_some_name  lost zap  unknown  1,000,000,000  10,000,000,000  10000.00 s",
        "    limit (2 vCPUs)",
    ]


def test_a_world_is_named_once() -> None:
    holds = Verdict("deadlock", "holds", "", "2 vCPUs", 1, 2, 0.0)
    other = Verdict("work", "unknown", "why", "3 vCPUs", 1, 2, 0.0)
    rows = table([("p", [holds, holds, other]), ("q", [holds])]).splitlines()[2:]
    ends = [row.partition("0.00 s")[2].strip() for row in rows]
    assert ends == ["2 vCPUs", "", "why (3 vCPUs)", "2 vCPUs"]


def test_allocation_may_fail_only_where_there_is_any() -> None:
    for row, allocates in ((broken_protocols.mutex, False), (load("v4").call, True)):
        found = check(scenario(protocol(row, "test"), 2, 1, alloc_fails=True))
        worlds = {each.configuration for each in found if each.prop != "work"}
        assert all(("allocation may fail" in world) == allocates for world in worlds)
        for each in found:
            if each.counterexample:
                assert each.counterexample.scenario.alloc_fails == allocates
