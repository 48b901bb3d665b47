"""Verify certificates: proofs for every number of vCPUs, written by ``any_number.certificate``.

Shares no code with the search that finds them. ``vcpu`` runs the protocol, ``views`` sees that a
set of views is closed and shows nothing bad, and ``waits`` that nobody waits for ever.
"""

from __future__ import annotations

from typing import Any

from mtrrzap.checker.verifier.vcpu import RejectedError, expect
from mtrrzap.checker.verifier.views import NEEDS, Verifier
from mtrrzap.protocol import Protocol
from mtrrzap.protocol.digest import digest

__all__ = ["NEEDS", "RejectedError", "verify"]


def verify(text: dict[str, Any], protocol: Protocol) -> tuple[str, ...]:
    """Return the properties that a certificate proves for every number of vCPUs.

    Raises:
        RejectedError: if it does not prove all that it says.
    """
    try:
        same = text["text"] == digest(protocol.call, protocol.vm)
        expect(same, "it is for another text of the protocol: prove it again")
        return Verifier(text, protocol).verify()
    except RejectedError:
        raise
    except Exception as error:  # whatever it makes the protocol or this code do
        what = f"{type(error).__name__}: {error}"
        raise RejectedError(f"malformed: {what[:200]}") from error
