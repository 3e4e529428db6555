"""Rules that a table of each client's accuracy by width can judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.checks import float_array, several
from hasa_opt.clients import FloatArray
from hasa_opt.cost import Cost
from hasa_opt.cost import width as width_cost
from hasa_opt.errors import InputError
from hasa_opt.policies import Policy, Setting, at_budget, find_policy
from hasa_opt.problem import AllocationProblem
from hasa_opt.scores import jensen_shannon

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
        Default: :func:`hasa_opt.cost.width`.
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
