"""Better allocations near the prices of all limits, and a lower bound, by meeting in the middle.

The loss of an allocation is the Lagrangian bound less its utility: its regrets plus price times
slack over the limits. The clients whose option is open are split at random into two halves; of
each half the combinations of least regret are listed, and the best pair is taken. What is not
listed loses no less than the first combination that was left out: so the bound falls as the lists
grow, and where nothing is left out below the incumbent's loss, that is optimal. Limits are kept in
integers, so that costs of any size are told apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice, repeat
from math import inf

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt.problem.limits import Row
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.bounds.dual import Dual, promising
from hasa_opt.solvers.exact.kernels.meeting import Listed, Moves, least_lossy, met

__all__ = ["ALL_SIZES", "least_gain", "met_in_the_middle"]


_SIZES = (1 << 12, 1 << 14, 1 << 16, 1 << 18)
"""Combinations that are listed of each half: longer lists find more, and lower the bound."""
_ROUNDS = 3
"""Splits that are tried with lists of one length: one alone may cut an optimum badly."""
ALL_SIZES = len(_SIZES) * _ROUNDS
"""Rounds after which lists grow no longer."""
_BRIEF = 2 * _ROUNDS
"""Rounds that take some tenths of a second: all that is done without a time limit."""
_MOVING, _NEAR_SIZE = (40, 61), 1 << 13
"""Clients that may move while all others stay, and combinations that are then listed of each half:
of the sizes tried on some problems of ``benchmarks/several.csv`` those that gained most."""
_CELLS = 1 << 22
"""Combinations times limits in one list: 32 MB."""
_TABLE = 1 << 24
"""Open options times limits up to which halves are listed at all: 128 MB."""
_OPTIONS = 2_000_000
"""Clients times options up to which those that are open are looked for before each round."""
_ROUNDING = 1e-12
"""Gain relative to the utilities below which an allocation counts as no better."""


def least_gain(problem: AllocationProblem) -> float:
    """By how much a better allocation is better at least, as far as it can be told apart."""
    rounding = _ROUNDING * problem.magnitude
    utilities = problem.utilities[problem.admissible]
    unit = 1.0 if np.array_equal(utilities, np.rint(utilities)) else 0.0
    return max(unit - rounding, rounding)


def met_in_the_middle(request: Request, dual: Dual) -> Iterator[float]:
    """Improve on the best allocation of the request, which is within the limits.

    Yields
    ------
    float
        The bound after each round; without end, if there is a time limit.
    """
    bound = dual.bound
    rng = np.random.default_rng(0)
    sizes = chain(np.repeat(_SIZES, _ROUNDS).tolist(), repeat(_SIZES[-1]))
    for at, size in enumerate(sizes if request.deadline.limited else islice(sizes, _BRIEF)):
        choice, began = request.best.choice, time.perf_counter()
        core = None if choice is None else _Core.of(request.problem, dual, choice)
        if core is None or request.deadline.passed:
            return
        try:
            found, least = core.round(rng, size, request.deadline)
            request.offer(found)
            bound = min(bound, max(dual.bound - least, request.best.objective))
            yield bound
            if at >= _BRIEF:
                _search_near(request, dual, rng, time.perf_counter() - began)
        except OutOfTime:
            return


def _search_near(request: Request, dual: Dual, rng: np.random.Generator, seconds: float) -> None:
    """Improve on the best allocation by moving some clients, drawn, while all others stay."""
    problem, ends = request.problem, time.perf_counter() + seconds
    while time.perf_counter() < ends and not request.deadline.passed:
        choice = request.best.choice
        assert choice is not None
        moving = rng.permutation(len(problem))[: rng.integers(*_MOVING)]
        core = _Core.of(problem, dual, choice, moving)
        if core is None:
            return
        request.offer(core.round(rng, _NEAR_SIZE, request.deadline)[0])


@dataclass(frozen=True, eq=False)
class _Core:
    """The options that a better allocation may have, and the limits that these may break.

    Attributes
    ----------
    base : (n_clients,) int64
        Each client's best option at the prices, of those that it may have.
    clients : (n_open,) int64
        Those with several options; of a good second option first.
    option : (n_options,) int64
        Of these clients, each one's best first.
    moves : Moves
        Of the clients that are open.
    room : (n_limits,) int64
        What the base leaves of each limit; below 0 where it breaks one.
    price : (n_limits,) float64
    ceiling : float
        What a better allocation loses less than, beyond the base.
    """

    base: IntArray
    clients: IntArray
    option: IntArray
    moves: Moves
    room: IntArray
    price: FloatArray
    ceiling: float

    @classmethod
    def of(
        cls,
        problem: AllocationProblem,
        dual: Dual,
        choice: IntArray,
        moving: IntArray | None = None,
    ) -> _Core | None:
        """Core around an allocation; None if it is too large for lists of any use.

        With some clients that may move, all others keep what they have.
        """
        if problem.costs.size > _OPTIONS:
            return None
        kept = promising(problem, dual, choice)
        if moving is not None:
            staying = np.delete(np.arange(len(problem)), moving)
            kept[staying] = False
            kept[staying, choice[staying]] = True
        counts = kept.sum(axis=1)
        clients = np.flatnonzero(counts > 1)
        if counts[clients].sum() * len(problem.limits) > _TABLE:
            return None
        regret = np.where(kept, dual.regret, inf)
        base = regret.argmin(axis=1)
        lost = float(regret[np.arange(base.size), base].sum())
        clients = clients[np.argsort(np.sort(regret[clients], axis=1)[:, 1], kind="stable")]
        counts = counts[clients]
        options = np.argsort(regret[clients], axis=1, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)])
        place = np.repeat(np.arange(clients.size), counts)
        option = options[place, np.arange(place.size) - first[place]]
        owner = clients[place]
        limits = [
            limit
            for row, price in zip(problem.limits, dual.prices.limits, strict=True)
            for limit in _upper(row, float(price), base, owner, option)
            if limit.matters(first)
        ]
        if len(limits) * _SIZES[0] > _CELLS:
            return None
        table = np.array([limit.extra for limit in limits], dtype=np.int64).reshape(
            len(limits), owner.size
        )
        return cls(
            base,
            clients,
            option,
            Moves(first, regret[owner, option], np.ascontiguousarray(table.T)),
            np.array([limit.room for limit in limits], dtype=np.int64),
            np.array([limit.price for limit in limits]),
            dual.bound - lost - problem.evaluate(choice).objective - least_gain(problem),
        )

    def round(
        self, rng: np.random.Generator, size: int, deadline: Deadline
    ) -> tuple[IntArray | None, float]:
        """Split the clients, list both halves and match them.

        Returns
        -------
        (n_clients,) int64 or None
            An allocation that loses less than the ceiling.
        float
            No other one loses less than this, or than what was found.
        """
        size = min(size, _CELLS // max(1, self.price.size))
        place = rng.permutation(self.clients.size)
        halves = [self._half(part) for part in (place[::2], place[1::2])]

        halt = np.zeros(1, dtype=bool)

        def match() -> tuple[Listed, Listed, tuple[int, int]]:
            one, two = (least_lossy(moves, size, self.ceiling, halt) for moves, _ in halves)
            return one, two, met(one, two, self.room, self.price, self.ceiling, halt)

        (*lists, entries), whole = deadline.heed(match, partial(halt.fill, True))
        least = min(own.rest for own in lists) if whole else 0.0
        if entries[0] < 0:
            return None, least
        choice = self.base.copy()
        for entry, own, (_, at) in zip(entries, lists, halves, strict=True):
            while entry > 0:
                option = at[own.option[entry]]
                choice[self.clients[self._place[option]]] = self.option[option]
                entry = own.before[entry]
        return choice, least

    @cached_property
    def _place(self) -> IntArray:
        """Place of each option's client among those that are open."""
        return np.repeat(np.arange(self.clients.size), np.diff(self.moves.first))

    def _half(self, places: IntArray) -> tuple[Moves, IntArray]:
        """Moves of some of the clients that are open, and which of all options these are."""
        chosen = np.zeros(self.clients.size, dtype=bool)
        chosen[places] = True
        own = np.flatnonzero(chosen[self._place])
        first = np.concatenate([[0], np.cumsum(np.diff(self.moves.first)[chosen])])
        return Moves(first, self.moves.regret[own], self.moves.table[own]), own


@dataclass(frozen=True, eq=False)
class _Upper:
    """A limit from above: room beyond the base, price, and what each option takes beyond it."""

    room: int
    price: float
    extra: IntArray

    def matters(self, first: IntArray) -> bool:
        """Whether some options together break it, or what they leave of it has a price."""
        most = np.maximum.reduceat(self.extra, first[:-1]).sum() if first.size > 1 else 0
        return self.price > 0 or bool(most > self.room)


def _upper(
    row: Row, price: float, base: IntArray, owner: IntArray, option: IntArray
) -> Iterator[_Upper]:
    """A row as limits from above; its price is that of its upper limit, or minus the lower's."""
    place = row.places(base.size)[owner]
    inside = place >= 0
    place = place[inside]
    extra = np.zeros(owner.size, dtype=np.int64)
    extra[inside] = row.coefficients[place, option[inside]]
    extra[inside] -= row.coefficients[place, base[owner[inside]]]
    total = row.total(base)
    if row.upper is not None:
        yield _Upper(row.upper - total, max(price, 0.0), extra)
    if row.lower is not None:
        yield _Upper(total - row.lower, max(-price, 0.0), -extra)
