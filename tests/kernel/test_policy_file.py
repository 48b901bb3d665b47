"""A policy of the user's own, and which policy is a kernel's."""

from dataclasses import replace
from pathlib import Path

import pytest

from mtrrzap.errors import UserError
from mtrrzap.kernel import policy_file
from mtrrzap.kvm.policy import Ask, Needs, by_name
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType


def test_a_row(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    row = 'like = "Base2"\nneeds = "tdp"\ncd_toggle = "while_cd_clear"\n'
    path.write_text(f'{row}cd_type_with_quirk = "WB+IPAT"\n')
    assert policy_file.named(str(path)) == replace(
        by_name("Base2"),
        name="mine",
        source=str(path),
        needs=Needs.TDP,
        cd_toggle=Ask.WHILE_CD_CLEAR,
        cd_type_with_quirk=EptType(MemType.WB, ipat=True),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "like = None is no policy"),
        ('like = "v9"', "like = 'v9' is no policy"),
        ('like = "v6.1"\nwalks = "leafs"', "no field 'walks'"),
        ('like = "v6.1"\nwalk = "run"', "must be one of leafs, subtrees, trees, mark"),
        (
            'like = "v6.1"\ncd_type_with_quirk = "UC"',
            "must be one of WB, WB\\+IPAT, UC\\+IPAT, none",
        ),
        ('like = "v6.1"\nby_memslot = "yes"', "must be like False"),
        ("like", "invalid TOML"),
    ],
)
def test_what_is_no_row(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        policy_file.load(path)


@pytest.mark.parametrize(
    ("version", "name"),
    [((6, 1), "v6.1"), ((6, 6), "v6.1"), ((6, 10), "v6.7"), ((6, 12), "v6.11"), ((7, 0), "v6.11")],
)
def test_a_kernels_policy(version: tuple[int, int], name: str) -> None:
    assert policy_file.of_version(version).name == name


def test_an_old_kernel() -> None:
    with pytest.raises(UserError, match=r"no policy here is that of Linux 5\.10"):
        policy_file.of_version((5, 10))
