"""Counts of tokens or labels, dense or sparse: checked, frozen, in 64-bit integers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray, whole_numbers
from hasa_opt._utils.checks import array as any_array
from hasa_opt._utils.sparse import is_sparse
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.errors import InputError

__all__ = [
    "Counts",
    "Rows",
    "array",
    "checked_counts",
    "dense",
    "frozen",
    "validate_counts",
]

Counts: TypeAlias = "npt.NDArray[np.int64] | sp.csr_array"

NEGATIVE = "is negative: counts start at 0"


class Rows:
    """Words for one row of a column, for messages."""

    def __init__(self, names: tuple[str, ...] | None) -> None:
        self._names = names

    def __call__(self, row: int) -> str:
        """Number of the row, with its name where there is one."""
        return f"row {row}" if self._names is None else f"row {row} ({self._names[row]!r})"


def validate_counts(values: npt.ArrayLike | Any) -> Counts:
    """Return checked, frozen int64 counts, ``(n_clients, n_labels)``, dense or CSR.

    Raises
    ------
    InputError
        For a negative, fractional or non-finite count, or a client that counted nothing.
    """
    return checked_counts(values, Rows(None))


def dense(counts: Counts) -> IntArray:
    """Return counts as a dense array; the same array if they are dense already."""
    return counts if isinstance(counts, np.ndarray) else counts.toarray()


def checked_counts(values: Any, label: Rows, length: int | None = None) -> Counts:
    """Checked, frozen counts; messages name rows by ``label``, and refuse another ``length``."""
    if is_sparse(values):
        result: Counts = _sparse_counts(values, label)
    else:
        table = array(values, "counts", 2)

        def place(at: tuple[int, ...], value: Any) -> str:
            return f"{label(at[0])}, column 'counts[{at[1]}]': {value}"

        result = frozen(whole_numbers(table, place, negative=NEGATIVE))
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


def _sparse_counts(values: Any, label: Rows) -> sp.csr_array:
    """CSR copy in int64; entries are checked before duplicates are summed."""
    entries = values.tocoo()
    at_row, at_column = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)

    def place(at: tuple[int, ...], value: Any) -> str:
        return f"{label(int(at_row[at[0]]))}, column 'counts[{at_column[at[0]]}]': {value}"

    entries64 = whole_numbers(array(entries.data, "counts", 1), place, negative=NEGATIVE)
    matrix = sp.csr_array((entries64, (at_row, at_column)), shape=values.shape)
    frozen(matrix.data)
    return matrix


def array(values: npt.ArrayLike, column: str, ndim: int) -> npt.NDArray[Any]:
    """Numbers of a column with so many dimensions, or an error that names it."""
    array = any_array(values, f"column {column!r}")
    if array.dtype.kind not in "iufbO":
        raise InputError(f"column {column!r} holds {array.dtype} values: give numbers")
    if array.ndim != ndim:
        raise InputError(f"column {column!r} has {array.ndim} dimensions: {ndim} expected")
    return array


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array itself, which can no longer be written to."""
    array.flags.writeable = False
    return array
