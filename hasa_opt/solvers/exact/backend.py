"""Which of our own methods solves which problem."""

from __future__ import annotations

from dataclasses import replace

from hasa_opt.backend import Answer, Request
from hasa_opt.basics.deadline import OutOfTime
from hasa_opt.bounds.site_tree import SiteTree
from hasa_opt.constraints import RobustRow
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination
from hasa_opt.solvers.exact.hulls import hull_steps
from hasa_opt.solvers.exact.ready import ready
from hasa_opt.solvers.exact.robust import solve_robust
from hasa_opt.solvers.exact.rows import solve_rows
from hasa_opt.solvers.exact.run import run_for, stage_caps
from hasa_opt.solvers.exact.sites import solve_sites

__all__ = ["ExactBackend"]

_PATIENCE = 0.5
"""Share of the time in which nothing is done but to wait for compiled kernels."""


class ExactBackend:
    """Proven optima for one budget, from ten clients to ten million; true gaps beyond.

    One budget is solved by :mod:`hasa_opt.solvers.exact.run`, in time that grows linearly where
    many clients differ. A robust budget is the best of many plain ones
    (:mod:`hasa_opt.solvers.exact.robust`), nested site budgets are solved site by site
    (:mod:`hasa_opt.solvers.exact.sites`), and all other limits by their prices and repair
    (:mod:`hasa_opt.solvers.exact.rows`); what is left of a gap is reported.

    Options: ``max_states``, the longest list of states (default 1,048,576; about 100 bytes
    each). Where it is exceeded the gap that remains is reported.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; the time limit and Ctrl-C end with the incumbent and its bound."""
        stage_caps(request)
        if not ready(request.deadline.part(_PATIENCE)):
            answer = _without_kernels(request)
            if not ready(request.deadline):
                return answer
        if any(isinstance(row, RobustRow) for row in problem.rows):
            return solve_robust(problem, request)
        if problem.rows:
            tree = SiteTree.of(problem, request.deadline, hull_steps)
            return solve_rows(request) if tree is None else solve_sites(tree, request)
        run = run_for(problem.costs, problem.utilities, problem.admissible, problem.limit, request)
        try:
            run.relax(learnt=problem.learnt)
            run.search()
        except KeyboardInterrupt:
            run.ended = Termination.INTERRUPTED
        return run.answer()


def _without_kernels(request: Request) -> Answer:
    """What can be had while the kernels are being compiled."""
    problem = request.problem
    if any(isinstance(row, RobustRow) for row in problem.rows):
        raise OutOfTime
    native = "exact: still being compiled, the next call finds it compiled"
    if problem.rows:
        answer = solve_rows(request)
        return replace(answer, native=f"{native}; {answer.native}")
    bound, choice = request.relaxation.bound, request.known
    return Answer(Termination.TIME_LIMIT, choice, bound=bound, native=native)
