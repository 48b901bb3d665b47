"""May a present entry hold a memory type that KVM would no longer give it? (docs/audit.md)

``parts`` cuts guest memory where anything ever changes, ``views`` says what a vCPU's faults may
install on each part, ``episodes`` keeps track of when something began and ended, ``run`` follows a
trace and draws the conclusions.
"""

from mtrrzap.kvm.audit.auditor import (
    Audit,
    AuditVerdict,
    Disagreement,
    Finding,
    Need,
    audit,
    verdict,
)

__all__ = ["Audit", "AuditVerdict", "Disagreement", "Finding", "Need", "audit", "verdict"]
