"""The linear model as a file that other solvers read: MPS or LP.

Both formats are written in what HiGHS, CBC and SCIP read alike: every row has one side, the
objective is a loss that is minimised, and names are of letters, digits and underscores.

- Column ``x_I_K``: client ``I`` takes option ``K``, both from 0. Columns ``y_J`` are what robust
  limits and rows in digits need beside. A client that has one option has no column.
- Row ``client_I``: one option each. Row ``limit_L_P``: limit ``L`` of ``problem.limits`` less what
  is taken anyway, divided by the common factor; where that leaves large numbers, ``P`` counts the
  places of the digits that it is written in.
- A table beside the file, ``model.names.csv`` for ``model.mps``, says who ``client_I`` is, and what
  ``option_K`` and ``limit_L`` are called: no format takes every name.
- A comment at the top says how the utility follows from the objective. Its unit is a power of two,
  so that no utility is rounded, and its range is above 500: the absolute gap at which a solver
  stops by default, 1e-6, is then 2e-9 of what utilities can vary.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isfinite, log2
from os import PathLike
from typing import Protocol

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.files import file_target, writing
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError, PrecisionError
from hasa_opt.problem.groups import refuse_groups
from hasa_opt.problem.limits import Constraint, Preference, RobustRow, constraint_name
from hasa_opt.problem.linear import LinearModel, Program
from hasa_opt.problem.menu import Menu

__all__ = ["Written", "write_model"]

_EXACT = 2.0**53
"""Total that no row reaches: a limit from here on binds nobody."""


class Written(Program, Protocol):
    """What is written: an :class:`~hasa_opt.AllocationProblem`."""

    @property
    def clients(self) -> Clients:
        """Who chooses."""

    @property
    def menu(self) -> Menu:
        """What they choose from."""

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What was asked for."""


def write_model(file: str | PathLike[str], program: Written) -> None:
    """Write a program in the format that the ending of the file names, and a table of names.

    Raises
    ------
    InputError
        If the ending is another, there can be no such file, or a preference is to be met.
    PrecisionError
        If a robust limit has numbers that no float tells apart.
    StorageError
        If the disk does not take it; the file of before is then intact.
    """
    path = file_target(file)
    if path.suffix.lower() not in _FORMATS:
        known = " or ".join(_FORMATS)
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}: give a name in {known}")
    lines = _FORMATS[path.suffix.lower()](_Text.of(_whole_model(program)))
    with writing(path) as new:
        new.writelines(f"{line}\n" for line in lines)
    with writing(path.with_suffix(".names.csv")) as table:
        csv.writer(table).writerows([("part", "name"), *_parts(program)])


def _parts(program: Written) -> Iterator[tuple[str, str]]:
    """What the parts that names consist of are called."""
    labels = [row.label for row in program.limits]
    called = {"client": program.clients.all_names, "option": program.menu.names, "limit": labels}
    for part, names in called.items():
        yield from ((f"{part}_{at}", name) for at, name in enumerate(names))


def _whole_model(program: Written) -> LinearModel:
    """The model of a program in whole numbers, no limit rounded."""
    for item in program.constraints:
        if isinstance(item, Preference):
            raise InputError(
                f"{constraint_name(item)} is met in several solves, which no single program "
                "states: build the problem without it to write it"
            )
    refuse_groups(program.limits)
    for row in program.limits:
        if isinstance(row, RobustRow):
            total = (row.coefficients.astype(float) + row.deviation).max(axis=1).sum()
            if total >= _EXACT:
                raise PrecisionError(
                    f"({row.label}) has totals up to {total:.3g}, and from 2**53 on floats skip "
                    "whole numbers: give the costs in a larger unit"
                )
    model = LinearModel.of(program, largest_robust=_EXACT)
    client, worth = model.client, program.utilities
    losses = worth[client, model.width] - worth[client, model.base[client]]
    scale, objective = 2.0 ** ceil(log2(model.scale)), model.objective.copy()
    objective[: losses.size] = losses / scale
    return replace(model, objective=objective, scale=scale)


