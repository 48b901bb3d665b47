"""The columns of the results, their types and units: what docs/sweep.md lists is what is here."""

from typing import Any, NamedTuple

from mtrrzap.sweep.grid import CHECK, SIMULATE

Row = dict[str, Any]

DONE, REFUSED, FAILED = "done", "refused", "failed"
"""A cell ran; it makes no sense, and the reason says why; it broke, and the reason says how."""
VIOLATED, NOT_SEEN = "violated", "not seen"


class Column(NamedTuple):
    """A column: ``type`` is Arrow's name of it."""

    name: str
    type: str
    unit: str
    says: str


FIRST = (
    Column("number", "int64", "", "the cell's place in the grid, from 0"),
    Column("cell", "string", "", "a hash of its description, its input and the code"),
    Column("status", "string", "", "done, refused or failed"),
    Column("reason", "string", "", "why it was refused, or how it failed"),
)
LAST = (
    Column("input_sha256", "string", "", "of the trace's text, or the protocol's source"),
    Column("version", "string", "", "the project's"),
    Column("code", "string", "", "a hash of the code and the cost model"),
)
SIMULATE_COLUMNS = (
    Column("trace", "string", "", "as the spec names it"),
    Column("guest", "string", "", "the firmware's family"),
    Column("vcpus", "int32", "vCPUs", ""),
    Column("memory_bytes", "int64", "bytes", "of the guest"),
    Column("page_size", "string", "", "the host's"),
    Column("seed", "int64", "", "0: the fitted cost model"),
    Column("policy", "string", "", ""),
    Column("requests", "int64", "requests", "counted"),
    Column("ranges", "int64", "ranges", "counted"),
    Column("frames", "int64", "frames", "asked for, counted"),
    Column("modelled_cycles", "int64", "cycles", "of all vCPUs in requests; sum of the next five"),
    Column("modelled_waiting_cycles", "int64", "cycles", "for another vCPU"),
    Column("modelled_walking_cycles", "int64", "cycles", "at entries, as if nobody contended"),
    Column("modelled_yielding_cycles", "int64", "cycles", "what contention adds to walks"),
    Column("modelled_flushing_cycles", "int64", "cycles", "flushes, and page-table pages freed"),
    Column("modelled_operating_cycles", "int64", "cycles", "the protocol's locks and atomics"),
    Column("modelled_longest_cycles", "int64", "cycles", "the longest that one request waits"),
    Column("modelled_later_cycles", "int64", "cycles", "what zaps cost outside of requests"),
    Column("modelled_error_factor", "float64", "", "on published cells that no fit has seen"),
)
CHECK_COLUMNS = (
    Column("protocol", "string", "", "as the spec names it"),
    Column("vcpus", "int32", "vCPUs", ""),
    Column("requests", "int32", "requests", "of each vCPU"),
    Column("strategy", "string", "", "random or pct"),
    Column("seed", "int64", "", "of the strategy"),
    Column("max_executions", "int64", "executions", "the budget"),
    Column("max_seconds", "float64", "seconds", "the budget, if it is of time"),
    Column("verdict", "string", "", "violated, or not seen: nothing is proved"),
    Column("property", "string", "", "the one that is violated"),
    Column("executions", "int64", "executions", "made"),
    Column("steps", "int64", "steps", "made, in all executions"),
    Column("found_steps", "int64", "steps", "of the counterexample as it was found"),
    Column("schedule_steps", "int64", "steps", "of the counterexample after minimising"),
    Column("schedule", "string", "", "the counterexample: 'mtrrzap check --replay' runs it"),
)
COLUMNS = {SIMULATE: (*FIRST, *SIMULATE_COLUMNS, *LAST), CHECK: (*FIRST, *CHECK_COLUMNS, *LAST)}
TIMING = (
    Column("number", "int64", "", "the cell"),
    Column("seconds", "float64", "seconds", "that it took on its worker"),
    Column("worker", "string", "", "process id, or address on a cluster"),
)
"""What differs from run to run is kept apart: the cells are compared without it."""
