"""What ``mtrrzap check`` reads: schedules, certificates, and the requests of a recorded guest."""

from pathlib import Path

from mtrrzap.checker import verifier
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.check import PROPERTIES, Counterexample
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.schedule import SIZE, replay
from mtrrzap.cli.output import show
from mtrrzap.cli.progress import working
from mtrrzap.errors import StoppedError, UserError
from mtrrzap.guest.open import load as load_trace
from mtrrzap.kvm.policy import Policy, by_name
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.protocol.load import blamed, load
from mtrrzap.protocol.operation import show_range
from mtrrzap.study.checked import distinct_requests


def guest_requests(
    trace: Path, policy: str | None, properties: list[str] | None
) -> tuple[Policy, tuple[Request, ...], list[str]]:
    """Return the policy, the distinct requests of a recorded guest under it, and the properties.

    ``-p`` names a property in this command, and a policy elsewhere in this program: so a name that
    follows it and is not a property's is taken for the policy's.
    """
    properties = list(properties or ())
    if policy is None:
        named = [each for each in properties if each not in PROPERTIES]
        if not named:
            raise UserError("no policy for the guest's requests", place="policy", mend="name one")
        policy = named[0]
        properties.remove(policy)
    row = by_name(policy)
    kinds = distinct_requests([load_trace(trace)], row)
    if not kinds:
        raise UserError(
            f"the trace makes no request under {row.name}",
            place="requests_of",
            mend="choose a policy that zaps, or another trace",
        )
    return row, kinds, properties


def replayed(path: Path, protocols: list[str], *, shown: bool) -> Counterexample:
    """Run a schedule file again; ``shown``: up to a violation that it must show.

    Raises:
        UserError: if a step is not what the protocol does, or the end is another, or it names a
            file that is not among ``protocols``.
    """
    place, mend = str(path), "name a schedule file"
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE + 1)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise UserError(problem, place=place, mend=mend) from error
    if len(data) > SIZE:
        raise UserError(f"more than {SIZE >> 20} MiB", place=place, mend=mend)
    schedule = data.decode("utf-8", "replace")
    try:
        return replay(
            schedule, place, lambda name: load(allowed(name, protocols, place)), shown=shown
        )
    except StoppedError:
        raise
    except SystemExit as error:
        raise UserError("its protocol exits the program (SystemExit)", place=place) from error


def allowed(name: str, protocols: list[str], place: str) -> str:
    """Return the protocol that a schedule or certificate means: a file only if the user names it.

    Such a file is mailed around, so it must not choose the code that runs here.
    """
    if name in PROTOCOLS or name in protocols:
        return name
    for mine in protocols:  # the same file, but in another folder
        if ".py:" in mine and Path(mine).name == Path(name).name:
            return mine
    shown = ascii(name[:200])
    raise UserError(
        f"its protocol is {shown}, which is not a built-in one",
        place=place,
        mend="to run that file's code, give it as PROTOCOL too"
        if ".py:" in name
        else f"use one of {', '.join(PROTOCOLS)}",
    )


def verify(path: Path, protocols: list[str]) -> int:
    """Verify a certificate and say what it proves; return 1 if it proves nothing."""
    text = certificate.read(path)
    name = text.get("protocol")
    if not isinstance(name, str):
        raise UserError("the certificate names no protocol", place=str(path))
    try:
        with blamed(Path(name.rpartition(":")[0])), working(f"verifying {path}"):
            holds = verifier.verify(text, load(allowed(name, protocols, str(path))))
    except verifier.RejectedError as error:
        show(f"{path}: REJECTED: {error}\n")
        return 1
    asked = [" and ".join(show_range(*part) for part in each) for each in text["requests"]]
    any_of = f"any of {len(asked)}: " if len(asked) > 1 else ""
    fails = "; allocation may fail" if text["alloc-fails"] else ""
    show(
        f"{path}: verified. {name}, any number of vCPUs that ask for ever, each time for "
        f"{any_of}{', '.join(asked)}{fails}. Proved: {', '.join(holds)}.\n"
    )
    return 0
