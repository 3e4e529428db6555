"""Several backends on one problem: one table, one verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from hasa_opt._utils import isolated
from hasa_opt._utils.checks import expect, several
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import InfeasibleError, SolverError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination
from hasa_opt.solvers import registry
from hasa_opt.solving.fairness import fairness_of
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.result import Partition
from hasa_opt.solving.grouping.solver import partition_solvers, solve_partition
from hasa_opt.solving.plots import plot_seconds
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Comparison", "ComparisonRow", "compare"]

_AGREEMENT = 1e-9
"""Relative; sums of float utilities in another order agree to more."""


@dataclass(frozen=True)
class ComparisonRow:
    """One solver's line.

    Attributes
    ----------
    solver : str
    termination : str
        Of :class:`hasa_opt.Termination`, or ``"not run"``.
    objective, bound, gap, cpu_seconds : float or None
        None where there is none. CPU seconds include child processes.
    own_objective : float or None
        What the solver found itself, without what every call knows before its solver runs.
    incumbent_from : str or None
        Who found the allocation or partition.
    poorest : float or None
        Smallest utility of a client, where :class:`hasa_opt.Fairness` puts it first.
    claim_held : bool or None
        Whether the backend's own claim survived verification; None if it did not run.
    message : str
    """

    solver: str
    termination: str
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    cpu_seconds: float | None = None
    claim_held: bool | None = None
    message: str = ""
    own_objective: float | None = None
    incumbent_from: str | None = None
    poorest: float | None = None

    @property
    def worth(self) -> tuple[float, float]:
        """What makes one allocation better than another: the poorest client first, if asked."""
        assert self.objective is not None
        return self.poorest or 0.0, self.objective


@dataclass(frozen=True)
class Comparison(Framed, Shown):
    """Result of :func:`compare`; print it, or read its rows.

    Attributes
    ----------
    rows : tuple of ComparisonRow
        One per solver, in the order in which they ran.
    of : str
        What they looked for: ``"allocation"`` or ``"partition"``.
    """

    rows: tuple[ComparisonRow, ...]
    of: str = "allocation"

    @property
    def verdict(self) -> str:
        """In one line: do the proven optima agree, and how far is the rest?"""
        held = [row for row in self.rows if row.objective is not None]
        if not held:
            return f"no solver found an {self.of}"
        false = [row.solver for row in self.rows if row.claim_held is False]
        lies = f"; claims disproved: {', '.join(false)}" if false else ""
        proven = [row for row in held if row.termination == Termination.OPTIMAL]
        best = max(row.worth for row in held)
        if not proven:
            if held[0].poorest is not None:
                return f"no optimum is proven, the poorest client is raised to {best[0]:.9g}{lies}"
            gap = min(row.gap for row in held if row.gap is not None)
            return f"no optimum is proven, the best {self.of} is within {gap:.2g} of it{lies}"
        names = ", ".join(row.solver for row in proven)
        worst = min(row.worth for row in proven)
        if worst[0] < best[0]:
            return (
                f"the proven optima DISAGREE: the poorest client at {worst[0]:.12g} and "
                f"{best[0]:.12g} ({names}){lies}"
            )
        if best[1] - worst[1] > _AGREEMENT * max(abs(best[1]), abs(worst[1])):
            return f"the proven optima DISAGREE: {worst[1]:.12g} and {best[1]:.12g} ({names}){lies}"
        lead = "agree on" if len(proven) > 1 else "proves"
        return f"{names} {lead} the optimum {best[1]:.9g}{lies}"

    def __repr__(self) -> str:
        return f"Comparison({self.verdict})"

    def records(self) -> list[dict[str, Any]]:
        """Rows as dictionaries, for JSON."""
        return [asdict(row) for row in self.rows]

    def in_columns(self) -> dict[str, list[Any]]:
        """A row for each solver: the attributes of :class:`ComparisonRow`."""
        names = [item.name for item in fields(ComparisonRow)]
        return {name: [getattr(row, name) for row in self.rows] for name in names}

    def table(self) -> Table:
        """Rows as a rich table; who found what is shown where it was not the solver itself."""
        given = any(row.own_objective != row.objective for row in self.rows)
        table = new_table(title="Backends on the same problem")
        for name in ("solver", "termination"):
            table.add_column(name, overflow="fold")
        for name in ("objective", *["own"][:given], "bound", "gap", "CPU s"):
            table.add_column(name, justify="right", overflow="fold")
        for name in ("claim", *["found by"][:given]):
            table.add_column(name, overflow="fold")
        for row in self.rows:
            numbers = (
                _text(row.objective, ".7g"),
                *[_text(row.own_objective, ".7g")][:given],
                _text(row.bound, ".7g"),
                _text(row.gap, ".1e"),
                _text(row.cpu_seconds, ".3f"),
            )
            claim = {None: "-", True: "held", False: "FALSE"}[row.claim_held]
            found_by = [row.incumbent_from or "-"][:given]
            table.add_row(row.solver, row.termination, *numbers, claim, *found_by)
        return table

    def plot(self, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw the CPU seconds of each solver, and why it stopped with which gap.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        names = [row.solver for row in self.rows]
        seconds = [row.cpu_seconds for row in self.rows]
        return plot_seconds(ax, names, seconds, *zip(*map(_ended, self.rows), strict=True)).figure

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        notes = [f"{row.solver}: {row.message}" for row in self.rows if not row.claim_held]
        return Group(self.table(), Text("\n".join([self.verdict, *notes])))


def compare(
    problem: AllocationProblem | PartitionProblem,
    solvers: str | Sequence[str] | None = None,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    on_solver: Callable[[str], None] | None = None,
) -> Comparison:
    """Run several backends on one problem.

    Parameters
    ----------
    problem : AllocationProblem or PartitionProblem
    solvers : sequence of str, optional
        Default: every registered solver that is installed, and that solves partitions where the
        problem is one.
    time_limit_s : float, optional
    gap : float
        As for :func:`hasa_opt.solve` and :func:`hasa_opt.partition`, for each solver.
    on_solver : callable, optional
        Called with the name of each solver before it runs.

    Returns
    -------
    Comparison
        A solver that is not installed or refuses a constraint has a row that says so.

    Raises
    ------
    UnknownSolverError, InfeasibleError
    """
    of = "partition" if isinstance(problem, PartitionProblem) else "allocation"
    if of == "allocation":
        expect(problem, AllocationProblem, "problem")
    names = [record.name for record in registry.solvers() if record.available]
    if of == "partition":
        names = [name for name in names if name in partition_solvers()]
    if solvers is not None:
        names = list(several(solvers, "solvers"))
    for name in names:
        if not (isinstance(name, str) and name == "auto"):
            registry.find_solver(name)
    rows = []
    for name in names:
        if on_solver is not None:
            on_solver(name)
        rows.append(_row(problem, name, time_limit_s, gap))
    return Comparison(tuple(rows), of)


def _row(
    problem: AllocationProblem | PartitionProblem,
    name: str,
    time_limit_s: float | None,
    gap: float,
) -> ComparisonRow:
    try:
        if name != "auto":
            registry.load(name)
        started = _cpu_seconds()
        result: Allocation | Partition
        if isinstance(problem, PartitionProblem):
            result = solve_partition(problem, name, time_limit_s=time_limit_s, gap=gap)
        else:
            result = solve(problem, name, time_limit_s=time_limit_s, gap=gap)
    except InfeasibleError:
        raise
    except SolverError as error:
        return ComparisonRow(name, "not run", message=str(error))
    held = isinstance(result, Partition) or result.has_solution
    return ComparisonRow(
        solver=result.solver,
        termination=str(result.termination),
        objective=result.objective if held else None,
        bound=result.bound,
        gap=result.gap if held else None,
        cpu_seconds=_cpu_seconds() - started,
        claim_held=result.claim_held,
        message=result.message,
        own_objective=result.own_objective,
        incumbent_from=result.incumbent_from if held else None,
        poorest=_poorest(result),
    )


def _poorest(result: Allocation | Partition) -> float | None:
    """Smallest utility of a client, where the problem puts it first."""
    if isinstance(result, Partition) or not result.has_solution:
        return None
    return None if fairness_of(result.problem) is None else result.poorest


def _ended(row: ComparisonRow) -> tuple[str, bool | None]:
    """How a solver ended, in words; True for a proof, False for a false claim."""
    if row.claim_held is False:
        return f"{row.termination}, FALSE claim", False
    gap = "" if row.gap is None else f", gap {row.gap:.1e}"
    return f"{row.termination}{gap}", True if row.termination == Termination.OPTIMAL else None


def _cpu_seconds() -> float:
    """User and system seconds of this process, its ended children and that of OR-tools."""
    children = os.times()
    ended = children.children_user + children.children_system
    return time.process_time() + ended + isolated.cpu_seconds()


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
