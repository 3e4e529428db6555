"""A problem whose clients lie in Parquet files, and never in memory all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, listed, whole
from hasa_opt._utils.column_files import columns_of_table
from hasa_opt._utils.files import path_of
from hasa_opt._utils.installing import needing
from hasa_opt._utils.names import tidy
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import HasaError, InputError
from hasa_opt.problem import utility as families
from hasa_opt.problem.budgets import budget_share, share_of_full
from hasa_opt.problem.checks import one_menu, over_budget
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.menu import Menu
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["Chunk", "Facts", "FileProblem", "Sums"]

_TABLE = "table"
_FAMILIES = ("hasa", "saturating", "alpha_fair", _TABLE)
_PREFIX = "utility:"
_LARGEST_GROUP = 1 << 24
"""Rows of a row group: some gigabytes of tables."""


class Chunk(NamedTuple):
    """Some row groups of a file.

    Attributes
    ----------
    file : str
    groups : tuple of int
    first : int
        Row of its first client among all.
    size : int
        How many clients it has.
    """

    file: str
    groups: tuple[int, ...]
    first: int
    size: int


@dataclass(frozen=True)
class Sums:
    """What the clients of a chunk, or of all, add up to, in exact integers.

    Attributes
    ----------
    samples, full, least : int
        Samples, cost at the option that shares refer to, cost at everybody's cheapest option.
    full_known : bool
        Whether there is such an option.
    """

    samples: int
    full: int
    least: int
    full_known: bool = True

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.samples + other.samples,
            self.full + other.full,
            self.least + other.least,
            self.full_known and other.full_known,
        )


@dataclass(frozen=True, eq=False)
class Facts:
    """What a chunk needs to know of all clients.

    Attributes
    ----------
    n_clients : int
    sums : Sums
    limit : int
        The budget, in the unit of the costs.
    scores, ranks : (n_different,) float64
        The different scores and their ranks in [0, 1]; empty where no utility asks for ranks.
    """

    n_clients: int
    sums: Sums
    limit: int
    scores: FloatArray = field(repr=False)
    ranks: FloatArray = field(repr=False)


class _Part(Clients):
    """Some clients of a fleet, weighted by their shares of all its samples."""

    def __init__(self, total: int, samples: IntArray, **columns: Any) -> None:
        object.__setattr__(self, "_total", float(total))
        super().__init__(samples, **columns)

    @property
    def weights(self) -> FloatArray:
        return self.samples / float(vars(self)["_total"])


@dataclass(frozen=True, eq=False, init=False)
class FileProblem:
    """The allocation problem of a fleet in Parquet files, under one budget.

    Nothing is read here but the names of columns and the numbers of rows;
    :func:`hasa_opt.solve_files` works through the files chunk by chunk.

    Parameters
    ----------
    path : path of a Parquet file, or of a folder of such files
        A row for each client, with the columns "samples", "max_width" (optional), "device" (where
        costs are by device class) and "name" (optional, copied to the answer). What options are
        worth: a column of scores, or a column "utility:OPTION" for each option.
    widths : increasing floats in (0, 1]
        As for :meth:`AllocationProblem.build`; so are ``menu`` and ``cost``.
    menu : Menu
        Its costs are by client, sample or device class: no table of clients.
    budget : float
        Share of what everybody costs at full width.
    limit : int
        The budget in the unit of the costs, in the place of a share.
    utility : {"hasa", "saturating", "alpha_fair", "table"}
        The families of :mod:`hasa_opt.utility` by name; "table": the columns "utility:OPTION".
        For "hasa" the different scores and how often each occurs are kept in memory.
    score : str
        Column of the scores.
    cost : Cost, optional
    chunk_rows : int
        Clients of a chunk, about: row groups are never split. Each takes some 200 bytes.

    Raises
    ------
    InputError
        For a value that breaks a rule, and for a column that is missing.
    MissingExtraError
        If pyarrow is not installed.
    """

    path: Path
    menu: Menu
    budget: float | None
    limit: int | None
    utility: str
    score: str
    chunk_rows: int

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        widths: Sequence[float] | FloatArray | None = None,
        menu: Menu | None = None,
        budget: float | None = None,
        limit: int | None = None,
        utility: str = "hasa",
        score: str = "score",
        cost: Cost | None = None,
        chunk_rows: int = 1 << 20,
    ) -> None:
        if (budget is None) == (limit is None):
            raise InputError("give budget=, a share of everybody at full width, or limit= in units")
        if utility not in _FAMILIES:
            raise InputError(f"utility {utility!r} is not known: choose from {listed(_FAMILIES)}")
        options = one_menu(widths, menu, cost, budget if limit is None else limit)
        if len(options.resources) > 1 or any(
            rows is not None for rows in (options.clients, options.allowed)
        ):
            raise InputError(
                "a fleet in files has one resource, of which costs are by client, sample or device "
                "class: give a menu without tables of clients"
            )
        fields = {
            "path": path_of(path).resolve(),
            "menu": options,
            "budget": None if budget is None else float(budget_share(budget)),
            "limit": None if limit is None else whole(limit, "limit"),
            "utility": utility,
            "score": tidy(score),
            "chunk_rows": whole(chunk_rows, "chunk_rows", least=1),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        self._check_columns()

    @property
    def files(self) -> tuple[str, ...]:
        """The files, in the order of their names."""
        if self.path.is_dir():
            return tuple(map(str, sorted(self.path.glob("[!._]*.parquet"))))
        return (str(self.path),)

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """Row groups of about ``chunk_rows`` clients, in order."""
        found, first = [], 0
        for file in self.files:
            meta = _parquet(file).metadata
            groups: list[int] = []
            size = 0
            for group in range(meta.num_row_groups):
                groups.append(group)
                size += _rows_of(meta, group, file)
                if size >= self.chunk_rows or group == meta.num_row_groups - 1:
                    found.append(Chunk(file, tuple(groups), first, size))
                    first, groups, size = first + size, [], 0
        return tuple(chunk for chunk in found if chunk.size)

    def __len__(self) -> int:
        return sum(chunk.size for chunk in self.chunks)

    def _check_columns(self) -> None:
        if not self.files:
            raise InputError(f"{self.path} holds no file that ends in .parquet")
        for file in self.files:
            known = _parquet(file).schema_arrow.names
            if missing := [name for name in self._needed if name not in known]:
                raise InputError(
                    f"{file}: no column {missing[0]!r}; its columns are {listed(known, repr)}"
                )
        if not self.chunks:
            raise InputError(f"{self.path} holds no client: give at least one row")

    @property
    def _needed(self) -> tuple[str, ...]:
        if self.utility == _TABLE:
            worth: tuple[str, ...] = tuple(f"{_PREFIX}{name}" for name in self.menu.names)
        else:
            worth = () if self.utility == "alpha_fair" else (self.score,)
        return ("samples", *worth)

    def names(self, chunk: Chunk) -> Any:
        """Names of a chunk's clients as pyarrow keeps them; None if there are none."""
        known = _parquet(chunk.file).schema_arrow.names
        return _read(chunk, ["name"])["name"] if "name" in known else None

    def columns(self, chunk: Chunk) -> dict[str, Any]:
        """What a chunk says of its clients, but for their names."""
        known = _parquet(chunk.file).schema_arrow.names
        optional = [name for name in ("max_width", "device") if name in known]
        return columns_of_table(_read(chunk, [*self._needed, *optional]))

    def sums(self, columns: dict[str, Any], chunk: Chunk) -> Sums:
        """What clients add up to; their columns are checked."""
        with _saying_where(chunk):
            clients = self._clients(columns, 1)
            nothing = np.zeros((len(clients), len(self.menu)))
            part = AllocationProblem.build(
                clients, menu=self.menu, utility=families.measured(nothing)
            )
            return Sums(
                int(clients.samples.sum()),
                part.full_cost or 0,
                int(part.cheapest.sum()),
                part.full_cost is not None,
            )

    def scores(self, columns: dict[str, Any], chunk: Chunk) -> FloatArray:
        """The scores of clients, checked."""
        with _saying_where(chunk):
            return float_array(columns[self.score], f"column {self.score!r}")

    def facts(self, sums: Sums, scores: FloatArray, counts: IntArray) -> Facts:
        """What all clients add up to.

        Raises
        ------
        InputError
            If totals overflow.
        InfeasibleError
            If even the cheapest allocation exceeds the budget.
        """
        if max(sums.samples, sums.full) > INT64_ROOM:
            raise InputError("the full cost of all clients exceeds 2**62: count in larger units")
        resource, full = self.menu.resources[0], sums.full if sums.full_known else None
        limit = self.limit or 0
        if self.budget is not None:
            limit = share_of_full(budget_share(self.budget), full, resource).most
        if sums.least > limit:
            raise over_budget(sums.least, limit, resource, self.budget, full, self.menu)
        n_clients = len(self)
        below = np.cumsum(counts) - (counts + 1) / 2
        ranks = below / (n_clients - 1) if n_clients > 1 else np.zeros(counts.size)
        return Facts(n_clients, sums, limit, scores, ranks)

    def part(self, columns: dict[str, Any], facts: Facts, chunk: Chunk) -> AllocationProblem:
        """The problem of some clients, as they weigh among all, without a budget."""
        with _saying_where(chunk):
            clients = self._clients(columns, facts.sums.samples)
            worth = self._worth(columns, facts)
            return AllocationProblem.build(clients, menu=self.menu, utility=worth)

    def _clients(self, columns: dict[str, Any], total: int) -> Clients:
        known = {name: columns[name] for name in ("max_width", "device") if name in columns}
        return _Part(total, columns["samples"], **known)

    def _worth(self, columns: dict[str, Any], facts: Facts) -> families.Utility:
        if self.utility == "alpha_fair":
            return families.alpha_fair()
        if self.utility == _TABLE:
            table = [columns[f"{_PREFIX}{name}"] for name in self.menu.names]
            return families.measured(np.column_stack(table))
        scores = float_array(columns[self.score], f"column {self.score!r}")
        if self.utility == "saturating":
            return families.saturating(scores)
        return families.ranked(facts.ranks[np.searchsorted(facts.scores, scores)])


def _rows_of(meta: Any, group: int, file: str) -> int:
    """Rows of a row group, which is in memory as a whole."""
    rows = int(meta.row_group(group).num_rows)
    if rows > _LARGEST_GROUP:
        raise InputError(
            f"{file}: row group {group} has {rows} rows, and is read as a whole: write the file "
            f"with at most {_LARGEST_GROUP} rows in each (row_group_size= of pyarrow)"
        )
    return rows


def _parquet(file: str) -> Any:
    with needing("a fleet in files", extra="parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot read {file}: {reason}: give a Parquet file") from error


def _read(chunk: Chunk, columns: Sequence[str]) -> Any:
    return _parquet(chunk.file).read_row_groups(chunk.groups, columns, use_threads=False)


@contextmanager
def _saying_where(chunk: Chunk) -> Iterator[None]:
    """Errors say which file they are about, and from which client on their rows are counted."""
    try:
        yield
    except HasaError as error:
        raise type(error)(f"{chunk.file}, from client {chunk.first} on: {error}") from error
