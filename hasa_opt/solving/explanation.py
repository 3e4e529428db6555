"""Why a client has its option: what it would have next, what is in the way, and what would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hasa_opt._utils.checks import expect, listed
from hasa_opt._utils.showing import Shown
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.changes import client_row, with_bound
from hasa_opt.problem.limits import Preference, RobustRow, Row, constraint_name
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination
from hasa_opt.solving.solver import solve

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Explanation", "Flip", "Obstacle", "explain"]

_SMALL = 2_000
"""Admissible options up to which changes are looked for by solving again, in seconds."""
_HAIR = 1e-6
"""Share of a change of utility by which it is overdone and underdone when it is verified."""
_EDGE = 1e-8
"""The same, as a share of what utilities can vary: ten times what a proof may leave open."""
_SHOWN = 5
"""Clients that a line names."""


@dataclass(frozen=True)
class Obstacle:
    """A limit that stands in the way of a client's next better option.

    Attributes
    ----------
    limit : str
        Its label.
    more : int
        What the option takes more of it than the present one; below 0 where a lower limit loses.
    excess : int
        By how much the limit is broken if the client alone changes; 0: it is not.
    charge : float
        What that much of the limit is worth at its shadow price.
    """

    limit: str
    more: int
    excess: int
    charge: float

    def __str__(self) -> str:
        words = f"{self.limit}: {self.more:+,} of it"
        if self.charge:
            words += f", worth {self.charge:.4g} to others at its price"
        return words + (f"; breaks it by {self.excess:,} alone" * bool(self.excess))


@dataclass(frozen=True)
class Flip:
    """A change of one number of the problem that gives the client the next better option.

    Attributes
    ----------
    what : str
        A limit, by its label, or the utility.
    now, then : float
        The number as it is and as it would be: of a utility, the value from which on it flips.
    verified : bool
        Whether the problem was solved again to proven optimality, with the change and with a
        little less of it, and only the first gave the client that option or a better one.
    """

    what: str
    now: float
    then: float
    verified: bool

    def __str__(self) -> str:
        numbers = (f"{_number(value)}" for value in (self.now, self.then))
        how = "verified" if self.verified else "not verified"
        return f"{self.what}: {' to '.join(numbers)} ({how})"


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """Why a client has its option.

    Attributes
    ----------
    result : Allocation
    row : int
        The client's.
    then : int or None
        Index of the next better option, of those that it may have: the least utility above that
        of its own. None: it has its best.
    obstacles : tuple of Obstacle
        Limits that the change alone breaks, or that charge a price for it; the dearest first.
    forced : Allocation or None
        The best allocation in which the client has that option or a better one; None: there is
        none within the limits, or none is asked for.
    flips : tuple of Flip
        The least changes of single numbers that give it: of the utility of that option, and of
        each obstacle. Of a limit, the least in its neighbourhood: with one unit less the client
        does not have it, but more of a limit need not mean more for each client.
    searched : bool
        Whether limits were searched, which is done in problems of up to 2,000 admissible options.
    """

    result: Allocation
    row: int
    then: int | None
    obstacles: tuple[Obstacle, ...] = ()
    forced: Allocation | None = None
    flips: tuple[Flip, ...] = ()
    searched: bool = True

    @property
    def client(self) -> str:
        """Name of the client."""
        return self.result.problem.clients.name(self.row)

    @property
    def option(self) -> str:
        """Name of the option that it has."""
        return str(self.result.options[self.row])

    @property
    def gain(self) -> float:
        """Utility of the next better option above that of the present one; 0 without any."""
        return 0.0 if self.then is None else self._worth(self.then) - self._worth(self._now)

    @property
    def loss(self) -> float:
        """Utility that the others lose together if the client has it; NaN if nobody can."""
        if self.forced is None:
            return float("nan")
        own = self._worth(int(self.forced.choice[self.row])) - self._worth(self._now)
        return self.result.objective - self.forced.objective + own

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """Options of the others that would change, now and then, by client."""
        if self.forced is None:
            return {}
        now, then = self.result.options, self.forced.options
        rows = [row for row in np.flatnonzero(now != then).tolist() if row != self.row]
        name = self.result.problem.clients.name
        return {name(row): (str(now[row]), str(then[row])) for row in rows}

    @property
    def ruled_out(self) -> tuple[str, ...]:
        """Better options that the client may not have, by its device or by a mask."""
        problem = self.result.problem
        better = problem.utilities[self.row] > self._worth(self._now)
        banned = np.flatnonzero(better & ~problem.admissible[self.row])
        return tuple(problem.menu.names[option] for option in banned)

    def __repr__(self) -> str:
        then = None if self.then is None else self.result.problem.menu.names[self.then]
        return f"Explanation({self.client!r}: {self.option!r}, next {then!r})"

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text("\n".join(self._lines()))

    @property
    def _now(self) -> int:
        return int(self.result.choice[self.row])

    def _worth(self, option: int) -> float:
        return float(self.result.problem.utilities[self.row, option])

    def _lines(self) -> Iterator[str]:
        label = self.result.problem.menu.label
        yield f"{self.client} has {label(self._now)}, worth {self._worth(self._now):.6g}"
        if self.ruled_out:
            yield f"better, but not among its options: {listed(self.ruled_out)}"
        if self.then is None:
            yield "it has the best that it may have: no limit stands in its way"
            return
        yield f"next better: {label(self.then)}, worth {self.gain:.4g} more"
        yield from (f"in the way: {obstacle}" for obstacle in self.obstacles)
        yield from self._cost()
        if not self.flips:
            yield "no change of a single number that gives it was found"
        yield from (f"would do: {flip}" for flip in self.flips)
        if not self.searched:
            yield f"changes of limits are looked for up to {_SMALL:,} options: not here"

    def _cost(self) -> Iterator[str]:
        """What the change would cost the others, in words."""
        if self.forced is None:
            yield "no allocation within the limits is known in which it has that or a better one"
            return
        named = [f"{name} {now} to {then}" for name, (now, then) in self.changes.items()]
        yield f"the others would change: {listed(named, most=_SHOWN) or 'nobody'}"
        net = self.forced.objective - self.result.objective
        sure = "" if self.forced.termination is Termination.OPTIMAL else ", as far as is known"
        yield f"they would lose {self.loss:.4g}; all in all {net:+.4g}{sure}"
        if net > 0:
            yield "so the result is not the best: solve it with another solver or more time"


def explain(
    result: Allocation,
    client: str | int,
    *,
    solver: str = "auto",
    time_limit_s: float | None = None,
) -> Explanation:
    """Why a client has its option, and what would give it the next better one.

    What stands in the way is seen in two ways: by which limits break if this client alone changes,
    and by what the shadow prices charge for the change. What it would cost the others is a solve in
    which the client has that option or a better one. The least raise of the utility is the
    difference of both objectives, since no other allocation gains by it. The least change of a
    limit is searched by bisection. Each change is verified by solving again, with it and with a
    little less.

    Parameters
    ----------
    result : Allocation
    client : str or int
        Its name or its row.
    solver : str
        For the solves that are needed: one, or, in problems of up to 2,000 admissible options, two
        more and for each limit in the way as many as it has bits.
    time_limit_s : float, optional
        For each of them.

    Returns
    -------
    Explanation

    Raises
    ------
    InputError
        If no client is meant, or under Fairness, where the sum of the utilities does not decide.
    NoSolutionError
        If the result holds no allocation.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 200], names=["a", "b", "c"])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients, widths=[0.25, 0.5, 1.0], budget=0.5, utility=hasa.utility.hasa([0.1, 0.5, 0.9])
    ... )
    >>> why = hasa.explain(hasa.solve(problem, "highs"), "a")
    >>> why.option, why.changes
    ('0.5', {'c': ('0.5', '0.25')})
    """
    expect(result, Allocation, "result")
    problem = result.problem
    row, now = client_row(problem, client, "explain"), result.choice
    for item in problem.constraints:
        if isinstance(item, Preference):
            raise InputError(
                f"explain compares sums of utilities, which {constraint_name(item)} puts last: "
                "compare the utilities in result.frame()"
            )
    worth = np.where(problem.admissible[row], problem.utilities[row], -np.inf)
    better = np.flatnonzero(worth > worth[now[row]])
    if not better.size:
        return Explanation(result, row, None)
    then = int(better[worth[better].argmin()])
    found = Explanation(result, row, then, _obstacles(result, row, then))
    again = partial(solve, solver=solver, time_limit_s=time_limit_s)
    forced = _forced(problem, row, then, again)
    searched = int(np.count_nonzero(problem.admissible)) <= _SMALL
    found = replace(found, forced=forced, searched=searched)
    return replace(found, flips=(*_of_utility(found, again), *_of_limits(found, again)))


_Solve = Callable[[AllocationProblem], Allocation]


def _obstacles(result: Allocation, row: int, then: int) -> tuple[Obstacle, ...]:
    """Limits that the change alone breaks, or that charge a price for it."""
    alone = result.choice.copy()
    alone[row] = then
    found = []
    for limit, price in zip(result.problem.limits, result.prices.tolist(), strict=True):
        more = limit.total(alone) - limit.total(result.choice)
        excess, charge = limit.excess(alone), price * more
        if excess or charge > 0:
            found.append(Obstacle(limit.label, more, excess, max(charge, 0.0)))
    return tuple(sorted(found, key=lambda own: (-own.charge, -own.excess)))


def _forced(problem: AllocationProblem, row: int, then: int, again: _Solve) -> Allocation | None:
    """The best allocation in which the client has an option or a better one."""
    allowed = problem.admissible.copy()
    allowed[row] &= problem.utilities[row] >= problem.utilities[row, then]
    try:
        found = again(replace(problem, admissible=allowed))
    except InfeasibleError:
        return None
    return found if found.has_solution else None


def _has(found: Explanation, other: Allocation) -> bool:
    """Whether the client has the next better option, or a better one, in another allocation."""
    worth = found.result.problem.utilities[found.row]
    return bool(worth[other.choice[found.row]] >= worth[found.then])


def _proven(*results: Allocation) -> bool:
    return all(own.termination is Termination.OPTIMAL for own in results)


def _of_utility(found: Explanation, again: _Solve) -> Iterator[Flip]:
    """The least raise of the utilities from the next better option on."""
    if found.forced is None:
        return
    problem = found.result.problem
    short = max(0.0, found.result.objective - found.forced.objective)
    option = int(found.forced.choice[found.row])
    now = float(problem.utilities[found.row, option])

    def raised(amount: float) -> Allocation:
        utilities = problem.utilities.copy()
        utilities[found.row, option] += amount
        return again(replace(problem, utilities=utilities))

    verified = False
    if found.searched and _proven(found.result, found.forced):
        hair = _HAIR * short + _EDGE * problem.span
        with_it, less = raised(short + hair), raised(max(0.0, short - hair))
        verified = _proven(with_it, less) and _has(found, with_it)
        verified &= short <= hair or not _has(found, less)
    label = problem.menu.label(option)
    yield Flip(f"utility of {found.client} at {label}", now, now + short, verified)


def _of_limits(found: Explanation, again: _Solve) -> Iterator[Flip]:
    """The least change of each limit in the way, by bisection."""
    if not found.searched:
        return
    labels, limits = {own.limit for own in found.obstacles}, found.result.problem.limits
    meant = {
        0 if isinstance(limit, RobustRow) else at
        for at, limit in enumerate(limits)
        if limit.label in labels
    }
    for at in sorted(meant):
        yield from _of_limit(found, at, limits[at], again)


def _of_limit(found: Explanation, at: int, limit: Row, again: _Solve) -> Iterator[Flip]:
    """Bisect between the limit as it is and one that binds nobody."""
    problem = found.result.problem
    sign = -1 if limit.upper is None else 1
    allowed = problem.admissible[limit.at]
    outer = np.where(allowed, sign * limit.coefficients, np.iinfo(np.int64).min).max(axis=1)
    start = low = sign * limit.bound
    high = int(outer.sum()) + _deviation(problem, at)
    if high <= low:
        return
    loosest = again(with_bound(problem, at, sign * high))
    if not (loosest.has_solution and _has(found, loosest)):
        return
    proven = _proven(loosest)
    while high - low > 1:
        middle = (low + high) // 2
        other = again(with_bound(problem, at, sign * middle))
        proven &= _proven(other)
        if other.has_solution and _has(found, other):
            high = middle
        else:
            low = middle
    proven &= low > start or _proven(found.result)
    yield Flip(limit.label, limit.bound, sign * high, proven)


def _deviation(problem: AllocationProblem, at: int) -> int:
    """What a robust limit may take beyond the budget that it belongs to."""
    robust = [row for row in problem.rows if at == 0 and isinstance(row, RobustRow)]
    return max((int(row.deviation.max(axis=1).sum()) for row in robust), default=0)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
