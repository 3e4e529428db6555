"""Clients as CSV, in a wide or a long format.

Wide: one row per client. Columns ``name`` and ``samples``, then optionally ``max_width``,
``site`` and one column ``count:LABEL`` per label::

    name,samples,max_width,count:cat,count:dog
    phone,120,0.5,100,20
    laptop,80,1.0,10,70

Long: one row per client and label. Columns ``name``, ``label``, ``count``, then optionally
``samples`` (default: the sum of the counts), ``max_width`` and ``site``, repeated on each row
of a client::

    name,label,count
    phone,cat,100
    phone,dog,20
    laptop,dog,70

Row numbers in messages are line numbers of the file; the header is line 1.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hasa_opt._utils.checks import listed
from hasa_opt._utils.files import writing
from hasa_opt.clients.counts import Counts, dense
from hasa_opt.errors import InputError

__all__ = ["read", "write"]

_PREFIX = "count:"
_OPTIONAL = ("max_width", "site")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Table:
    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def fail(self, row: int, column: str, message: str) -> InputError:
        return InputError(f"{self.path}, line {self.lines[row]}, column {column!r}: {message}")

    def has(self, column: str) -> bool:
        return column in self._places

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.header)}

    def column(self, column: str) -> list[str]:
        at = self._places[column]
        return [row[at] for row in self.rows]

    def whole(self, column: str) -> list[int]:
        return [int(value) for value in self._parsed(column, int, "a whole number")]

    def numbers(self, column: str) -> list[float]:
        return list(self._parsed(column, float, "a number"))

    def _parsed(self, column: str, kind: type, rule: str) -> Iterator[int | float]:
        for row, text in enumerate(self.column(column)):
            try:
                value = kind(text)
            except ValueError:
                raise self.fail(row, column, f"{text!r} is not {rule}") from None
            if isinstance(value, int) and value < 0:
                raise self.fail(row, column, f"{value} is negative: counts start at 0")
            if isinstance(value, int) and value >= 2**62:
                raise self.fail(row, column, f"{value} exceeds 2**62: count in larger units")
            yield value


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the columns of clients from a CSV file in the wide or the long format.

    The header tells which. The columns are named as the arguments of :class:`Clients` are.

    Raises
    ------
    InputError
        If the file is absent, empty, or holds a value that breaks a rule; the message names
        the line and the column.
    """
    table = _load(Path(path))
    if not table.has("name"):
        raise InputError(f"{path}: no column 'name'; its columns are {listed(table.header)}")
    return _read_long(table) if table.has("label") else _read_wide(table)


def write(
    path: str | PathLike[str],
    names: Sequence[str],
    columns: Mapping[str, Sequence[object] | npt.NDArray[Any] | None],
    counts: Counts | None,
    labels: Sequence[str] | None,
) -> None:
    """Write clients in the wide format; :func:`read` gives the same columns back.

    Parameters
    ----------
    path : path
    names : n_clients strings
    columns : dict of str to n_clients values
        In the order of the file; a column that is None is left out.
    counts : (n_clients, n_labels) counts, optional
    labels : n_labels strings, optional
        Default: their numbers.
    """
    known = {name: list(column) for name, column in columns.items() if column is not None}
    header = ["name", *known]
    if counts is not None:
        header += [f"{_PREFIX}{label}" for label in labels or range(counts.shape[1])]
    with writing(path) as file:
        out = csv.writer(file)
        out.writerow(header)
        for row, name in enumerate(names):
            cells = [_cell(column[row]) for column in known.values()]
            tokens = [] if counts is None else dense(counts[[row]])[0].tolist()
            out.writerow([name, *cells, *tokens])


