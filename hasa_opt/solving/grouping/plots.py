"""A matrix of similarities as a picture: a pixel for each pair, of many clients for a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, float_array
from hasa_opt._utils.drawing import FEW, axes_on, short
from hasa_opt._utils.sparse import is_sparse
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_similarity"]

_PIXELS = 400
"""Most rows of a picture; more clients share them."""


def plot_similarity(
    ax: Axes | None,
    what: str,
    similarity: Any,
    names: Sequence[str],
    order: IntArray | None = None,
    sizes: IntArray | None = None,
) -> Axes:
    """Draw similarities, red below 0 and blue above; the mean of a block of pairs if they are many.

    Parameters
    ----------
    ax : matplotlib Axes or None
    what : str
        The method that draws, for messages.
    similarity : (n_clients, n_clients) floats, dense or sparse
        The diagonal does not count.
    names : n_clients strings
    order : (n_clients,) ints, optional
        Clients from the first row to the last. Default: as they are.
    sizes : (n_groups,) ints, optional
        Clients of each group, in this order; up to 30 groups are marked off.

    Raises
    ------
    InputError
        For a matrix of another shape.
    MissingExtraError
        If matplotlib is absent, with the command that installs it.
    """
    n_clients = len(names)
    clients = np.arange(n_clients) if order is None else order
    means = _means(similarity, clients)
    largest = float(np.nanmax(np.abs(means), initial=0.0)) or 1.0
    axes = axes_on(ax, what, (4.8, 4.0))
    image = axes.imshow(means, cmap="RdBu", vmin=-largest, vmax=largest)
    if sizes is not None and sizes.size <= FEW:
        for edge in np.cumsum(sizes)[:-1] * (len(means) / n_clients) - 0.5:
            axes.axhline(edge, color="black", linewidth=0.8)
            axes.axvline(edge, color="black", linewidth=0.8)
    named = [short(names[row]) for row in clients] if n_clients <= FEW else []
    axes.set_xticks(range(len(named)), named, rotation=90, parse_math=False)
    axes.set_yticks(range(len(named)), named, parse_math=False)
    label = "Client" if sizes is None else "Client, by group"
    axes.set_xlabel(label)
    axes.set_ylabel(label)
    many = len(means) < n_clients
    axes.figure.colorbar(image, ax=axes, label="Mean similarity" if many else "Similarity")
    return axes


def _means(similarity: Any, order: IntArray) -> FloatArray:
    """Mean similarity of the pairs of each block of clients, themselves left out."""
    n = order.size
    cells = min(n, _PIXELS)
    block = np.empty(n, dtype=np.int64)
    block[order] = np.arange(n) * cells // n
    table = similarity if is_sparse(similarity) else float_array(similarity, "similarities")
    if table.shape != (n, n):
        raise InputError(f"similarities have shape {table.shape}: {(n, n)} expected")
    members = sp.csr_array((np.ones(n), (block, np.arange(n))), shape=(cells, n))
    sums = members @ table @ members.T
    sums = sums.toarray() if is_sparse(sums) else sums
    size = np.bincount(block, minlength=cells).astype(np.float64)
    pairs = np.outer(size, size) - np.diag(size)
    sums = sums - np.diag(members @ table.diagonal())
    means: FloatArray = np.divide(sums, pairs, out=np.full(sums.shape, np.nan), where=pairs > 0)
    return means