@dataclass(frozen=True, eq=False)
class _Text:
    """A model with the words for its parts.

    Attributes
    ----------
    model : LinearModel
    columns : list of str
        Name of each column.
    rows : list of (str, str, int, float)
        Name, sense, row of the matrix and limit: a row for each side.
    """

    model: LinearModel
    columns: list[str]
    rows: list[tuple[str, str, int, float]]

    @classmethod
    def of(cls, model: LinearModel) -> _Text:
        """Name what a model consists of."""
        pairs = zip(model.client.tolist(), model.width.tolist(), strict=True)
        columns = [f"x_{client}_{option}" for client, option in pairs]
        columns += [f"y_{at}" for at in range(model.objective.size - len(columns))]
        return cls(model, columns, [*_sides(model)])

    @cached_property
    def kinds(self) -> list[str]:
        """Kind of each column."""
        return self.model.kinds("binary", "integer", "continuous")

    @cached_property
    def bounded(self) -> list[tuple[str, str]]:
        """Whole numbers that are not binary, and their upper limit."""
        upper = self.model.column_upper
        return [
            (name, _number(upper[at]))
            for at, (name, kind) in enumerate(zip(self.columns, self.kinds, strict=True))
            if kind == "integer"
        ]

    def entries(self, row: int) -> tuple[IntArray, FloatArray]:
        """Columns and coefficients of a row."""
        matrix = self.model.matrix
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        return matrix.indices[part], matrix.data[part]

    def about(self, sign: str) -> Iterator[str]:
        """What the file is, as comments."""
        model = self.model
        yield f"{sign} hasa_opt: {model.n_open} clients with a choice, {len(self.columns)} columns"
        yield f"{sign} x_I_K: client I takes option K, both from 0; the table beside has names"
        yield f"{sign} minimise; utility = {model.offset!r} - {model.scale!r} * objective"


def _sides(model: LinearModel) -> Iterator[tuple[str, str, int, float]]:
    """A row for each side that can bind, with its name."""
    of_limit: dict[int, int] = {}
    for row, (lower, upper, owner) in enumerate(
        zip(model.lower.tolist(), model.upper.tolist(), model.owner.tolist(), strict=True)
    ):
        if row < model.n_open:
            client = int(model.client[model.matrix.indptr[row]])
            yield f"client_{client}", "=", row, 1.0
            continue
        place = of_limit[owner] = of_limit.get(owner, -1) + 1
        name = f"extra_{place}" if owner < 0 else f"limit_{owner}_{place}"
        if lower == upper:
            yield name, "=", row, upper
            continue
        for side, sense, limit in (("least", ">=", lower), ("most", "<=", upper)):
            if isfinite(limit) and abs(limit) < _EXACT:
                yield f"{name}_{side}", sense, row, limit


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _mps(text: _Text) -> Iterator[str]:
    """Lines of a file in MPS, free format."""
    yield from text.about("*")
    yield from ("NAME hasa_opt FREE", "ROWS", " N loss")
    senses = {"=": "E", "<=": "L", ">=": "G"}
    yield from (f" {senses[sense]} {name}" for name, sense, _, _ in text.rows)
    yield "COLUMNS"
    by_column = text.model.matrix.tocsc()
    names: dict[int, list[str]] = {}
    for name, _, row, _ in text.rows:
        names.setdefault(row, []).append(name)
    whole = False
    for at, (column, kind) in enumerate(zip(text.columns, text.kinds, strict=True)):
        if (kind != "continuous") != whole:
            whole = not whole
            yield f" MARKER{at} 'MARKER' '{'INTORG' if whole else 'INTEND'}'"
        yield f" {column} loss {_number(-text.model.objective[at] + 0.0)}"
        part = slice(by_column.indptr[at], by_column.indptr[at + 1])
        for row, value in zip(by_column.indices[part], by_column.data[part], strict=True):
            yield from (f" {column} {name} {_number(value)}" for name in names.get(int(row), ()))
    if whole:
        yield " MARKER 'MARKER' 'INTEND'"
    yield "RHS"
    yield from (f" RHS {name} {_number(limit)}" for name, _, _, limit in text.rows if limit)
    yield "BOUNDS"
    for column, kind in zip(text.columns, text.kinds, strict=True):
        if kind == "binary":
            yield f" UP BND {column} 1"
    yield from (f" UP BND {column} {upper}" for column, upper in text.bounded)
    yield "ENDATA"


def _lp(text: _Text) -> Iterator[str]:
    """Lines of a file in the LP format of CPLEX, a term a line."""
    yield from text.about("\\")
    yield from ("Minimize", " loss:")
    costs = -text.model.objective + 0.0
    yield from _terms(text, np.arange(costs.size), costs)
    yield "Subject To"
    for name, sense, row, limit in text.rows:
        yield f" {name}:"
        yield from _terms(text, *text.entries(row))
        yield f"  {sense} {_number(limit)}"
    yield "Bounds"
    yield from (f" {column} <= {upper}" for column, upper in text.bounded)
    for heading, kind in (("Generals", "integer"), ("Binaries", "binary")):
        named = [
            column for column, own in zip(text.columns, text.kinds, strict=True) if own == kind
        ]
        if named:
            yield heading
            yield from (f" {column}" for column in named)
    yield "End"


def _terms(text: _Text, columns: IntArray, values: FloatArray) -> Iterator[str]:
    """Terms of a sum, one at least."""
    used = np.flatnonzero(values)
    if not used.size:
        yield f"  0 {text.columns[0]}"
    for at in used.tolist():
        sign = "-" if values[at] < 0 else "+"
        yield f"  {sign} {_number(abs(values[at]))} {text.columns[columns[at]]}"


_FORMATS: dict[str, Callable[[_Text], Iterator[str]]] = {".mps": _mps, ".lp": _lp}
"""What gives the lines of a file, by its ending."""
