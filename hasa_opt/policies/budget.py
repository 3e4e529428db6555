"""Widths of a policy that spend a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting

__all__ = ["BUDGET_TOLERANCE", "at_budget", "budget_left"]

BUDGET_TOLERANCE = 0.005
"""Share of the budget by which what is spent may miss it."""

_SAME = 1e-12
"""Arguments that differ by less are the same root."""

_STEPS = 257
"""Budgets that are tried for a policy that leaves clients out: steps of 0.003 at the defaults."""


def budget_left(budget: float, spent: float, number: int, rounds: int) -> float:
    """What each round from one on may spend on average, of the budget of a run.

    Parameters
    ----------
    budget : float
        Of a round, in the mean over the run.
    spent : float
        By the rounds before, summed.
    number, rounds : int
        The first of the rounds left, from 0, and the rounds of the run.
    """
    return (budget * rounds - spent) / (rounds - number)


def at_budget(policy: Policy, setting: Setting, share: Callable[[FloatArray], float]) -> FloatArray:
    """Widths of a policy that spend the budget of a resource.

    A rule is asked at the width budget that does so. The answer of an integer program, which
    leaves a rest, is scaled within the range of widths and the caps.

    Parameters
    ----------
    policy : Policy
    setting : Setting
    share : callable
        What widths spend, as a share of what the full width would cost.

    Returns
    -------
    (n_clients,) floats
        Those that come nearest where none spend it.
    """
    low, high = setting.ends
    if policy.is_program:
        answer, caps = policy(setting), setting.caps
        return _spending(
            lambda scale: np.clip(scale * answer, low, caps), share, setting.budget, 1.0, high / low
        )

    def widths(budget: float) -> FloatArray:
        return policy(replace(setting, budget=budget))

    if policy.leaves_out:
        alike = np.ones(len(setting.clients))
        level = _spending(lambda width: width * alike, share, setting.budget, low, high)[0]
        setting = replace(setting, level=float(level))
        # Who is left out may jump with the budget, and what is spent with it.
        steps = np.linspace(low, high, _STEPS)
        shares = [share(widths(step)) for step in steps.tolist()]
        enough = np.flatnonzero(np.array(shares) >= setting.budget)
        if not enough.size:
            return widths(float(steps[int(np.argmax(shares))]))
        low, high = float(steps[max(0, enough[0] - 1)]), float(steps[enough[0]])
    return _spending(widths, share, setting.budget, low, high)


def _spending(
    widths: Callable[[float], FloatArray],
    share: Callable[[FloatArray], float],
    budget: float,
    low: float,
    high: float,
) -> FloatArray:
    """Widths at the argument that spends the budget, or at the end that comes nearest."""
    from scipy.optimize import brentq

    def excess(argument: float) -> float:
        return share(widths(argument)) - budget

    if excess(low) >= 0:
        return widths(low)
    if excess(high) <= 0:
        return widths(high)
    return widths(brentq(excess, low, high, xtol=_SAME))
