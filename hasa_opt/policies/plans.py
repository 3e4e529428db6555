"""Plans: the widths of a policy, as the network can have them, within the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array, several
from hasa_opt._utils.units import count_whole, whole_widths
from hasa_opt.errors import InputError
from hasa_opt.policies.policy import Policy, Setting, at_budget, at_widest, find_policy
from hasa_opt.policies.subnets import Subnets
from hasa_opt.problem import cost
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.rules.scores import jensen_shannon
from hasa_opt.solving.solver import solve

__all__ = ["BUDGET_TOLERANCE", "Meter", "Rules", "plan", "realise", "rule_widths"]


BUDGET_TOLERANCE = 0.005
"""Share of the budget by which what is spent may miss it."""

Rules = str | Sequence[str] | Mapping[str, Any]
"""Name of a policy, or several; or any names, of policies or of widths ``(n_clients,)``."""


def rule_widths(
    rules: Rules | None,
    scores: npt.ArrayLike | None,
    problem: AllocationProblem,
    cost: Cost | None,
    share: Callable[[FloatArray], float],
) -> dict[str, npt.ArrayLike]:
    """Widths of each rule, at the budget of the resource.

    Parameters
    ----------
    rules : Rules, optional
        Default: "hasa" and "reverse" where scores can be had.
    scores : (n_clients,) floats, optional
        What the policies rank by. Default: the Jensen-Shannon divergence of the clients' counts.
    problem : AllocationProblem
        Clients, menu and budget.
    cost : Cost, optional
        Default: :func:`~hasa_opt.problem.cost.width`.
    share : callable
        What widths spend, as a share of the full width's cost.

    Raises
    ------
    InputError
        For a policy that is not known, lacks scores, or is no choice of widths alone.
    """
    clients = problem.clients
    scored = scores is not None or clients.counts is not None
    if rules is None:
        rules = ("hasa", "reverse") if scored else ()
    if not isinstance(rules, Mapping):
        rules = {name: name for name in several(rules, "rules")}
    ranked = np.zeros(len(clients))
    if scores is not None:
        ranked = float_array(scores, "scores", (len(clients),))
    elif clients.counts is not None:
        ranked = jensen_shannon(clients.counts)
    menu = tuple(problem.widths.tolist())
    setting = Setting(clients, ranked, problem.budget, menu, cost=cost or width_cost())
    found: dict[str, npt.ArrayLike] = {}
    for name, own in rules.items():
        if not isinstance(own, str):
            found[str(name)] = own
            continue
        policy = _judgeable(own, scored)
        in_widths = cost is None or policy.is_program
        found[str(name)] = policy(setting) if in_widths else at_budget(policy, setting, share)
    return found


def _judgeable(name: str, scored: bool) -> Policy:
    policy = find_policy(name)
    if policy.scored and not scored:
        raise InputError(f"rule {name!r} ranks by scores: give scores=, or clients with counts")
    if policy.probes:
        raise InputError(
            f"rule {name!r} is chosen by measurements itself: leave it out, the measured optimum "
            "is judged in any case"
        )
    if policy.scheme != "prefix":
        raise InputError(
            f"rule {name!r} differs in the units that are trained, which no table of widths knows: "
            "leave it out, or train it in a pilot"
        )
    return policy


_LEVELS = 64
_FILLING = (1.0, 10.0, 100.0)


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


def plan(policy: Policy, setting: Setting, meter: Meter) -> Subnets:
    """Widths of a policy in whole units of the network, within the budget.

    Parameters
    ----------
    policy : Policy
    setting : Setting
    meter : Meter
    """
    charges = Charges(setting, meter, spread=policy.scheme == "ordered_dropout")
    widths = realise(at_budget(policy, setting, charges.share), setting, charges, policy.coverage)
    share = charges.share(widths)
    if not charges.spread:
        return Subnets(widths, policy.scheme, share=share)
    low = setting.ends[0]
    peaks = [
        mean + meter.reach(mean, low, cap)
        for mean, cap in zip(widths.tolist(), setting.caps, strict=True)
    ]
    return Subnets(np.array(peaks), policy.scheme, widths, share)


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
        self._samples, self._weights = setting.clients.samples, setting.clients.weights
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
        full = self.full * int(self._samples.sum())
        return cost.CostTable(self._samples[:, None] * self.table, full)

    def of(self, widths: FloatArray) -> FloatArray:
        """Cost of one sample of each client at any widths, ``(n_clients,)``."""
        curves = np.array([np.interp(widths, self.grid, own) for own in self._kinds])
        return np.asarray(curves[self._kind, np.arange(len(widths))])

    def share(self, widths: FloatArray) -> float:
        """What is spent on all samples, as a share of the whole supernet's cost."""
        return float(self._weights @ self.of(widths)) / self.full
