"""docs/threads.md: what it shows is what its examples print."""

import re
import subprocess
import sys

import pytest

from helpers.paths import ROOT

PAGE = (ROOT / "docs" / "threads.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = EXAMPLE.findall(PAGE)


def test_every_example_is_found() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 3


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_the_examples(code: str, printed: str) -> None:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr, ran.returncode) == (printed, "", 0)
