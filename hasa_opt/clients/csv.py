"""Clients as delimited text, in one of three formats, which the header tells apart.

Wide: one row per client. Columns ``name`` and ``samples``, then optionally ``max_width``,
``site``, ``device`` and one column ``count:LABEL`` per label::

    name,samples,max_width,count:cat,count:dog
    phone,120,0.5,100,20
    laptop,80,1.0,10,70

Long: one row per client and label. Columns ``name``, ``label``, ``count``, then optionally
``samples`` (default: the sum of the counts), ``max_width``, ``site`` and ``device``, repeated on
each row of a client::

    name,label,count
    phone,cat,100
    phone,dog,20
    laptop,dog,70

Samples: one row per sample, as in the long format but without ``count``; the rows are counted::

    name,label
    phone,cat
    phone,cat
    laptop,dog

Names, sites, devices and labels that differ only in blanks around them or in how a character is
composed are the same. Line numbers in messages are those of the file, and the first line is 1.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from hasa_opt._utils.cells import distinct_names, numbers, refuse_repeats, whole_numbers
from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.files import writing
from hasa_opt._utils.names import tidy
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt._utils.tables import Table, read_table
from hasa_opt.clients.counts import Counts, dense
from hasa_opt.errors import InputError

__all__ = ["count_columns", "framed", "read", "write"]

_PREFIX = "count:"
_OPTIONAL = ("max_width", "site", "device")
_Value = TypeVar("_Value")


def read(
    path: Source,
    *,
    others: Sequence[str] = (),
    values: Sequence[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Read the columns of clients, named as the arguments of :class:`Clients` are.

    Parameters
    ----------
    path : path, or file open for reading
        As for :meth:`Clients.read_csv`; so are the last two.
    others : sequence of str
        Further columns of the file, one name for each client.
    values : sequence of str
        Further columns of the file, one number for each client.
    encoding : str, optional
    delimiter : str, optional

    Returns
    -------
    columns : dict of str to column
    others : dict of str to n_clients strings, or numbers

    Raises
    ------
    InputError
        If the file cannot be read, is empty, or holds a value that breaks a rule; the message
        names the line and the column.
    """
    table = read_table(path, needed=("name",), encoding=encoding, delimiter=delimiter)
    if not table.has("name"):
        raise InputError(f"{table.name}: no column 'name'; its columns are {table.columns}")
    if not len(table):
        raise InputError(f"{table.name} holds no client: give at least one row below the header")
    more, is_long = (*others, *values), table.has("label")
    columns = _read_long(table, more) if is_long else _read_wide(table, more)
    if columns["counts"] is not None and table.has("samples"):
        _compare(table, columns)
    found: dict[str, list[Any]] = {name: table.names(name) for name in others}
    found |= {name: numbers(table, name) for name in values}
    if is_long:
        owners = table.names("name")
        found = {name: _once(table, name, owners, cells) for name, cells in found.items()}
    return columns, found


def framed(
    columns: Mapping[str, Sequence[Any]], what: str = "the frame of clients"
) -> dict[str, Any]:
    """Columns of a frame in the wide format, named as the arguments of :class:`Clients` are.

    Raises
    ------
    InputError
        For a column that is missing or unknown, with those that there are.
    """
    for name in ("name", "samples"):
        if name not in columns:
            raise InputError(f"{what} has no column {name!r}; it has {listed(columns, repr)}")
    labels = [name for name in columns if name.startswith(_PREFIX)]
    unknown = [name for name in columns if name not in ("name", "samples", *_OPTIONAL, *labels)]
    if unknown:
        raise InputError(
            f"{what}: unknown column {unknown[0]!r}: known are name, samples, "
            f"{', '.join(_OPTIONAL)} and {_PREFIX}LABEL"
        )
    return {
        "samples": columns["samples"],
        "names": columns["name"],
        "max_width": columns.get("max_width"),
        "site": columns.get("site"),
        "device": columns.get("device"),
        "counts": np.array([columns[name] for name in labels]).T if labels else None,
        "labels": [name.removeprefix(_PREFIX) for name in labels] or None,
    }


def count_columns(counts: Counts | None, labels: Sequence[str] | None) -> dict[str, Any]:
    """Counts of each label, ``(n_clients,)``, by the name of their column; none without counts."""
    return (
        {} if counts is None else dict(zip(_titles(counts, labels), dense(counts).T, strict=True))
    )


def write(
    path: str | PathLike[str],
    columns: Mapping[str, Sequence[object]],
    counts: Counts | None,
    labels: Sequence[str] | None,
) -> None:
    """Write clients in the wide format; :func:`read` gives the same columns back.

    Parameters
    ----------
    path : path
    columns : dict of str to n_clients values
        In the order of the file.
    counts : (n_clients, n_labels) counts, optional
    labels : n_labels strings, optional
        Default: their numbers.
    """
    with writing(path) as file:
        out = csv.writer(file)
        out.writerow([*columns, *_titles(counts, labels)])
        for row, known in enumerate(zip(*columns.values(), strict=True)):
            tokens = [] if counts is None else dense(counts[[row]])[0].tolist()
            out.writerow([*map(_cell, known), *tokens])


def _titles(counts: Counts | None, labels: Sequence[str] | None) -> list[str]:
    """Names of the columns of counts."""
    if counts is None:
        return []
    return [f"{_PREFIX}{label}" for label in labels or range(counts.shape[1])]


