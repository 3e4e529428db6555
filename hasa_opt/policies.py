"""Allocation policies that a study compares, by name.

A policy turns a :class:`Setting` into one width per client. To add one, write a function and a
line in :data:`POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt import cost, rules, utility
from hasa_opt.clients import Clients, FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem import AllocationProblem
from hasa_opt.solve import solve

__all__ = ["POLICIES", "Policy", "Setting", "find_policy", "realise"]

_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Setting:
    """What a policy may look at: training data columns and the budget, never the test data.

    Attributes
    ----------
    clients : Clients
    scores : (n_clients,) floats
    budget : float
    widths : tuple of float
        The menu; its ends bound the continuous rules.
    seed : int
        For policies that draw.
    """

    clients: Clients
    scores: FloatArray
    budget: float
    widths: tuple[float, ...]
    seed: int = 0

    @property
    def ends(self) -> tuple[float, float]:
        """Narrowest and widest width."""
        return self.widths[0], self.widths[-1]

    @property
    def caps(self) -> FloatArray:
        """Widest width of each client within the menu, ``(n_clients,)``."""
        if self.clients.max_width is None:
            return np.full(len(self.clients), self.widths[-1])
        return np.minimum(self.clients.max_width, self.widths[-1])

    @property
    def limits(self) -> dict[str, Any]:
        """Budget, range of widths and caps, as the rules take them."""
        return {"budget": self.budget, "widths": self.ends, "caps": self.caps}

    def problem(self) -> AllocationProblem:
        """The integer program with the HASA utility."""
        return AllocationProblem.build(
            self.clients,
            widths=self.widths,
            budget=self.budget,
            utility=utility.hasa(self.scores),
        )


Policy = Callable[[Setting], FloatArray]


def _uniform(setting: Setting) -> FloatArray:
    return rules.uniform(setting.clients.samples, **setting.limits)


def _hasa(setting: Setting) -> FloatArray:
    return rules.hasa(setting.scores, setting.clients.samples, **setting.limits)


def _reverse(setting: Setting) -> FloatArray:
    return rules.reverse(setting.scores, setting.clients.samples, **setting.limits)


def _random(setting: Setting) -> FloatArray:
    return rules.random(setting.clients.samples, seed=setting.seed, **setting.limits)


def _capacity(setting: Setting) -> FloatArray:
    return rules.capacity(setting.clients.samples, **setting.limits)


def _optimal(setting: Setting) -> FloatArray:
    return solve(setting.problem()).widths


POLICIES: dict[str, Policy] = {
    "uniform": _uniform,
    "hasa": _hasa,
    "reverse": _reverse,
    "optimal": _optimal,
    "capacity": _capacity,
    "random": _random,
}
"""Name to policy."""


def find_policy(name: str) -> Policy:
    """Policy of a name.

    Raises
    ------
    InputError
        Naming the known policies.
    """
    if name not in POLICIES:
        raise InputError(f"policy {name!r} is not known: choose from {', '.join(POLICIES)}")
    return POLICIES[name]


def realise(
    wanted: FloatArray,
    setting: Setting,
    *,
    units: Callable[[float], int],
    largest: int,
) -> FloatArray:
    """Nearest widths that the network can have, within the budget.

    A width r keeps ``floor(r K)`` of K units, so wanted widths would spend up to a unit less than
    they claim. The widths of whole units are chosen by an integer program of their own: the
    proportional-fair rounding, ``sum_i w_i wanted_i log r_i`` under the budget in units.

    Parameters
    ----------
    wanted : (n_clients,) floats
        Widths of a policy.
    setting : Setting
    units : callable
        Units that a subnet of a given width keeps, over all groups.
    largest : int
        Units of the largest group.

    Returns
    -------
    (n_clients,) floats
    """
    low, high = setting.ends
    grid = _grid(low, min(high, float(setting.caps.max())), largest)
    kept: IntArray = np.array([units(width) for width in grid])
    weights = setting.clients.weights * wanted
    problem = AllocationProblem.build(
        setting.clients,
        widths=grid,
        budget=setting.budget,
        utility=lambda clients, menu: weights[:, None] * np.log(kept / kept[-1]),
        cost=cost.table(kept, full=units(1.0)),
    )
    return solve(problem).widths


def _grid(low: float, high: float, largest: int) -> FloatArray:
    """At most 65 widths of whole units of the largest group, from ``low`` to ``high``."""
    wanted = np.linspace(low, high, _LEVELS + 1)
    whole = np.unique(np.maximum(1, np.floor(wanted * largest + 1e-6)))
    return whole / largest
