"""Which of our own methods solves which problem."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from hasa_opt._utils.deadline import UNLIMITED, Background, Deadline, OutOfTime
from hasa_opt.clients.clients import Clients
from hasa_opt.problem.limits import RobustRow
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.problem.utility import alpha_fair
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.relaxation import Steps
from hasa_opt.solvers.bounds.site_tree import SiteTree
from hasa_opt.solvers.exact.certificate import certified
from hasa_opt.solvers.exact.kernels import Kernel, TooMuch, interpreted, little, read_only
from hasa_opt.solvers.exact.kernels.core import collect
from hasa_opt.solvers.exact.kernels.meeting import Moves, least_lossy, met
from hasa_opt.solvers.exact.kernels.multiplier import Table, relax
from hasa_opt.solvers.exact.kernels.pareto import Search
from hasa_opt.solvers.exact.kernels.steps import steps_within
from hasa_opt.solvers.exact.limits import solve_robust, solve_rows, solve_sites
from hasa_opt.solvers.exact.run import run_for
from hasa_opt.solvers.exact.stages import check_options

__all__ = ["ExactBackend", "compile_all", "hull_steps", "ready"]


_BLOCK = 1 << 17
"""Clients between two looks at the clock: some milliseconds of compiled code."""


def hull_steps(problem: AllocationProblem, deadline: Deadline) -> Steps:
    """Upgrade steps as :func:`hasa_opt.solvers.bounds.relaxation.hull_steps` gives them.

    Raises
    ------
    OutOfTime
        If the deadline passes first.
    """
    table = [read_only(column) for column in (problem.costs, problem.utilities, problem.admissible)]
    base = np.empty(len(problem), dtype=np.int64)
    parts = []
    for start in range(0, base.size, _BLOCK):
        deadline.check()
        rows = np.arange(start, min(start + _BLOCK, base.size))
        parts.append(steps_within(*table, rows, 0.0, np.inf, base)[:4])
    slope, cost, client, choice = map(np.concatenate, zip(*parts, strict=True))
    first = np.diff(client, prepend=-1) > 0
    before = np.where(first, base[client], np.roll(choice, 1))
    gain = problem.utilities[client, choice] - problem.utilities[client, before]
    deadline.check()
    best_first = np.argsort(-slope, kind="stable")
    return Steps(base, client[best_first], choice[best_first], cost[best_first], gain[best_first])


def ready(deadline: Deadline) -> bool:
    """Wait until the kernels are compiled or the deadline has passed; whether they are."""
    return _compiling().ended_by(deadline)


@cache
def _compiling() -> Background:
    Kernel.wanted = True
    atexit.register(_leave_to_another)
    return Background(compile_all)


def _leave_to_another() -> None:
    """Have a process of its own finish, and store, what the end of this one cuts off."""
    if Kernel.stored and not _compiling().ended_by(Deadline.after(0.0)):
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        nowhere = subprocess.DEVNULL
        with suppress(OSError):
            subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import compile_all; compile_all()"],
                env=os.environ | {"PYTHONPATH": path},
                stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True,
            )  # fmt: skip


@cache
def _say_that_nothing_is_stored() -> None:
    warnings.warn(
        "exact is compiled anew in each process, which takes seconds: what is compiled can be "
        "stored neither beside the package nor in your home; set NUMBA_CACHE_DIR to a folder that "
        "can be written to",
        stacklevel=2,
    )


def compile_all() -> None:
    """Run every kernel once, on a problem of a few clients."""
    Kernel.wanted = True
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
    _meeting()


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


def _meeting() -> None:
    """The kernels of limits beyond the budget, on two clients of two options."""
    moves = Moves(np.array([0, 2]), np.array([0.0, 1.0]), np.array([[0], [1]]))
    halt = np.zeros(1, dtype=bool)
    half = least_lossy(moves, 2, np.inf, halt)
    met(half, half, np.array([1]), np.array([1.0]), np.inf, halt)


_PATIENCE = 0.5
"""Share of the time in which nothing is done but to wait for compiled kernels."""


class ExactBackend:
    """Proven optima for one budget, from ten clients to ten million; true gaps beyond.

    Small problems are solved in Python alone; what takes longer is compiled first.

    One budget is solved by :mod:`hasa_opt.solvers.exact.run`, in time that grows linearly where
    many clients differ. A robust budget is the best of many plain ones
    (:mod:`hasa_opt.solvers.exact.limits`), nested site budgets are solved site by site
    (:mod:`hasa_opt.solvers.exact.limits`), and all other limits by their prices, repair and halves
    of the clients that meet in the middle (:mod:`hasa_opt.solvers.exact.halves`); what is left of a
    gap is reported.

    Options: ``max_states``, the longest list of states (default 1,048,576; about 100 bytes
    each). Where it is exceeded the gap that remains is reported. ``threads``, in how many of them
    many clients are looked through under one budget (default 1; 0: one for each core): the answer
    is the same to the last bit.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; the time limit and Ctrl-C end with the incumbent and its bound."""
        check_options(request)
        if little(problem.costs.size) and not problem.rows:
            with suppress(TooMuch), interpreted():
                return _solve_one(problem, request)
        if not ready(request.deadline.part(_PATIENCE)):
            answer = _without_kernels(request)
            if not ready(request.deadline):
                return answer
        if not Kernel.stored:
            _say_that_nothing_is_stored()
        if any(isinstance(row, RobustRow) for row in problem.rows):
            return solve_robust(problem, request)
        if problem.rows:
            tree = SiteTree.of(problem, request.deadline, hull_steps)
            return solve_rows(request) if tree is None else solve_sites(tree, request)
        return _solve_one(problem, request)


def _solve_one(problem: AllocationProblem, request: Request) -> Answer:
    """Solve a problem whose only limit is the budget."""
    run = run_for(problem.costs, problem.utilities, problem.admissible, problem.limit, request)
    run.whole = True
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
        answer = solve_rows(request, compiled=False)
        return replace(answer, native=f"{native}; {answer.native}")
    bound, choice = request.relaxation.bound, request.known
    ended = Termination.at(request.deadline)
    return Answer(ended, choice, bound=bound, native=native)
