"""What widths, and groups, are worth on held-back training data: two warm-ups, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from os import getpid

import numpy as np
from joblib import Parallel, delayed

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.processes import follow, shared_counts
from hasa_opt.federated.batch_norm import running_statistics, start_statistics
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.workers import one_thread
from hasa_opt.forecast.foretold import Foretold
from hasa_opt.forecast.warm_up import Judged, Plan, halves, judge, unwatched, warm_up
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import Task

__all__ = ["Measured", "measure"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What two warm-ups, each judged on the other's training half, have measured.

    Attributes
    ----------
    round_flops : (n_widths,) floats
        Operations of a round on all training samples with all clients at each width.
    outcomes : two lists of n_clients Judged
        Columns: the widths of the menu.
    flops : int
        Operations of training and judging.
    similarities : list of (n_clients, n_clients) floats
        Of the updates of each few rounds, mean over the warm-ups: cosines of both in one row.
    foretold : Foretold
        Whether there are groups, by the counts of labels or these similarities.
    apart : two lists of n_clients Judged
        Where there are: outcomes of clients whose group went on apart, minus those of the same
        clients where all went on together. Empty with BatchNorm, whose statistics are estimated
        for one supernet.
    """

    round_flops: FloatArray
    outcomes: list[list[Judged]]
    flops: int
    similarities: list[FloatArray]
    foretold: Foretold
    apart: list[list[Judged]]


def measure(
    model: SupernetModel,
    task: Task,
    plan: Plan,
    workers: int | None = None,
    on_round: Callable[[int, int], object] | None = None,
) -> Measured:
    """Warm up on each half of the training data, judge on the other.

    Where groups are found, each warm-up goes on for as many rounds again, once with all clients
    together and once with each group apart.

    Parameters
    ----------
    model : SupernetModel
    task : Task
    plan : Plan
    workers : int or None
        Processes of one torch thread each; None: this one, with all its threads.
    on_round : callable, optional
        Called from a thread with finished rounds and all that are known to be trained.

    Raises
    ------
    InputError
        If a client has a single sample or the model does not fit the task, before any training.
    """
    costs = Costs(model, plan.training)
    parts = [replace(task, train=part) for part in halves(task, plan.seed)]
    for half in parts:
        costs.check(half, np.full(len(task), plan.menu[-1]))
        start_statistics(model, half, plan.training)
    rounds = [float(costs.round(task, [width] * len(task))) for width in plan.menu]
    legs = [_Leg(model, half, other.train) for half, other in (parts, parts[::-1])]
    with shared_counts(3 * len(legs), _told(on_round, len(legs) * plan.rounds)) as counts:
        reached = _run(legs, plan, workers, counts)
        seen = zip(*(each.similarities for each in reached), strict=True)
        similarities = [(one + other) / 2 for one, other in seen]
        foretold = Foretold.of(
            task.clients().counts, similarities, plan.seed, unwatched(task, plan)
        )
        onward = _onward(legs, reached, plan, foretold.groups)
        ends = _run(onward, plan, workers, counts, first=len(legs))
    return Measured(
        np.array(rounds),
        [each.outcomes for each in reached],
        sum(each.flops for each in reached + ends)
        + sum(_judging(costs, leg.held, plan.menu) for leg in legs + onward),
        similarities,
        foretold,
        [_gained(*pair) for pair in zip(ends[::2], ends[1::2], strict=True)],
    )


def _onward(
    legs: Sequence[_Leg], reached: Sequence[_Reached], plan: Plan, groups: IntArray | None
) -> list[_Leg]:
    """How each leg goes on where there are groups: with each group apart, and with all together."""
    if groups is None or not groups.any() or running_statistics(legs[0].model):
        return []
    return [
        replace(leg, model=each.model, first=plan.rounds, groups=models)
        for leg, each in zip(legs, reached, strict=True)
        for models in (groups, None)
    ]


def _told(
    on_round: Callable[[int, int], object] | None, surely: int
) -> Callable[[int], None] | None:
    """What hears of the sum of finished rounds: that there are more is known by the groups."""
    if on_round is None:
        return None

    def tell(done: int) -> None:
        on_round(done, surely if done <= surely else 3 * surely)

    return tell


@dataclass(frozen=True, eq=False)
class _Leg:
    """The rounds of a plan on one half of the training data, from a model; judged on the other."""

    model: SupernetModel
    half: Task
    held: Sequence[Split]
    first: int = 0
    groups: IntArray | None = None


@dataclass(frozen=True, eq=False)
class _Reached:
    """What a leg has led to."""

    model: SupernetModel
    outcomes: list[Judged]
    similarities: list[FloatArray]
    flops: int


def _run(
    legs: Sequence[_Leg], plan: Plan, workers: int | None, counts: IntArray, first: int = 0
) -> list[_Reached]:
    """Run legs that do not need each other, side by side where there are workers."""
    pool = Parallel(n_jobs=min(workers or 1, max(1, len(legs))))
    found: list[_Reached] = pool(
        delayed(_walked)(leg, plan, workers is None, counts, row, getpid())
        for row, leg in enumerate(legs, first)
    )
    return found


def _walked(
    leg: _Leg, plan: Plan, all_threads: bool, counts: IntArray, row: int, parent: int
) -> _Reached:
    """Train and judge, perhaps in a worker process."""
    follow(parent)

    def count(done: int) -> None:
        counts[row] = done

    with nullcontext() if all_threads else one_thread():
        way = warm_up(leg.model, leg.half, plan, leg.first, leg.groups, count)
        outcomes = judge(way, plan.menu, leg.held)
    return _Reached(way.federation.model, outcomes, way.similarities, way.flops)


def _gained(own: _Reached, common: _Reached) -> list[Judged]:
    """What each sample gains by the groups."""
    return [
        replace(one, score=one.score - other.score, loss=one.loss - other.loss)
        for one, other in zip(own.outcomes, common.outcomes, strict=True)
    ]


def _judging(costs: Costs, held: Sequence[Split], widths: FloatArray) -> int:
    """Operations of judging all clients at each of some widths."""
    repeated = (split for split in held for _ in widths)
    return costs.judging(repeated, widths.tolist() * len(held))
