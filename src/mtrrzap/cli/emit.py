"""``mtrrzap emit``: a protocol as C, as a program, or as a patch."""

import email.utils
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.cli.options import ForceOption, with_options
from mtrrzap.cli.output import put, result, write
from mtrrzap.cli.progress import working
from mtrrzap.emit.claims import checked
from mtrrzap.emit.native import ran
from mtrrzap.emit.patch import FILES, Mail, patch, refuse
from mtrrzap.emit.source import kernel, user
from mtrrzap.errors import UserError
from mtrrzap.guest.files import distinct, kept
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.protocol import Protocol
from mtrrzap.protocol.load import load


class Flavour(StrEnum):
    """What the C is for."""

    KERNEL = "kernel"
    USER = "user"
    STEPS = "steps"


@with_options
def emit(
    protocol: Annotated[
        str, typer.Argument(help="A protocol's name, or path/to/file.py:function.")
    ],
    flavour: Annotated[
        Flavour,
        typer.Option(
            help="kernel: C for arch/x86/kvm. user: one file with a harness of threads. "
            "steps: the test build, in which every operation goes through a hook."
        ),
    ] = Flavour.KERNEL,
    patch_tree: Annotated[
        Path | None,
        typer.Option(
            "--patch",
            metavar="TREE",
            help="Make a patch against this kernel source (v6.1 to v6.10).",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="With --patch: whose rule of when to ask, and for what. "
            "Without: the protocol's own policy, or Base2.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; default: print it.")
    ] = None,
    *,
    force: ForceOption = False,
) -> None:
    """Translate a protocol into C: the text that was checked, for the kernel or for threads."""
    if patch_tree is None and policy is not None:
        raise UserError("only a patch has a policy", place="--policy", mend="add --patch TREE")
    if patch_tree is not None and flavour is not Flavour.KERNEL:
        raise UserError("a patch is for the kernel", place="--flavour", mend="leave it out")
    with working(f"checking and translating {protocol}"):
        chosen = load(protocol)
        if patch_tree is not None:
            text = _patch(chosen, patch_tree, rule_of(chosen, policy))
        elif flavour is Flavour.KERNEL:
            text = kernel(chosen)
        else:
            text = user(chosen, steps=flavour is Flavour.STEPS)
    if output is None or str(output) == "-":
        put([text])
        return
    distinct({"output": output}, {"PROTOCOL": Path(protocol.rpartition(":")[0])})
    kept(output, "output", force=force)
    write(output, [text])
    result(f"{output}: {len(text.splitlines())} lines")


def rule_of(protocol: Protocol, policy: str | None) -> Policy:
    """Return the policy of this name; without one, the protocol's own or Base2."""
    if policy is not None:
        return by_name(policy)
    own = (each for each in POLICIES if each.protocol == protocol.name != "direct")
    return next(own, by_name("Base2"))


def _patch(protocol: Protocol, tree: Path, policy: Policy) -> str:
    refuse(policy)
    texts = {}
    for path in FILES:
        try:
            texts[path] = (tree / path).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UserError(
                f"cannot be read: {why}",
                place=str(tree / path),
                mend="give the top of a kernel source tree",
            ) from error
    mail = Mail(_author(tree), email.utils.formatdate(localtime=True), checked(protocol))
    return patch(protocol, policy, texts, mail)


def _author(tree: Path) -> str:
    """Return who git says the user is."""
    if shutil.which("git") is None:
        raise UserError("there is no git", place="--patch", mend="install git")
    name, address = (_git_config(tree, key) for key in ("user.name", "user.email"))
    if not name or not address:
        raise UserError(
            "git does not know who you are",
            place="--patch",
            mend="run git config --global user.name and user.email: the patch is signed off by you",
        )
    return f"{name} <{address}>"


def _git_config(tree: Path, key: str) -> str:
    return ran(["git", "-C", str(tree), "config", key]).stdout.strip()