def _cell(value: object) -> str:
    """A number as Python would read it back, with all digits."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _load(path: Path) -> _Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows, lines = [], []
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a UTF-8 CSV file: {error}") from error
    if not rows:
        raise InputError(f"{path} holds no client: give a header and at least one row")
    name, times = Counter(header).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path}: column {name!r} stands twice in the header")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            lost = f"; column {header[len(row)]!r} is missing" if len(row) < len(header) else ""
            raise InputError(
                f"{path}, line {line}: {len(row)} fields, the header has {len(header)}{lost}"
            )
    return _Table(path, header, rows, lines)


def _check_header(
    table: _Table, known: set[str], required: tuple[str, ...], *, prefixed: bool
) -> None:
    for column in required:
        if not table.has(column):
            raise InputError(
                f"{table.path}: no column {column!r}; its columns are {listed(table.header)}"
            )
    for column in table.header:
        if column not in known and not (prefixed and column.startswith(_PREFIX)):
            more = f" and {_PREFIX}LABEL for the count of one label" if prefixed else ""
            names = ", ".join(sorted(known)) + more
            raise InputError(f"{table.path}: unknown column {column!r}; known are {names}")


def _read_wide(table: _Table) -> dict[str, Any]:
    _check_header(table, {"name", "samples", *_OPTIONAL}, ("samples",), prefixed=True)
    _check_names(table, table.column("name"))
    _check_cells(table)
    labels = [column for column in table.header if column.startswith(_PREFIX)]
    return {
        "samples": table.whole("samples"),
        "counts": np.array([table.whole(label) for label in labels]).T if labels else None,
        "max_width": table.numbers("max_width") if table.has("max_width") else None,
        "names": table.column("name"),
        "site": table.column("site") if table.has("site") else None,
        "labels": [column.removeprefix(_PREFIX) for column in labels] or None,
    }


def _check_names(table: _Table, names: list[str]) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in first:
            where = table.lines[first[name]]
            raise table.fail(row, "name", f"{name!r} already stands on line {where}")
        first[name] = row


def _check_cells(table: _Table) -> None:
    """Refuse what :class:`Clients` refuses, here where the line number is known."""
    for row, name in enumerate(table.column("name")):
        if not name.strip():
            raise table.fail(row, "name", "empty: every client needs a name")
    if table.has("samples"):
        for empty in np.flatnonzero(np.array(table.whole("samples")) == 0):
            raise table.fail(int(empty), "samples", "0: an empty client trains nothing; remove it")
    if table.has("max_width"):
        for row, cap in enumerate(table.numbers("max_width")):
            if not 0 < cap <= 1:
                raise table.fail(row, "max_width", f"{cap} must lie in (0, 1]")


def _read_long(table: _Table) -> dict[str, Any]:
    known = {"name", "label", "count", "samples", *_OPTIONAL}
    _check_header(table, known, ("label", "count"), prefixed=False)
    _check_cells(table)
    names, labels = table.column("name"), table.column("label")
    rows = {name: at for at, name in enumerate(dict.fromkeys(names))}
    columns = {label: at for at, label in enumerate(sorted(set(labels)))}
    seen: dict[tuple[str, str], int] = {}
    for at, key in enumerate(zip(names, labels, strict=True)):
        if key in seen:
            where = table.lines[seen[key]]
            raise table.fail(
                at, "label", f"{key[1]!r} of {key[0]!r} already stands on line {where}"
            )
        seen[key] = at
    at_row = np.array([rows[name] for name in names])
    at_column = np.array([columns[label] for label in labels])
    shape = (len(rows), len(columns))
    counts = sp.csr_array((table.whole("count"), (at_row, at_column)), shape=shape)
    samples = _one_per_client(table, "samples", names, table.whole)
    return {
        "counts": counts,
        "samples": counts.sum(axis=1) if samples is None else samples,
        "max_width": _one_per_client(table, "max_width", names, table.numbers),
        "names": list(rows),
        "site": _one_per_client(table, "site", names, table.column),
        "labels": list(columns),
    }


def _one_per_client(
    table: _Table, column: str, names: list[str], parse: Callable[[str], Iterable[_Value]]
) -> list[_Value] | None:
    """Values of a column that is repeated on each row of a client, once per client."""
    if not table.has(column):
        return None
    values: dict[str, _Value] = {}
    for row, (name, value) in enumerate(zip(names, parse(column), strict=True)):
        if values.setdefault(name, value) != value:
            raise table.fail(row, column, f"{value!r} contradicts {values[name]!r} of {name!r}")
    return list(values.values())
