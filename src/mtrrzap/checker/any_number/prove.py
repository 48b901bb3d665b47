"""The verdicts for every number of vCPUs: what is proved, what a schedule refutes, what is unknown.

A property *holds* if the closed views prove it. If they do not, that says nothing about real runs:
then a schedule is looked for with few vCPUs, by the bounded search. If there is one, the property
is *violated*, and the schedule replays. Else it is *unknown*, with what was tried.
"""

from __future__ import annotations

import time
from dataclasses import replace

from mtrrzap.checker import solo
from mtrrzap.checker.any_number.alike import Alike
from mtrrzap.checker.any_number.somebody import NotProvedError, Somebody
from mtrrzap.checker.any_number.steps import IDLE, BeyondError, Steps
from mtrrzap.checker.any_number.views import CutError, Graph, Views
from mtrrzap.checker.any_number.waiting import Waiting
from mtrrzap.checker.any_number.watched import Watch, watches
from mtrrzap.checker.any_of import length, ways
from mtrrzap.checker.check import HOLDS, SAFETY, UNKNOWN, VIOLATED, Options, Verdict
from mtrrzap.checker.check import check as bounded
from mtrrzap.checker.explore import Progress
from mtrrzap.checker.properties import lost_zap, ordering, safety, starvation
from mtrrzap.checker.result import INTERRUPTED, Limits, by_ctrl_c
from mtrrzap.checker.scenario import Request, Scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, Protocol, Range

PROPERTIES = (*SAFETY, ordering.NAME, starvation.NAME)
"""What can be decided for every number of vCPUs."""

SECONDS = 240.0
"""How long the views may take, unless the caller's limits say otherwise."""

SEARCH_SECONDS = 60.0
"""How long schedules with few vCPUs are looked for, likewise."""

FEW = ((2, 1), (3, 1), (2, 2))
"""vCPUs and requests of each with which a schedule is looked for, in this order."""

_LOCAL = {safety.UNLOCKED: safety.UNLOCKED_FLAG, safety.CAPACITY: safety.CAPACITY_FLAG}
_WATCHED = {lost_zap.NAME: lost_zap.FLAG, ordering.NAME: ordering.FLAG}
_COARSE = "views of two other vCPUs do not prove it"
_UNTRIED = "not tried"


