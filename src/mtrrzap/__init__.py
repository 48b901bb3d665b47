"""A workbench for the zaps that KVM makes when a guest changes its MTRRs or CR0.CD.

What a Python user needs is here; each line works as it stands::

    trace = mtrrzap.load("ovmf-8")                  # a path, a shipped name, CSV, Parquet
    list(mtrrzap.replay(trace, "Base2+9"))          # zap requests
    mtrrzap.compare([trace], ["v6.1", "ticket"])    # one row a policy
    mtrrzap.check("v4", vcpus=3)["lost zap"].counterexample
    mtrrzap.memory_map("dump.txt").at(0xC000_0000)  # type, who decided, is it architectural
    mtrrzap.audit(trace, "Base2").verdict
    mtrrzap.simulate(trace, "ticket").cycles

Results print themselves (``print``, or as HTML in a notebook), and ``to_dict()`` returns what the
command line prints as JSON. Bad input raises ``UserError``: what is wrong, where, and what to do.

Importing the package loads none of it: a name's module is loaded when the name is first used.
Inside, data flows one way: ``guest`` (what a guest did) -> ``kvm`` (what KVM zaps for it) and
``protocol`` (who zaps) -> ``checker``, ``simulator``, ``threads``, ``live`` -> ``study`` ->
``report`` -> ``api`` and ``cli``.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing costs more than all else
if TYPE_CHECKING:
    from mtrrzap.api.audits import AuditResult, audit
    from mtrrzap.api.comparison import Comparison, compare
    from mtrrzap.api.memory_map import MemoryMap, Place, memory_map
    from mtrrzap.api.simulation import Simulation, simulate
    from mtrrzap.api.traces import load, replay, rescale
    from mtrrzap.api.verdicts import Counterexample, PropertyVerdict, Search, Verdicts, check
    from mtrrzap.errors import UserError
    from mtrrzap.guest.trace import Trace
    from mtrrzap.kvm.policy import POLICIES, Policy
    from mtrrzap.kvm.replay import Host, Request
    from mtrrzap.protocol import PROTOCOLS
    from mtrrzap.study.compare import CompareRow

__version__ = "0.1.0"

__all__ = [
    "POLICIES",
    "PROTOCOLS",
    "AuditResult",
    "CompareRow",
    "Comparison",
    "Counterexample",
    "Host",
    "MemoryMap",
    "Place",
    "Policy",
    "PropertyVerdict",
    "Request",
    "Search",
    "Simulation",
    "Trace",
    "UserError",
    "Verdicts",
    "audit",
    "check",
    "compare",
    "load",
    "memory_map",
    "replay",
    "rescale",
    "simulate",
]

_NAMES = {
    "api.audits": "AuditResult audit",
    "api.comparison": "Comparison compare",
    "api.memory_map": "MemoryMap Place memory_map",
    "api.simulation": "Simulation simulate",
    "api.traces": "load replay rescale",
    "api.verdicts": "Counterexample PropertyVerdict Search Verdicts check",
    "errors": "UserError",
    "guest.trace": "Trace",
    "kvm.policy": "POLICIES Policy",
    "kvm.replay": "Host Request",
    "protocol": "PROTOCOLS",
    "study.compare": "CompareRow",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}


def _loaded(name: str) -> object:
    """Load a public name's module when the name is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of ours
    __getattr__ = _loaded


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
