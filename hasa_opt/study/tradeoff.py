"""What a policy is worth against what it takes, and which policies no other beats in both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.study.claims import REFERENCE
from hasa_opt.study.inference import paired
from hasa_opt.study.results import Results
from hasa_opt.study.summary import spent

__all__ = ["COSTS", "TradeOff", "trade_off", "trade_offs", "undominated"]

COSTS = {
    "flops": ("Operations of the devices", "FLOP"),
    "bytes": ("Bytes received and sent", "B"),
    "storage": ("Models that the server keeps", "B"),
    "seconds": ("Seconds by the clock", "s"),
    "joules": ("Joules by the clock", "J"),
}
"""What a policy takes, over all clients and rounds (storage: at once): in words, and its unit."""


@dataclass(frozen=True, eq=False)
class TradeOff:
    """A measure of each policy beside one cost, means over the seeds.

    Attributes
    ----------
    policies : tuple of str
    cost, measure : str
    costs, values : (n_policies,) floats
        Values as :meth:`Results.measure` gives them.
    reach : (n_policies,) floats
        From a value to either end of its 95 % interval; NaN where there is none.
    frontier : ints
        Positions of the policies that no other beats in both, the cheapest first.
    """

    policies: tuple[str, ...]
    cost: str
    measure: str
    costs: FloatArray
    values: FloatArray
    reach: FloatArray
    frontier: IntArray


def undominated(costs: FloatArray, worth: FloatArray) -> IntArray:
    """Positions of the points that no other beats: the frontier.

    A point is beaten by one that costs no more and is worth no less, and is better in one of the
    two. Equal points do not beat each other.

    Parameters
    ----------
    costs, worth : (n,) floats
        Less of the first is better, more of the second.

    Returns
    -------
    ints
        The cheapest first.
    """
    no_worse = (costs[:, None] <= costs) & (worth[:, None] >= worth)
    beaten = np.asarray((no_worse & ~no_worse.T).any(axis=0))
    order = np.lexsort((-worth, costs))
    return np.asarray(order[~beaten[order]])


def trade_off(results: Results, cost: str, measure: str = "mean") -> TradeOff:
    """Hold a measure of each policy against one cost.

    Parameters
    ----------
    results : Results
    cost : str
        One of :data:`COSTS`.
    measure : str
        As for :meth:`Results.measure`.

    Returns
    -------
    TradeOff
        Intervals are those of the difference to uniform, paired by seed, which has none itself;
        without uniform, those of the mean over the seeds.
    """
    values, costs = results.measure(measure), _costs(results)[cost].mean(axis=1)
    known = REFERENCE in results.policies
    base = values[results.row(REFERENCE)] if known else np.zeros(len(results.seeds))
    found = [paired(own, base) for own in values]
    reach = np.array([(each.high - each.low) / 2 for each in found])
    if known:
        reach[results.row(REFERENCE)] = np.nan
    return TradeOff(
        results.policies,
        cost,
        measure,
        costs,
        values.mean(axis=1),
        np.where(np.isfinite(reach), reach, np.nan),
        undominated(costs, results.worth(measure).mean(axis=1)),
    )


def trade_offs(results: Results, measure: str = "mean") -> list[TradeOff]:
    """One for each cost that is known and that some policy has; none without test data."""
    if not results.measured().size:
        return []
    known = [
        cost for cost, table in _costs(results).items() if np.isfinite(table).all() and table.any()
    ]
    return [trade_off(results, cost, measure) for cost in known]


def _costs(results: Results) -> dict[str, FloatArray]:
    """What each run takes, ``(n_policies, n_seeds)``, by its kind."""
    found = spent(results) | {"storage": results.server_bytes}
    return {name: found[name] for name in COSTS}
