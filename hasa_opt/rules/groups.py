"""Groups of alike clients, found in what they hold before anything is trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.groups import numbered
from hasa_opt.clients.counts import dense, validate_counts
from hasa_opt.rules.scores import excess

__all__ = ["LEAST_SILHOUETTE", "UNSTRUCTURED", "by_counts", "labels_differ", "silhouette"]

LEAST_SILHOUETTE = 0.5
"""Mean silhouette from which clients count as groups: a "reasonable structure" of Kaufman and
Rousseeuw, Finding Groups in Data, 1990, table 4. The task "domains" has 0.9, texts 0.1 and 0.2."""

UNSTRUCTURED = 0.25
"""Mean silhouette up to which that table finds "no substantial structure"."""

LEVEL = 0.05
"""Share of draws without groups in which groups may be found: the usual level of a test."""

_DRAWS = 199
"""Tables that are drawn without groups: the least number with several beyond the level is 99."""

_MOST = 32
"""Groups that are looked for, at most: a choice, so that a hundred clients take little time."""

_LEAST_OF_HELLINGER = float(np.sqrt(np.log(2)))
"""Root Jensen-Shannon divergences in nats are that share of the Hellinger distance at least, where
labels have nothing in common, and at most the whole, in the limit of equal shares. Label by label
the ratio of the squares is a function of the ratio of the shares that lies between the two."""

_ROUNDING = 1e-6
"""Of a silhouette; roots of what is nearly 0 lose half of the digits."""


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
    if len(table) < 3:
        return np.zeros(len(table), dtype=np.int64)
    groups, quality = _best(_distances(table))
    if not groups.any() or quality < least:
        return np.zeros_like(groups)
    rng, totals, pooled = np.random.default_rng(seed), table.sum(axis=1), table.sum(axis=0)
    reached = 1
    for _ in range(_DRAWS if level < 1 else 0):
        reached += _reaches(rng.multinomial(totals, pooled / pooled.sum()), quality)
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


def silhouette(counts: npt.ArrayLike, groups: IntArray) -> float:
    """How far groups show in the shares of labels: their mean silhouette, by the same distances.

    Parameters
    ----------
    counts : (n_clients, n_labels) integers, dense or sparse
        Training samples of each client by label.
    groups : (n_clients,) int64
        Two groups at least, numbered from 0.

    Returns
    -------
    float
        From -1 to 1; about 0 where labels have nothing to do with the groups.
    """
    return _silhouette(_distances(dense(validate_counts(counts))), groups)


def _distances(table: IntArray) -> FloatArray:
    """Root Jensen-Shannon divergences between the rows' shares, ``(n_clients, n_clients)``."""
    from scipy.spatial.distance import pdist, squareform

    # Of equal shares rounding may make the root of a number below 0.
    apart = np.nan_to_num(pdist(table / table.sum(axis=1, keepdims=True), "jensenshannon"))
    distances: FloatArray = squareform(apart)
    return distances


def _best(distances: FloatArray) -> tuple[IntArray, float]:
    """The grouping with the largest mean silhouette, and that."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    count = len(distances)
    tree = linkage(squareform(distances, checks=False), "average")
    # Equal heights are one cut, also where rounding has put a later merge below an earlier one.
    heights = np.maximum.accumulate(tree[:, 2])
    found, best = np.zeros(count, dtype=np.int64), -1.0
    labels, cuts = np.arange(count), []
    for step, (one, other) in enumerate(tree[:-1, :2]):
        labels = np.where((labels == one) | (labels == other), count + step, labels)
        if count - step - 1 <= _MOST and heights[step] < heights[step + 1]:
            cuts.append(labels)
    for labels in reversed(cuts):
        groups = numbered(labels)
        if (quality := _silhouette(distances, groups)) > best:
            found, best = groups, quality
    return found, best


def _reaches(table: IntArray, quality: float) -> bool:
    """Whether some grouping has so large a mean silhouette; cheap bounds tell a clear no."""
    if _ceiling(_hellinger(table), _LEAST_OF_HELLINGER) < quality:
        return False
    distances = _distances(table)
    return _ceiling(distances) >= quality and _best(distances)[1] >= quality


def _hellinger(table: IntArray) -> FloatArray:
    """Hellinger distances between the rows' shares: one product of matrices."""
    roots = np.sqrt(table / table.sum(axis=1, keepdims=True))
    distances: FloatArray = np.sqrt(np.maximum(1 - roots @ roots.T, 0))
    np.fill_diagonal(distances, 0)
    return distances


def _ceiling(distances: FloatArray, least: float = 1.0) -> float:
    """No grouping has a larger mean silhouette, where distances are these times ``least`` to 1.

    In a group of c clients, one is at least as far from the others in the mean as from the c - 1
    nearest, and at most as far from some other group as from the n - c furthest.
    """
    ordered = np.sort(distances, axis=1)
    sums, count = ordered.cumsum(axis=1), len(distances)
    size = np.arange(2, count)
    near = least * sums[:, 1:-1] / (size - 1)
    far = (sums[:, -1:] - sums[:, 1:-1]) / (count - size)
    ratios = np.divide(near, far, out=np.ones_like(near), where=far > 0)
    return float((1 - ratios.min(axis=1)).mean()) + _ROUNDING


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
