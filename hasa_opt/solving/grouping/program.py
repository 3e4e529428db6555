"""The integer program as the backends of :mod:`hasa_opt.solvers` are handed it.

They read the linear model of a request, whatever it is of, and answer with its columns: a choice is
1 for each pair that is together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.result import absolute_gap
from hasa_opt.solvers.base import Request
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.rows import Rows

__all__ = ["PairModel", "PairRequest"]

_LARGEST = 1000.0
"""Largest scaled similarity: the absolute tolerances of solvers, 1e-6, are then 1e-9 of it."""


class PairModel(LinearModel):
    """A column per pair, chosen or not, in the place of one per client and width."""

    @classmethod
    def of_rows(cls, rows: Rows) -> PairModel:
        """Translate rows."""
        n_pairs, n_rows = len(rows.pairs), len(rows)
        scale = float(np.abs(rows.objective).max(initial=0.0)) / _LARGEST or 1.0
        return cls(
            base=np.empty(0, dtype=np.int64),
            client=np.arange(n_pairs),
            width=np.ones(n_pairs, dtype=np.int64),
            objective=rows.objective / scale,
            matrix=rows.matrix,
            lower=rows.lower,
            upper=rows.upper,
            column_upper=np.ones(rows.n_columns),
            integral=np.ones(rows.n_columns, dtype=np.bool_),
            n_open=0,
            divisors=np.empty(0),
            owner=np.full(n_rows, -1),
            carries=np.zeros(n_rows, dtype=np.bool_),
            scale=scale,
            offset=0.0,
        )

    def most(self, values: FloatArray) -> float:
        """Sum of the positive values: any pairs may be chosen."""
        return float(values[values > 0].sum())

    def choice(self, x: FloatArray) -> IntArray:
        """The pairs that are together, ``(n_pairs,)`` of 0 and 1."""
        return (x[: self.client.size] > 0.5).astype(np.int64)

    def columns(self, choice: IntArray) -> FloatArray:
        """Values of the pairs."""
        return choice.astype(np.float64)

    def holds_choice(self, x: FloatArray) -> bool:
        """True if all column values are numbers."""
        return bool(np.isfinite(x).all())


@dataclass(frozen=True)
class PairRequest(Request):
    """A request whose choices are pairs.

    Attributes
    ----------
    problem : PartitionProblem
    rows : Rows
        Those that were found to be needed so far.
    """

    problem: PartitionProblem  # type: ignore[assignment]  # read by no backend that is asked
    rows: Rows = field(kw_only=True)

    @cached_property
    def start(self) -> IntArray | None:
        """The best partition that is known."""
        groups = self.best.choice
        return None if groups is None else self.rows.pairs.values(groups)

    def offer(self, choice: IntArray | None, source: str = "") -> None:
        """Hand over the pairs that are together, if they are a partition within the limits."""
        if choice is None or choice.shape != (len(self.rows.pairs),):
            return
        groups = self.rows.pairs.groups(choice)
        if np.array_equal(self.rows.pairs.values(groups), choice):
            self.best.take(groups, self.problem.evaluate(groups), source or self.best.solver)

    def linear_model(self, **_: float) -> PairModel:
        """The rows so far; their coefficients are small for any solver."""
        return PairModel.of_rows(self.rows)

    @cached_property
    def absolute_gap(self) -> float:
        """As for an allocation, by the best partition and the sum of the positive similarities."""
        return absolute_gap(self.gap, self.best.objective, self.problem.ceiling)
