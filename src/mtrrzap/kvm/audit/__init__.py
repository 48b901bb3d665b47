"""Can a present entry have a memory type that KVM would no longer give it? (docs/audit.md)

``parts`` has sets of parts of guest memory, ``views`` says what a vCPU's faults may install on each
part, ``auditor`` follows a trace and draws the conclusions.
"""

from mtrrzap.kvm.audit.auditor import (
    Audit,
    AuditVerdict,
    Disagreement,
    Finding,
    Need,
    audit,
)

__all__ = ["Audit", "AuditVerdict", "Disagreement", "Finding", "Need", "audit"]
