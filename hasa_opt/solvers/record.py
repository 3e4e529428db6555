"""What is known of a solver before it is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol

from hasa_opt._utils.installing import not_installed
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import SolverNotInstalledError
from hasa_opt.problem import CONSTRAINTS
from hasa_opt.problem.limits import RowConstraint, is_a
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.base import Answer, Request

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Backend", "Capability", "SolverList", "SolverRecord"]


class Capability(Flag):
    """Features that a backend states as data, checked before it is called."""

    NONE = 0
    EXACT = auto()
    """Proves optimality, given time."""
    TIME_LIMIT = auto()
    GAP = auto()
    """Stops early at a relative gap."""
    WARM_START = auto()
    PROGRESS = auto()
    """Hands over what it finds on its way, so that it is not lost whatever stops it."""
    SLACK_BUDGET = auto()
    """Takes no problem but those whose budget every allocation keeps."""
    PARTITION = auto()
    """Knows of a request no more than its linear model, so that :func:`hasa_opt.partition` can ask
    it as well."""


class Backend(Protocol):
    """A class with this method can be registered."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Translate, solve, translate back; ``request.deadline.check()`` ends it in time."""
        ...


Stance = Literal["yes", "alone", "no"]


@dataclass(frozen=True)
class SolverRecord:
    """One line of the registry.

    Attributes
    ----------
    name : str
    target : str or callable
        ``"module:Class"`` of the backend, imported on first use; or the class itself.
    summary : str
        What it is for.
    requires : tuple of str
        Modules that it imports.
    install : str
        Command that installs them; default: nothing is to be installed.
    capabilities : Capability
    constraints : tuple of classes and preferences
        Constraints that it takes: their classes, :class:`~hasa_opt.problem.RowConstraint` for any
        that states integer rows, and preferences such as ``Fairness("maxmin")``. Masks are not
        listed: they narrow the admissible widths, which every solver keeps to.
    alone : tuple of classes and preferences
        Constraints that it takes where no other one states rows.
    audited : bool
        Whether its proofs under the budget alone get a second opinion; not worth the time for the
        exact solver, whose proof is by the same means. Under further rows every proof gets one.
    """

    name: str
    target: str | Callable[[], Backend]
    summary: str
    requires: tuple[str, ...] = ()
    install: str = ""
    capabilities: Capability = Capability.NONE
    constraints: tuple[object, ...] = ()
    alone: tuple[object, ...] = ()
    audited: bool = True

    def stance(self, constraint: object) -> Stance:
        """Whether it takes a constraint, given as an object or as a class."""
        if _among(constraint, self.alone):
            return "alone"
        return "yes" if _is_mask(constraint) or _among(constraint, self.constraints) else "no"

    def understands(self, problem: AllocationProblem, constraint: object) -> bool:
        """Whether it can take one constraint of a problem, given the others."""
        stance = self.stance(constraint)
        if stance == "alone":
            stating = sum(isinstance(item, RowConstraint) for item in problem.constraints)
            return stating == isinstance(constraint, RowConstraint)
        return stance == "yes"

    def taken(self, stance: Stance = "yes") -> list[str]:
        """Names of the known constraints that it takes, or takes alone."""
        return [name for name, item in CONSTRAINTS.items() if self.stance(item) == stance]

    @property
    def missing(self) -> list[str]:
        """Required modules that cannot be found; none of them is imported."""
        return [module for module in self.requires if not _found(module)]

    @property
    def available(self) -> bool:
        """True if the required modules can be found."""
        return not self.missing

    def load(self) -> Backend:
        """Import the backend and make an instance.

        Raises
        ------
        SolverNotInstalledError
            Giving the command that installs what is missing.
        """
        if self.missing:
            needed = ", ".join(self.missing)
            what = f"solver {self.name!r}"
            raise SolverNotInstalledError(not_installed(what, needed, self.install))
        try:
            if callable(self.target):
                return self.target()
            module, _, attribute = self.target.partition(":")
            backend: Backend = getattr(import_module(module), attribute)()
            if Capability.PARTITION in self.capabilities:
                import_module("scipy.sparse")  # of which linear models are made: not in its time
        except (ImportError, AttributeError, RuntimeError) as error:
            command = f": {self.install}" if self.install else ""
            raise SolverNotInstalledError(
                f"solver {self.name!r} is installed but cannot be loaded here ({error}): choose "
                f"another, or mend its installation{command}"
            ) from error
        return backend


class SolverList(Shown, list[SolverRecord]):
    """Records of solvers; they print as a table."""

    def __rich__(self) -> Table:
        table = new_table("solver", "installed", "for", "constraints")
        for record in self:
            installed = "yes" if record.available else f"no: {record.install}"
            alone = record.taken("alone")
            takes = ", ".join(record.taken()) + (f"; alone: {', '.join(alone)}" if alone else "")
            table.add_row(record.name, installed, record.summary, takes)
        return table


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that the module is in
        return False


def _is_mask(constraint: object) -> bool:
    """Whether a constraint, or a class of them, does nothing but narrow what is admissible."""
    stated = [hasattr(constraint, name) for name in ("mask", "rows", "feature")]
    return stated == [True, False, False]


def _among(constraint: object, listed: tuple[object, ...]) -> bool:
    kind = constraint if isinstance(constraint, type) else type(constraint)
    return any(
        issubclass(kind, item) or is_a(constraint, item)
        if isinstance(item, type)
        else item == constraint
        for item in listed
    )