class Proof:
    """The views of a protocol for some requests, and what they prove."""

    def __init__(
        self,
        protocol: Protocol,
        kinds: tuple[Request, ...] = ((ALL_GFNS,),),
        *,
        alloc_fails: bool = True,
        properties: tuple[str, ...] = PROPERTIES,
    ) -> None:
        """Each call is for any one of ``kinds``. Nothing is computed yet.

        Raises:
            UserError: if a request has no range, or a property cannot be decided in this way.
        """
        if not kinds or not all(kinds):
            raise UserError("a request without a range", mend="give every request a range")
        for name in properties:
            if name not in PROPERTIES:
                raise UserError(
                    f"{name!r} is not decided for every number of vCPUs",
                    mend=f"use {', '.join(PROPERTIES)}",
                )
        self.protocol = protocol
        self.kinds = tuple(dict.fromkeys(tuple(Range(*part) for part in kind) for kind in kinds))
        self.alloc_fails = alloc_fails and protocol.allocates
        self.why: dict[str, str] = dict.fromkeys(
            (name for name in PROPERTIES if name in properties), _UNTRIED
        )
        """Why a property is not proved; empty if it is."""
        self.anonymous: dict[int, Graph] = {}
        self.watched: list[Watch] = []
        self.somebody: Somebody | None = None
        self.waiting: Waiting | None = None
        self.views = self.transitions = 0
        self.seconds = 0.0
        self._limits = Limits()
        self._progress: Progress | None = None

    @property
    def bound(self) -> int | None:
        """The zaps that a call sits through at most, where *starvation* is proved."""
        return self.waiting.bound if self.waiting else None

    @property
    def proved(self) -> tuple[str, ...]:
        """The properties that hold for every number of vCPUs."""
        return tuple(name for name, why in self.why.items() if not why)

    def title(self) -> str:
        """Describe the configuration in a few words."""
        kinds = len(self.kinds)
        each = f", each time for any of {kinds} requests" if kinds > 1 else ""
        failing = ", allocation may fail" if self.alloc_fails else ""
        return f"any number of vCPUs that ask for ever{each}{failing}"

    def run(self, limits: Limits | None = None, progress: Progress | None = None) -> None:
        """Compute the views and see what they prove. Looks for no schedule.

        Raises:
            UserError: if the protocol is not one.
        """
        started = time.perf_counter()
        self._progress = progress
        limits = limits or Limits()
        seconds = SECONDS if limits.seconds is None else limits.seconds
        self._limits = replace(limits, seconds=seconds, began=started)
        requests = tuple((kind,) for kind in self.kinds)
        solo.run(Scenario(self.protocol, requests, alloc_fails=self.alloc_fails))
        try:
            self._compute()
        except KeyboardInterrupt:
            self._give_up(INTERRUPTED)
        except CutError as error:
            self._give_up(f"{error}: {self.views:,} views, not closed")
        except (BeyondError, UserError) as error:
            self._give_up(f"this proof cannot treat it: {error}")
        self.seconds = time.perf_counter() - started

    def _give_up(self, why: str) -> None:
        for name, before in self.why.items():
            if before == _UNTRIED:
                self.why[name] = why

    def _settle(self, name: str, why: str = "") -> None:
        if name in self.why:
            self.why[name] = why

    def _compute(self) -> None:
        self.steps = Steps(self.protocol, self.kinds, alloc_fails=self.alloc_fails)
        graphs = self._anonymous(self.steps)
        self.steps.check_repeats()
        self._check_each_step(graphs)
        self.alike = Alike(self.steps, range(len(self.steps.values)))
        self.anonymous = self._anonymous(self.alike)
        if {safety.DEADLOCK, starvation.NAME} & self.why.keys():
            self._prove_deadlock()
        if {*_WATCHED, starvation.NAME} & self.why.keys():
            self._prove_watched()
        if starvation.NAME in self.why:
            self._prove_starvation()

    def _anonymous(self, steps: Steps | Alike) -> dict[int, Graph]:
        """Return the closed views without a watched vCPU: for all values, who may be there."""

        def moves(values: int, local: int) -> list[tuple[int, int, int]]:
            found = steps.steps(values, local)
            return [(step.values, step.local, step.shift) for step in found]

        views: Views[int] = Views(moves, lambda _: [], steps.shifted, self._limits, self._progress)
        views.add(self.steps.first, IDLE, 1 << IDLE)
        self._closed(views)
        return views.graphs

    def _closed(self, views: Views[int]) -> None:
        try:
            views.close()
        finally:
            self.views += views.count()
            self.transitions += views.steps

    def _check_each_step(self, graphs: dict[int, Graph]) -> None:
        """Settle the properties that a single step shows."""
        flags = 0
        for values, graph in graphs.items():
            for local in graph:
                for step in self.steps.steps(values, local):
                    flags |= step.flags
        for name, flag in _LOCAL.items():
            self._settle(name, _COARSE if flags & flag else "")

    def _prove_deadlock(self) -> None:
        self.somebody = Somebody(self.steps, self.alike, self.anonymous, self._limits)
        try:
            self.somebody.prove()
        except NotProvedError as error:
            self.somebody = None
            self._settle(safety.DEADLOCK, str(error))
        else:
            self._settle(safety.DEADLOCK)

    def _prove_watched(self) -> None:
        wanted = lost_zap.FLAG
        if ordering.NAME in self.why:
            wanted |= ordering.FLAG
        for atom, kinds in watches(self.steps):
            while wanted:
                bad = self._watch(atom, kinds, wanted) & wanted
                if not bad:
                    break
                wanted &= ~bad
        for name, flag in _WATCHED.items():
            self._settle(name, "" if wanted & flag else _COARSE)
        if not wanted & lost_zap.FLAG:
            self.watched = []

    def _watch(self, atom: int, kinds: tuple[int, ...], wanted: int) -> int:
        """Compute the views of calls watched for one atom; return the flags that they raise."""
        watch = Watch(
            self.steps,
            self.alike,
            atom,
            kinds,
            wanted=wanted,
            limits=self._limits,
            progress=self._progress,
        )
        try:
            watch.close(self.anonymous)
        finally:
            self.views += watch.views.count()
            self.transitions += watch.views.steps
        if not watch.bad & wanted:
            self.watched.append(watch)
        return watch.bad

    def _prove_starvation(self) -> None:
        if self.somebody is None or not self.watched:
            self._settle(starvation.NAME, "it is proved where no zap is lost and nothing deadlocks")
            return
        waiting = Waiting(self.steps, self.alike, self.anonymous, self._limits, self._progress)
        try:
            waiting.prove()
        except NotProvedError as error:
            self._settle(starvation.NAME, str(error))
        else:
            self.waiting = waiting
            self._settle(starvation.NAME)
        finally:
            self.views += waiting.views.count()
            self.transitions += waiting.views.steps


