"""Modelled zaps and waits in perfetto's JSON: slices that nest, and a counter, all by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Run
from helpers.pages import shipped
from helpers.traces import FINE, trace
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.kvm.tdp import FullTable
from mtrrzap.report.perfetto_modelled import PROCESS, modelled_events
from mtrrzap.simulator import Guest, Result, cost_model, simulate

Item = dict[str, Any]


def items(name: str, policy: str) -> list[Item]:
    return list(modelled_events(shipped(name), [by_name(policy)], Host(), 1))


def result(name: str, policy: str) -> Result:
    recorded = shipped(name)
    guest = Guest.of(recorded, Host(), 1, cost_model.costs())
    return simulate(guest, by_name(policy), replay(recorded, by_name(policy), Host()))


def slices(found: list[Item], kind: str) -> list[Item]:
    return [item for item in found if item.get("cat") == f"modelled {kind}"]


@pytest.mark.parametrize("policy", ["Base2", "+9", "+9+10", "review", "ticket"])
def test_a_slice_for_each_request_zap_and_wait(policy: str) -> None:
    found, wanted = items("ovmf-8", policy), result("ovmf-8", policy)
    assert len(slices(found, "request")) == len(wanted.served) == 74
    assert len(slices(found, "zap")) == sum(s.zaps for s in wanted.served)
    waits = slices(found, "wait")
    assert sum(w["dur"] for w in waits) == pytest.approx(wanted.spent.waiting / 1000, abs=0.1)
    assert all(w["name"] != f"waits for vCPU {w['tid']}" for w in waits)


@pytest.mark.parametrize("name", ["ovmf-16", "seabios-8"])
@pytest.mark.parametrize("policy", ["+9", "+9+10+11+12", "ticket"])
def test_what_is_inside_a_request_stays_inside(name: str, policy: str) -> None:
    """Perfetto nests by time alone: nanoseconds must not overlap by rounding."""
    found = items(name, policy)
    for vcpu in range(shipped(name).header.vcpus):
        mine = [item for item in found if item["ph"] == "X" and item["tid"] == vcpu]
        ends = [[round(i["ts"] * 1000), round((i["ts"] + i["dur"]) * 1000)] for i in mine]
        last = inner = 0
        for item, (begin, end) in zip(mine, ends, strict=True):
            if item["cat"] == "modelled request":
                assert last <= begin <= end
                inner, last = begin, end
            else:
                assert inner <= begin <= end <= last
                inner = end


def test_everything_says_modelled(run: Run) -> None:
    out = run("export", "ovmf-8", "-f", "perfetto").out
    found = [item for item in json.loads(out)["traceEvents"] if item["pid"] >= PROCESS]
    names = {i["pid"]: i["args"]["name"] for i in found if i["name"] == "process_name"}
    asking = [n for n, policy in enumerate(POLICIES) if result("ovmf-8", policy.name).served]
    assert sorted(names) == [PROCESS + n for n in asking]
    assert len(asking) == 13  # v6.11 asks for nothing
    for text in names.values():
        assert f"accurate to within a factor of {cost_model.error_factor():.2f}" in text
        assert "MODELLED" in text
    for item in found:
        if item["ph"] in "XC":
            assert "modelled" in item.get("cat", item["name"])
            assert item["ts"] >= 0
    tracks = [i["args"]["name"] for i in found if i["name"] == "thread_name"]
    assert tracks == [f"vCPU {vcpu} (modelled)" for vcpu in range(8)] * 13


@pytest.mark.parametrize(("policy", "lowest"), [("+9", 0), ("lazy", 4194816)])
def test_entries_present(policy: str, lowest: int) -> None:
    """All there at first and at last; a zap of everything leaves none; a mark clears none."""
    recorded = shipped("ovmf-8")
    counts = [item for item in items("ovmf-8", policy) if item["ph"] == "C"]
    stamps = [item["ts"] for item in counts]
    assert stamps == sorted(stamps)
    values = [item["args"]["leaves"] for item in counts]
    whole = FullTable(recorded.header, Host(), 1).leaves
    assert whole == 4194816
    assert (values[0], values[-1], max(values), min(values)) == (whole, whole, whole, lowest)
    ends = {round(p.end) for s in result("ovmf-8", policy).served for p in s.stretches if p.range}
    fault = round(cost_model.costs().retry)
    for item in counts[1:]:
        at = round(item["ts"] * 1000)
        assert at in ends or item["args"]["leaves"] == whole
        if item["args"]["leaves"] == whole and policy == "+9":
            assert at - fault in ends


def test_without_memory_nothing_is_modelled(run: Run, tmp_path: Path) -> None:
    made = trace(*FINE)
    path = tmp_path / "x.trace"
    path.write_text(dumps(Trace(replace(made.header, memory=0, memslots=()), made.events)))
    found = json.loads(run("export", str(path), "-f", "perfetto").out)["traceEvents"]
    mine = [item for item in found if item["pid"] >= PROCESS]
    assert [item["ph"] for item in mine] == ["M"]
    assert "memory is unknown" in mine[0]["args"]["name"]


def test_stretches_are_what_was_spent() -> None:
    """Waits are the waiting, walks all the rest but the protocol's own operations."""
    for policy in POLICIES:
        for served in result("seabios-8", policy.name).served:
            walks = [part for part in served.stretches if part.range is not None]
            waits = [part for part in served.stretches if part.range is None]
            assert len(walks) == served.zaps
            assert sum(p.end - p.begin for p in waits) == pytest.approx(served.spent.waiting, abs=1)
            took = sum(p.end - p.begin for p in walks)
            spent = served.spent
            # A walk ends when mmu_lock has been passed on, which is operating.
            assert spent.walking + spent.yielding + spent.flushing <= took + 1
            assert took <= spent.total - spent.waiting + 1
            assert None not in {part.waited_for for part in waits}
