"""Verify certificates. Shares no code with the search that finds the proofs."""

from mtrrzap.checker.verifier.vcpu import RejectedError
from mtrrzap.checker.verifier.views import read, verify

__all__ = ["RejectedError", "read", "verify"]