def check(proof: Proof, options: Options | None = None) -> list[Verdict]:
    """Prove what can be proved, look for a schedule for the rest, and return the verdicts.

    Raises:
        UserError: if the protocol is not one.
    """
    options = options or Options()
    proof.run(options.limits, options.progress)
    found: dict[str, Verdict] = {}
    tried: list[str] = []
    missing = [name for name, why in proof.why.items() if why]
    if missing and not any(by_ctrl_c(why) for why in proof.why.values()):
        try:
            found, tried = _schedules(proof, missing, options)
        except KeyboardInterrupt:
            proof.why |= dict.fromkeys(missing, INTERRUPTED)
    return [_verdict(proof, name, found.get(name), tried) for name in proof.why]


def _verdict(proof: Proof, name: str, real: Verdict | None, tried: list[str]) -> Verdict:
    why = proof.why[name]
    verdict = Verdict(
        prop=name,
        verdict=UNKNOWN if why else HOLDS,
        detail=why or "for every number of vCPUs",
        configuration=proof.title(),
        states=proof.views,
        transitions=proof.transitions,
        seconds=proof.seconds,
        engine="views",
        interrupted=by_ctrl_c(why),
    )
    if real is not None:
        return replace(
            verdict,
            verdict=VIOLATED,
            detail=f"{real.detail} ({real.configuration})",
            counterexample=real.counterexample,
        )
    if why:
        return replace(verdict, detail="; ".join([why, *tried]))
    if name == starvation.NAME:
        zaps = f"a call sits through at most {proof.bound} zap{'s' if proof.bound != 1 else ''}"
        return replace(verdict, detail=f"{verdict.detail}: {zaps}")
    return verdict


def _schedules(
    proof: Proof, missing: list[str], options: Options
) -> tuple[dict[str, Verdict], list[str]]:
    """Look for a schedule for each property with few vCPUs; also say what was tried."""
    began = time.perf_counter()
    limits = options.limits
    seconds = SEARCH_SECONDS if limits.seconds is None else limits.seconds
    options = replace(options, first=True, limits=replace(limits, seconds=seconds, began=began))
    found: dict[str, Verdict] = {}
    tried: list[str] = []
    for vcpus, requests in FEW:
        left = tuple(name for name in missing if name not in found)
        late = options.limits.late(began)
        if not left or late:
            break
        fails = proof.alloc_fails
        for world in ways(proof.protocol, proof.kinds, vcpus, requests, alloc_fails=fails):
            for verdict in bounded(world, replace(options, properties=left)):
                if verdict.interrupted:
                    raise KeyboardInterrupt
                best = found.get(verdict.prop)
                if verdict.verdict == VIOLATED and (best is None or length(verdict) < length(best)):
                    found[verdict.prop] = verdict
            late = options.limits.late(began)
            if late:
                break
        each = f"{requests} request{'s' if requests > 1 else ''} each"
        cut = f", to the {late}" if late else ""
        tried.append(f"no schedule found with {vcpus} vCPUs, {each}{cut}")
    return found, tried
