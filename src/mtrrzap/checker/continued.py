"""Go on after a schedule: every interleaving from the state in which it ends."""

import time
from dataclasses import replace

from mtrrzap.checker.check import SAFETY, Counterexample, Options, Verdict, judged, search
from mtrrzap.checker.model import Model
from mtrrzap.checker.properties import lost_zap
from mtrrzap.checker.result import Schedule
from mtrrzap.checker.scenario import Scenario
from mtrrzap.checker.schedule import model_for
from mtrrzap.checker.schedule_run import run_schedule
from mtrrzap.errors import UserError


def continued(shown: Counterexample, options: Options) -> list[Verdict]:
    """Return the verdicts on what may follow a schedule; their schedules begin with it.

    Only the properties of states and single steps are decided: *lost zap*, *deadlock*, *unlocked
    access*, *capacity*. What the schedule itself shows is not looked at again.

    Raises:
        UserError: if the schedule is one of vCPUs that ask for ever.
    """
    if shown.scenario.forever:
        raise UserError(
            "the schedule's vCPUs ask for ever", mend="continue one in which they come to an end"
        )
    started = time.perf_counter()
    flags = {name: flag for name, flag in SAFETY.items() if name in options.properties}
    model = after(shown.scenario, shown.schedule)
    options = replace(options, symmetry=False, limits=replace(options.limits, began=started))
    found = search(model, options, sum(flags.values()))
    title = f"{shown.scenario.title()}, after {len(shown.schedule)} steps"
    order = tuple(range(shown.scenario.vcpus))
    verdicts = judged(found, shown.scenario, flags, time.perf_counter() - started, order)
    return [_from_the_start(replace(each, configuration=title), shown) for each in verdicts]


def after(scenario: Scenario, schedule: Schedule) -> Model:
    """Return a model whose start is the state in which a schedule ends."""
    model, stepper = model_for(scenario, lost_zap.NAME)
    model.initial = run_schedule(model, schedule, stepper=stepper).state
    return model


def _from_the_start(verdict: Verdict, shown: Counterexample) -> Verdict:
    found = verdict.counterexample
    if found is None:
        return verdict
    whole = replace(found, schedule=(*shown.schedule, *found.schedule))
    detail = f"{len(found.schedule)} more steps"
    return replace(verdict, counterexample=whole, detail=detail)
