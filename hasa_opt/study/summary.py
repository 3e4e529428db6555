"""One summary row per policy: the metric, width and cost, over all seeds and clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.policies.budget import BUDGET_TOLERANCE
from hasa_opt.study.results import MEASURES, Kind, Results

__all__ = [
    "Costs",
    "Measures",
    "SummaryRow",
    "by_width",
    "for_json",
    "left_out",
    "spent",
    "summarise",
]


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The metric on test data, mean and standard deviation over seeds; NaN if not measured.

    The accuracy is in percent, another metric in its own unit.

    Attributes
    ----------
    mean, mean_std : float
        Unweighted mean over clients.
    weighted, weighted_std : float
        Mean over clients, weighted by training samples.
    worst, worst_std : float
        Of the worst client: the lowest accuracy, the highest error.
    worst_third, worst_third_std : float
        Mean over the third of the clients that are worst.
    spread, spread_std : float
        Standard deviation over clients.
    """

    mean: float
    mean_std: float
    weighted: float
    weighted_std: float
    worst: float
    worst_std: float
    worst_third: float
    worst_third_std: float
    spread: float
    spread_std: float


@dataclass(frozen=True)
class Costs:
    """What a policy took, mean over seeds.

    Attributes
    ----------
    trained : float
        Sample-weighted mean width that was trained, over the clients that trained at all.
    peak : float
        Widest width that any client trained under any seed.
    deployed : float
        Sample-weighted mean width that clients deploy.
    flops : float
        Operations of local training of all clients, over all rounds.
    bytes : float
        Bytes that all clients received and sent, over all rounds.
    memory : float
        Peak bytes of a training step at the widest width; NaN if it was not measured.
    server, device : float
        Bytes of models that the server keeps, and that a client keeps from one round to the next,
        the most of any; NaN if it is not known.
    seconds, joules : float
        How long all rounds lasted by a clock, and the energy of all clients; NaN without one.
    rounds : float
        Rounds after which the metric was measured.
    excluded : float
        Clients that are left out of training, and tested all the same.
    """

    trained: float
    peak: float
    deployed: float
    flops: float
    bytes: float
    memory: float
    server: float
    device: float
    seconds: float
    joules: float
    rounds: float
    excluded: float


@dataclass(frozen=True, kw_only=True)
class SummaryRow(Measures):
    """Result of one policy over all seeds; its own measures are of what each client deploys.

    Attributes
    ----------
    policy : str
    supernet : Measures
        Of the uncut supernet.
    costs : Costs
    realised : float
        Budget that was spent, mean over seeds.
    flagged : bool
        True if a seed misses the budget by more than 0.5 %.
    """

    policy: str
    supernet: Measures
    costs: Costs
    realised: float
    flagged: bool


def summarise(results: Results, budget: float) -> list[SummaryRow]:
    """Summarise each policy over its seeds.

    Parameters
    ----------
    results : Results
    budget : float
        What each policy should have spent.

    Returns
    -------
    list of SummaryRow
        In the order of the policies.
    """
    own, supernet = _measures(results, "own"), _measures(results, "supernet")
    missed = np.abs(results.realised / budget - 1) > BUDGET_TOLERANCE
    return [
        SummaryRow(
            policy=policy,
            **own[row],
            supernet=Measures(**supernet[row]),
            costs=_costs(results, row),
            realised=float(results.realised[row].mean()),
            flagged=bool(missed[row].any()),
        )
        for row, policy in enumerate(results.policies)
    ]


def by_width(results: Results, menu: Sequence[float]) -> tuple[FloatArray, IntArray]:
    """Mean of the clients that deploy about each width.

    Parameters
    ----------
    results : Results
    menu : sequence of float
        Increasing widths; a client counts at the nearest.

    Returns
    -------
    value : (n_policies, n_widths) floats
        As :meth:`Results.measure` gives it, mean over clients and seeds; NaN where there is none.
        Clients differ in difficulty: compare policies at one width only if they gave it to the same
        clients.
    share : (n_policies, n_widths) ints
        How many pairs of a client and a seed that is.
    """
    rows = results.measured()
    middle = (np.asarray(menu[1:]) + np.asarray(menu[:-1])) / 2
    nearest = np.searchsorted(middle, results.deployed[..., rows] - 1e-9)
    values = results.scale.shown(results.own[..., rows])
    groups = [nearest == column for column in range(len(menu))]
    share = np.stack([group.sum(axis=(1, 2)) for group in groups], axis=1)
    total = np.stack([(values * group).sum(axis=(1, 2)) for group in groups], axis=1)
    return np.divide(total, share, out=np.full(share.shape, np.nan), where=share > 0), share


def left_out(results: Results, kind: Kind = "own") -> FloatArray:
    """Unweighted mean over the clients without each one in turn.

    Returns
    -------
    (n_policies, n_seeds, n_measured) floats
        As :meth:`Results.measure` gives it; the last axis is ``results.measured(kind)``. NaN for a
        single client.
    """
    values = results.scale.shown(getattr(results, kind)[..., results.measured(kind)])
    others = values.shape[-1] - 1
    if others < 1:
        return np.full(values.shape, np.nan)
    return np.asarray((values.sum(axis=-1, keepdims=True) - values) / others)


def spent(results: Results) -> dict[str, FloatArray]:
    """What all clients together spend over all rounds, ``(n_policies, n_seeds)``, by its kind."""
    return {
        "flops": results.flops.sum(axis=2).astype(float),
        "bytes": results.bytes.sum(axis=2).astype(float),
        "seconds": results.seconds,
        "joules": results.joules,
    }


def for_json(value: Any) -> Any:
    """Nested records with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: for_json(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _measures(results: Results, kind: Kind) -> list[dict[str, float]]:
    """Mean and standard deviation over seeds of every measure, by policy."""
    measures = {name: results.measure(name, kind) for name in MEASURES}
    rows = []
    for row in range(len(results.policies)):
        values: dict[str, float] = {}
        for name, table in measures.items():
            values[name] = float(table[row].mean())
            values[f"{name}_std"] = float(table[row].std(ddof=1)) if table.shape[1] > 1 else 0.0
        rows.append(values)
    return rows


def _costs(results: Results, row: int) -> Costs:
    deployed = results.deployed[row] @ (results.samples / results.samples.sum())
    trained = np.ma.masked_invalid(results.trained[row])
    return Costs(
        trained=float(np.ma.average(trained, axis=1, weights=results.samples).mean()),
        peak=float(results.peak[row].max()),
        deployed=float(deployed.mean()),
        memory=float(results.memory[row].max()),
        server=float(results.server_bytes[row].max()),
        device=float(results.device_bytes[row].max()),
        rounds=float(results.rounds[row].mean()),
        excluded=float(results.excluded[row].sum(axis=1).mean()),
        **{name: float(table[row].mean()) for name, table in spent(results).items()},
    )
