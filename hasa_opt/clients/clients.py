"""The federated clients of one allocation, as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hasa_opt._utils.checks import array as any_array
from hasa_opt._utils.checks import sequence, widened
from hasa_opt.errors import InputError

__all__ = ["Clients", "Counts", "FloatArray", "IntArray", "dense", "validate_counts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Counts: TypeAlias = npt.NDArray[np.int64] | sp.csr_array

_EXACT_FLOAT = 2.0**53


@dataclass(frozen=True, eq=False)
class Clients:
    """Columns that describe ``n_clients`` federated clients.

    Parameters
    ----------
    samples : (n_clients,) integers
        Training samples of each client; at least 1.
    counts : (n_clients, n_labels) array or scipy sparse matrix, optional
        Training tokens or labels that each client counted, over a shared vocabulary.
    max_width : (n_clients,) floats in (0, 1], optional
        Widest subnet that each device can train. Default: no cap.
    names : n_clients distinct strings, optional
        Default: ``client-0``, ``client-1``, ... (see :meth:`name`).
    site : n_clients strings, optional
        The site that each client belongs to.
    labels : n_labels distinct strings, optional
        The token or label behind each column of the counts.

    Raises
    ------
    InputError
        For a value that breaks one of these rules; the message names the row and the column.

    Examples
    --------
    >>> clients = Clients([120, 80], counts=[[9, 1], [2, 6]], names=["phone", "laptop"])
    >>> len(clients), clients.name(1)
    (2, 'laptop')
    """

    samples: IntArray
    counts: Counts | None = None
    max_width: FloatArray | None = None
    names: tuple[str, ...] | None = None
    site: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None

    def __init__(
        self,
        samples: npt.ArrayLike,
        *,
        counts: npt.ArrayLike | Any | None = None,
        max_width: npt.ArrayLike | None = None,
        names: Sequence[str] | None = None,
        site: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        length = _length(samples)
        own_names = None if names is None else _distinct(names, "names", length)
        label = _Rows(own_names)
        table = None if counts is None else _counts(counts, label, length)
        columns = {
            "names": own_names,
            "samples": _samples(samples, label),
            "counts": table,
            "labels": None if labels is None else _labels(labels, table),
            "max_width": None if max_width is None else _caps(max_width, length, label),
            "site": None if site is None else _strings(site, "site", length),
        }
        for name, value in columns.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_counts(
        cls,
        counts: npt.ArrayLike | Any,
        *,
        samples: npt.ArrayLike | None = None,
        max_width: npt.ArrayLike | None = None,
        names: Sequence[str] | None = None,
        site: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> Clients:
        """Build clients from their label counts.

        Parameters
        ----------
        counts : (n_clients, n_labels) array or scipy sparse matrix
            Non-negative whole numbers.
        samples : (n_clients,) integers, optional
            Default: the sum of each row, which is right when each sample carries one label.
        max_width, names, site, labels
            As in :class:`Clients`.
        """
        if samples is None:
            rows: Any = counts if sp.issparse(counts) else _array(counts, "counts", 2)
            samples = np.asarray(rows.sum(axis=1)).ravel()
        return cls(
            samples, counts=counts, max_width=max_width, names=names, site=site, labels=labels
        )

    @classmethod
    def read_csv(cls, path: str | PathLike[str]) -> Clients:
        """Read clients from a CSV file; see :mod:`hasa_opt.clients.csv` for the two formats."""
        from hasa_opt.clients.csv import read

        return read(path)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the clients as CSV in the wide format; see :mod:`hasa_opt.clients.csv`."""
        from hasa_opt.clients.csv import write

        write(self, path)

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def __repr__(self) -> str:
        labels = "" if self.counts is None else f", n_labels={self.counts.shape[1]}"
        return f"Clients(n_clients={len(self)}, samples={self.samples.sum(dtype=object)}{labels})"

    @property
    def weights(self) -> FloatArray:
        """Share of all training samples that each client holds, ``(n_clients,)``."""
        return self.samples / float(self.samples.sum(dtype=np.float64))

    def name(self, row: int) -> str:
        """Name of the client in one row."""
        return _default_name(row) if self.names is None else self.names[row]


def _default_name(row: int) -> str:
    return f"client-{row}"


class _Rows:
    """Words for one row of a column, for messages."""

    def __init__(self, names: tuple[str, ...] | None) -> None:
        self._names = names

    def __call__(self, row: int) -> str:
        return f"row {row}" if self._names is None else f"row {row} ({self._names[row]!r})"


def _length(samples: npt.ArrayLike) -> int:
    array = any_array(samples, "column 'samples'")
    if array.ndim != 1:
        raise InputError(
            f"column 'samples' has shape {array.shape}: give one whole number per client"
        )
    if array.shape[0] == 0:
        raise InputError("column 'samples' is empty: an allocation needs at least one client")
    return int(array.shape[0])


def _array(values: npt.ArrayLike, column: str, ndim: int) -> npt.NDArray[Any]:
    array = any_array(values, f"column {column!r}")
    if array.dtype.kind not in "iufb":
        raise InputError(f"column {column!r} holds {array.dtype} values: give numbers")
    if array.ndim != ndim:
        raise InputError(f"column {column!r} has {array.ndim} dimensions: {ndim} expected")
    return array