def _cell(value: object) -> str:
    """A number as Python would read it back, with all digits."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _caps(table: Table) -> list[float]:
    """Widths of the column ``max_width``."""
    caps = numbers(table, "max_width")
    if caps and not 0 < min(caps) <= max(caps) <= 1:
        row = next(row for row, cap in enumerate(caps) if not 0 < cap <= 1)
        raise table.fail(row, "max_width", f"{caps[row]} must lie in (0, 1]")
    return caps


def _samples(table: Table) -> list[int]:
    samples = whole_numbers(table, "samples")
    if 0 in samples:
        row = samples.index(0)
        raise table.fail(row, "samples", "0: an empty client trains nothing; remove it")
    return samples


def _check_header(
    table: Table, known: set[str], required: tuple[str, ...], *, prefixed: bool
) -> None:
    for column in required:
        table.column(column)
    for column in table.header:
        table.column(column)
        if column not in known and not (prefixed and column.startswith(_PREFIX)):
            more = f" and {_PREFIX}LABEL for the count of one label" if prefixed else ""
            names = ", ".join(sorted(known)) + more
            raise InputError(f"{table.name}: unknown column {column!r}; known are {names}")


def _read_wide(table: Table, others: Sequence[str]) -> dict[str, Any]:
    _check_header(table, {"name", "samples", *_OPTIONAL, *others}, ("samples",), prefixed=True)
    names = distinct_names(table, "name")
    columns = [column for column in table.header if column.startswith(_PREFIX)]
    labels = _labels(table, columns)
    return {
        "samples": _samples(table),
        "counts": np.array([whole_numbers(table, column) for column in columns]).T
        if columns
        else None,
        "max_width": _caps(table) if table.has("max_width") else None,
        "names": names,
        "site": table.names("site") if table.has("site") else None,
        "device": table.names("device") if table.has("device") else None,
        "labels": labels or None,
    }


def _labels(table: Table, columns: Sequence[str]) -> list[str]:
    """Labels that columns of counts are named for."""
    named: dict[str, str] = {}
    for column in columns:
        label = tidy(column.removeprefix(_PREFIX))
        if not label:
            raise InputError(f"{table.name}: column {column!r} has no label: write count:LABEL")
        before = named.setdefault(label, column)
        if before != column:
            raise InputError(
                f"{table.name}: columns {before!r} and {column!r} count one label: add them up"
            )
    return list(named)


def _read_long(table: Table, others: Sequence[str]) -> dict[str, Any]:
    """The long format; without counts, each row is one sample."""
    counted = table.has("count")
    known = {"name", "label", "samples", *_OPTIONAL, *others} | ({"count"} if counted else set())
    _check_header(table, known, ("label",), prefixed=False)
    names, labels = table.names("name"), table.names("label")
    if counted:
        refuse_repeats(table, "label", list(zip(names, labels, strict=True)))
    rows = {name: at for at, name in enumerate(dict.fromkeys(names))}
    columns = {label: at for at, label in enumerate(sorted(set(labels)))}
    at_row = np.array([rows[name] for name in names])
    at_column = np.array([columns[label] for label in labels])
    values = whole_numbers(table, "count") if counted else np.ones(len(names), dtype=np.int64)
    shape = (len(rows), len(columns))
    counts = sp.csr_array((values, (at_row, at_column)), shape=shape, dtype=np.int64)
    samples = _one_per_client(table, "samples", names, _samples)
    return {
        "counts": counts,
        "samples": counts.sum(axis=1) if samples is None else samples,
        "max_width": _one_per_client(table, "max_width", names, _caps),
        "names": list(rows),
        "site": _one_per_client(table, "site", names, lambda table: table.names("site")),
        "device": _one_per_client(table, "device", names, lambda table: table.names("device")),
        "labels": list(columns),
    }


def _one_per_client(
    table: Table, column: str, names: list[str], parse: Callable[[Table], Iterable[_Value]]
) -> list[_Value] | None:
    """Values of a column that is repeated on each row of a client, once per client."""
    return _once(table, column, names, parse(table)) if table.has(column) else None


def _once(table: Table, column: str, names: Sequence[str], cells: Iterable[_Value]) -> list[_Value]:
    """The cell of each client, which is the same in all of its rows."""
    values: dict[str, _Value] = {}
    for row, (name, value) in enumerate(zip(names, cells, strict=True)):
        if values.setdefault(name, value) != value:
            raise table.fail(row, column, f"{value!r} contradicts {values[name]!r} of {name!r}")
    return list(values.values())


def _compare(table: Table, columns: Mapping[str, Any]) -> None:
    """Warn where samples and counts cannot belong together.

    A client may count many labels for a sample, as the words of a text, but hardly fewer than one.
    Where most clients count exactly one, the others are likely mistakes; so are all where each row
    is a sample.
    """
    samples: IntArray = np.asarray(columns["samples"])
    counted: IntArray = np.asarray(columns["counts"].sum(axis=1)).ravel()
    unequal, fewer = (samples != counted) & (counted > 0), (samples > counted) & (counted > 0)
    one_each = table.has("label") and not table.has("count")
    doubtful = unequal if one_each or 2 * unequal.sum() < len(samples) else fewer
    if doubtful.any():
        row = int(doubtful.argmax())
        warnings.warn(
            f"{table.name}: {columns['names'][row]!r} has {samples[row]} samples, but "
            f"{counted[row]} labels were counted ({doubtful.sum()} such client(s)): budgets use "
            "the samples, scores the counts; correct one of them",
            stacklevel=4,
        )
