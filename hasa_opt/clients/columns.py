"""Columns of clients, checked: what is wrong is named by its row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, whole_numbers, widened
from hasa_opt._utils.checks import array as any_array
from hasa_opt._utils.names import distinct
from hasa_opt.clients.counts import NEGATIVE, Counts, Rows, array, frozen
from hasa_opt.errors import InputError

__all__ = ["checked_caps", "checked_column", "checked_labels", "checked_length", "checked_samples"]


def checked_length(samples: npt.ArrayLike) -> int:
    """Number of clients: of the samples, which all have."""
    array = any_array(samples, "column 'samples'")
    if array.ndim != 1:
        raise InputError(
            f"column 'samples' has shape {array.shape}: give one whole number per client"
        )
    if array.shape[0] == 0:
        raise InputError("column 'samples' is empty: an allocation needs at least one client")
    return int(array.shape[0])


def checked_samples(values: npt.ArrayLike, label: Rows) -> IntArray:
    """Samples of each client as int64, at least 1; ``(n_clients,)``."""
    samples = whole_numbers(
        array(values, "samples", 1),
        lambda at, value: f"{label(at[0])}, column 'samples': {value}",
        negative=NEGATIVE,
    )
    empty = np.flatnonzero(samples == 0)
    if empty.size:
        raise InputError(
            f"{label(int(empty[0]))}, column 'samples': 0: an empty client trains nothing; "
            f"remove it ({empty.size} such row(s))"
        )
    if float(samples.sum(dtype=np.float64)) >= 2.0**62:
        raise InputError("column 'samples': the sum exceeds 2**62: count in larger units")
    return frozen(samples)


def checked_caps(values: npt.ArrayLike, length: int, label: Rows) -> FloatArray:
    """Widest width of each client, in (0, 1]; ``(n_clients,)``."""
    given = array(values, "max_width", 1)
    if given.dtype.kind == "O":
        for row, value in enumerate(given):
            if not isinstance(value, Real):
                raise InputError(f"{label(row)}, column 'max_width': {value!r} is not a number")
    caps = widened(given)
    if caps.shape[0] != length:
        raise InputError(f"column 'max_width' has {caps.shape[0]} rows, 'samples' has {length}")
    bad = np.flatnonzero(~((caps > 0) & (caps <= 1)))
    if bad.size:
        row = int(bad[0])
        raise InputError(
            f"{label(row)}, column 'max_width': {caps[row]} must lie in (0, 1]; "
            "1 means that the device can train the whole supernet"
        )
    return frozen(caps)


def checked_column(
    read_names: Callable[[Iterable[str | int], str], tuple[str, ...]],
    values: Sequence[str | int],
    column: str,
    length: int,
) -> tuple[str, ...]:
    """Names of a column, one for each client, as ``read_names`` has them."""
    names = read_names(values, f"column {column!r}")
    if len(names) != length:
        raise InputError(f"column {column!r} has {len(names)} rows, 'samples' has {length}")
    return names


def checked_labels(values: Sequence[str | int], counts: Counts | None) -> tuple[str, ...]:
    """Distinct labels, one for each column of the counts."""
    if counts is None:
        raise InputError("labels name the columns of counts: give counts too")
    labels = distinct(values, "labels")
    if len(labels) != counts.shape[1]:
        raise InputError(f"{len(labels)} labels for {counts.shape[1]} columns of counts")
    return labels
