"""The solvers that are known by name, and what is the same for a call of any of them.

A backend only translates: it turns the problem into its solver's form and the solver's answer
into an :class:`Answer`. It claims; :func:`hasa_opt.solve` verifies.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hasa_opt._utils.deadline import OutOfTime
from hasa_opt._utils.installing import pip
from hasa_opt._utils.native import stdout_aside
from hasa_opt._utils.rational import decimal_above
from hasa_opt._utils.registry import Registry
from hasa_opt.errors import (
    HasaError,
    InputError,
    MissingExtraError,
    SolverNotInstalledError,
    UnknownSolverError,
    UnsupportedConstraintError,
)
from hasa_opt.problem.budgets import Budget, Robust, SiteBudgets
from hasa_opt.problem.choices import Quota
from hasa_opt.problem.groups import SameOption
from hasa_opt.problem.limits import Constraint, Fairness, RowConstraint, constraint_name
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.record import Backend, Capability, SolverList, SolverRecord

__all__ = [
    "SOLVERS",
    "Answer",
    "Backend",
    "Capability",
    "Request",
    "SolverRecord",
    "ask",
    "check_constraints",
    "find_solver",
    "load",
    "register",
    "solvers",
    "supports",
    "unregister",
]

_FIRST = ("exact", "highs")
"""What an error suggests first: the two that ``auto`` chooses from."""

_EVERY_ROW = (RowConstraint, Fairness("maxmin"))
_STOPPED = Capability.EXACT | Capability.TIME_LIMIT | Capability.GAP
_PROGRAMS = _STOPPED | Capability.PARTITION

_SOLVERS = (
    SolverRecord(
        "exact",
        "hasa_opt.solvers.exact:ExactBackend",
        "our own: proven optimum for the budget alone, a true gap with further limits",
        audited=False,
        requires=("numba",),
        install=pip("numba"),
        capabilities=_STOPPED | Capability.WARM_START | Capability.PROGRESS,
        constraints=_EVERY_ROW,
        alone=(Robust, Fairness("leximin")),
    ),
    SolverRecord(
        "greedy",
        "hasa_opt.solvers.greedy:GreedyBackend",
        "marginal gains on the concave hull: fast at any size, with a bound and a true gap",
        install=pip("numpy"),
        capabilities=Capability.TIME_LIMIT,
        constraints=(Budget, SiteBudgets, SameOption, Fairness("maxmin")),
    ),
    SolverRecord(
        "highs",
        "hasa_opt.solvers.highs:HighsBackend",
        "branch and cut of HiGHS: proven optimum, every limit",
        requires=("highspy",),
        install=pip("highspy"),
        capabilities=_PROGRAMS | Capability.WARM_START | Capability.PROGRESS,
        constraints=_EVERY_ROW,
    ),
    SolverRecord(
        "pulp",
        "hasa_opt.solvers.pulp:PulpBackend",
        "any solver that PuLP knows (default: CBC, else HiGHS)",
        requires=("pulp",),
        install=pip("pulp"),
        capabilities=_PROGRAMS | Capability.WARM_START,
        constraints=_EVERY_ROW,
    ),
    SolverRecord(
        "cvxpy",
        "hasa_opt.solvers.cvxpy:CvxpyBackend",
        "CVXPY with HiGHS, and the continuous program with Clarabel; slow to set up",
        requires=("cvxpy", "highspy"),
        install=pip("cvxpy", "highspy"),
        capabilities=_PROGRAMS,
        constraints=_EVERY_ROW,
    ),
    SolverRecord(
        "cpsat",
        "hasa_opt.solvers.cpsat:CpSatBackend",
        "CP-SAT of OR-tools: proven optimum in integers, every limit",
        requires=("ortools",),
        install=pip("ortools"),
        capabilities=_PROGRAMS | Capability.WARM_START | Capability.PROGRESS,
        constraints=_EVERY_ROW,
    ),
    SolverRecord(
        "scip",
        "hasa_opt.solvers.scip:ScipBackend",
        "branch and cut of SCIP: proven optimum, every limit",
        requires=("pyscipopt",),
        install=pip("pyscipopt"),
        capabilities=_PROGRAMS | Capability.WARM_START | Capability.PROGRESS,
        constraints=_EVERY_ROW,
    ),
    SolverRecord(
        "flow",
        "hasa_opt.solvers.flow:FlowBackend",
        "min-cost flow: proven optimum for quotas where the budget cannot bind",
        install=pip("numpy"),
        capabilities=Capability.EXACT | Capability.TIME_LIMIT | Capability.SLACK_BUDGET,
        constraints=(Quota,),
    ),
)

SOLVERS: Registry[SolverRecord] = Registry("solvers", {line.name: line for line in _SOLVERS})
"""Name to record; other packages add theirs as entry points of the group ``hasa_opt.solvers``."""


def solvers() -> SolverList:
    """Every known solver: name, availability, capabilities, install hint; prints as a table.

    Imports no solver, only the modules in which other packages keep their records.
    """
    return SolverList(map(_listed, SOLVERS))


def _listed(name: str) -> SolverRecord:
    """Record of a name; what another package gets wrong is told in its line."""
    try:
        return find_solver(name)
    except (InputError, SolverNotInstalledError) as error:
        return _Broken(name, "", "cannot be loaded", install=str(error))


class _Broken(SolverRecord):
    """Stands for a record that cannot be loaded."""

    @property
    def available(self) -> bool:
        return False


def register(record: SolverRecord) -> None:
    """Add a solver to this process, or replace the one of the same name."""
    SOLVERS[record.name] = record


def unregister(name: str) -> None:
    """Remove a solver that was registered.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    """
    del SOLVERS[find_solver(name).name]


def find_solver(name: str) -> SolverRecord:
    """Record of one solver.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    SolverNotInstalledError
        If another package adds it, and its record cannot be loaded.
    InputError
        If another package adds something else than a record.
    """
    if not isinstance(name, str) or name not in SOLVERS:
        known = ", ".join(sorted(SOLVERS))
        raise UnknownSolverError(f"solver {name!r} is not known: choose one of {known}, or auto")
    try:
        found: object = SOLVERS[name]
    except MissingExtraError as error:
        raise SolverNotInstalledError(f"solver {error}") from error
    if not isinstance(found, SolverRecord):
        raise InputError(
            f"solver {name!r} is a {type(found).__name__}: the entry point must name a SolverRecord"
        )
    return found if found.name == name else replace(found, name=name)


def load(name: str) -> Backend:
    """Import a backend and make an instance.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    SolverNotInstalledError
        Giving the command that installs what is missing.
    """
    return find_solver(name).load()


def check_constraints(problem: AllocationProblem, name: str) -> None:
    """Refuse a problem with a constraint, or a budget, that a solver does not understand.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    UnsupportedConstraintError
        Naming the constraint and the solvers that understand it.
    """
    record = find_solver(name)
    for constraint in problem.constraints:
        if not record.understands(problem, constraint):
            beside = " beside other constraints" if record.stance(constraint) == "alone" else ""
            raise UnsupportedConstraintError(
                f"solver {name!r} does not support the constraint "
                f"{constraint_name(constraint)}{beside}: {_remedy(problem, constraint)}"
            )
    if Capability.SLACK_BUDGET in record.capabilities and problem.dearest > problem.limit:
        enough = f"{problem.dearest} {problem.resource}"
        if problem.full_cost is not None:
            enough = decimal_above(Fraction(problem.dearest, problem.full_cost))
        raise UnsupportedConstraintError(
            f"solver {name!r} does not support the {problem.budget_words}, which may bind: use "
            f"highs, or raise the budget to {enough}, where every client affords any "
            f"{problem.menu.noun}"
        )


def _remedy(problem: AllocationProblem, constraint: Constraint) -> str:
    """What to do about a constraint that a solver does not take."""
    able = [record.name for record in solvers() if supports(problem, record.name)]
    if able:
        return f"use {' or '.join(sorted(able, key=lambda name: name not in _FIRST))}"
    if any(record.stance(constraint) != "no" for record in solvers()):
        together = " and ".join(dict.fromkeys(map(constraint_name, problem.constraints)))
        return f"no solver takes {together} together, leave one of them out"
    return "add a solver that takes it, see hasa_opt.solvers.registry.register"


def supports(problem: AllocationProblem, name: str) -> bool:
    """True if a solver understands every constraint of a problem."""
    record = find_solver(name)
    return all(record.understands(problem, item) for item in problem.constraints)


def ask(name: str, request: Request) -> Answer:
    """Run a backend; whatever it raises or returns becomes an answer that claims nothing.

    What compiled code writes meanwhile, a log for example, goes to standard error.

    Raises
    ------
    HasaError, MemoryError
        As the backend raises them.
    """
    backend = find_solver(name).load()
    try:
        with stdout_aside():
            answer = backend.solve(request.problem, request)
    except KeyboardInterrupt:
        return Answer(Termination.INTERRUPTED, native="interrupted before an answer")
    except OutOfTime:
        ended = Termination.at(request.deadline)
        how = "stopped" if ended is Termination.INTERRUPTED else "out of time"
        return Answer(ended, native=f"{name}: {how} before an answer")
    except (HasaError, MemoryError):
        raise
    except Exception as error:  # whatever a solver raises, the caller's fallback still runs
        return Answer(Termination.FAILED, native=f"{type(error).__name__}: {error}")
    if not isinstance(answer, Answer):
        return Answer(Termination.FAILED, native=f"gave a {type(answer).__name__}, no Answer")
    return answer
