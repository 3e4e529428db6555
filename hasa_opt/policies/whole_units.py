"""Whole units: the widths of a policy as a network can have them, within the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import gcd
from typing import Self

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.rational import widest_within
from hasa_opt._utils.units import count_whole, whole_widths
from hasa_opt.policies.budget import BUDGET_TOLERANCE, at_budget
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting, at_widest
from hasa_opt.policies.subnets import Subnets
from hasa_opt.problem import cost
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solving.solver import solve

__all__ = ["Charges", "Meter", "realise", "subnets_of"]


_LEVELS = 64
"""Steps between the narrowest and the widest width that are looked at."""

_FILLING = (1.0, 10.0, 100.0)
"""Weights of a budget left over beside deviations from the wanted widths, tried in turn."""


@dataclass(frozen=True, eq=False)
class Meter:
    """What a network charges for training one sample at a width.

    Attributes
    ----------
    cost : callable
        From a width to whole units of the budget's resource: units of the network, or FLOPs.
    largest : int
        Units of the largest group of the network.
    common : int
        Greatest common divisor of the sizes of all groups. Widths that differ by a multiple of
        1 / common differ by whole units in every group.
    """

    cost: Callable[[float], int]
    largest: int
    common: int = 1

    @classmethod
    def of(cls, sizes: Mapping[str, int], cost: Callable[[float], int]) -> Self:
        """Meter of a network with groups of these sizes; each width is charged once."""
        return cls(cache(cost), max(sizes.values()), gcd(*sizes.values()))

    def grid(self, low: float, high: float) -> FloatArray:
        """At most 65 widths of whole units of the largest group, from ``low`` to ``high``."""
        return whole_widths(low, high, self.largest, _LEVELS + 1)

    def reach(self, mean: float, low: float, high: float) -> float:
        """How far batches may be from a mean width, to either side, between two widths."""
        steps = count_whole(min(mean - low, high - mean) * self.common)
        return max(0, steps) / self.common

    def mean_cost(self, mean: float, reach: float) -> int:
        """Mean cost of the widths within reach of a mean."""
        steps = round(reach * self.common)
        costs = [self.cost(mean + step / self.common) for step in range(-steps, steps + 1)]
        return round(float(np.mean(costs)))


def subnets_of(policy: Policy, setting: Setting, meter: Meter) -> Subnets:
    """Subnets of a policy in whole units of the network, within the budget.

    Parameters
    ----------
    policy : Policy
    setting : Setting
    meter : Meter

    Returns
    -------
    Subnets
        They know their share.
    """
    subnets = _at_widths(policy, setting, meter)
    if policy.starts is None:
        return subnets
    return replace(subnets, starts=policy.starts(setting, subnets.deploys))


def _at_widths(policy: Policy, setting: Setting, meter: Meter) -> Subnets:
    charges = Charges(setting, meter, spread=policy.scheme == "ordered_dropout")
    wanted = at_budget(policy, setting, charges.share)
    if not wanted.all():
        return _without_some(policy, setting, meter, wanted)
    spends_less = charges.share(wanted) < setting.budget * (1 - BUDGET_TOLERANCE)
    if policy.spends_less and spends_less:
        widths = charges.grid[widest_within(charges.grid, wanted)]
    else:
        widths = realise(wanted, setting, charges, policy.coverage)
    share = charges.share(widths)
    if not charges.spread:
        return Subnets(widths, policy.scheme, share=share)
    low = setting.ends[0]
    peaks = [
        mean + meter.reach(mean, low, cap)
        for mean, cap in zip(widths.tolist(), setting.caps, strict=True)
    ]
    return Subnets(np.array(peaks), policy.scheme, widths, share)


def _without_some(policy: Policy, setting: Setting, meter: Meter, wanted: FloatArray) -> Subnets:
    """Subnets where some clients are left out: the others spend the whole budget.

    Those that are left out deploy the widest subnet that their devices can train.
    """
    kept = wanted > 0
    held = setting.clients.mean(kept.astype(np.float64))
    others = replace(
        setting,
        clients=setting.clients.subset(kept),
        scores=setting.scores[kept],
        budget=setting.budget / held,
    )
    charges = Charges(others, meter)
    widths = np.zeros(len(wanted))
    widths[kept] = realise(wanted[kept], others, charges, policy.coverage)
    grid = meter.grid(setting.ends[0], setting.ends[1])
    room = widest_within(grid, setting.caps)
    deployed = np.where(kept, widths, grid[np.maximum(room, 0)])
    share = charges.share(widths[kept]) * held
    return Subnets(widths, policy.scheme, share=share, deployed=deployed)


def realise(
    wanted: FloatArray, setting: Setting, charges: Charges, coverage: float = 0.0
) -> FloatArray:
    """Nearest widths that the network can have, within the budget.

    A width r keeps ``floor(r K)`` of K units, so wanted widths would spend up to a unit less than
    they claim. The widths of whole units are chosen by an integer program of their own: least
    squares of the relative deviations of each client's cost, whatever the client's size, less the
    share of the budget that is left over. Where that is more than
    what a study tolerates, it counts ten times as much, and ten times more.

    Parameters
    ----------
    wanted : (n_clients,) floats
        Widths of a policy.
    setting : Setting
    charges : Charges
        What each client pays for each width that the network can have.
    coverage : float
        Least share of the training samples at the widest subnet.

    Returns
    -------
    (n_clients,) floats
    """
    relative = charges.table / charges.of(wanted)[:, None]
    spent = setting.clients.weights[:, None] * charges.table / (setting.budget * charges.full)

    def nearest(weight: float) -> FloatArray:
        problem = AllocationProblem.build(
            setting.clients,
            widths=charges.grid,
            budget=setting.budget,
            utility=lambda clients, menu: weight * spent - (relative - 1) ** 2,
            cost=charges.cost,
            constraints=at_widest(charges.grid, coverage),
        )
        return solve(problem).widths

    least = setting.budget * (1 - BUDGET_TOLERANCE)
    for weight in _FILLING[:-1]:
        widths = nearest(weight)
        if charges.share(widths) >= least:
            return widths
    return nearest(_FILLING[-1])


class Charges:
    """What each client pays per sample for each width that the network can have.

    Parameters
    ----------
    setting : Setting
    meter : Meter
    spread : bool
        Whether a width is the mean of what batches train, as far to either side as the range of
        widths and the client's cap allow.
    """

    def __init__(self, setting: Setting, meter: Meter, *, spread: bool = False) -> None:
        low, high = setting.ends
        self.spread, self.full, self.budget = spread, meter.cost(1.0), setting.budget
        self.grid = meter.grid(low, min(high, float(setting.caps.max())))
        self._clients = setting.clients
        caps = setting.caps if spread else np.array([low])
        kinds, rows = np.unique(caps, return_inverse=True)
        self._kinds = np.array(
            [
                [meter.mean_cost(mean, meter.reach(mean, low, cap)) for mean in self.grid]
                for cap in kinds.tolist()
            ]
        )
        self._kind = np.broadcast_to(rows, len(setting.clients))
        self.table = self._kinds[self._kind]

    def cost(self, clients: object, units: object, denominator: int) -> cost.CostTable:
        """Costs of all samples, for the integer program."""
        samples = self._clients.samples
        full = self.full * int(samples.sum())
        return cost.CostTable(samples[:, None] * self.table, full)

    def of(self, widths: FloatArray) -> FloatArray:
        """Cost of one sample of each client at any widths, ``(n_clients,)``."""
        curves = np.array([np.interp(widths, self.grid, kind) for kind in self._kinds])
        return np.where(widths > 0, curves[self._kind, np.arange(len(widths))], 0.0)

    def share(self, widths: FloatArray) -> float:
        """What is spent on all samples, as a share of the whole supernet's cost."""
        return self._clients.mean(self.of(widths)) / self.full
