"""Whole units: the widths of a policy as a network can have them, within the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Self

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.rational import told_from, widest_within, written
from hasa_opt._utils.units import ROUNDING, count_whole, whole_widths
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.policies.budget import BUDGET_TOLERANCE, at_budget
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting
from hasa_opt.policies.subnets import DRAWN_WIDTHS, Subnets

__all__ = ["Charges", "Meter", "subnets_of"]


_LEVELS = 64
"""Steps between the narrowest and the widest width that are looked at."""

_SAME = 1e-9
"""Shares that differ relatively by less are the same: sums of floating-point numbers are off."""

_DIGITS = 9
"""Decimals to which wanted widths are the same."""


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
        return cls(_Remembered(cost), max(sizes.values()), gcd(*sizes.values()))

    def in_time(self, widths: Sequence[float], low: float, high: float) -> list[int]:
        """Mean costs of widths that are reached over the rounds by those of a grid."""
        grid = self.grid(low, high)
        costs = [self.cost(width) for width in grid.tolist()]
        return [round(cost) for cost in np.interp(widths, grid, costs).tolist()]

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


class _Remembered:
    """Costs that were asked for; unlike :func:`functools.cache`, processes can send them."""

    def __init__(self, cost: Callable[[float], int]) -> None:
        self._cost = cost
        self._known: dict[float, int] = {}

    def __call__(self, width: float) -> int:
        if width not in self._known:
            self._known[width] = self._cost(width)
        return self._known[width]


def subnets_of(policy: Policy, setting: Setting, meter: Meter, rounds: int) -> Subnets:
    """Subnets of a policy in whole units of the network, within the budget of a run.

    A width between two that the network has is the mean of both over the rounds: all clients that
    want it train the narrower one first, and the wider one in the last rounds. Under further limits
    the widths of a program stay as they are.

    Parameters
    ----------
    policy : Policy
    setting : Setting
    meter : Meter
    rounds : int
        Of the run.

    Returns
    -------
    Subnets
        They know their share, of what all rounds spend.

    Raises
    ------
    InfeasibleError
        If the budget is below what the policy spends at its narrowest.
    InputError
        If there are further limits, and the policy solves no program.
    """
    if setting.constraints:
        return _as_solved(policy, setting, meter)
    if not policy.is_program:
        setting = _in_whole_units(setting, meter)
    charges = Charges(setting, meter, spread=policy.scheme == DRAWN_WIDTHS)
    spending = charges.share_within if policy.is_program else charges.share
    wanted = charges.within(at_budget(policy, setting, spending))
    spent = charges.share(wanted)
    if spent > setting.budget * (1 + _SAME):
        raise InfeasibleError(
            f"budget {written(setting.budget)} is below the least that {policy.name!r} spends "
            f"({told_from(spent, setting.budget)}): raise the budget or add a narrower width"
        )
    if policy.spends_less and spent < setting.budget * (1 - BUDGET_TOLERANCE):
        wanted = charges.grid[widest_within(charges.grid, wanted)]
    low, high, share = charges.between(wanted)
    more = setting.clients.weights * (charges.of(high) - charges.of(low)) / charges.full
    last = _whole_rounds(wanted, share * rounds, more)
    first, later = (charges.subnets(widths, policy, setting) for widths in (low, high))
    spends = charges.share(low) + float(more @ last) / rounds
    if not last.any():
        return replace(first, share=spends)
    return replace(first, share=spends, later=later, later_share=last / rounds)


def subnets_from(
    number: int, policy: Policy, setting: Setting, meter: Meter, rounds: int
) -> Subnets:
    """Subnets of a policy from a round of a run on, at a budget of the rounds left.

    Parameters
    ----------
    number : int
        The first round, from 0.
    policy, setting, meter
        As of :func:`subnets_of`.
    rounds : int
        Of the whole run, of which ``later_share`` is a share.
    """
    left = rounds - number
    found = subnets_of(policy, setting, meter, left)
    if found.later_share is None:
        return found
    return replace(found, later_share=found.later_share * left / rounds)


def _as_solved(policy: Policy, setting: Setting, meter: Meter) -> Subnets:
    """The optimum under further limits, which no other widths are known to keep."""
    if not policy.is_program:
        raise InputError(
            f"policy {policy.name!r} knows no limit beside its budget: choose one that solves the "
            "integer program, such as 'optimal', or leave the limits out"
        )
    charges, widths = Charges(setting, meter), policy(setting)
    return replace(charges.subnets(widths, policy, setting), share=charges.share(widths))


def _in_whole_units(setting: Setting, meter: Meter) -> Setting:
    """The setting with the caps that whole units leave, though none below the narrowest width.

    Without a cap that is below the widest width it stays as it is.
    """
    clients, (low, high) = setting.clients, setting.ends
    if (setting.caps >= high).all():
        return setting
    grid = meter.grid(low, high)
    caps = np.maximum(low, grid[np.maximum(widest_within(grid, setting.caps), 0)])
    return replace(setting, clients=replace(clients, max_width=caps))


def _whole_rounds(wanted: FloatArray, rounds: FloatArray, more: FloatArray) -> FloatArray:
    """Whole rounds at the wider width: the same for all that want the same, no more in all.

    Parameters
    ----------
    wanted : (n_clients,) floats
    rounds : (n_clients,) floats
        How many each would need.
    more : (n_clients,) floats
        What each spends more in such a round.
    """
    whole: FloatArray = np.floor(rounds + ROUNDING)
    rest = rounds - whole
    room = float(more @ np.maximum(rest, 0))
    _, kinds = np.unique(np.round(wanted, _DIGITS), return_inverse=True)
    costs = np.bincount(kinds, more)
    lacking = np.zeros(len(costs))
    lacking[kinds] = rest
    for kind in np.argsort(-lacking, kind="stable").tolist():
        if lacking[kind] > ROUNDING and costs[kind] <= room * (1 + _SAME):
            whole[kinds == kind] += 1
            room -= costs[kind]
    return whole


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
        self.spread, self.full = spread, meter.cost(1.0)
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
        self._meter = meter
        self._widest = self.grid[np.maximum(widest_within(self.grid, setting.caps), 0)]

    def within(self, widths: FloatArray) -> FloatArray:
        """Widths that no device's widest whole units are exceeded by; 0 stays."""
        return np.where(widths > 0, np.clip(widths, self.grid[0], self._widest), 0.0)

    def between(self, widths: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The widths of the network below and above, and how far each lies between them, < 1."""
        rows = np.searchsorted(self.grid, widths + 10.0**-_DIGITS, side="right") - 1
        out = rows < 0
        low, high = self.grid[rows], self.grid[np.minimum(rows + 1, len(self.grid) - 1)]
        far = np.divide(widths - low, high - low, out=np.zeros_like(low), where=high > low)
        far = np.where(far > 10.0**-_DIGITS, far, 0.0)
        high = np.where(far > 0, high, low)
        return np.where(out, 0.0, low), np.where(out, 0.0, high), np.where(out, 0.0, far)

    def of(self, widths: FloatArray) -> FloatArray:
        """Mean cost of one sample of each client at any widths over the rounds, ``(n_clients,)``.

        Between two widths of the network it lies on the line between their costs.
        """
        curves = np.array([np.interp(widths, self.grid, kind) for kind in self._kinds])
        return np.where(widths > 0, curves[self._kind, np.arange(len(widths))], 0.0)

    def subnets(self, widths: FloatArray, policy: Policy, setting: Setting) -> Subnets:
        """Subnets of a policy at widths of the network; who is left out deploys its widest."""
        found = Subnets(
            widths,
            policy.scheme,
            deployed=None if widths.all() else np.where(widths > 0, widths, self._widest),
        )
        if self.spread:
            low = setting.ends[0]
            peaks = [
                mean + self._meter.reach(mean, low, cap)
                for mean, cap in zip(widths.tolist(), setting.caps, strict=True)
            ]
            found = Subnets(np.array(peaks), policy.scheme, widths)
        if policy.models is not None:
            found = replace(found, models=policy.models(setting))
        if policy.starts is not None:
            found = replace(found, starts=policy.starts(setting, found.deploys))
        return found

    def share(self, widths: FloatArray) -> float:
        """What is spent on all samples, as a share of the whole supernet's cost."""
        return self._clients.mean(self.of(widths)) / self.full

    def share_within(self, widths: FloatArray) -> float:
        """The same of what the devices can have of the widths in whole units."""
        return self.share(self.within(widths))
