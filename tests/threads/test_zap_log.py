"""The judge: what it must find, and what it must not."""

from helpers.zap_log import Call, Zap, judge

CALL = Call(begin=10, end=20, start=0x10, stop=0x20, raised=False)
ZAP = Zap(begin=11, end=19, start=0x10, stop=0x20, raised=False)
TOLD = CALL._replace(raised=True)
FAILED = ZAP._replace(raised=True)


def test_a_zap_within_the_call_serves_it() -> None:
    assert judge([CALL], [ZAP]) == ([], [])
    assert judge([CALL], [ZAP._replace(start=0, stop=0x100)]) == ([], [])


def test_a_zap_that_began_before_the_call_does_not() -> None:
    assert judge([CALL], [ZAP._replace(begin=9)]) == ([CALL], [])


def test_a_zap_that_ends_after_the_call_came_back_does_not() -> None:
    assert judge([CALL], [ZAP._replace(end=21)]) == ([CALL], [])


def test_one_frame_that_is_missing_is_missing() -> None:
    assert judge([CALL], [ZAP._replace(stop=0x1F)]) == ([CALL], [])
    assert judge([CALL], [ZAP._replace(start=0x11)]) == ([CALL], [])
    halves = [ZAP._replace(stop=0x18), ZAP._replace(start=0x19)]
    assert judge([CALL], halves) == ([CALL], [])
    assert judge([CALL], [*halves, ZAP._replace(start=0x18, stop=0x19)]) == ([], [])


def test_a_zap_that_raised_serves_nobody() -> None:
    assert judge([CALL], [FAILED]) == ([CALL], [])
    assert judge([CALL], [FAILED, ZAP]) == ([], [])


def test_a_call_may_raise_only_for_a_zap_of_its_own_frames_and_time() -> None:
    assert judge([TOLD], [FAILED]) == ([], [])
    assert judge([TOLD], [ZAP]) == ([], [TOLD])
    assert judge([TOLD], [FAILED._replace(start=0x20, stop=0x30)]) == ([], [TOLD])
    assert judge([TOLD], [FAILED._replace(begin=9)]) == ([], [TOLD])
