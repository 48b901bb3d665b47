"""Traces to make pages of, and a reader of pages."""

from html.parser import HTMLParser
from itertools import cycle, islice

from mtrrzap.cli.report import assumptions
from mtrrzap.guest import open as traces
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.trace import Header, Trace
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.report.page import document, section
from mtrrzap.study.checked import checked

VOID = frozenset(("meta", "br", "img", "input", "link", "hr"))
HOSTILE = "<script>window.pwned=1</script>\"'&<img src=x onerror=window.pwned=1></style></script>"


def shipped(name: str) -> Trace:
    return dict(traces.shipped())[name]


def long_trace(count: int = 3000) -> Trace:
    """A recording over and over, with time stamps, cut to so many events."""
    base = shipped("ovmf-16")
    events = islice(cycle(base.events), count)
    stamped = (event._replace(time_ns=1000 * n * n) for n, event in enumerate(events))
    return Trace(base.header, tuple(stamped))


def hostile_trace() -> Trace:
    """Every text of the header is an attack, and so is the reason of the end."""
    header = Header(
        firmware=HOSTILE,
        guest_kernel=HOSTILE,
        vcpus=2,
        memory=1 << 29,
        maxphyaddr=40,
        machine=HOSTILE,
        recorder=HOSTILE,
        date=HOSTILE,
        command=HOSTILE,
        host_writes=HOSTILE,
        notes=(HOSTILE,),
    )
    events = (Event(0, Kind.RESET), Event(0, Kind.CR0, 0, 0x11), Event(1, Kind.INIT))
    return Trace(header, events, HOSTILE)


def page_of(*named: tuple[str, Trace], policy: str = "Base2") -> str:
    shown = by_name(policy)
    sections = [section(name, trace, POLICIES, shown, Host()) for name, trace in named]
    found = checked(shown, (trace for _, trace in named))
    return document(sections, found, assumptions(Host(), "4K"))


class Page(HTMLParser):
    """The elements of a page: (name, attributes, text directly inside), and if tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, [self.elements[index][0] for index in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.elements[self._open[-1]][2].append(data)

    def all(self, tag: str, word: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name, and of a class."""
        return [
            attributes
            for name, attributes, _ in self.elements
            if name == tag and (word is None or word in (attributes.get("class") or "").split())
        ]

    def text(self, tag: str, word: str | None = None) -> list[str]:
        """The text of all elements of a name, and of a class."""
        return [
            "".join(text)
            for name, attributes, text in self.elements
            if name == tag and (word is None or word in (attributes.get("class") or "").split())
        ]
