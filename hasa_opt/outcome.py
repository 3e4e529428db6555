"""What a study measured: one outcome per policy and seed, one summary row per policy."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hasa_opt.clients import FloatArray
from hasa_opt.federated import History
from hasa_opt.federated.deployments import targets
from hasa_opt.federated.history import COLUMNS
from hasa_opt.tasks import Task

__all__ = ["Outcome", "SummaryRow", "summarise", "write_outcomes"]

_BUDGET_TOLERANCE = 0.005


@dataclass(frozen=True, eq=False)
class Outcome:
    """One policy, trained under one seed.

    Attributes
    ----------
    policy : str
    seed : int
    widths : (n_clients,) floats
    realised : float
        Sample-weighted mean share of the supernet's units that were trained.
    history : History
    own, supernet : (n_clients,) floats
        Test accuracy of what each client deploys, and of the uncut supernet.
    rounds : int
        Rounds after which they were measured.
    """

    policy: str
    seed: int
    widths: FloatArray
    realised: float
    history: History
    own: FloatArray
    supernet: FloatArray
    rounds: int


@dataclass(frozen=True)
class SummaryRow:
    """Result of one policy over all seeds; accuracies in percent, std over seeds.

    Attributes
    ----------
    policy : str
    mean, mean_std : float
        Unweighted mean test accuracy over clients.
    worst, worst_std : float
        Accuracy of the worst client.
    worst_third, worst_third_std : float
        Mean accuracy of the worst third of the clients.
    realised : float
        Budget that was spent, mean over seeds.
    flagged : bool
        True if a seed misses the budget by more than 0.5 %.
    """

    policy: str
    mean: float
    mean_std: float
    worst: float
    worst_std: float
    worst_third: float
    worst_third_std: float
    realised: float
    flagged: bool


def chosen_round(history: History, task: Task) -> int:
    """Number of the round, from 1, with the best validation accuracy over all targets."""
    weights = np.array([targets(split) for split in task.validation])
    pooled = np.nansum(history.validation_accuracy * weights, axis=1)
    return int(np.argmax(pooled)) + 1


def summarise(outcomes: Sequence[Outcome], budget: float) -> SummaryRow:
    """Summarise the outcomes of one policy over its seeds.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Of one policy, one per seed.
    budget : float
        What the policy should have spent.
    """
    final = 100 * np.sort([outcome.own for outcome in outcomes], axis=1)
    third = max(1, round(final.shape[1] / 3))
    mean, worst, tail = final.mean(axis=1), final[:, 0], final[:, :third].mean(axis=1)
    realised = np.array([outcome.realised for outcome in outcomes])
    missed = np.abs(realised / budget - 1) > _BUDGET_TOLERANCE
    return SummaryRow(
        policy=outcomes[0].policy,
        mean=float(mean.mean()),
        mean_std=_std(mean),
        worst=float(worst.mean()),
        worst_std=_std(worst),
        worst_third=float(tail.mean()),
        worst_third_std=_std(tail),
        realised=float(realised.mean()),
        flagged=bool(missed.any()),
    )


def write_outcomes(
    outcomes: Sequence[Outcome], client_names: Sequence[str], path: str | PathLike[str]
) -> None:
    """Write one CSV line per policy, seed, round and client, with all that was measured."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["policy", "seed", "round", "client", "width", *COLUMNS])
        for outcome in outcomes:
            out.writerows(_records(outcome, client_names))


def _records(outcome: Outcome, client_names: Sequence[str]) -> Iterator[list[Any]]:
    columns = [getattr(outcome.history, name) for name in COLUMNS]
    for number in range(outcome.history.rounds):
        for client, name in enumerate(client_names):
            values = [column[number, client].item() for column in columns]
            width = outcome.widths[client].item()
            yield [outcome.policy, outcome.seed, number + 1, name, width, *values]


def _std(values: FloatArray) -> float:
    """Sample standard deviation over seeds; 0 for a single one."""
    return float(values.std(ddof=1)) if values.size > 1 else 0.0
