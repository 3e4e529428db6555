"""What a solver backend is, and the registry of those that are known.

A backend only translates: it turns the problem into its solver's form and the solver's answer
into an :class:`Answer`. It claims; :func:`hasa_opt.solve` verifies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from hasa_opt._utils.deadline import OutOfTime
from hasa_opt.errors import (
    HasaError,
    SolverNotInstalledError,
    UnknownSolverError,
    UnsupportedConstraintError,
)
from hasa_opt.problem.limits import Constraint, RowConstraint
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request

__all__ = [
    "Answer",
    "Backend",
    "Capability",
    "Request",
    "SolverRecord",
    "ask",
    "check_constraints",
    "load",
    "record",
    "register",
    "solvers",
    "supports",
    "unregister",
]


class Capability(Flag):
    """Features that a backend states as data, checked before it is called."""

    NONE = 0
    EXACT = auto()
    """Proves optimality, given time."""
    TIME_LIMIT = auto()
    GAP = auto()
    """Stops early at a relative gap."""
    WARM_START = auto()
    INTERRUPT = auto()
    """Ctrl-C stops it with what it has."""
    SLACK_BUDGET = auto()
    """Takes no problem but those whose budget every allocation keeps."""


class Backend(Protocol):
    """A class with this method can be registered."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Translate, solve, translate back; ``request.deadline.check()`` ends it in time."""
        ...


@dataclass(frozen=True)
class SolverRecord:
    """One line of the registry.

    Attributes
    ----------
    name : str
    target : str
        ``"module:Class"`` of the backend; imported on first use.
    summary : str
        What it is for.
    requires : tuple of str
        Modules that it imports.
    install : str
        Command that installs them.
    capabilities : Capability
    constraints : tuple of str
        Names of the constraint classes that it understands, ``"Fairness(maxmin)"`` by its mode.
    alone : tuple of str
        Names of those that it understands where no other constraint states rows; masks may be
        there as well.
    audited : bool
        Whether its proofs under the budget alone get a second opinion; not worth the time for the
        exact solver, whose proof is by the same means. Under further rows every proof gets one.
    """

    name: str
    target: str
    summary: str
    requires: tuple[str, ...] = ()
    install: str = "pip install hasa-opt"
    capabilities: Capability = Capability.NONE
    constraints: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    audited: bool = True

    def understands(self, problem: AllocationProblem, constraint: Constraint) -> bool:
        """Whether it can take one constraint of a problem, given the others."""
        feature = feature_of(constraint)
        if feature in self.alone:
            stating = sum(isinstance(item, RowConstraint) for item in problem.constraints)
            return stating == isinstance(constraint, RowConstraint)
        return feature in self.constraints

    @property
    def available(self) -> bool:
        """True if the required modules can be found; none of them is imported."""
        return all(find_spec(module) is not None for module in self.requires)


_FIRST = ("exact", "highs")
"""What to suggest first."""
_MASKS = ("Fixed", "Forbidden", "MinWidth")
_MAXMIN, _LEXIMIN = "Fairness(maxmin)", "Fairness(leximin)"
_LINEAR = ("Budget", "Coverage", "Quota", "Robust", "SiteBudgets", "Switches", *_MASKS, _MAXMIN)
_REGISTRY: dict[str, SolverRecord] = {
    line.name: line
    for line in (
        SolverRecord(
            "exact",
            "hasa_opt.solvers.exact:ExactBackend",
            "our own: proven optimum for the budget alone, a true gap with further limits",
            audited=False,
            requires=("numba",),
            install="pip install numba",
            capabilities=Capability.EXACT
            | Capability.TIME_LIMIT
            | Capability.GAP
            | Capability.WARM_START
            | Capability.INTERRUPT,
            constraints=(*(name for name in _LINEAR if name != "Robust"), _MAXMIN),
            alone=("Robust", _LEXIMIN),
        ),
        SolverRecord(
            "greedy",
            "hasa_opt.solvers.greedy:GreedyBackend",
            "marginal gains on the concave hull: fast at any size, with a bound and a true gap",
            capabilities=Capability.TIME_LIMIT,
            constraints=("Budget", "SiteBudgets", *_MASKS, _MAXMIN),
        ),
        SolverRecord(
            "highs",
            "hasa_opt.solvers.highs:HighsBackend",
            "branch and cut of HiGHS: proven optimum, every constraint",
            requires=("highspy",),
            install="pip install highspy",
            capabilities=Capability.EXACT
            | Capability.TIME_LIMIT
            | Capability.GAP
            | Capability.WARM_START
            | Capability.INTERRUPT,
            constraints=_LINEAR,
        ),
        SolverRecord(
            "pulp",
            "hasa_opt.solvers.pulp:PulpBackend",
            "any solver that PuLP knows (default: its bundled CBC)",
            requires=("pulp",),
            install="pip install pulp",
            capabilities=Capability.EXACT | Capability.TIME_LIMIT | Capability.GAP,
            constraints=_LINEAR,
        ),
        SolverRecord(
            "cvxpy",
            "hasa_opt.solvers.cvxpy:CvxpyBackend",
            "CVXPY with HiGHS, and the continuous program with Clarabel; slow to set up",
            requires=("cvxpy", "highspy"),
            install="pip install cvxpy highspy",
            capabilities=Capability.EXACT | Capability.TIME_LIMIT | Capability.GAP,
            constraints=_LINEAR,
        ),
        SolverRecord(
            "cpsat",
            "hasa_opt.solvers.cpsat:CpSatBackend",
            "CP-SAT of OR-tools: proven optimum in integers, every constraint",
            requires=("ortools",),
            install="pip install 'hasa-opt[ortools]'",
            capabilities=Capability.EXACT
            | Capability.TIME_LIMIT
            | Capability.GAP
            | Capability.WARM_START
            | Capability.INTERRUPT,
            constraints=_LINEAR,
        ),
        SolverRecord(
            "scip",
            "hasa_opt.solvers.scip:ScipBackend",
            "branch and cut of SCIP: proven optimum, every constraint",
            requires=("pyscipopt",),
            install="pip install 'hasa-opt[scip]'",
            capabilities=Capability.EXACT
            | Capability.TIME_LIMIT
            | Capability.GAP
            | Capability.WARM_START,
            constraints=_LINEAR,
        ),
        SolverRecord(
            "flow",
            "hasa_opt.solvers.flow:FlowBackend",
            "min-cost flow: proven optimum for quotas where the budget cannot bind",
            requires=("networkx",),
            install="pip install networkx",
            capabilities=Capability.EXACT | Capability.TIME_LIMIT | Capability.SLACK_BUDGET,
            constraints=("Quota", *_MASKS),
        ),
    )
}


