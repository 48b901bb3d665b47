"""The C makes the checked steps: each transition, each log, and no fault goes unnoticed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mtrrzap.emit import native, source
from mtrrzap.emit.steps import accepted, drive
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Range

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

TRANSITIONS = {
    "direct": (12, 40),
    "v3": (576, 2488),
    "v4": (414, 1856),
    "v4_patch10": (576, 2488),
    "sketch": (310, 1236),
    "review": (110, 428),
    "ticket": (140, 1372),
}
"""Of the checker's graph without symmetry: 2 vCPUs, 1 and 2 requests each."""

SEVERAL: tuple[tuple[Range, ...], ...] = (
    ((0, 0x100), (0xC0000, 0x100000)),
    ((0xA0, 0xC0), (0x100, 0x300), (0, 1 << 52)),
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("steps")
    return {
        name: native.build(protocol, directory, steps=True, flags=("-O0",))
        for name, protocol in PROTOCOLS.items()
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_transition(name: str, programs: dict[str, Path]) -> None:
    for requests in (1, 2):
        found = drive(programs[name], PROTOCOLS[name], 2, requests)
        assert found.difference is None
        assert found.transitions == TRANSITIONS[name][requests - 1]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_transition_with_several_ranges(name: str, programs: dict[str, Path]) -> None:
    assert drive(programs[name], PROTOCOLS[name], 2, 1, SEVERAL).difference is None


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_log_of_free_threads(name: str, programs: dict[str, Path]) -> None:
    for seed in range(3):
        command = [programs[name], "3", "100", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        log = done.stdout.splitlines()
        assert accepted(PROTOCOLS[name], log) == len(log) - 2 * 300
        wrong = next(i for i, each in enumerate(log) if " zap_begin " in each)
        with pytest.raises(UserError, match=rf"^line {wrong + 2}: "):
            accepted(PROTOCOLS[name], [*log[:wrong], log[wrong], *log[wrong:]])


FAULTS = {
    "an operation left out": ("v4", r"\tspin_unlock\(&z->lock\);\n", ""),
    "another operation": ("v4", r"spin_unlock\(", "spin_lock("),
    "an order": ("v4", "atomic_cmpxchg_acquire", "atomic_cmpxchg_relaxed"),
    "arguments exchanged": ("v4", "zapping, 0, 1", "zapping, 1, 0"),
    "a release store": ("v4", "atomic_set_release", "atomic_set"),
    "if": ("v4", r"if \(!kvm_mtrr_zap_alloc", "if (kvm_mtrr_zap_alloc"),
    "else of an if": ("ticket", r"if \(!alone\)", "if (alone)"),
    "comparison": ("ticket", r"open\) != mine", "open) == mine"),
    "and": ("ticket", r"\) &&\n", ") ||\n"),
    "assignment": ("ticket", r"mine = READ_ONCE\(z->open\)", "mine = READ_ONCE(z->open) + 1"),
    "while": ("v4", r"while \(kvm_mtrr_zap_list_pop", "if (kvm_mtrr_zap_list_pop"),
    "while over batches": ("review", r"while \(\(nr_batch", "if ((nr_batch"),
    "for": ("v4", "i = 0; i < nr_ranges", "i = 1; i < nr_ranges"),
    "for over a batch": ("review", "i < nr_batch", "i + 1 < nr_batch"),
    "a range taken apart": ("v4", r"ranges\[i\]\.start", "ranges[i].end"),
    "continue": ("v4", r"\t\t\tcontinue;\n", ""),
    "return": ("v4", r"\t\treturn;\n", ""),
    "goto out": ("sketch", r"\t\tgoto out;\n", ""),
    "a call": ("v4", r"\tkvm_zap_or_wait_mtrr_zap_list\(kvm\);\n", ""),
    "an augmented assignment": ("sketch", r"entries\+\+", "entries--"),
    "a constant": ("ticket", r"relax\(KVM_MTRR_ZAP_MOMENT", "relax(1"),
    "a range of a constant": ("v4_patch10", "0, ~0ULL", "0, 1"),
    "a lag": ("ticket", "mine - 1", "mine"),
    "a wait": ("review", r"while \(READ_ONCE", "while (!READ_ONCE"),
    "an initial value": ("ticket", r"z->open, 1", "z->open, 2"),
    "the array": ("review", r"\.end > entry|entries\[i - 1\] > entry", "entries[i - 1] < entry"),
    "the list": ("v4", r"< end - start", "> end - start"),
}
"""Each kind of statement once: which protocol's C, what to replace at its first place, by what."""


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_in_the_translation_is_found(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, right, wrong = FAULTS[kind]
    protocol = PROTOCOLS[name]
    text = source.user(protocol, steps=True)
    at = text.index("/* Guest frames [start, end). */")
    faulty, count = re.subn(right, wrong, text[at:], count=1)
    assert count == 1
    monkeypatch.setattr(native, "user", lambda *_, **__: text[:at] + faulty)
    program = native.build(protocol, tmp_path, steps=True, flags=("-O0", "-Wno-error"))
    results = [drive(program, protocol, 2, 1, ranges) for ranges in (((((0, 1 << 52),)),), SEVERAL)]
    assert any(each.difference for each in results)
