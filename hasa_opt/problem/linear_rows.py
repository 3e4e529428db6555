"""Rows of the linear model: each limit over the choice columns, in reduced whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.problem.digits import in_digits
from hasa_opt.problem.groups import GroupRow
from hasa_opt.problem.limits import RobustRow, Row

__all__ = ["Columns", "Limit", "Rows"]

_EXACT = 2.0**53
"""Total up to which float64 holds every whole number."""


@dataclass(frozen=True, eq=False)
class Limit:
    """One limit over some of the choice columns, its coefficients divided.

    Attributes
    ----------
    columns, values : (n_values,) int64
    lower, upper : int or None
        Less what is taken anyway; not divided.
    divisor : int
    most : int
        The largest total of the values, one per client.
    deviation : (n_values,) int64 or None
        Of a robust limit, divided.
    gamma : int
        Of a robust limit.
    link : bool
        As of the row.
    """

    columns: IntArray
    values: IntArray
    lower: int | None
    upper: int | None
    divisor: int
    most: int
    deviation: IntArray | None
    gamma: int
    link: bool

    def whole(self) -> tuple[int | None, int | None]:
        """Lower and upper limit of the divided row, whose totals are whole numbers."""
        return (None if self.lower is None else -(-self.lower // self.divisor),
                None if self.upper is None else self.upper // self.divisor)  # fmt: skip

    def exact(self) -> tuple[float | None, float | None]:
        """The same, not rounded."""
        return (None if self.lower is None else self.lower / self.divisor,
                None if self.upper is None else self.upper / self.divisor)  # fmt: skip

    def binding(self) -> tuple[int | None, int | None]:
        """Those of the whole limits that some choice breaks."""
        lower, upper = self.whole()
        return (None if lower is None or lower <= 0 else lower,
                None if upper is None or upper >= self.most else upper)  # fmt: skip

    def exceeds(self, largest: float) -> int:
        """By how many bits its numbers are too large; 0 if they are not."""
        highest = max(
            own.max(initial=0) for own in (self.values, self.deviation) if own is not None
        )
        over = max(int(highest) / largest, self.most / _EXACT)
        return max(0, int(np.ceil(np.log2(over)))) if over else 0

    def coarser(self, bits: int) -> Limit:
        """A row of smaller numbers that admits all that this one does."""
        assert self.deviation is not None
        return replace(
            self,
            values=self.values >> bits,
            divisor=self.divisor << bits,
            deviation=self.deviation >> bits,
        )


@dataclass(frozen=True, eq=False)
class Columns:
    """The choice columns: client ``opened[at]`` at ``width``; all others have their base width."""

    base: IntArray
    opened: IntArray
    at: IntArray
    width: IntArray

    def limit(self, row: Row) -> Limit:
        """Coefficients less each client's smallest, divided by their gcd, with exact limits."""
        assert not isinstance(row, GroupRow), "see Condensed, which states it in plain rows"
        place = row.places(self.base.size)[self.opened]
        inside = np.flatnonzero(place >= 0)
        first, counts = self.starts[inside], self.counts[inside]
        ends = np.cumsum(counts)
        columns = np.repeat(first - ends + counts, counts) + np.arange(counts.sum())
        member, width = place[self.at[columns]], self.width[columns]
        values = row.coefficients[member, width]
        starts = np.flatnonzero(np.diff(member, prepend=-1))
        least = np.minimum.reduceat(values, starts) if values.size else values
        values = values - np.repeat(least, np.diff(starts, append=values.size))
        constant = int(least.sum()) + self._elsewhere(row, place)
        divisor = int(np.gcd.reduce(values, initial=0))
        deviation, gamma = None, 0
        if isinstance(row, RobustRow):
            deviation, gamma = row.deviation[member, width], row.gamma
            divisor = int(np.gcd.reduce(deviation, initial=divisor))
        divisor = divisor or 1
        values = values // divisor
        return Limit(
            columns,
            values,
            None if row.lower is None else row.lower - constant,
            None if row.upper is None else row.upper - constant,
            divisor,
            int(np.maximum.reduceat(values, starts).sum()) if values.size else 0,
            None if deviation is None else deviation // divisor,
            gamma,
            row.link,
        )

    @cached_property
    def starts(self) -> IntArray:
        """First column of each open client, and the number of all."""
        return np.searchsorted(self.at, np.arange(self.opened.size + 1))

    @cached_property
    def counts(self) -> IntArray:
        """Columns of each open client."""
        return np.diff(self.starts)

    def _elsewhere(self, row: Row, place: IntArray) -> int:
        """Total of a row over the members that have no column."""
        chosen = self.base[row.at]
        values = row.coefficients[np.arange(chosen.size), chosen]
        values[place[place >= 0]] = 0
        return int(values.sum())


