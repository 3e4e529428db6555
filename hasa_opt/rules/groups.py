"""Groups of alike clients, found in what they hold before anything is trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.clients.counts import dense, validate_counts

__all__ = ["LEAST_SILHOUETTE", "by_counts"]

LEAST_SILHOUETTE = 0.5
"""Mean silhouette from which clients count as groups: a "reasonable structure" of Kaufman and
Rousseeuw, Finding Groups in Data, 1990, table 4. The task "domains" has 0.9, texts 0.1 and 0.2."""


def by_counts(counts: npt.ArrayLike, *, least: float = LEAST_SILHOUETTE) -> IntArray:
    """Group clients by how alike the shares of their labels are.

    Average linkage of the root Jensen-Shannon divergences between clients (a metric, Endres and
    Schindelin 2003). Of the partitions into 2 to n - 1 groups the one with the largest mean
    silhouette counts (Rousseeuw 1987), if that is large enough.

    Parameters
    ----------
    counts : (n_clients, n_labels) integers, dense or sparse
        Training samples of each client by label.
    least : float
        Mean silhouette below which there are no groups, from -1 to 1.

    Returns
    -------
    (n_clients,) int64
        Group of each client, numbered by first appearance; all 0 where there are no groups.

    Raises
    ------
    InputError
        If a client has no counts.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    table = dense(validate_counts(counts)).astype(np.float64)
    if len(table) < 3:
        return np.zeros(len(table), dtype=np.int64)
    # Of equal shares rounding may make the root of a number below 0.
    apart = np.nan_to_num(pdist(table / table.sum(axis=1, keepdims=True), "jensenshannon"))
    tree, distances = linkage(apart, "average"), squareform(apart)
    one = np.zeros(len(table), dtype=np.int64)
    levels = [
        groups
        for n_groups in range(2, len(table))
        if (groups := _numbered(fcluster(tree, n_groups, "maxclust"))).any()
    ]
    best = max(levels, key=lambda groups: _silhouette(distances, groups), default=one)
    return best if best.any() and _silhouette(distances, best) >= least else one


def _numbered(labels: IntArray) -> IntArray:
    """Number groups by first appearance."""
    _, first, rows = np.unique(labels, return_index=True, return_inverse=True)
    numbered: IntArray = np.argsort(np.argsort(first))[rows].astype(np.int64)
    return numbered


def _silhouette(distances: FloatArray, groups: IntArray) -> float:
    """Mean silhouette; that of a client alone is 0."""
    members = np.eye(groups.max() + 1)[groups]
    sizes = members.sum(axis=0)
    sums = distances @ members
    own = groups[:, None] == np.arange(sizes.size)
    inner = sums[own] / np.maximum(sizes[groups] - 1, 1)
    outer = np.where(own, np.inf, sums / sizes).min(axis=1)
    widest = np.maximum(inner, outer)
    values = np.where(
        (sizes[groups] > 1) & (widest > 0), (outer - inner) / np.maximum(widest, 1e-300), 0.0
    )
    return float(values.mean())
