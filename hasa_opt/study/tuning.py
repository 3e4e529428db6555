"""The learning rate of each policy of a study, chosen for all by one protocol.

1. Exploratory seeds alone, below :data:`EXPLORATORY`; results are reported from others.
2. A policy's rate is that of the grid with the highest mean, over seeds and clients, of the metric
   on validation data after the last round (the lowest, where lower is better), of the models that
   the policy deploys. Test data choose nothing. Of equal rates the smallest is chosen.
3. While the best lies at an end of the grid, the grid goes on beyond it by its own factor, at most
   ``most`` times. What is at the end even then is warned of, and marked.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from hasa_opt._utils.checks import whole
from hasa_opt._utils.files import made_directory
from hasa_opt.errors import InputError
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.study.study import Study
from hasa_opt.study.trials import Trial, histories

__all__ = ["EXPLORATORY", "RATES", "Tuned", "tune"]

EXPLORATORY = 100
"""Seeds from here on are for results: a choice that the committed studies keep."""

RATES = (0.001, 0.003, 0.01, 0.03)
"""Learning rates that are tried at first: a choice, around the 0.01 and 0.02 of the studies."""


@dataclass(frozen=True)
class Tuned:
    """What a policy reached at each rate.

    Attributes
    ----------
    policy : str
    reached : dict of float to float
        Learning rate, ascending -> mean of the metric on validation data.
    best : float
        The rate that is chosen.
    at_edge : bool
        Whether it is the smallest or the largest that was tried.
    """

    policy: str
    reached: dict[float, float]
    best: float
    at_edge: bool


def tune(
    study: Study,
    *,
    rates: Sequence[float] = RATES,
    most: int = 3,
    directory: str | PathLike[str] | None = None,
) -> dict[str, Tuned]:
    """Choose the learning rate of each policy of a study on its seeds.

    Parameters
    ----------
    study : Study
        With exploratory seeds; its own learning rate is of no effect.
    rates : sequence of float
        At least two, ascending.
    most : int
        How often a policy's grid may go on beyond an end.
    directory : path, optional
        Keeps finished runs, as for :meth:`Study.run`.

    Returns
    -------
    dict of str to Tuned
        By the names of the policies.

    Raises
    ------
    InputError
        If a seed is not exploratory, the rates are not ascending numbers above 0, or the task has
        no validation targets.

    Warns
    -----
    UserWarning
        If the best rate of a policy lies at an end of all that were tried.
    """
    grid = _checked(study, rates)
    whole(most, "most", least=0)
    store = None if directory is None else made_directory(directory)
    found = {name: _tuned(study, name, grid, most, store) for name in study.compared}
    for each in found.values():
        if each.at_edge:
            warnings.warn(
                f"the best learning rate of {each.policy!r} is {each.best:g}, at the end of what "
                f"was tried ({', '.join(f'{rate:g}' for rate in each.reached)}): give other rates",
                stacklevel=2,
            )
    return found


def _checked(study: Study, rates: Sequence[float]) -> list[float]:
    late = [seed for seed in study.seeds if seed >= EXPLORATORY]
    if late:
        raise InputError(
            f"seed {late[0]} is for results: rates are chosen on seeds below {EXPLORATORY}"
        )
    grid = [float(rate) for rate in rates]
    if len(grid) < 2 or grid[0] <= 0 or not np.all(np.diff(grid) > 0):
        raise InputError(f"rates = {grid} must be two or more ascending numbers above 0")
    return grid


def _tuned(study: Study, name: str, grid: Sequence[float], most: int, store: Path | None) -> Tuned:
    sign = 1 if study.task.problem.scale.higher_is_better else -1
    reached: dict[float, float] = {}
    asked = list(grid)
    for _ in range(most + 1):
        reached |= {rate: _reached(study, name, rate, store) for rate in asked}
        tried = sorted(reached)
        best = max(tried, key=lambda rate: (sign * reached[rate], -rate))
        beyond = {tried[0]: tried[0] ** 2 / tried[1], tried[-1]: tried[-1] ** 2 / tried[-2]}
        if best not in beyond:
            break
        asked = [beyond[best]]
    return Tuned(name, {rate: reached[rate] for rate in tried}, best, best in beyond)


def _reached(study: Study, name: str, rate: float, store: Path | None) -> float:
    """Mean over seeds and clients of the metric on validation data after the last round."""
    at_rate = replace(study, training=replace(study.training, learning_rate=rate))
    policy = at_rate.planner.resolved(at_rate.compared[name])
    trials: dict[str, Trial] = {}
    for seed in study.seeds:
        trial = at_rate.trial(at_rate.compared[name], seed)
        if policy.is_personal:
            trial = replace(trial, evaluation=replace(trial.evaluation, on=PERSONAL, also=()))
        trials[trial.digest] = trial
    rounds = np.zeros(len(trials), dtype=np.int64)
    done = histories(trials, store, study.execution, rounds)
    last = np.array([history.validation_metric[-1] for _, history in done])
    if np.isnan(last).all():
        raise InputError(
            f"task {study.task.name!r} has no validation targets to choose by: give it some, as by "
            "validation_share="
        )
    return float(np.nanmean(last))
