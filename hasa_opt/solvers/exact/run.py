"""One budget, solved to proven optimality: multiplier, core, dynamic programming.

The linear relaxation gives a multiplier and a base allocation; every width of too much regret is
fixed; dynamic programming over what is left runs in stages, each of longer lists of states than the
one before, until one of them drops no state that matters. A client whose cost dwarfs the others' is
branched on, and so is the count of constants where utilities are strongly correlated with costs.
Identical clients count once. Where all utilities are multiples of one number, as integers are, so
are all gaps, and what is smaller is none.
"""

from __future__ import annotations

from math import floor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.deadline import OutOfTime
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.problem.result import Termination, absolute_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.exact.counts import Counted, Counter, constants, fill, toll
from hasa_opt.solvers.exact.kernels import read_only
from hasa_opt.solvers.exact.kernels.core import Core, collect, moved
from hasa_opt.solvers.exact.kernels.multiplier import (
    Base,
    Start,
    Table,
    cost_of,
    lattice,
    relax,
    worth,
)
from hasa_opt.solvers.exact.kernels.pareto import Search
from hasa_opt.solvers.exact.kernels.steps import within
from hasa_opt.solvers.exact.stages import CAPS, n_threads, stage_caps

__all__ = ["Part", "Run", "run_for"]


_LEARNT = "exact"
"""Under which name a problem keeps what a run has learnt, for the next budget."""
_FIRST_CLASSES, _FIRST_CAP = 256, 256
"""Clients and states of the first search, which looks for an incumbent and proves nothing."""
_FILLS = (1 << 15, 1 << 18)
"""Sums of moves that fill the slack, and more where most moves are free."""
_ROUNDING = 2.0**-50
"""Relative rounding of the sums of utilities: four times that of a float."""
_DISTINCT = 4.0
"""Times the rounding that differences of utilities must be to be told apart."""
_GAIN, _COUNT_MOVES = 0.5, 500
"""Share of the gap that a split by counts must close, and the open moves from which it is tried."""
_GIANT, _GIANT_MOVES, _DEEPEST = 10.0, 5000, 8
"""How many times the median cost dwarfs the others, from how many open moves on one that does is
branched on, and how deep."""


class Part(NamedTuple):
    """What a run over one part of a problem has found out.

    Attributes
    ----------
    choice : (n_clients,) int64 or None
        None if nothing is in hand that is worth more than the floor.
    top : float
        Value of the linear relaxation.
    bound : float
        Nothing in this part is worth more than this or the floor, whichever is more.
    price : float
        Shadow price of the budget.
    rounding : float
        Differences up to this may be rounding.
    """

    choice: IntArray | None
    top: float
    bound: float
    price: float
    rounding: float


