"""By rounds: what policies that decide while the clients train have made of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.study.outcome import Outcome, mean_of_known

__all__ = ["ByRounds", "by_rounds"]

_SPANS = 6
"""Parts of a run that a table has columns for."""


@dataclass(frozen=True, eq=False)
class ByRounds:
    """What policies that decide while the clients train have made of a run.

    Attributes
    ----------
    spans : n_spans strings
        Rounds from 1, such as ``"1 to 5"``.
    trained : dict of policy to (n_spans,) floats
        Mean width that was trained, weighted by samples, mean over seeds; NaN where nobody trained.
    decided : dict of policy to float
        How often it decided anew after the first round, mean over seeds.
    reasons : dict of str to str
        What was decided and why, by policy and seed in words.
    """

    spans: tuple[str, ...]
    trained: dict[str, FloatArray]
    decided: dict[str, float]
    reasons: dict[str, str]


def by_rounds(outcomes: Sequence[Outcome], samples: IntArray) -> ByRounds:
    """Gather what policies decided while the clients trained; none of them if none did so.

    Parameters
    ----------
    outcomes : sequence of Outcome
    samples : (n_clients,) ints
        Training samples.
    """
    deciding = [outcome for outcome in outcomes if outcome.history.decisions]
    rounds = deciding[0].history.rounds if deciding else 0
    parts = np.array_split(np.arange(rounds), min(_SPANS, rounds)) if rounds else []
    runs: dict[str, list[Outcome]] = {}
    for outcome in deciding:
        runs.setdefault(outcome.policy, []).append(outcome)
    trained = {
        policy: np.array(
            [[_mean_width(run.history.mean_width[part], samples) for part in parts] for run in own]
        )
        for policy, own in runs.items()
    }
    return ByRounds(
        tuple(_span(part[0] + 1, part[-1] + 1) for part in parts),
        {policy: mean_of_known(values, axis=0) for policy, values in trained.items()},
        {
            policy: float(np.mean([len(run.history.decisions) - 1 for run in own]))
            for policy, own in runs.items()
        },
        {f"{run.policy}, seed {run.seed}": run.reason for run in deciding if run.reason},
    )


def _mean_width(widths: FloatArray, samples: IntArray) -> float:
    """Mean by samples over those who trained in some rounds; NaN if nobody did."""
    weights = np.where(np.isfinite(widths), samples, 0)
    total = weights.sum()
    return float((np.nan_to_num(widths) * weights).sum() / total) if total else np.nan


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