def _whole(array: npt.NDArray[Any], place: Callable[[tuple[int, ...]], str]) -> IntArray:
    """Convert to int64, refusing negative, fractional, non-finite and oversized entries.

    ``place`` puts the position of an entry into words.
    """
    if array.dtype.kind == "f":
        wide = array.astype(np.float64)
        bad = ~np.isfinite(wide) | (wide != np.floor(wide)) | (np.abs(wide) > _EXACT_FLOAT)
        rule = "must be a finite whole number (floats are exact up to 2**53 only)"
    elif array.dtype.kind == "u":
        bad, rule = array > np.iinfo(np.int64).max, "exceeds the largest 64-bit integer"
    else:
        bad, rule = np.zeros(array.shape, dtype=bool), ""
    if not bad.any():
        bad, rule = array < 0, "is negative: counts start at 0"
    if bad.any():
        at = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise InputError(f"{place(at)}: {array[at]} {rule}")
    return array.astype(np.int64)


def _samples(values: npt.ArrayLike, label: _Rows) -> IntArray:
    samples = _whole(_array(values, "samples", 1), lambda at: f"{label(at[0])}, column 'samples'")
    empty = np.flatnonzero(samples == 0)
    if empty.size:
        raise InputError(
            f"{label(int(empty[0]))}, column 'samples': 0: an empty client trains nothing; "
            f"remove it ({empty.size} such row(s))"
        )
    if float(samples.sum(dtype=np.float64)) >= 2.0**62:
        raise InputError("column 'samples': the sum exceeds 2**62: count in larger units")
    return _frozen(samples)


def validate_counts(values: npt.ArrayLike | Any) -> Counts:
    """Return checked, frozen int64 counts, ``(n_clients, n_labels)``, dense or CSR.

    Raises
    ------
    InputError
        For a negative, fractional or non-finite count, or a client that counted nothing.
    """
    return _counts(values, _Rows(None))


def dense(counts: Counts) -> IntArray:
    """Return counts as a dense array; the same array if they are dense already."""
    return counts.toarray() if isinstance(counts, sp.csr_array) else counts


def _counts(values: Any, label: _Rows, length: int | None = None) -> Counts:
    if sp.issparse(values):
        result: Counts = _sparse_counts(values, label)
    else:
        table = _array(values, "counts", 2)
        result = _frozen(_whole(table, lambda at: f"{label(at[0])}, column 'counts[{at[1]}]'"))
    shape = result.shape
    if length is not None and shape[0] != length:
        raise InputError(f"column 'counts' has {shape[0]} rows, 'samples' has {length}")
    if 0 in shape:
        raise InputError(f"column 'counts' has shape {shape}: it needs a client and a label")
    if float(result.sum(dtype=np.float64)) >= 2.0**62:
        raise InputError("column 'counts': the sum exceeds 2**62: count in larger units")
    empty = np.flatnonzero(np.asarray(result.sum(axis=1)).ravel() == 0)
    if empty.size:
        raise InputError(
            f"{label(int(empty[0]))}, column 'counts': no label was counted; "
            f"remove the client or count its training data ({empty.size} such row(s))"
        )
    return result


def _sparse_counts(values: Any, label: _Rows) -> sp.csr_array:
    """CSR copy in int64; entries are checked before duplicates are summed."""
    entries = values.tocoo()
    at_row, at_column = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    whole = _whole(
        _array(entries.data, "counts", 1),
        lambda at: f"{label(int(at_row[at[0]]))}, column 'counts[{at_column[at[0]]}]'",
    )
    matrix = sp.csr_array((whole, (at_row, at_column)), shape=values.shape)
    _frozen(matrix.data)
    return matrix


def _caps(values: npt.ArrayLike, length: int, label: _Rows) -> FloatArray:
    caps = widened(_array(values, "max_width", 1))
    if caps.shape[0] != length:
        raise InputError(f"column 'max_width' has {caps.shape[0]} rows, 'samples' has {length}")
    bad = np.flatnonzero(~((caps > 0) & (caps <= 1)))
    if bad.size:
        row = int(bad[0])
        raise InputError(
            f"{label(row)}, column 'max_width': {caps[row]} must lie in (0, 1]; "
            "1 means that the device can train the whole supernet"
        )
    return _frozen(caps)


def _strings(values: Sequence[str], column: str, length: int) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InputError(f"column {column!r} is one string: give a sequence of strings")
    strings = tuple(str(value) for value in sequence(values, f"column {column!r}"))
    if len(strings) != length:
        raise InputError(f"column {column!r} has {len(strings)} rows, 'samples' has {length}")
    for row, value in enumerate(strings):
        if not value.strip():
            raise InputError(f"row {row}, column {column!r}: empty: give every client one")
    return strings


def _distinct(values: Sequence[str], column: str, length: int) -> tuple[str, ...]:
    names = _strings(values, column, length)
    if len(set(names)) < length:
        first: dict[str, int] = {}
        for row, name in enumerate(names):
            if name in first:
                raise InputError(
                    f"row {row}, column {column!r}: {name!r} already names row {first[name]}: "
                    f"{column} must be distinct"
                )
            first[name] = row
    return names


def _labels(values: Sequence[str], counts: Counts | None) -> tuple[str, ...]:
    if counts is None:
        raise InputError("labels name the columns of counts: give counts too")
    labels = sequence(values, "labels")
    if len(labels) != counts.shape[1]:
        raise InputError(f"{len(labels)} labels for {counts.shape[1]} columns of counts")
    return _distinct(labels, "labels", len(labels))


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
