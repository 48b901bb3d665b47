"""Traces and what KVM zaps for them: ``load``, ``rescale`` and ``replay``."""

from collections.abc import Iterable, Iterator
from os import PathLike

from mtrrzap.errors import UserError, expect
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.kvm.replay import Host, Request
from mtrrzap.kvm.replay import replay as requests_of
from mtrrzap.study.rescale import with_memory, with_vcpus

TraceSource = str | PathLike[str] | Trace
"""A trace, its file, or the name of a shipped recording or scenario."""


def load(source: TraceSource) -> Trace:
    """Return a trace: what a guest wrote to its MTRRs and CR0.CD.

    Args:
        source: A trace file, the same as CSV or Parquet (``mtrrzap export`` writes them), the name
            of a shipped recording (``ovmf-8``, ``ovmf-16``, ``seabios-8``, ``seabios-16``) or
            scenario, or a ``Trace``, which is returned as it is. A file goes before a shipped name.

    Returns:
        The header (``trace.header``: ``vcpus``, ``memory`` in bytes, ``maxphyaddr`` in bits,
        ``memslots`` in gfns) and the events in order (``trace.events``). ``trace.incomplete`` says
        why the trace is not whole, or is None.

    Raises:
        UserError: if there is no such file or recording, or a line of it is wrong. The error names
            the line.

    Example:
        >>> import mtrrzap
        >>> trace = mtrrzap.load("ovmf-8")
        >>> trace
        <Trace ovmf-8: OVMF, 8 vCPUs, 1,348 events>
        >>> trace.header.vcpus, len(trace.events), trace.events[0].kind
        (8, 1348, <Kind.RESET: 'reset'>)
    """
    expect(
        source,
        str | PathLike | Trace,
        "trace",
        "give a path, a shipped recording's name or a Trace",
    )
    return source if isinstance(source, Trace) else traces.load(source)


def rescale(source: TraceSource, *, vcpus: int | None = None, memory: int | None = None) -> Trace:
    """Return the trace of the same guest with more or fewer vCPUs, or with other memory.

    Args:
        source: What ``load`` takes.
        vcpus: How many vCPUs; None leaves them. Sound where all vCPUs but vCPU 0 do the same.
        memory: Bytes of guest memory; None leaves them. Only memory above 4 GiB can change.

    Raises:
        UserError: where the recording does not tell what the other guest would do.

    Example:
        >>> import mtrrzap
        >>> larger = mtrrzap.rescale("ovmf-8", vcpus=64, memory=64 << 30)
        >>> larger.header.vcpus, larger.header.memory >> 30
        (64, 64)
    """
    trace = load(source)
    expect(vcpus, int | None, "vcpus", "give a whole number")
    expect(memory, int | None, "memory", "give a whole number of bytes")
    if vcpus is not None:
        trace = with_vcpus(trace, vcpus)
    return trace if memory is None else with_memory(trace, memory)


def replay(
    trace: TraceSource, policy: str | Policy, *, host: Host | None = None
) -> Iterator[Request]:
    """Yield the zap requests that a policy makes for a trace, in the order of the events.

    Args:
        trace: What ``load`` takes.
        policy: A policy's name (``mtrrzap policies`` lists them; ``+9`` stands for ``Base2+9``), or
            a ``Policy`` of your own.
        host: The host and its user space; None: EPT, non-coherent DMA, 46 bits of MAXPHYADDR.

    Returns:
        An iterator over ``Request``: ``event`` (position in the trace, from 0), ``vcpu``, ``why``,
        ``ranges`` (gfns, half-open), ``frames`` (4-KiB frames, the sum over the ranges).

    Raises:
        UserError: if the trace, the policy or the host is invalid.

    Example:
        >>> import mtrrzap
        >>> requests = list(mtrrzap.replay("ovmf-8", "Base2+9"))
        >>> len(requests)
        74
        >>> first = requests[0]
        >>> first.event, first.vcpu, str(first.why), first.frames
        (486, 0, 'CD 1->0', 17179869184)
    """
    return requests_of(load(trace), policy_of(policy), host_of(host))


def policy_of(policy: str | Policy) -> Policy:
    """Return a policy by its name; a ``Policy`` passes."""
    expect(policy, str | Policy, "policy", "give a name or a Policy")
    return policy if isinstance(policy, Policy) else by_name(policy)


def policies_of(policies: str | Policy | Iterable[str | Policy] | None) -> tuple[Policy, ...]:
    """Return one policy, several, or all if there are none."""
    if policies is None:
        return POLICIES
    if isinstance(policies, str | Policy):
        return (policy_of(policies),)
    expect(policies, Iterable, "policies", "give names or Policy objects")
    return tuple(map(policy_of, policies))


def host_of(host: Host | None) -> Host:
    """Return the host; None: the one of the series. Raises ``UserError``."""
    where = Host() if host is None else host
    expect(where, Host, "host", "give a mtrrzap.Host")
    if where.maxphyaddr not in range(32, 53):
        problem = f"invalid MAXPHYADDR {where.maxphyaddr!r}"
        raise UserError(problem, place="host", mend="use 32 to 52 bits")
    return where


def named(sources: TraceSource | Iterable[TraceSource] | None) -> list[tuple[str, Trace]]:
    """Return traces by name, the shipped recordings if there are none."""
    if sources is None:
        return traces.shipped()
    if isinstance(sources, str | PathLike | Trace):
        sources = (sources,)
    expect(sources, Iterable, "traces", "give paths, shipped recordings' names or Trace objects")
    return [_named(number, source) for number, source in enumerate(sources)]


def _named(number: int, source: TraceSource) -> tuple[str, Trace]:
    trace = load(source)
    return (trace.name or f"trace {number}", trace)
