"""The record of zaps: what counts as zapped for a request."""

from mtrrzap.live.tally import ZapLog


def test_only_zaps_that_began_later_and_ended_count() -> None:
    zaps = ZapLog()
    early = zaps.now()
    asked = zaps.asked()
    zaps.ended(early, 0, 8, 8)
    assert zaps.missing(asked, [(0, 4)]) == ((0, 4),)
    late = zaps.now()
    assert zaps.missing(asked, [(0, 4)]) == ((0, 4),)
    zaps.ended(late, 0, 3, 3)
    assert zaps.missing(asked, [(0, 4), (1, 2)]) == ((3, 4),)
    zaps.ended(zaps.now(), 3, 4, 0)
    assert zaps.missing(asked, [(0, 4)]) == ()
    assert zaps.missing(zaps.asked(), []) == ()
    assert (zaps.count, zaps.outside, zaps.frames) == (3, 1, 11)
