"""Widths that spend a budget: of a policy, and of each of several rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array, several
from hasa_opt.errors import InputError
from hasa_opt.policies.catalogue import read_policy
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.rules.scores import jensen_shannon

__all__ = ["BUDGET_TOLERANCE", "Rules", "at_budget", "rule_widths"]

BUDGET_TOLERANCE = 0.005
"""Share of the budget by which what is spent may miss it."""

_SAME = 1e-12
"""Arguments that differ by less are the same root."""

_STEPS = 257
"""Budgets that are tried for a policy that leaves clients out: steps of 0.003 at the defaults."""

Rules = str | Sequence[str] | Mapping[str, Any]
"""Name of a policy, or several; or any names, of policies or of widths ``(n_clients,)``."""


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
        For a policy that is not known, lacks scores, or does more than choose widths.
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
    setting = Setting(clients, ranked, problem.share, menu, cost=cost or width_cost())
    found: dict[str, npt.ArrayLike] = {}
    for name, given in rules.items():
        if not isinstance(given, str):
            found[str(name)] = given
            continue
        policy = _judgeable(given, scored)
        in_widths = cost is None or policy.is_program
        found[str(name)] = policy(setting) if in_widths else at_budget(policy, setting, share)
    return found


def _judgeable(name: str, scored: bool) -> Policy:
    policy = read_policy(name)
    if policy.options:
        raise InputError(
            f"rule {name!r} has options of the training, which no table of widths knows: leave "
            "them out"
        )
    if policy.scored and not scored:
        raise InputError(f"rule {name!r} ranks by scores: give scores=, or clients with counts")
    if policy.probes:
        raise InputError(
            f"rule {name!r} is chosen by measurements itself: leave it out, the measured optimum "
            "is judged in any case"
        )
    if policy.leaves_out:
        raise InputError(
            f"rule {name!r} leaves clients out of training, which no table of widths knows: leave "
            "it out, or train it in a study"
        )
    if policy.scheme != "prefix":
        raise InputError(
            f"rule {name!r} differs in the units that are trained, which no table of widths knows: "
            "leave it out, or train it in a pilot"
        )
    return policy
