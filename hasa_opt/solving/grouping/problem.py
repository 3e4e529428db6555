"""The problem as data: clients, the similarity of each pair, limits on the groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, whole
from hasa_opt._utils.groups import expect_square, expect_symmetric, refuse_pair
from hasa_opt._utils.names import distinct
from hasa_opt._utils.showing import Shown, new_table
from hasa_opt._utils.sparse import is_sparse
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.totals import Totals
from hasa_opt.solving.grouping.plots import plot_similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from rich.table import Table

__all__ = ["PartitionProblem"]

_SYMMETRY = 1e-9
"""Share of the largest similarity by which the two halves may differ: rounding, and no mistake."""


@dataclass(frozen=True, eq=False)
class PartitionProblem(Shown):
    """Clients, their similarities, and limits on the groups.

    Attributes
    ----------
    n_clients : int
    first, second : (n_pairs,) int64
        The pairs whose similarity is not 0, ``first < second``, sorted.
    similarity : (n_pairs,) float64
    names : tuple of str
        Of the clients.
    max_groups, max_size : int
        Most groups, most clients in a group; ``n_clients`` where there is no limit.
    """

    n_clients: int
    first: IntArray
    second: IntArray
    similarity: FloatArray
    names: tuple[str, ...]
    max_groups: int
    max_size: int

    @classmethod
    def of(
        cls,
        similarity: Any,
        *,
        names: Sequence[str | int] | None = None,
        max_groups: int | None = None,
        max_size: int | None = None,
    ) -> PartitionProblem:
        """Check similarities and limits; :func:`hasa_opt.compare` takes what this gives.

        Parameters
        ----------
        similarity : (n_clients, n_clients) floats, dense or a scipy sparse matrix
            As for :func:`hasa_opt.partition`; so are the others.
        names : sequence of str or int, optional
        max_groups, max_size : int, optional

        Raises
        ------
        InputError
            For a value that breaks a rule.
        InfeasibleError
            If the groups that are allowed do not hold all clients.
        """
        upper = _upper_half(similarity)
        n_clients = upper.shape[0]
        if n_clients == 0:
            raise InputError("similarity has no clients: give one row and column for each")
        own = tuple(map(str, range(n_clients))) if names is None else distinct(names, "names")
        if len(own) != n_clients:
            raise InputError(
                f"names are {len(own)}, but similarity has {n_clients} clients: give one for each"
            )
        most = n_clients if max_groups is None else whole(max_groups, "max_groups", least=1)
        size = n_clients if max_size is None else whole(max_size, "max_size", least=1)
        if most * size < n_clients:
            raise InfeasibleError(
                f"max_groups {most} with max_size {size} hold {most * size} clients, but there are "
                f"{n_clients}: raise max_groups to {-(-n_clients // size)} or max_size to "
                f"{-(-n_clients // most)}",
                limits=("max_groups", "max_size"),
            )
        return cls(
            n_clients=n_clients,
            first=upper.row.astype(np.int64),
            second=upper.col.astype(np.int64),
            similarity=upper.data,
            names=own,
            max_groups=min(most, n_clients),
            max_size=min(size, n_clients),
        )

    def __len__(self) -> int:
        return self.n_clients

    def plot(self, *, ax: Axes | None = None) -> Figure | SubFigure:
        """Draw the similarities, the clients in their order; see :meth:`hasa_opt.Partition.plot`.

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
        return plot_similarity(ax, "PartitionProblem.plot()", self.neighbours, self.names).figure

    def __repr__(self) -> str:
        return f"PartitionProblem({self.n_clients} clients, {self.first.size} pairs)"

    def __rich__(self) -> Table:
        table = new_table("", "partition problem")
        table.add_row("clients", f"{self.n_clients:,}")
        pairs = self.n_clients * (self.n_clients - 1) // 2
        table.add_row("similarities", f"{self.first.size:,} of {pairs:,} pairs are not 0")
        for name, most in (("groups", self.max_groups), ("group size", self.max_size)):
            table.add_row(name, "any" if most == self.n_clients else f"at most {most:,}")
        return table

    @cached_property
    def magnitude(self) -> float:
        """Sum of the absolute similarities: no objective is farther from 0."""
        return fsum(np.abs(self.similarity))

    @cached_property
    def ceiling(self) -> float:
        """Sum of the positive similarities: no partition is worth more."""
        return fsum(self.similarity[self.similarity > 0])

    @cached_property
    def neighbours(self) -> sp.csr_array:
        """Similarities as a symmetric matrix without a diagonal, ``(n_clients, n_clients)``."""
        ends = np.concatenate([self.first, self.second]), np.concatenate([self.second, self.first])
        values = np.concatenate([self.similarity, self.similarity])
        return sp.csr_array((values, ends), shape=(self.n_clients, self.n_clients))

    def evaluate(self, groups: IntArray) -> Totals:
        """Objective of a partition, summed without rounding, and the limits that it breaks."""
        together = groups[self.first] == groups[self.second]
        sizes = np.unique(groups, return_counts=True)[1]
        broken = []
        if sizes.size > self.max_groups:
            broken.append(f"{sizes.size} groups, at most {self.max_groups} are allowed")
        if sizes.max() > self.max_size:
            broken.append(f"a group of {sizes.max()}, at most {self.max_size} are allowed")
        return Totals(fsum(self.similarity[together]), 0, 0, tuple(broken))


def _upper_half(similarity: Any) -> sp.coo_array:
    """Entries above the diagonal that are not 0, sorted."""
    if is_sparse(similarity):
        return _upper_half_of_sparse(sp.csr_array(similarity))
    table = float_array(similarity, "similarities")
    expect_square(table.shape)
    expect_symmetric(table, _SYMMETRY)
    return sp.coo_array(np.triu(table, 1))


def _upper_half_of_sparse(table: sp.csr_array) -> sp.coo_array:
    if table.dtype.kind not in "iufb":
        raise InputError(f"similarities are of type {table.dtype}: give numbers")
    expect_square(table.shape)
    table = table.astype(np.float64)
    table.sum_duplicates()
    bad = np.flatnonzero(~np.isfinite(table.data))
    if bad.size:
        row = int(np.searchsorted(table.indptr, bad[0], side="right")) - 1
        place = (row, int(table.indices[bad[0]]))
        raise InputError(f"similarities of row {place} is {table.data[bad[0]]}: it must be finite")
    apart = sp.coo_array(abs(table - table.T))
    wrong = np.flatnonzero(apart.data > _SYMMETRY * np.abs(table.data).max(initial=0.0))
    if wrong.size:
        refuse_pair(table, int(apart.row[wrong[0]]), int(apart.col[wrong[0]]))
    upper = sp.csr_array(sp.triu(table, 1))
    upper.eliminate_zeros()
    upper.sort_indices()
    return sp.coo_array(upper)
