"""What a study measured: one outcome per policy and seed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.files import writing
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.federated.measurements import COLUMNS
from hasa_opt.study.results import Results

if TYPE_CHECKING:
    from hasa_opt.tasks import Task

__all__ = [
    "Outcome",
    "chosen_round",
    "gather",
    "mean_of_known",
    "measuring_of",
    "pooled_validation",
    "validation_targets",
    "write_outcomes",
]


@dataclass(frozen=True, eq=False)
class Outcome:
    """One policy, trained under one seed.

    Attributes
    ----------
    policy : str
    seed : int
    widths : (n_clients,) floats
        Width that each client deploys.
    realised : float
        Budget that was spent: size-weighted mean cost as a share of the supernet's.
    history : History
    own, supernet : (n_clients,) floats
        The metric on test data of what each client deploys, and of the uncut supernet.
    rounds : int
        Rounds after which both were measured.
    reason : str
        What an allocator has decided under this seed, and why.
    measuring : float
        Training of the probe that chose the policy's widths, as a share of a run's.
    device_bytes : float
        Bytes of models that a client keeps from one round to the next, the most of any; NaN if it
        is not known.
    """

    policy: str
    seed: int
    widths: FloatArray
    realised: float
    history: History
    own: FloatArray
    supernet: FloatArray
    rounds: int
    reason: str = ""
    measuring: float = 0.0
    device_bytes: float = np.nan


def validation_targets(task: Task) -> IntArray:
    """Targets in each client's validation data, ``(n_clients,)``; it loads lazy splits."""
    return np.array([task.problem.judged(split.targets) for split in task.validation])


def pooled_validation(history: History, targets: IntArray) -> FloatArray:
    """The metric on all clients' validation data after each round, weighted by their targets.

    Of the accuracy, this is the share of all targets that is predicted.

    Parameters
    ----------
    history : History
    targets : (n_clients,) ints
        Validation targets of each client.

    Returns
    -------
    (rounds,) floats
        NaN for a round in which a client was not measured that is measured after the last one.
    """
    known = np.isfinite(history.validation_metric[-1]) & (targets > 0)
    if not known.any():
        return np.full(history.rounds, np.nan)
    return np.asarray(
        np.average(history.validation_metric[:, known], axis=1, weights=targets[known])
    )


def chosen_round(history: History, by: Literal["fixed", "validation"], targets: IntArray) -> int:
    """Number of rounds after which a run is judged; test data has no say.

    Parameters
    ----------
    history : History
    by : "fixed" or "validation"
        After the last round, or after that with the best pooled validation metric, the first of
        equals. With sampled clients only the last round measures all of them, and is taken.
    targets : (n_clients,) ints
        Validation targets of each client; see :func:`validation_targets`.

    Returns
    -------
    int
        From 1 to ``history.rounds``.
    """
    if by not in ("fixed", "validation"):
        raise InputError(f"rounds chosen by {by!r}: give 'fixed' or 'validation'")
    if len(targets) != len(history.widths):
        raise InputError(
            f"{len(targets)} numbers of validation targets for {len(history.widths)} clients: give "
            "one per client"
        )
    pooled = pooled_validation(history, targets)
    if by == "fixed" or np.isnan(pooled).all():
        return history.rounds
    return 1 + int(np.nanargmax(pooled) if history.higher_is_better else np.nanargmin(pooled))


def measuring_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Mean over the seeds of :attr:`Outcome.measuring`, of the policies that measure at all."""
    shares: dict[str, list[float]] = {}
    for outcome in outcomes:
        shares.setdefault(outcome.policy, []).append(outcome.measuring)
    return {policy: float(np.mean(known)) for policy, known in shares.items() if any(known)}


def gather(
    outcomes: Sequence[Outcome],
    client_names: Sequence[str],
    samples: IntArray,
    memory: Callable[[float], float] | None = None,
    scale: Scale = ACCURACY,
) -> Results:
    """Put the outcomes of all policies and seeds into columns.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One for each pair of a policy and a seed.
    client_names : n_clients strings
    samples : (n_clients,) ints
        Training samples.
    memory : callable, optional
        Peak bytes of a training step at a width.
    scale : Scale
        The metric of the outcomes.

    Raises
    ------
    InputError
        If there are none, or a pair of a policy and a seed has none or two.
    """
    policies = tuple(dict.fromkeys(outcome.policy for outcome in outcomes))
    seeds = tuple(dict.fromkeys(outcome.seed for outcome in outcomes))
    found = {(outcome.policy, outcome.seed): outcome for outcome in outcomes}
    if not outcomes or not len(outcomes) == len(found) == len(policies) * len(seeds):
        raise InputError(
            f"{len(outcomes)} outcomes for {len(policies)} policies and {len(seeds)} seeds: give "
            "one for each pair of them"
        )
    runs = [[found[policy, seed] for seed in seeds] for policy in policies]

    def table(read: Callable[[Outcome], Any]) -> Any:
        return np.array([[read(run) for run in row] for row in runs])

    measured = cache(memory or (lambda width: np.nan))
    return Results(
        policies,
        seeds,
        tuple(client_names),
        np.asarray(samples),
        own=table(lambda run: run.own),
        supernet=table(lambda run: run.supernet),
        deployed=table(lambda run: run.widths),
        peak=table(lambda run: run.history.widths),
        trained=table(lambda run: mean_of_known(run.history.mean_width, axis=0)),
        flops=table(lambda run: run.history.flops.sum(axis=0)),
        bytes=table(lambda run: (run.history.bytes_down + run.history.bytes_up).sum(axis=0)),
        realised=table(lambda run: run.realised),
        rounds=table(lambda run: run.rounds),
        memory=table(lambda run: float(measured(float(run.history.widths.max())))),
        server_bytes=table(lambda run: float(run.history.server_bytes)),
        device_bytes=table(lambda run: run.device_bytes),
        seconds=table(lambda run: _total(run.history.clock_seconds, run.history.round_seconds)),
        joules=table(lambda run: _total(run.history.clock_joules, run.history.clock_joules)),
        scale=scale,
    )


def _total(measured: FloatArray, amounts: FloatArray) -> float:
    """Sum of what a clock gave; NaN without one."""
    return float(np.nansum(amounts)) if np.isfinite(measured).any() else np.nan


def write_outcomes(
    outcomes: Sequence[Outcome], client_names: Sequence[str], path: str | PathLike[str]
) -> None:
    """Write one CSV line per policy, seed, round and client, with all that was measured."""
    with writing(path) as file:
        out = csv.writer(file)
        metric = outcomes[0].history.metric
        columns = (column.replace("_metric", f"_{metric}") for column in COLUMNS)
        out.writerow(["policy", "seed", "round", "client", "width", *columns])
        for outcome in outcomes:
            out.writerows(_records(outcome, client_names))


def _records(outcome: Outcome, client_names: Sequence[str]) -> Iterator[list[Any]]:
    columns = [getattr(outcome.history, name) for name in COLUMNS]
    for number in range(outcome.history.rounds):
        for client, name in enumerate(client_names):
            values = [column[number, client].item() for column in columns]
            width = outcome.widths[client].item()
            yield [outcome.policy, outcome.seed, number + 1, name, width, *values]


def mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    """Mean of the finite values along an axis; NaN where there are none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=axis)
    count = known.sum(axis=axis)
    return np.asarray(np.where(count > 0, total, np.nan) / np.maximum(count, 1))
