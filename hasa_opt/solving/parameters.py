"""Numbers of a problem over a grid: a budget, limits, scales of utilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy.typing as npt

from hasa_opt._utils.checks import array, expect, float_array
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.interrupts import ended_by_interrupt
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.changes import client_row, limit_at, with_limit, with_scale
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Point", "Sweep", "facts", "numbers_of", "sweep"]


@dataclass(frozen=True, eq=False)
class Point:
    """One combination of values.

    Attributes
    ----------
    values : tuple of numbers
        In the order of :attr:`Sweep.names`.
    allocation : Allocation or None
        None: no allocation is within the limits.
    why : str
        Why there is none; else empty.
    """

    values: tuple[float, ...]
    allocation: Allocation | None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Sweep(Framed, Shown):
    """Best allocations at every combination of some numbers.

    Attributes
    ----------
    names : tuple of str
        What is changed: limits, and clients whose utilities are scaled.
    points : tuple of Point
        In the order of the grid, the last name changing fastest.
    """

    names: tuple[str, ...]
    points: tuple[Point, ...]

    def in_columns(self) -> dict[str, list[Any]]:
        """A row for each point: its values, then what :class:`Allocation` says of it.

        Without an allocation ``objective``, ``spent`` and all that follows from them are missing.
        """
        found = [point.allocation for point in self.points]
        columns: dict[str, list[Any]] = {
            name: [point.values[at] for point in self.points] for at, name in enumerate(self.names)
        }
        return columns | facts(found) | {"why": [point.why for point in self.points]}

    def __rich__(self) -> Table:
        table = new_table()
        for heading in (*self.names, "utility", "gap", "spent"):
            table.add_column(heading, justify="right", overflow="fold")
        table.add_column("termination", overflow="fold")
        for point in self.points:
            own, values = point.allocation, [f"{value:g}" for value in point.values]
            if own is None or not own.has_solution:
                ended = "infeasible" if own is None else str(own.termination)
                table.add_row(*values, "-", "-", "-", ended)
                continue
            cells = f"{own.objective:.7g}", f"{own.gap:.1e}", f"{own.spent:,}"
            table.add_row(*values, *cells, str(own.termination))
        return table

    def __repr__(self) -> str:
        return f"Sweep({len(self.points)} points over {', '.join(self.names)})"


def facts(allocations: Sequence[Allocation | None]) -> dict[str, list[Any]]:
    """What is known of allocations, by column; None where there is none, or it holds nothing."""
    names = ("objective", "bound", "gap", "spent", "price", "termination", "solver", "seconds")
    return {name: [_fact(own, name) for own in allocations] for name in names}


def _fact(allocation: Allocation | None, name: str) -> Any:
    if allocation is None:
        return "infeasible" if name == "termination" else None
    if not allocation.has_solution and name in ("objective", "gap", "spent"):
        return None
    value = getattr(allocation, name)
    return str(value) if name == "termination" else value


def sweep(
    problem: AllocationProblem,
    solver: str = "auto",
    *,
    limits: Mapping[str, Sequence[float]] | None = None,
    scales: Mapping[str, Sequence[float]] | None = None,
    **options: Any,
) -> Sweep:
    """Solve a problem at every combination of some numbers, each from the allocation before.

    Parameters
    ----------
    problem : AllocationProblem
    solver : str
    limits : mapping of limit to numbers
        A limit by its label, the beginning of its label or the resource that it limits; "budget"
        is the budget. Its values are given as it was: shares of a total, or whole units.
    scales : mapping of client to numbers above 0
        By which all utilities of the client are multiplied, as another score would.
    **options : Any
        As for :func:`hasa_opt.solve`.

    Returns
    -------
    Sweep
        A point without an allocation, where none is within the limits, says why.

    Raises
    ------
    InputError
        If nothing is to be changed, no limit or client is meant, or a value breaks a rule.
    KeyboardInterrupt
        At Ctrl-C.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 200], names=["a", "b", "c"])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients, widths=[0.25, 0.5, 1.0], budget=0.5, utility=hasa.utility.alpha_fair(),
    ...     constraints=[hasa.Quota({0.5: 2})])
    >>> found = hasa.sweep(problem, limits={"budget": [0.5, 0.75], "Quota": [1, 3]})
    >>> [round(point.allocation.objective, 3) for point in found.points]
    [-0.866, -0.693, -0.347, -0.347]
    """
    expect(problem, AllocationProblem, "problem")
    axes = [*_limits(problem, limits or {}), *_scales(problem, scales or {})]
    if not axes:
        raise InputError(
            "nothing is to be changed: give limits={'budget': [0.4, 0.5]}, or scales={CLIENT: "
            "[1, 2]}"
        )
    points: list[Point] = []
    start: Allocation | None = None
    with ended_by_interrupt() as check:
        for values in product(*(axis.values for axis in axes)):
            own = problem
            for axis, value in zip(axes, values, strict=True):
                own = axis.change(own, value)
            try:
                found = solve(own, solver, warm_start=start, **options)
            except InfeasibleError as error:
                points.append(Point(values, None, str(error)))
                continue
            finally:
                check()
            points.append(Point(values, found))
            start = found if found.has_solution else start
    return Sweep(tuple(axis.name for axis in axes), tuple(points))


class _Axis(NamedTuple):
    """What is changed, its values, and how."""

    name: str
    values: list[float]
    change: Callable[[AllocationProblem, float], AllocationProblem]


def _limits(problem: AllocationProblem, given: Mapping[str, Sequence[float]]) -> Iterator[_Axis]:
    places: dict[int, str] = {}
    for name, values in given.items():
        at = limit_at(problem, name)
        if at in places:
            raise InputError(f"{places[at]!r} and {name!r} are one limit: leave one out")
        places[at] = name
        yield _Axis(name, numbers_of(values, name), partial(with_limit, at))


def _scales(problem: AllocationProblem, given: Mapping[str, Sequence[float]]) -> Iterator[_Axis]:
    rows: dict[int, str] = {}
    for client, values in given.items():
        row = client_row(problem, client, "scales")
        if row in rows:
            raise InputError(f"{rows[row]!r} and {client!r} are one client: leave one out")
        rows[row] = client
        name = f"scale of {problem.clients.name(row)}"
        yield _Axis(name, numbers_of(values, name), partial(with_scale, row))


def numbers_of(values: npt.ArrayLike, what: str) -> list[float]:
    """Values of a number that is changed, whole numbers as such.

    Raises
    ------
    InputError
        If there is none, or one is not finite.
    """
    given = float_array(values, what)
    if given.ndim != 1 or not given.size:
        raise InputError(f"{what} {values!r}: give one or more numbers")
    numbers: list[float] = array(values, what).tolist()
    return numbers
