"""A trace by path or shipped name, as text, CSV or Parquet."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.traces import HEADER, events
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.open import is_trace, load, load_all, scenarios, shipped
from mtrrzap.guest.tabular import csv_lines, parquet_bytes, read_parquet
from mtrrzap.guest.trace import Trace, dumps

SMALL = Trace(HEADER, (Event(0, Kind.RESET), Event(1, Kind.WRMSR, 0x2FF, 0xC06, time_ns=5)), "cut")


def test_by_shipped_name() -> None:
    assert load("ovmf-8") == dict(shipped())["ovmf-8"]
    assert load(Path("cd-types-outlive-the-window")) in dict(scenarios()).values()
    assert [name for name, _ in load_all([])] == [name for name, _ in shipped()]


def test_every_form_gives_the_same_trace(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    forms = {
        "a.trace": dumps(SMALL).encode(),
        "a.csv": "".join(csv_lines(SMALL)).encode(),
        "a.parquet": parquet_bytes(SMALL),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        assert load(tmp_path / name) == SMALL
    assert [trace for _, trace in load_all([tmp_path / name for name in forms])] == [SMALL] * 3


def test_a_file_wins_over_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ovmf-8").write_text(dumps(SMALL))
    assert load("ovmf-8") == SMALL


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(dumps(SMALL)))
    writer.start()
    assert load(tmp_path / "pipe") == SMALL
    writer.join()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("absent", None, "absent: no such file or shipped trace; shipped are: ovmf-8, "),
        ("absent.trace", None, "absent.trace: cannot be read: No such file or directory"),
        ("x.trace", b"\xff\n", "x.trace:1: bytes that are not UTF-8"),
        ("x.trace", b"nonsense\n", "x.trace:1: not a trace"),
        ("x.parquet", b"PAR1 and no more", "x.parquet: not a Parquet file of a trace"),
        (".", None, ".: cannot be read: Is a directory"),
    ],
)
def test_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | None, error: str
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    if data is not None:
        Path(name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        load(name)
    assert str(caught.value).startswith(error)


@given(st.lists(events, max_size=20), st.none() | st.just("a reason: with a colon"))
def test_parquet_round_trip(body: list[Event], incomplete: str | None) -> None:
    pytest.importorskip("pyarrow")
    body = [event for event in body if (event.time_ns or 0) < 1 << 64]
    trace = Trace(HEADER, tuple(body), incomplete)
    assert read_parquet(parquet_bytes(trace), "t") == trace


def test_a_trace_knows_its_name_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(csv_lines(SMALL)))
    assert load(path).name == str(path)
    assert repr(load("ovmf-8")) == "<Trace ovmf-8: OVMF, 8 vCPUs, 1,348 events>"
    assert repr(SMALL) == "<Trace: SeaBIOS, 4 vCPUs, 2 events, incomplete>"


def test_the_first_bytes_tell_a_trace() -> None:
    pytest.importorskip("pyarrow")
    for data in (dumps(SMALL).encode(), "".join(csv_lines(SMALL)).encode(), parquet_bytes(SMALL)):
        assert is_trace(data[:16])
    assert not is_trace(b"")
    assert not is_trace(b"cpu 0: msr 0x2ff")
