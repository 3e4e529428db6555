"""A solver: every client at its cheapest option."""

from __future__ import annotations

import numpy as np

from hasa_opt import AllocationProblem, Termination
from hasa_opt.errors import InputError
from hasa_opt.solvers.registry import Answer, Request, SolverRecord

__all__ = ["RECORD", "CheapestBackend"]


class CheapestBackend:
    """Give every client its cheapest option: within the budget if anything is."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Look at each client by itself; there are no options."""
        for option in request.options:
            raise InputError(f"cheapest takes no options, {option} given")
        costs = np.where(problem.admissible, problem.costs, np.iinfo(np.int64).max)
        return Answer(Termination.GAP_REACHED, costs.argmin(axis=1), native="cheapest")


RECORD = SolverRecord("cheapest", CheapestBackend, "every client at its cheapest option")
