"""The requests of a recorded guest, as what vCPUs may ask a protocol for."""

from mtrrzap.errors import UserError
from mtrrzap.gfn import Range
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, replay


def distinct_requests(
    trace: Trace, policy: Policy, host: Host | None = None
) -> tuple[tuple[Range, ...], ...]:
    """Return the distinct requests of a trace under a policy, in the order of their first event.

    A request for no frame is left out: KVM calls no protocol for it.

    Raises:
        UserError: if the policy asks for nothing.
    """
    found = (request.ranges for request in replay(trace, policy, host))
    distinct = tuple(dict.fromkeys(ranges for ranges in found if ranges))
    if not distinct:
        raise UserError(
            f"the trace makes no request under {policy.name}",
            mend="choose a policy that zaps, or another trace",
        )
    return distinct
