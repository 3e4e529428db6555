"""Widths of the rules that a forecast judges, at the budget of its resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array, several
from hasa_opt.errors import InputError
from hasa_opt.policies.budget import at_budget
from hasa_opt.policies.catalogue import read_policy
from hasa_opt.policies.policy import Policy
from hasa_opt.policies.setting import Setting
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.cost import width as width_cost
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.rules.scores import jensen_shannon

__all__ = ["Rules", "rule_widths"]

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
    if policy.options or policy.is_personal:
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
    if policy.scheme != "prefix" or policy.starts or policy.models:
        raise InputError(
            f"rule {name!r} differs in the units that are trained, which no table of widths knows: "
            "leave it out, or train it in a study"
        )
    if policy.allocator:
        raise InputError(
            f"rule {name!r} decides while the clients train, which no table of widths knows: leave "
            "it out, or train it in a study"
        )
    return policy
