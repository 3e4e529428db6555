"""Where a solver starts from: an earlier allocation, of the same clients or of others."""

from __future__ import annotations

from typing import Any

import numpy as np

from hasa_opt.basics.checks import array
from hasa_opt.clients import IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Allocation

__all__ = ["starting_choice"]


def starting_choice(problem: AllocationProblem, given: Any) -> IntArray:
    """Choice of each client, ``(n_clients,)``, from an allocation or from indices into the menu.

    Clients of another fleet are told apart by their names; newcomers start at their cheapest width.

    Raises
    ------
    InputError
        If the fleets differ and one has no names, or if an index breaks a rule.
    """
    if not isinstance(given, Allocation):
        return problem.checked(array(given, "choice"))
    old, new = given.problem.clients.names, problem.clients.names
    if old is not None and new is not None and old != new:
        return _matched(problem, dict(zip(old, given.choice.tolist(), strict=True)))
    if given.choice.size != len(problem):
        raise InputError(
            f"warm_start has {given.choice.size} clients, the problem {len(problem)}: "
            "give Clients(names=...) in both problems, so that it is known who joined and who left"
        )
    return problem.checked(given.choice)


def _matched(problem: AllocationProblem, chosen: dict[str, int]) -> IntArray:
    """The choices of the clients that are known by name, and the cheapest of the others."""
    assert problem.clients.names is not None
    choice = np.array([chosen.get(name, -1) for name in problem.clients.names], dtype=np.int64)
    newcomers = np.flatnonzero(choice < 0)
    cheapest = problem.costs[newcomers] == problem.cheapest[newcomers, None]
    choice[newcomers] = (cheapest & problem.admissible[newcomers]).argmax(axis=1)
    return problem.checked(choice)
