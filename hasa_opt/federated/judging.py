"""Judging: what clients say, by their validation data, of mixtures of common and local models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated.evaluation import evaluate, outcomes
from hasa_opt.federated.personal import SHARES
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.seen import Verdicts
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.learning import LearningProblem
from hasa_opt.tasks.splits import Split


class Judged(NamedTuple):
    """A client's metric with each share of its local model, summed over so many targets."""

    totals: FloatArray
    targets: int
    flops: int


def judged_totals(
    models: Iterable[SupernetModel], split: Split, problem: LearningProblem
) -> FloatArray:
    """Judge models by a split: the metric, summed over what it is judged by, of each."""
    return np.array([_total(model, split, problem) for model in models])


def best_share(judged: Mapping[int, Judged], higher_is_better: bool) -> int:
    """Row of the share that is best over all clients; the first of several, also without any."""
    totals = sum((each.totals for each in judged.values()), np.zeros(len(SHARES)))
    return int(np.argmax(totals if higher_is_better else -totals))


def verdicts(judged: Mapping[int, Judged], higher_is_better: bool, now: Round) -> Verdicts:
    """What the clients of a round say of their models.

    They would deploy the mixture whose share of the local model is best for all together. What
    this costs counts as operations of the round.
    """
    unknown = np.full(len(now.federation), np.nan)
    best, sign = best_share(judged, higher_is_better), 1 if higher_is_better else -1
    found = Verdicts(unknown, unknown.copy())
    for client, each in judged.items():
        means = each.totals / each.targets
        found.judged[client] = means[best]
        found.local_gain[client] = sign * (means[-1] - means[0])
        now.row["flops"][client] += each.flops
    return found


def _total(model: SupernetModel, split: Split, problem: LearningProblem) -> float:
    if problem.is_by_sample:
        return float(outcomes(model, split, problem=problem)[:, 2].sum())
    return evaluate(model, split, problem=problem).metric * problem.judged(split.targets)