class Run:
    """One run: the incumbent, its loss, and the least loss that is possible.

    The loss of an allocation is the Lagrangian bound less its utility: its regrets plus price
    times slack.

    Attributes
    ----------
    ended : Termination
    whole : bool
        Whether the run is over the whole problem of its request, so that what it finds counts.
    """

    def __init__(self, table: Table, limit: int, request: Request, depth: int = 0) -> None:
        self.ended = Termination.GAP_REACHED
        self.whole = False
        self._caps = stage_caps(request)
        self._request = request
        self._table = table
        self._limit = limit
        self._depth = depth
        self._base: Base | None = None
        self._choice: IntArray | None = None
        self._loss = self._least = self._excess = 0.0
        self._top = self._base_objective = self._rounding = self._unit = 0.0
        self._charges: IntArray | None = None
        self._toll = 0
        self._counted = depth > 0

    def relax(self, floor: float = -np.inf, learnt: dict[str, Any] | None = None) -> None:
        """Linear relaxation: multiplier, base allocation, first incumbent and bound.

        Nothing is looked for that is worth less than the floor. What an earlier run has learnt of
        the same tables helps a warm start.
        """
        # Taken out while it is brought up to date: what runs beside or breaks off finds none.
        known = None if learnt is None else learnt.pop(_LEARNT, None)
        start = self._start(self._request.warm_start, known)
        near, request = start and (known or start), self._request
        base = relax(self._table, self._limit, near, request.deadline, n_threads(request))
        if base.slack < 0:
            self.ended = Termination.INFEASIBLE
            return
        if learnt is not None:
            learnt[_LEARNT] = Start(base.choice, self._limit - base.slack, base.known)
        self._base, self._choice = base, base.choice
        self._base_objective, size = worth(self._table.utilities, base.choice)
        self._loss = base.price * base.slack
        self._top = self._base_objective + self._loss
        self._rounding = _ROUNDING * (size + self._loss)
        distinct = _DISTINCT * self._rounding
        self._unit = lattice(self._table.utilities, self._table.admissible, distinct)
        self._consider(start)
        if self._top - self._loss <= floor:
            self._loss, self._choice = max(self._top - floor, 0.0), None
        self._tell()

    def search(self) -> None:
        """Dynamic programming in stages, until the gap is closed or the time is up."""
        base = self._base
        if base is None:
            return
        try:
            if not self._closed:
                core, _ = self._collect(base, base.near)
                cap = self._caps[0] if self._toll else _FIRST_CAP
                self._stage(base, core, cap, _FIRST_CLASSES, partial=True)
            rows = within(*base.known, base.price, self._loss + self._rounding)
            for cap in self._caps:
                if self._closed:
                    break
                core, excess = self._collect(base, rows)
                self._excess = max(self._excess, excess)
                many = core.width.size > _COUNT_MOVES
                if many and cap == self._caps[0] and not self._toll:
                    self._fill(base, core)
                    if self._closed:
                        break
                large = cap > CAPS[0] or core.width.size > _GIANT_MOVES
                giant = self._giant(core) if large else None
                if giant is not None:
                    self._branch(giant)
                    return
                if not self._counted and (cap > CAPS[0] or many):
                    self._counted = self._count()
                    if self._closed:
                        break
                self._stage(base, core, cap, core.first.size)
                rows = np.sort(core.member)
        except OutOfTime:
            self.ended = Termination.at(self._request.deadline)
            if self._depth:
                raise

    def _giant(self, core: Core) -> int | None:
        """Client of the core whose cost dwarfs the others', if there is one to branch on."""
        if core.cost.size == 0 or self._depth == _DEEPEST:
            return None
        size = np.abs(core.cost)
        largest = int(size.argmax())
        label = int(np.searchsorted(core.first, largest, side="right")) - 1
        if core.start[label + 1] - core.start[label] > 1:
            return None
        dwarfs = size[largest] > _GIANT * float(np.median(size))
        return int(core.member[core.start[label]]) if dwarfs else None

    def _branch(self, client: int) -> None:
        """Solve with each width of one client in turn; the relaxation knows each one's price."""
        worth_now = self._top - self._loss
        bound = -np.inf
        for width in np.flatnonzero(self._table.admissible[client]):
            admissible = self._table.admissible.copy()
            admissible[client] = False
            admissible[client, width] = True
            table = self._table._replace(admissible=read_only(admissible))
            child = Run(table, self._limit, self._request, self._depth + 1)
            try:
                child.relax(worth_now)
                child.search()
            finally:
                if child._choice is not None:
                    self._choice, worth_now = child._choice, child._top - child._loss
                    self._loss = max(self._top - worth_now, 0.0)
            if child._base is not None:
                self._excess = max(self._excess, child._excess)
                self._rounding = max(self._rounding, child._rounding)
                bound = max(bound, child._top - child._least)
        self._least = max(self._least, min(self._top - bound, self._loss))

    def _count(self) -> bool:
        """Solve with each count of constants in turn; False if the bound gains little by it.

        Best first on either side of the relaxation's count: the bounds fall on the way out.
        """
        weights = constants(self._table)
        unit = 0 if weights is None else toll(self._table, weights)
        if weights is None or unit == 0:
            return False
        counter = Counter(self._table, self._limit, weights, self._request.deadline)
        below = floor(counter.middle)
        ends = [counter.fixed(below + side, self._enough) for side in (0, 1)]
        closed = self._top - self._loss
        if max(map(_top, ends)) - closed > _GAIN * (self._loss - self._least):
            return False
        try:
            while max(map(_top, ends)) > self._enough:
                side = int(np.argmax([_top(end) for end in ends]))
                part = ends[side]
                assert part is not None
                closed = max(closed, self._fixed(part, unit))
                ends[side] = counter.fixed(part.count + 2 * side - 1, self._enough)
        finally:
            bound = max(closed, *map(_top, ends))
            self._least = max(self._least, min(self._top - bound, self._loss))
        return True

    def _fixed(self, part: Counted, unit: int) -> float:
        """Solve for one count; what none of its allocations exceeds.

        First every client keeps its constant. Then a toll on each unit enforces the count: it is
        more than any widths cost, so that one cost stands for two limits.
        """
        same = part.weights == part.weights[part.base.choice][:, None]
        admissible = read_only(part.table.admissible & same)
        fill = self._child(part, part.table._replace(admissible=admissible), 0)
        fill._caps = fill._caps[:1]
        self._follow(fill)
        # What is missing lacks budget at first: what falls short of the count does not fit.
        child = self._child(part, part.table, -unit if part.missing > 0 else unit)
        self._follow(child)
        return part.top - child._least

    def _child(self, part: Counted, table: Table, unit: int) -> Run:
        """Run over the allocations of a count that are better than the incumbent."""
        child = Run(table, self._limit, self._request, _DEEPEST)
        child._base = part.base._replace(slack=part.base.slack + unit * part.missing)
        child._charges, child._toll = unit * part.weights, abs(unit)
        child._top, child._choice = part.top, part.base.choice
        child._loss = max(part.top - (self._top - self._loss), 0.0)
        child._rounding, child._unit = self._rounding, self._unit
        return child

    def _follow(self, child: Run) -> None:
        """Run a child, and take what it found."""
        try:
            child.search()
        finally:
            self._consider(self._start(child._choice))

    def answer(self) -> Answer:
        """What was found, and what is proven about it."""
        if self._base is None or self._choice is None:
            return Answer(self.ended, native=f"exact: {self.ended}")
        moved = np.flatnonzero(self._choice != self._base.choice)
        table = self._table.utilities[moved]
        gains = _chosen(table, self._choice[moved]) - _chosen(table, self._base.choice[moved])
        objective = self._base_objective + float(gains.sum())
        gap = self._gap
        if gap <= self._rounding:
            gap, self.ended = 0.0, Termination.OPTIMAL
        elif gap <= self._precision:
            self.ended = Termination.GAP_REACHED
        native = f"exact: {self.ended}, gap {gap:.3g}, linear relaxation {self._top:.9g}"
        prices = np.array([self._base.price])
        return Answer(self.ended, self._choice, objective, objective + gap, native, prices)

    def _tell(self) -> None:
        """Hand over what is known, where somebody listens."""
        if self.whole and self._request.best.watched:
            self._request.offer(self._choice)
            self._request.lower(self._top - self._loss + self._gap)

    def part(self) -> Part:
        """What is known after :meth:`relax`, and better after :meth:`search`."""
        assert self._base is not None
        bound = self._top - self._loss + self._gap
        return Part(self._choice, self._top, bound, self._base.price, self._rounding)

    @property
    def _gap(self) -> float:
        """By how much more than the incumbent some allocation may be worth."""
        gap = max(self._loss - self._least, 0.0) + self._excess
        if self._unit:
            gap = min(gap, self._unit * floor((gap + self._rounding) / self._unit))
        return gap

    @property
    def _nothing(self) -> float:
        """Gap that is none: rounding, or less than two utilities differ by."""
        return max(self._rounding, self._unit - 2 * self._rounding)

    @property
    def _precision(self) -> float:
        """Gap that may be left."""
        ends = self._top - self._loss, self._top - self._least
        return max(self._nothing, absolute_gap(self._request.gap, *ends))

    @property
    def _enough(self) -> float:
        """What no better allocation is looked for beyond."""
        return self._top - self._loss + self._precision

    @property
    def _closed(self) -> bool:
        return self._loss - self._least <= self._precision

    def _collect(self, base: Base, rows: IntArray) -> tuple[Core, float]:
        self._request.deadline.check()
        gap = self._loss - max(0.0, self._nothing - self._rounding)
        return collect(self._table, base, rows, gap, self._charges)

    def _fill(self, base: Base, core: Core) -> None:
        """Spend the slack by moves of a few clients; what the divisor of all costs leaves is lost.

        The core is that of all clients.
        """
        wasted = base.price * (base.slack % (core.divisor or 1))
        self._least = max(self._least, min(wasted, self._loss))
        # Where most moves are free more sums are sure to help.
        free = np.median(core.regret) <= base.price
        for n_sums in _FILLS[: 1 + bool(free)]:
            if self._closed:
                break
            loss, moves = fill(core, base.price, base.slack, n_sums)
            if loss < self._loss:
                self._loss, self._choice = loss, moved(base.choice, core, moves)

    def _stage(
        self, base: Base, core: Core, cap: int, n_classes: int, partial: bool = False
    ) -> None:
        """Search the core; a partial one (of some clients only) proves nothing."""
        idle = base.slack % core.divisor if core.divisor else base.slack
        wasted = base.price * idle
        if not partial:
            self._least = max(self._least, min(wasted, self._loss))
        search = Search(
            core,
            base.price,
            base.slack - idle,
            self._loss - wasted,
            precision=max(self._precision / 2, self._unit - 3 * self._rounding),
            rounding=self._rounding / (2 * core.member.size + 2),
            cap=cap,
            n_classes=n_classes,
            toll=self._toll,
        )
        try:
            while search.advance():
                self._request.deadline.check()
        finally:
            if search.improved:
                self._loss = search.loss + wasted
                self._choice = moved(base.choice, core, search.moves())
            if not partial:
                self._least = max(self._least, min(search.bound + wasted, self._loss))
            self._tell()

    def _start(self, choice: IntArray | None, known: Start | None = None) -> Start | None:
        """A choice and its cost, the faster the more it resembles one that is known."""
        if choice is None:
            return None
        choice = read_only(choice)
        if known is None:
            return Start(choice, int(cost_of(self._table.costs, choice)))
        other = np.flatnonzero(choice != known.choice)
        costs = self._table.costs[other]
        more = _chosen(costs, choice[other]) - _chosen(costs, known.choice[other])
        return Start(choice, known.spent + int(more.sum()))

    def _consider(self, start: Start | None) -> None:
        """Take an allocation as incumbent if it is feasible and better."""
        if start is None or start.spent > self._limit:
            return
        base = self._base
        if base is not None and base.price * (self._limit - start.spent) >= self._loss:
            return  # No allocation of so much slack is better.
        loss = self._top - worth(self._table.utilities, start.choice)[0]
        if loss < self._loss and _chosen(self._table.admissible, start.choice).all():
            self._loss, self._choice = max(loss, 0.0), start.choice


def _top(part: Counted | None) -> float:
    return -np.inf if part is None else part.top


def _chosen(table: npt.NDArray[Any], choice: IntArray) -> npt.NDArray[Any]:
    """Entry of each client's choice."""
    entries = np.arange(0, table.size, table.shape[1]) + choice
    return np.asarray(table.reshape(-1)[entries])


def run_for(
    costs: IntArray, utilities: FloatArray, admissible: BoolArray, limit: int, request: Request
) -> Run:
    """Run over some clients under one budget; all three tables are ``(n_clients, n_widths)``."""
    table = Table(*map(read_only, (costs, utilities, admissible)))
    return Run(table, min(limit, INT64_ROOM), request)