class _Block(NamedTuple):
    """Rows that belong together: their entries in turn, how many each has, and their limits."""

    values: IntArray
    columns: IntArray
    counts: IntArray
    lower: FloatArray
    upper: FloatArray
    owner: int = -1
    carries: bool = False

    @classmethod
    def single(
        cls,
        entries: Sequence[tuple[IntArray, IntArray]],
        ends: tuple[float | None, float | None],
        owner: int,
        carries: bool = False,
    ) -> _Block:
        """One row, from values and their columns."""
        values, columns = (np.concatenate(part) for part in zip(*entries, strict=True))
        lower, upper = ends
        return cls(
            values,
            columns,
            np.array([values.size]),
            np.array([-inf if lower is None else float(lower)]),
            np.array([inf if upper is None else float(upper)]),
            owner,
            carries,
        )


class Rows:
    """All rows, and the columns that they need beside the choices.

    Attributes
    ----------
    matrix : (n_rows, n_columns) CSR
    lower, upper : (n_rows,) float64
    owner : (n_rows,) int64
    carries : (n_rows,) bool
    column_upper : (n_columns,) float64
    integral : (n_columns,) bool
        All as in :class:`~hasa_opt.problem.linear.LinearModel`.
    """

    def __init__(
        self, columns: Columns, limits: Sequence[Limit], largest: tuple[float, float] | None
    ) -> None:
        n_choices, self._n_open = columns.at.size, columns.opened.size
        self._at, self._n_columns = columns.at, n_choices
        self._column_upper = [np.ones(n_choices)]
        self._integral = [np.ones(n_choices, dtype=bool)]
        every, ones = np.arange(n_choices), np.ones(self._n_open)
        self._first = [_Block(np.ones_like(every), every, columns.counts, ones, ones)]
        self._later: list[_Block] = []
        robust = [at for at, limit in enumerate(limits) if limit.deviation is not None]
        further = {at: self._new(1 + self._n_open, inf) for at in robust}  # before any carry
        for at, limit in enumerate(limits):
            plain = limit.deviation is None
            over = 0 if largest is None else limit.exceeds(largest[0] if plain else largest[1])
            if over and plain:
                self._in_digits(at, limit)
                continue
            own = limit.coarser(over) if over else limit
            ends = own.exact() if largest is None else own.whole()
            worst = [] if plain else self._worst_case(own, further[at])
            owner = -1 if limit.link else at
            self._first.append(_Block.single([(own.values, own.columns), *worst], ends, owner))
        self._join([*self._first, *self._later])

    def _join(self, blocks: Sequence[_Block]) -> None:
        counts, sizes = [block.counts for block in blocks], [block.counts.size for block in blocks]
        entries = (
            np.concatenate([block.values for block in blocks]).astype(np.float64),
            np.concatenate([block.columns for block in blocks]),
            np.append(0, np.cumsum(np.concatenate(counts))),
        )
        self.matrix = sp.csr_array(entries, shape=(sum(sizes), self._n_columns))
        self.lower = np.concatenate([block.lower for block in blocks])
        self.upper = np.concatenate([block.upper for block in blocks])
        self.owner = np.repeat([block.owner for block in blocks], sizes)
        self.carries: BoolArray = np.repeat([block.carries for block in blocks], sizes)
        self.column_upper = np.concatenate(self._column_upper)
        self.integral: BoolArray = np.concatenate(self._integral)

    def _new(self, count: int, upper: float) -> IntArray:
        """Further columns: whole numbers up to a limit, or any numbers."""
        self._column_upper.append(np.full(count, upper))
        self._integral.append(np.full(count, upper < inf))
        self._n_columns += count
        return np.arange(self._n_columns - count, self._n_columns)

    def _worst_case(self, limit: Limit, further: IntArray) -> list[tuple[IntArray, IntArray]]:
        """What a robust limit takes more: ``gamma`` thresholds, and every client's excess over one.

        Bertsimas and Sim, The Price of Robustness, Operations Research 52, 2004.
        """
        assert limit.deviation is not None
        threshold, excess = np.repeat(further[:1], self._n_open), further[1:]
        clients, down = np.arange(self._n_open), np.full(self._n_open, -1)
        values = np.concatenate([limit.deviation, down, down])
        columns = np.concatenate([limit.columns, threshold, excess])
        own = np.concatenate([self._at[limit.columns], clients, clients])
        order = np.argsort(own, kind="stable")
        most = np.zeros(self._n_open)
        counts = np.bincount(own)
        self._later.append(_Block(values[order], columns[order], counts, most - inf, most))
        return [(np.array([limit.gamma]), threshold[:1]), (-down, excess)]

    def _in_digits(self, at: int, limit: Limit) -> None:
        """A row for each place, with the carry of the place below."""
        for places in in_digits(limit.values, *limit.binding()):
            carried: list[tuple[IntArray, IntArray]] = []
            for place in places:
                entries = [(place.values, limit.columns), *carried]
                if place.base:
                    carry = self._new(1, self._n_open + 1)
                    entries.append((np.array([-place.base]), carry))
                    carried = [(np.array([1]), carry)]
                ends = place.lower, place.upper
                self._first.append(_Block.single(entries, ends, at, place.base > 0))
