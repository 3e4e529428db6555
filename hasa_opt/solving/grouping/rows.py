"""The integer program over pairs of clients, as arrays, and the bound that its rows prove."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import fsum, inf
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.solving.grouping.problem import PartitionProblem

__all__ = ["Pairs", "Row", "Rows"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """A column for each pair of clients: 1 where they are together.

    Attributes
    ----------
    n_clients : int
    first, second : (n_pairs,) int64
    """

    n_clients: int
    first: IntArray
    second: IntArray

    @classmethod
    def of(cls, n_clients: int) -> Pairs:
        """All pairs of so many clients."""
        first, second = np.triu_indices(n_clients, 1)
        return cls(n_clients, first.astype(np.int64), second.astype(np.int64))

    def __len__(self) -> int:
        return self.first.size

    def column(self, one: IntArray, other: IntArray | int) -> IntArray:
        """Column of each pair, in either order."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        columns: IntArray = low * (2 * self.n_clients - low - 1) // 2 + high - low - 1
        return columns

    def among(self, clients: IntArray) -> IntArray:
        """Columns of all pairs among some clients."""
        one, other = np.triu_indices(clients.size, 1)
        return self.column(clients[one], clients[other])

    def values(self, groups: IntArray) -> IntArray:
        """1 for the pairs that are together."""
        return np.asarray(groups[self.first] == groups[self.second], dtype=np.int64)

    def table(self, x: FloatArray | IntArray) -> FloatArray:
        """Values of the pairs as a symmetric matrix with a diagonal of 0."""
        table = np.zeros((self.n_clients, self.n_clients))
        table[self.first, self.second] = table[self.second, self.first] = x[: len(self)]
        return table

    def groups(self, x: FloatArray | IntArray) -> IntArray:
        """Who is connected by pairs above a half; the partition itself where x is one."""
        from scipy.sparse.csgraph import connected_components

        found = connected_components(sp.csr_array(self.table(x) > 0.5), directed=False)[1]
        return np.asarray(found, dtype=np.int64)


class Row(NamedTuple):
    """``lower <= values @ x[columns] <= upper``."""

    columns: IntArray
    values: IntArray
    lower: float
    upper: float

    def excess(self, x: FloatArray) -> float:
        """By how much column values break it; below 0 by how much they do not."""
        total = float(self.values @ x[self.columns])
        return max(self.lower - total, total - self.upper)


class Rows:
    """The rows of the limits, and those that were found to be needed.

    Where the number of groups is limited, one more column per client is 1 for the first client of
    each group, ``r_i >= 1 - sum over j < i of x_ji``, and their sum is limited.

    Attributes
    ----------
    pairs : Pairs
    n_columns : int
    n_fixed : int
        Rows of the limits, which come first and are never forgotten.
    objective : (n_columns,) float64
    """

    def __init__(self, problem: PartitionProblem) -> None:
        n_clients = len(problem)
        self.pairs = Pairs.of(n_clients)
        limited = problem.max_groups < n_clients
        self.n_columns = len(self.pairs) + n_clients * limited
        self.objective = np.zeros(self.n_columns)
        at = self.pairs.column(problem.first, problem.second)
        self.objective[at] = problem.similarity
        self._rows: list[Row] = []
        if problem.max_size < n_clients:
            self._rows += self._sizes(problem.max_size)
        if limited:
            self._rows += self._leaders(problem.max_groups)
        self.n_fixed = len(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows that hold for every partition within the limits."""
        self._rows += rows

    def forget(self, loose: IntArray) -> None:
        """Leave out the rows of these numbers."""
        unwanted = set(loose.tolist())
        self._rows = [row for at, row in enumerate(self._rows) if at not in unwanted]

    @property
    def matrix(self) -> sp.csr_array:
        """The coefficients, ``(n_rows, n_columns)``."""
        if not self._rows:
            return sp.csr_array((0, self.n_columns))
        starts = np.cumsum([0, *(row.columns.size for row in self._rows)])
        values = np.concatenate([row.values for row in self._rows]).astype(np.float64)
        columns = np.concatenate([row.columns for row in self._rows])
        return sp.csr_array((values, columns, starts), shape=(len(self), self.n_columns))

    @property
    def lower(self) -> FloatArray:
        """Lower limits, minus infinity where there is none."""
        return np.array([row.lower for row in self._rows])

    @property
    def upper(self) -> FloatArray:
        """Upper limits, infinity where there is none."""
        return np.array([row.upper for row in self._rows])

    def refusal(self, x: IntArray) -> str:
        """Why values of the pairs are no answer to the rows that were found; empty if they are."""
        if x.shape != (len(self.pairs),) or not np.isin(x, (0, 1)).all():
            return f"not 0 or 1 for each of {len(self.pairs)} pairs"
        values = x.astype(np.float64)
        broken = sum(row.excess(values) > 0.5 for row in self._rows[self.n_fixed :])
        return f"breaks {broken} rows of its program" if broken else ""

    def bound(self, duals: FloatArray) -> float:
        """What no partition within the limits exceeds, by multipliers of the rows.

        For any y of the right signs, ``sum a x <= y @ limits + sum over columns of
        max(0, a - (y @ matrix))``, as every x is at most 1: weak duality, whoever found y.
        """
        lower, upper = self.lower, self.upper
        upward = np.where((duals > 0) & (upper < inf), duals, 0.0)
        downward = np.where((duals < 0) & (lower > -inf), duals, 0.0)
        used = upward > 0, downward < 0
        limits = fsum(upward[used[0]] * upper[used[0]]) + fsum(downward[used[1]] * lower[used[1]])
        left = self.objective - self.matrix.T @ (upward + downward)
        return fsum(left[left > 0]) + limits

    def _sizes(self, most: int) -> Iterator[Row]:
        clients = np.arange(self.pairs.n_clients)
        for client in clients:
            own = self.pairs.column(np.delete(clients, client), int(client))
            yield Row(own, np.ones_like(own), -inf, most - 1)

    def _leaders(self, most: int) -> Iterator[Row]:
        clients = np.arange(self.pairs.n_clients)
        leads = len(self.pairs) + clients
        for client in clients:
            own = np.append(self.pairs.column(clients[:client], int(client)), leads[client])
            yield Row(own, np.ones_like(own), 1.0, inf)
        yield Row(leads, np.ones_like(leads), -inf, most)
