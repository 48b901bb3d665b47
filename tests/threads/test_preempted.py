"""The protocols on two threads, in every schedule with two chosen switches: what is lost where."""

from __future__ import annotations

import threading

import pytest

from helpers.preempted import schedules
from mtrrzap.protocol import PROTOCOLS

MINE = (0x1000, 0x2000)
V4_WINDOW = {
    ("zapping.store_release(0)", "zapping.wait_until(0)"),
    ("zapping.store_release(0)", None),
}
"""vCPU 0 has seen the list empty and has not said so; vCPU 1 queues, and waits for that only."""
QUEUED = (
    "list.add(0x1000, 0x2000)",
    "lock.unlock()",
    "zapping.cmpxchg_acquire(0, 1)",
    "lock.lock()",
)
CLEARED = {(queued, zapping) for queued in QUEUED for zapping in ("zap", "within zap 0")}
"""vCPU 0 has queued its range, or is about to; vCPU 1 clears the list and has not zapped yet."""


def no_memory_for(vcpu: int | None) -> dict[str, object]:
    return {} if vcpu is None else {"alloc": lambda asking: asking != vcpu}


@pytest.mark.parametrize(
    ("protocol", "starved", "count", "lost"),
    [
        ("direct", None, 9, set()),
        ("v3", None, 153, V4_WINDOW),
        ("v3", 0, 105, set()),
        ("v3", 1, 105, CLEARED),
        ("v4", None, 153, V4_WINDOW),
        ("v4", 0, 60, set()),
        ("v4", 1, 60, set()),
        ("v4_patch10", None, 153, V4_WINDOW),
        ("v4_patch10", 0, 105, set()),
        ("v4_patch10", 1, 105, CLEARED),
        ("sketch", None, 140, set()),
        ("sketch", 0, 56, set()),
        ("sketch", 1, 56, set()),
        ("review", None, 113, set()),
        ("ticket", None, 159, set()),
    ],
)
def test_what_is_lost_and_where(
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    starved: int | None,
    count: int,
    lost: set[tuple[str, str | None]],
) -> None:
    """``starved`` is the vCPU whose allocations fail. No other protocol of the three allocates."""
    runs = list(schedules(monkeypatch, protocol, **no_memory_for(starved)))
    found = {
        tuple(where and where.partition(" [")[0] for where in run.stopped)
        for run, verdict in runs
        if verdict.lost
    }
    assert len(runs) == count
    assert found == lost
    assert all(len(verdict.lost) <= 1 for _, verdict in runs)
    assert not any(verdict.unfounded for _, verdict in runs)


@pytest.mark.parametrize(
    ("name", "raises", "one_is_told", "none_is"),
    [
        ("direct", 0, 7, 2),
        ("direct", 1, 7, 2),
        ("sketch", 0, 84, 56),
        ("sketch", 1, 70, 70),
        ("review", 0, 65, 48),
        ("review", 1, 64, 49),
        ("ticket", 0, 159, 0),
        ("ticket", 1, 46, 113),
    ],
)
def test_a_zap_that_raises_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, raises: int, one_is_told: int, none_is: int
) -> None:
    """Whoever is not told was zapped; the shared state is as good as new afterwards.

    With two vCPUs no zap is shared: the first takes what is queued without letting go of the lock.
    """
    told = [0, 0]
    for run, verdict in schedules(monkeypatch, name, raises=raises):
        assert verdict == ([], [])
        told[sum(call.raised for call in run.calls)] += 1
        executed, failed = len(run.zaps), sum(zap.raised for zap in run.zaps)
        assert failed == (executed > raises)
        run.raises = None
        again = threading.Thread(target=run.runtime.call, args=(2, (MINE,)), daemon=True)
        again.start()
        again.join(60)
        assert not again.is_alive()
        assert [(zap.start, zap.stop) for zap in run.zaps[executed:]] == [MINE]
    assert told == [none_is, one_is_told]


def test_every_protocol_is_here() -> None:
    assert set(PROTOCOLS) == {"direct", "v3", "v4", "v4_patch10", "sketch", "review", "ticket"}
