"""Compilation of the kernels: no time limit can stop it, but it can be left behind.

At the first call on a machine it takes some twelve seconds; from then on the kernels are loaded
from numba's cache. It goes on in a thread, and what is compiled by the end of the process is in the
cache for the next one.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hasa_opt.backend import Request
from hasa_opt.basics.deadline import UNLIMITED, Background, Deadline
from hasa_opt.bounds.certificate import certified
from hasa_opt.clients import Clients
from hasa_opt.problem import AllocationProblem
from hasa_opt.solvers.exact.hulls import hull_steps
from hasa_opt.solvers.exact.kernels.core import collect
from hasa_opt.solvers.exact.kernels.multiplier import Table, relax
from hasa_opt.solvers.exact.kernels.pareto import Search
from hasa_opt.solvers.exact.run import run_for
from hasa_opt.utility import alpha_fair

__all__ = ["compile_all", "ready"]


def ready(deadline: Deadline) -> bool:
    """Wait until the kernels are compiled or the deadline has passed; whether they are."""
    return _compiling().ended_by(deadline)


@cache
def _compiling() -> Background:
    return Background(compile_all)


def compile_all() -> None:
    """Run every kernel once, on a problem of a few clients."""
    samples = np.random.default_rng(0).integers(20, 2000, 30)
    problem = AllocationProblem.build(
        Clients(samples), widths=(0.2, 0.5, 1.0), budget=0.5, utility=alpha_fair()
    )
    widest = np.full(len(problem), 2)
    tables = problem.costs, problem.utilities, problem.admissible
    run = run_for(*tables, problem.limit, Request(problem, warm_start=widest))
    run.relax()
    run.search()
    certified(problem, widest, run.part().price)
    hull_steps(problem, UNLIMITED)
    _search(problem)


def _search(problem: AllocationProblem) -> None:
    """The kernels of a search, with those that only long ones call."""
    table = Table(problem.costs, problem.utilities, problem.admissible)
    base = relax(table, problem.limit)
    core, _ = collect(table, base, base.near, np.inf)
    n_classes = core.first.size
    search = Search(
        core,
        base.price,
        base.slack,
        np.inf,
        precision=0.0,
        rounding=0.0,
        cap=8,
        n_classes=n_classes,
    )
    search.advance()
    search.make_room(0)
