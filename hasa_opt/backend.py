"""What a solver backend is, and the registry of those that are known.

A backend only translates: it turns the problem into its solver's form and the solver's answer
into an :class:`Answer`. It claims; :func:`hasa_opt.solve` verifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from hasa_opt.clients import IntArray
from hasa_opt.errors import (
    SolverNotInstalledError,
    UnknownSolverError,
    UnsupportedConstraintError,
)
from hasa_opt.problem import AllocationProblem
from hasa_opt.relaxation import Relaxation, relax
from hasa_opt.result import Termination

__all__ = [
    "Answer",
    "Backend",
    "Capability",
    "Request",
    "SolverRecord",
    "check_constraints",
    "load",
    "record",
    "register",
    "solvers",
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


@dataclass(frozen=True)
class Request:
    """What the caller of :func:`hasa_opt.solve` asked for.

    Attributes
    ----------
    problem : AllocationProblem
    time_limit_s : float or None
    gap : float
        Relative gap at which the solver may stop; 0 asks for the optimum.
    warm_start : (n_clients,) int64 or None
        An allocation to start from.
    options : mapping
        Further keyword arguments, for this backend only.
    audited : bool
        Whether a proof of optimality gets a second opinion, see :mod:`hasa_opt.audit`.
    """

    problem: AllocationProblem
    time_limit_s: float | None = None
    gap: float = 0.0
    warm_start: IntArray | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    audited: bool = True

    @cached_property
    def relaxation(self) -> Relaxation:
        """Linear relaxation without the further constraints; computed where it is asked for."""
        return relax(self.problem)

    @cached_property
    def known(self) -> IntArray | None:
        """Feasible allocation that needs no solver: the warm start or a greedy one; else None."""
        starts = [] if self.warm_start is None else [self.warm_start]
        evaluated = [
            (self.problem.evaluate(choice), choice)
            for choice in [*starts, self.relaxation.incumbent]
        ]
        feasible = [(found.objective, choice) for found, choice in evaluated if found.feasible]
        return max(feasible, key=lambda pair: pair[0])[1] if feasible else None

    @cached_property
    def absolute_gap(self) -> float:
        """A difference in utility that is within the relative gap of any better allocation.

        0 where no feasible allocation is known beforehand or the sign of the optimum is open.
        """
        if self.gap == 0 or self.known is None:
            return 0.0
        ends = (self.problem.evaluate(self.known).objective, self.relaxation.bound)
        return self.gap * min(abs(end) for end in ends) if ends[0] * ends[1] > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend claims; nothing in it is trusted.

    Attributes
    ----------
    termination : Termination
    choice : (n_clients,) integers or None
    objective : float or None
        The solver's own value of the allocation, in the problem's unit.
    bound : float
        The solver's upper bound; infinity if it has none.
    native : str
        The solver's own status.
    price : float or None
        The shadow price behind the bound, at least 0; None if the solver gives none.
    """

    termination: Termination
    choice: IntArray | None = None
    objective: float | None = None
    bound: float = float("inf")
    native: str = ""
    price: float | None = None


class Backend(Protocol):
    """A class with this method can be registered."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Translate, solve, translate back."""
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
        Names of the constraint classes that it understands.
    audited : bool
        Whether its proofs get a second opinion; not worth the time for the exact solver, whose
        proof is by the same means.
    """

    name: str
    target: str
    summary: str
    requires: tuple[str, ...] = ()
    install: str = "pip install hasa-opt"
    capabilities: Capability = Capability.NONE
    constraints: tuple[str, ...] = ()
    audited: bool = True

    @property
    def available(self) -> bool:
        """True if the required modules can be found; none of them is imported."""
        return all(find_spec(module) is not None for module in self.requires)


_MASKS = ("Fixed", "Forbidden", "MinWidth")
_LINEAR = ("Budget", "Coverage", "Quota", "Robust", "SiteBudgets", "Switches", *_MASKS)
_REGISTRY: dict[str, SolverRecord] = {
    line.name: line
    for line in (
        SolverRecord(
            "exact",
            "hasa_opt.solvers.exact:ExactBackend",
            "our own: proven optimum for the budget alone, from ten clients to ten million",
            audited=False,
            requires=("numba",),
            install="pip install numba",
            capabilities=Capability.EXACT
            | Capability.TIME_LIMIT
            | Capability.GAP
            | Capability.WARM_START
            | Capability.INTERRUPT,
            constraints=_MASKS,
        ),
        SolverRecord(
            "greedy",
            "hasa_opt.solvers.greedy:GreedyBackend",
            "marginal gains on the concave hull: fast at any size, with a bound and a true gap",
            constraints=_MASKS,
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
            "hasa_opt.solvers.ortools:CpSatBackend",
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
            capabilities=Capability.EXACT | Capability.SLACK_BUDGET,
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
    if name not in _REGISTRY:
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
    supported = record(name).constraints
    for constraint in problem.constraints:
        kind = type(constraint).__name__
        if kind not in supported:
            able = [line.name for line in _REGISTRY.values() if kind in line.constraints]
            raise UnsupportedConstraintError(
                f"solver {name!r} does not support the constraint {kind}: "
                f"use {' or '.join(able) if able else 'a solver that you register for it'}"
            )
    if Capability.SLACK_BUDGET in record(name).capabilities and problem.dearest > problem.limit:
        enough = -(-(10**4) * problem.dearest // problem.full_cost) / 10**4
        raise UnsupportedConstraintError(
            f"solver {name!r} does not support the budget {problem.budget:g}, which may bind: use "
            f"highs, or raise the budget to {enough:g}, where every client affords any width"
        )
