"""Listings of MTRRs from outside: MSR dumps, JSON, ``/proc/mtrr``, logs of kernels and firmware.

Nothing here opens a file or checks a rule: the values come out as they were listed. What is
recognised is used; a line inside of a recognised block that is not is an error or a note.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest.listing import firmware, json_dump, linux, linux_map, msr_dump, size_lists
from mtrrzap.guest.listing.linux_map import KernelMap
from mtrrzap.guest.listing.pasted import decoded, plain
from mtrrzap.guest.listing.registers import ListedRegisters, Listing

__all__ = ["FORMATS", "KernelMap", "ListedRegisters", "Listing", "decoded", "plain", "read"]

Lines = Sequence[str]


class Form(NamedTuple):
    """A form of listing: how its text is known, and its reader."""

    sign: str
    """It is in every such text: looking for it is fast."""
    head: re.Pattern[str]
    read: Callable[[Lines, str, int | None], Listing]

    def found(self, text: str) -> bool:
        """Tell if a text has a line of this form."""
        sign = self.sign
        # A single character is found faster still.
        return sign[0] in text and sign in text and self.head.search(text) is not None


def _without_width(read: Callable[[Lines, str], Listing]) -> Callable[..., Listing]:
    """Make a reader for a form that shows MAXPHYADDR itself."""
    return lambda lines, name, _: read(lines, name)


_FORMS = {
    "linux": Form("MTRR default type:", linux.HEAD, _without_width(linux.read_log)),
    "proc-mtrr": Form(": base=0x", linux.PROC_HEAD, linux.read_proc),
    "mtrr-cleanup": Form("base: ", linux.CLEANUP_HEAD, linux.read_cleanup),
    "linux-map": Form("MTRR map:", linux_map.HEADER, _without_width(linux.read_map)),
    "coreboot": Form("MTRR: ", firmware.COREBOOT, _without_width(firmware.read_coreboot)),
    "edk2": Form("MTRR Default Type:", firmware.EDK2, _without_width(firmware.read_edk2)),
    "slimboot": Form("MTRRs....", firmware.SLIM, _without_width(firmware.read_slim)),
    "uboot": Form("Reg Valid", firmware.UBOOT, _without_width(firmware.read_uboot)),
    "memcontrol": Form("/0x", size_lists.MEMCONTROL, size_lists.read_memcontrol),
    "fwts": Form("MTRR overview", size_lists.FWTS, size_lists.read_fwts),
}
_SMALL = 1 << 12
_SIGNS = re.compile("|".join(re.escape(form.sign) for form in _FORMS.values()))
"""All signs at once, which is faster for a text of up to ``_SMALL`` characters."""
_OF_ONE_LOG = ("linux", "mtrr-cleanup", "linux-map")
"""What one boot log may have all of; the first reads the others too."""
FORMATS = (*_FORMS, "json", "msr", msr_dump.HALVES, msr_dump.CPUS)


def read(text: str, name: str, maxphyaddr: int | None = None, form: str | None = None) -> Listing:
    """Read a listing and find out its kind. ``name`` is used in errors only.

    ``maxphyaddr`` is in bits, if known. Linux lists sizes; masks are computed from them. ``form``
    is one of ``FORMATS``, for text that could be read in several ways.

    Raises ``UserError`` if it has no MTRR, at a line that cannot be understood, or if two forms are
    in it.
    """
    text = plain(text)
    lines = text.split("\n")
    begins = json_dump.is_json(text)
    if form is None:
        about = _about_mtrrs(text)
        found = []
        if len(text) > _SMALL or _SIGNS.search(text) is not None:
            found = [
                each
                for each, how in _FORMS.items()
                if how.found(about if "MTRR" in how.sign else text)
            ]
        form = "json" if begins and not found else _only(found, name)
    elif form in _FORMS and not _FORMS[form].found(text):
        raise UserError(f"no line of the format {form}", place=name, mend="choose another")
    if begins and form in _FORMS:
        lines = json_dump.messages(lines, text)
    if form in _FORMS:
        return _FORMS[form].read(lines, name, maxphyaddr)
    if form == "json" and _REGISTERS.search(text) is None:
        return json_dump.read_json(text, name)
    if form not in FORMATS:
        raise UserError(f"no format {form!r}", place="form", mend=f"use {', '.join(FORMATS)}")
    return _read_dump(lines, name, "msr" if form == "json" else form)


def _about_mtrrs(text: str) -> str:
    """Return the lines from the first to the last that names MTRRs: looking there is fast."""
    first, last = text.find("MTRR"), text.rfind("MTRR")
    end = text.find("\n", last)
    return text[text.rfind("\n", 0, first) + 1 : end if end >= 0 else None] if first >= 0 else ""


def _only(found: Sequence[str], name: str) -> str:
    """Return the form to read: the only one, or that of a boot log which has several."""
    if not found:
        return "msr"
    of_log = [each for each in found if each in _OF_ONE_LOG]
    kinds = [*of_log[:1], *(each for each in found if each not in _OF_ONE_LOG)]
    if len(kinds) > 1:
        raise UserError(
            f"several listings are in it: {', '.join(found)}",
            place=name,
            mend="choose one as the format",
        )
    return kinds[0]


_REGISTERS = re.compile(r"[ER]AX=[0-9a-f]{2,16} [ER]BX=")
_LISTED = "boot with mtrr=debug, or give /proc/mtrr or an MSR dump"
_CUT = "the block is cut: no line 'MTRR default type: ...' above {!r}", "give all its lines"
_NO_DUMP = (
    (" ranges ", linux.CUT, *_CUT),
    ("write-", linux.CUT, *_CUT),
    ("uncachable", linux.CUT, *_CUT),
    (
        "isabled",
        linux.DISABLED,
        "no MTRR is listed, because the kernel found them off: {!r}",
        _LISTED,
    ),
    ("Linux version", linux.KERNEL, "a boot log without MTRRs: {!r}", _LISTED),
    ("Command line", linux.KERNEL, "a boot log without MTRRs: {!r}", _LISTED),
    (
        "AX=",
        _REGISTERS,
        "QEMU's 'info registers' has no MTRR: {!r}",
        "give scripts/analyze-migration.py's output of a saved VM, or rdmsr's in the guest",
    ),
)
"""What is no dump: a word of it, how it is known, what is wrong and what helps."""


def _read_dump(lines: Lines, name: str, form: str) -> Listing:
    text = "\n".join(lines) if form == "msr" else ""
    for word, sign, problem, mend in _NO_DUMP if text else ():
        if word in text and (found := sign.search(text)) is not None:
            line = text.count("\n", 0, found.start())
            raise UserError(
                problem.format(lines[line].strip()[-40:]), place=f"{name}:{line + 1}", mend=mend
            )
    return msr_dump.read_text(lines, name, None if form == "msr" else form)