def solvers() -> list[SolverRecord]:
    """Every registered solver: name, availability, capabilities, install hint.

    Imports no solver.
    """
    return list(_REGISTRY.values())


def register(line: SolverRecord) -> None:
    """Add a solver, or replace the one of the same name."""
    _REGISTRY[line.name] = line


def unregister(name: str) -> None:
    """Remove a solver from the registry."""
    _REGISTRY.pop(record(name).name)


def record(name: str) -> SolverRecord:
    """Registry line of one solver.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    """
    if not isinstance(name, str) or name not in _REGISTRY:
        known = ", ".join(sorted(_REGISTRY))
        raise UnknownSolverError(f"solver {name!r} is not known: choose one of {known}, or auto")
    return _REGISTRY[name]


def load(name: str) -> Backend:
    """Import a backend and make an instance.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    SolverNotInstalledError
        Giving the command that installs what is missing.
    """
    line = record(name)
    missing = [module for module in line.requires if find_spec(module) is None]
    if missing:
        raise SolverNotInstalledError(
            f"solver {name!r} needs {', '.join(missing)}, not installed here: {line.install}"
        )
    module, _, attribute = line.target.partition(":")
    try:
        backend: Backend = getattr(import_module(module), attribute)()
    except (ImportError, RuntimeError) as error:
        raise SolverNotInstalledError(
            f"solver {name!r} is installed but cannot be loaded here ({error}): choose another, or "
            f"mend its installation: {line.install}"
        ) from error
    return backend


def check_constraints(problem: AllocationProblem, name: str) -> None:
    """Refuse a problem with a constraint, or a budget, that a solver does not understand.

    Raises
    ------
    UnknownSolverError
        Naming the known solvers.
    UnsupportedConstraintError
        Naming the constraint and the solvers that understand it.
    """
    line = record(name)
    for constraint in problem.constraints:
        if line.understands(problem, constraint):
            continue
        feature = feature_of(constraint)
        others = " beside other constraints" if feature in line.alone else ""
        able = [own.name for own in _REGISTRY.values() if supports(problem, own.name)]
        if able:
            able.sort(key=lambda other: other not in _FIRST)
            remedy = f"use {' or '.join(able)}"
        elif any(feature in (*own.constraints, *own.alone) for own in _REGISTRY.values()):
            together = " and ".join(dict.fromkeys(map(feature_of, problem.constraints)))
            remedy = f"no solver takes {together} together, leave one of them out"
        else:
            remedy = "use a solver that you register for it"
        raise UnsupportedConstraintError(
            f"solver {name!r} does not support the constraint {feature}{others}: {remedy}"
        )
    if Capability.SLACK_BUDGET in line.capabilities and problem.dearest > problem.limit:
        enough = -(-(10**4) * problem.dearest // problem.full_cost) / 10**4
        raise UnsupportedConstraintError(
            f"solver {name!r} does not support the budget {problem.budget:g}, which may bind: use "
            f"highs, or raise the budget to {enough:g}, where every client affords any width"
        )


def supports(problem: AllocationProblem, name: str) -> bool:
    """True if a solver understands every constraint of a problem."""
    line = record(name)
    return all(line.understands(problem, item) for item in problem.constraints)


def ask(name: str, request: Request) -> Answer:
    """Run a backend; whatever it raises or returns becomes an answer that claims nothing.

    Raises
    ------
    HasaError, MemoryError
        As the backend raises them.
    KeyboardInterrupt
        Where the backend cannot be interrupted.
    """
    engine = load(name)
    try:
        answer = engine.solve(request.problem, request)
    except KeyboardInterrupt:
        if Capability.INTERRUPT not in record(name).capabilities:
            raise
        return Answer(Termination.INTERRUPTED, native="interrupted before an answer")
    except OutOfTime:
        native = f"{name}: out of time before an answer"
        start = request.warm_start if Capability.WARM_START in record(name).capabilities else None
        if start is not None and not request.problem.evaluate(start).feasible:
            start = None
        return Answer(Termination.TIME_LIMIT, start, native=native)
    except (HasaError, MemoryError):
        raise
    except Exception as error:  # whatever a solver raises, the caller's fallback still runs
        return Answer(Termination.FAILED, native=f"{type(error).__name__}: {error}")
    if not isinstance(answer, Answer):
        return Answer(Termination.FAILED, native=f"gave a {type(answer).__name__}, no Answer")
    return answer


def feature_of(constraint: Constraint) -> str:
    """What a solver lists to understand a constraint: its feature, or the name of its class."""
    return str(getattr(constraint, "feature", type(constraint).__name__))
