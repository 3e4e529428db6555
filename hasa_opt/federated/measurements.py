"""Measurements: what each round measured of its clients, kept for those alone of whom there is any.

In a round in which ten of ten thousand clients take part, ten are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray
from hasa_opt.errors import InputError

COUNTED = ("bytes_down", "bytes_up", "flops")
"""Columns of whole numbers, which are 0 for a client that took no part."""

COLUMNS = (
    "train_loss",
    "validation_loss",
    "validation_metric",
    "test_loss",
    "test_metric",
    "seconds",
    "mean_width",
    "supernet_metric",
    "personal_metric",
    "interpolation",
    "clock_seconds",
    "clock_joules",
    *COUNTED,
)
"""Names of what is measured of each client in a round."""

Row = dict[str, npt.NDArray[Any]]
"""One round: column name -> array of shape (n_clients,)."""

_CLIENTS, _COUNTS = "clients", "counts"


def titled(column: str, metric: str) -> str:
    """Name of a column as tables and callbacks give it: such as test_accuracy where that is it."""
    return column.replace("_metric", "_accuracy") if metric == "accuracy" else column


def blank(column: str, *shape: int) -> npt.NDArray[Any]:
    """What a column holds of clients of whom nothing was measured."""
    return np.zeros(shape, dtype=np.int64) if column in COUNTED else np.full(shape, np.nan)


@dataclass(frozen=True, eq=False)
class Measured:
    """What one round measured.

    Attributes
    ----------
    clients : (k,) int64
        Rows of the clients of whom anything was measured.
    columns : mapping of str to (k,) array
        By the names in :data:`COLUMNS`; a column without a measurement may be left out.

    Raises
    ------
    InputError
        If a column is unknown, or as long as no other.
    """

    clients: IntArray
    columns: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if name not in COLUMNS or values.shape != self.clients.shape:
                raise InputError(
                    f"{name} has shape {values.shape} beside {len(self.clients)} clients: give "
                    f"one value for each, for columns among {COLUMNS}"
                )

    @classmethod
    def of(cls, row: Row) -> Self:
        """Keep what was measured in a round."""
        known = {name: _known(name, values) for name, values in row.items()}
        clients = np.flatnonzero(np.any(list(known.values()), axis=0))
        kept = {name: row[name][clients] for name, measured in known.items() if measured.any()}
        return cls(clients, kept)

    @cached_property
    def ends(self) -> tuple[int, int]:
        """The least and the largest row; (0, -1) without any."""
        rows = self.clients
        return (int(rows.min()), int(rows.max())) if rows.size else (0, -1)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Measurements of a column, ``(k,)``."""
        return self.columns.get(name, blank(name, len(self.clients)))


def _known(name: str, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    known: npt.NDArray[np.bool_] = values != 0 if name in COUNTED else ~np.isnan(values)
    return known


def table(rounds: Sequence[Measured], name: str, n_clients: int) -> npt.NDArray[Any]:
    """One column of all rounds, ``(n_rounds, n_clients)``."""
    whole = blank(name, len(rounds), n_clients)
    for row, measured in zip(whole, rounds, strict=True):
        if name in measured.columns:
            row[measured.clients] = measured.columns[name]
    return whole


def packed(rounds: Sequence[Measured]) -> dict[str, npt.NDArray[Any]]:
    """Rounds as arrays that can be written, behind one another."""
    counts = np.array([len(measured.clients) for measured in rounds], dtype=np.int64)
    names = [name for name in COLUMNS if any(name in measured.columns for measured in rounds)]
    joined = {name: np.concatenate([each.column(name) for each in rounds]) for name in names}
    return {_COUNTS: counts, _CLIENTS: np.concatenate([each.clients for each in rounds])} | joined


def unpacked(arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[Measured]:
    """Rounds of which :func:`packed` made arrays.

    Raises
    ------
    KeyError, ValueError, InputError
        If these are no such arrays.
    """
    names = arrays.keys() - {_COUNTS, _CLIENTS}
    ends = np.cumsum(arrays[_COUNTS]).tolist()
    for begin, end in zip([0, *ends], ends, strict=False):
        columns = {name: arrays[name][begin:end] for name in names}
        yield Measured(arrays[_CLIENTS][begin:end], columns)
