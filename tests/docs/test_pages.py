"""The pages: links, commands and options that exist, words, and the README's first screen."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import mtrrzap
from helpers.paths import ROOT
from mtrrzap.cli.app import app

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
BUDGET = 22_000
"""Words as ``wc -w`` counts them, without what programs print: fences, and PRINTED."""
TOPICS = ("any-number", "emit", "kernel")
"""Pages of a topic of their own, each with a budget of its own."""
TOPIC_BUDGET = 1_800
PRINTED = {"findings", "policies", "sweep-vcpus"}
"""Pages that a command prints from their first line to their last."""
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Headings as GitHub and the site turn them into anchors."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules(page: Path) -> None:
    for name in re.findall(r"`((?:[\w-]+/)+\w+\.py)`", prose(page)):
        assert any((at / name).exists() for at in (ROOT, ROOT / "src" / "mtrrzap")), name


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = [
        name
        for block in re.findall(r"^```{toctree}\n(.*?)^```", index, re.MULTILINE | re.DOTALL)
        for name in block.split()
        if not name.startswith(":")
    ]
    assert {page.stem for page in DOCS} - {"index"} <= set(listed)


def commands(page: Path) -> Iterator[str]:
    """The lines ``mtrrzap …`` of code blocks, and ``mtrrzap …`` between backticks."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(
        r"^```(?:sh|console|text)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ):
        joined = block.replace("\\\n", " ")
        yield from re.findall(
            r"^(?:\$ )?\s*(?:sudo |\.venv/bin/)?(mtrrzap .*)$", joined, re.MULTILINE
        )
    yield from re.findall(r"`(mtrrzap [a-z][^`]*)`", FENCE.sub("", text).replace("\n", " "))


def options_of(words: list[str]) -> tuple[str, set[str], list[str]]:
    """The command that is named, its options, and the words that are left."""
    command = typer.main.get_command(app)
    name = ""
    context: Any = None
    while words and (found := getattr(command, "get_command", lambda *_: None)(context, words[0])):
        command, name, words = found, words[0], words[1:]
    options = {each for p in command.params for each in (*p.opts, *p.secondary_opts)}
    if name == "sweep":  # 'sweep SPEC' is 'sweep run SPEC'
        options |= options_of(["sweep", "run"])[1]
    return name, options | {"-h", "--help", "--version"}, words


CHECKED = [(page.name, command) for page in PAGES for command in commands(page)]


def test_there_are_commands() -> None:
    assert len(CHECKED) > 100


@pytest.mark.parametrize(("page", "command"), CHECKED)
def test_command(page: str, command: str) -> None:
    text = re.split(r" # |\s{2,}| \(|…|&&|;| \|", command)[0]
    if text.count('"') % 2:
        text = text.partition('"')[0]
    words = shlex.split(text, comments=True)[1:]
    if "--" in words:
        words = words[: words.index("--")]
    name, options, left = options_of(words)
    assert name or not words or words[0].startswith("-"), f"{page}: no command {words[0]}"
    used = {word.partition("=")[0] for word in left if re.match(r"-{1,2}[a-z]", word)}
    assert used <= options, f"{page}: {name} has no {used - options}"


def test_every_room_is_in_the_picture() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (picture,) = [block for block in FENCE.findall(text) if "traces: header" in block]
    rooms = {path.parent.name for path in (ROOT / "src" / "mtrrzap").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"\w+", picture))


@pytest.mark.parametrize("topic", TOPICS)
def test_words_of_a_topic(topic: str) -> None:
    assert len(prose(ROOT / "docs" / f"{topic}.md").split()) <= TOPIC_BUDGET


def test_words() -> None:
    apart = {*PRINTED, *TOPICS}
    pages = [ROOT / "README.md", *(page for page in DOCS if page.stem not in apart)]
    assert sum(len(prose(page).split()) for page in pages) <= BUDGET


def test_python_names() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    assert set(re.findall(r"mtrrzap\.(\w+)", code)) <= set(mtrrzap.__all__)


def test_the_first_table_fits() -> None:
    (block,) = [each for each in FENCE.findall(README) if "┏" in each]
    assert max(map(len, block.splitlines())) <= 100


def test_the_first_two_commands() -> None:
    parts = re.findall(r"^<!-- (\w+) -->\n```sh\n(.*?)^```$", README, re.M | re.S)
    assert [part for part, _ in parts] == ["run", "tests"]
    assert parts[0][1].endswith("&& .venv/bin/mtrrzap compare\n")
    assert parts[1][1].endswith("&& .venv/bin/pytest\n")
