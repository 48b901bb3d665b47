import pytest

from helpers import broken_protocols, polling_protocols
from mtrrzap.checker.properties.work import Extremes, measure
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import scenario
from mtrrzap.protocol.load import load
from mtrrzap.protocol.registry import protocol

SIZES = [(2, 1), (2, 2), (3, 1), (3, 2), (4, 1)]


@pytest.mark.parametrize(
    ("name", "vcpus", "requests", "best", "worst", "waiting"),
    [
        ("direct", 3, 1, 3, 3, 1),
        ("v4", 2, 1, 1, 2, 2),
        ("v4", 3, 2, 2, 6, 5),
        ("sketch", 3, 1, 2, 3, 3),
        ("review", 2, 2, 4, 4, 3),
        ("review", 3, 2, 4, 6, 5),
        ("ticket", 2, 2, 3, 4, 2),
        ("ticket", 3, 2, 3, 6, 3),
    ],
)
def test_exact_numbers(
    name: str, vcpus: int, requests: int, best: int, worst: int, waiting: int
) -> None:
    found = measure(scenario(load(name), vcpus, requests))
    assert (found.zaps, found.waiting) == (Extremes(best, worst), waiting)
    assert (found.needed_zaps, found.needed_frames) == (1, 1 << 52)


@pytest.mark.parametrize(
    "ranges",
    [
        (((0, 1 << 52),),),
        (((0x80, 0xA0),), ((0x100, 0x200),)),
        (((0x80, 0xA0), (0x400, 0x800)), ((0x100, 0x200),)),
    ],
)
def test_ticket_is_never_above_review_and_somewhere_below(
    ranges: tuple[tuple[tuple[int, int], ...], ...],
) -> None:
    below = 0
    for vcpus, requests in SIZES:
        theirs = measure(scenario(load("review"), vcpus, requests, ranges=ranges))
        mine = measure(scenario(load("ticket"), vcpus, requests, ranges=ranges))
        for own, other in [
            (mine.zaps.worst, theirs.zaps.worst),
            (mine.frames.worst, theirs.frames.worst),
            (mine.waiting, theirs.waiting),
        ]:
            assert own is not None
            assert other is not None
            assert own <= other
            below += own < other
    assert below > 0


def test_a_loop_that_zaps_has_no_worst_case() -> None:
    found = measure(scenario(protocol(broken_protocols.zaps_until_quiet, "test"), 2, 1))
    assert found.zaps.worst is None
    assert found.waiting is None


def test_a_search_that_was_cut_measures_nothing() -> None:
    found = measure(scenario(load("review"), 3, 1), limit=Limits(states=10))
    assert found.cut == "limit of 10 states"
    assert found.waiting is None


@pytest.mark.parametrize("name", ["polls_the_bool", "polls_under_the_lock"])
@pytest.mark.parametrize(("vcpus", "requests", "waiting"), [(2, 1, 2), (3, 1, 3), (2, 2, 3)])
def test_a_vcpu_that_polls_waits_like_one_that_is_blocked(
    name: str, vcpus: int, requests: int, waiting: int
) -> None:
    """The sketch with a loop in place of its wait_until, whose own numbers these are."""
    polls = measure(scenario(protocol(getattr(polling_protocols, name), "test"), vcpus, requests))
    blocked = measure(scenario(load("sketch"), vcpus, requests))
    assert polls.waiting == blocked.waiting == waiting
    assert polls.zaps == blocked.zaps


def test_a_vcpu_that_gives_up_does_not_wait() -> None:
    """It looks twice at most, and then zaps for itself: what others do then is not its business."""
    found = measure(scenario(protocol(polling_protocols.looks_twice, "test"), 2, 1))
    assert found.waiting == 1
