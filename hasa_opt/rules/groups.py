"""Groups of alike clients, found in what they hold before anything is trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.groups import numbered
from hasa_opt.clients.counts import dense, validate_counts
from hasa_opt.rules.scores import excess

__all__ = ["LEAST_SILHOUETTE", "by_counts", "labels_differ"]

LEAST_SILHOUETTE = 0.5
"""Mean silhouette from which clients count as groups: a "reasonable structure" of Kaufman and
Rousseeuw, Finding Groups in Data, 1990, table 4. The task "domains" has 0.9, texts 0.1 and 0.2."""

LEVEL = 0.05
"""Share of draws without groups in which groups may be found: the usual level of a test."""

_DRAWS = 199
"""Tables that are drawn without groups: the least number with several beyond the level is 99."""

_MOST = 32
"""Groups that are looked for, at most: a choice, so that a hundred clients take seconds."""


def by_counts(
    counts: npt.ArrayLike, *, least: float = LEAST_SILHOUETTE, level: float = LEVEL, seed: int = 0
) -> IntArray:
    """Group clients by how alike the shares of their labels are.

    Average linkage of the root Jensen-Shannon divergences between clients (a metric, Endres and
    Schindelin 2003). Of the partitions into 2 to 32 groups the one with the largest mean silhouette
    counts (Rousseeuw 1987), if that is large enough, and larger than what sampling gives where all
    clients draw as many labels from the pooled shares: few labels, or few samples, look like groups
    by chance.

    Parameters
    ----------
    counts : (n_clients, n_labels) integers, dense or sparse
        Training samples of each client by label.
    least : float
        Mean silhouette below which there are no groups, from -1 to 1.
    level : float
        Share of tables drawn without groups that may reach the silhouette, the table itself
        counted; 1 leaves out the test.
    seed : int
        Of the tables that are drawn.

    Returns
    -------
    (n_clients,) int64
        Group of each client, numbered by first appearance; all 0 where there are no groups.

    Raises
    ------
    InputError
        If a client has no counts.
    """
    table = dense(validate_counts(counts))
    groups, quality = _best(table)
    if not groups.any() or quality < least:
        return np.zeros_like(groups)
    rng, totals, pooled = np.random.default_rng(seed), table.sum(axis=1), table.sum(axis=0)
    reached = 1
    for _ in range(_DRAWS if level < 1 else 0):
        reached += _best(rng.multinomial(totals, pooled / pooled.sum()))[1] >= quality
        if reached > level * (_DRAWS + 1):
            return np.zeros_like(groups)
    return groups


def labels_differ(counts: npt.ArrayLike, *, level: float = LEVEL) -> bool:
    """Whether the shares of labels differ between clients by more than sampling explains.

    The clients' :func:`~hasa_opt.rules.scores.excess` has mean 0 and standard deviation 1 where all
    labels were shuffled between them, so that its sum over n clients has about n.

    Parameters
    ----------
    counts : (n_clients, n_labels) integers, dense or sparse
        Training samples of each client by label.
    level : float
        Share of shuffled tables that count as different.
    """
    from scipy.special import ndtri

    beyond = excess(counts)
    return bool(beyond.sum() / np.sqrt(beyond.size) > ndtri(1 - level))


def _best(table: IntArray) -> tuple[IntArray, float]:
    """The grouping with the largest mean silhouette, and that; one group has none."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    found, best = np.zeros(len(table), dtype=np.int64), -1.0
    if len(table) < 3:
        return found, best
    # Of equal shares rounding may make the root of a number below 0.
    apart = np.nan_to_num(pdist(table / table.sum(axis=1, keepdims=True), "jensenshannon"))
    tree, distances = linkage(apart, "average"), squareform(apart)
    for n_groups in range(2, min(len(table), _MOST + 1)):
        groups = numbered(fcluster(tree, n_groups, "maxclust"))
        if groups.any() and (quality := _silhouette(distances, groups)) > best:
            found, best = groups, quality
    return found, best


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
