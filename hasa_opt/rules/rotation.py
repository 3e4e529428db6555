"""Groups of alike clients, found in their updates by a test of rotations.

Whoever trains on other data moves the weights another way, so the cosines of the clients' updates
show groups that counts of labels do not. By chance alone they show groups as well: a rotation test
(Langsrud 2005) says how often. The idea of grouping by the cosines of updates is that of clustered
federated learning (Sattler et al., arXiv:1910.01991), which splits at a constant of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, number, real_array, whole
from hasa_opt._utils.groups import expect_square, expect_symmetric, numbered, sizes_in_words
from hasa_opt.errors import InputError

__all__ = ["LEVEL", "MOST_BETWEEN", "Found", "by_updates"]

LEVEL = 0.01
"""Share of runs without groups in which groups may be found. A missed group costs a later check, a
false one the rest of the run."""

MOST_BETWEEN = 0.5
"""Share of the cosines inside two groups that the cosine between them may reach, at most. Where all
share one direction, and noise alone differs, that share is 1; where nothing is shared, it is 0."""

_BEYOND = 10
"""Rotations beyond the statistic that the level allows: their number is then known to a third."""

_BATCH, _ENTRIES = 64, 1 << 18
"""Most rotations at a time, so that a clear no ends soon, and entries of their matrices."""

_ROUNDING = 1e-6
"""Of cosines in single precision."""

_FEWEST = 4
"""Clients that two groups of two need."""

_LEAST = 1e-12
"""Share of a sum of squares that counts as none, as between equal updates."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a test for groups found, and why.

    Attributes
    ----------
    groups : (n_clients,) int64
        Group of each client, numbered by first appearance; all 0 where there are no groups.
    p_value : float
        Share of rotations that reach the statistic, the updates themselves counted; 1 where no
        groups contradict each other.
    statistic : float
        The largest ratio F of groups that contradict each other; 0 where none do.
    draws : int
        Rotations that were drawn.
    reason : str
        The result in plain words.
    """

    groups: IntArray
    p_value: float
    statistic: float
    draws: int
    reason: str

    def __str__(self) -> str:
        return self.reason


def by_updates(
    similarity: npt.ArrayLike, *, level: float = LEVEL, draws: int | None = None, seed: int = 0
) -> Found:
    """Group clients by the cosines of their updates, if no chance explains them.

    Average linkage of the squared distances ``C_ii + C_jj - 2 C_ij``. A level of the tree, with k
    groups, counts if at least two groups have two clients or more and at most one client is alone.
    Its statistic is the ratio of the mean squares between and within groups, F = ((B - 1'C1/n) /
    (k - 1)) / ((tr C - B) / (n - k)), B the sum over groups of what C holds inside, by its clients
    (Calinski and Harabasz 1974). It *contradicts* if in each group of two or more the mean cosine w
    of different clients is positive, and between two such groups g and h the mean cosine is at most
    half of sqrt(w_g w_h). The groups are those of the contradicting level with the largest F.

    They are found if few random rotations of the clients that leave the vector of ones where it is
    have so large an F at a level that counts: of clients of one kind, with noise alike, any such
    rotation is as likely. That holds for updates, not for their cosines, whose diagonal of ones a
    rotation does not keep. So each rotation first gives the updates lengths, drawn as noise of that
    many dimensions has them, and takes the cosines of what it turned. Without this, at the level
    5 %, groups were found in 9 to 66 % of draws of 8 to 20 clients with nothing in common; with it
    in 0 to 7 %. The draws end as soon as too many have reached F (Besag and Clifford 1991), so that
    a clear no is cheap.

    Parameters
    ----------
    similarity : (n_clients, n_clients) float
        Cosines of the clients' updates of the same rounds on coordinates that all trained. A client
        that sent nothing has NaN in its whole row and column.
    level : float
        Share of runs without groups in which groups may be found. Whoever asks several times
        divides it by the number of times.
    draws : int, optional
        Most rotations; ``10 / level - 1`` if left out. A thousand take a second for 40 clients,
        some 20 for 200.
    seed : int
        Of the rotations.

    Returns
    -------
    Found
        A client that sent nothing is in the largest group of the others, the one that it most
        likely belongs to.

    Raises
    ------
    InputError
        If the similarities are no cosines, or so few draws cannot reach the level.

    Examples
    --------
    >>> print(by_updates(np.kron(np.eye(2), np.full((3, 3), 0.8)) + 0.2 * np.eye(6)))
    2 groups of 3 and 3 clients: F = 13, reached by 0 of 999 rotations, p = 0.001
    """
    level, most = _checked(level, draws)
    cosines, sent = _cosines(similarity)
    groups = np.zeros(len(sent), dtype=np.int64)
    if len(cosines) < _FEWEST:
        why = f"no groups: {len(cosines)} clients sent updates, two groups of two need {_FEWEST}"
        return Found(groups, 1.0, 0.0, 0, why)
    inside, statistic = _clearest(cosines)
    if not inside.any():
        return Found(groups, 1.0, 0.0, 0, "no groups: no two groups of clients contradict")
    stop = floor(level * (most + 1) + 1e-9)
    reached, drawn = _reached(cosines, inside, statistic, most, stop, whole(seed, "seed"))
    p_value = reached / drawn if reached == stop else (reached + 1) / (drawn + 1)
    sizes = np.bincount(inside)
    words = (
        f"{sizes.size} groups of {sizes_in_words(sizes)} clients: F = {statistic:.3g}, reached by "
        f"{reached} of {drawn:,} rotations, p = {p_value:.2g}"
    )
    if reached == stop:
        why = f"no groups: {words}, above the level of {level:g}"
        return Found(groups, p_value, statistic, drawn, why)
    groups[:] = np.argmax(sizes)
    groups[sent] = inside
    return Found(numbered(groups), p_value, statistic, drawn, words)


def _checked(level: float, draws: int | None) -> tuple[float, int]:
    """The level, and how many rotations there may be."""
    level = number(level, "level")
    if not 0 < level < 1:
        raise InputError(f"level {level:g} must lie in (0, 1), for example {LEVEL}")
    if draws is None:
        return level, ceil(_BEYOND / level) - 1
    needed = ceil(1 / level - 1e-9) - 1
    if whole(draws, "draws") < needed:
        raise InputError(f"draws {draws} never reach the level {level:g}: give at least {needed}")
    return level, draws


def _cosines(similarity: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Cosines between those who sent something, and who did."""
    table = real_array(similarity, "similarities")
    expect_square(table.shape)
    sent, own = ~np.isnan(np.diagonal(table)), np.eye(len(table))
    table = np.where(np.outer(sent, sent), table, own)
    bad = ~((table >= np.where(own, 1, -1) - _ROUNDING) & (table <= 1 + _ROUNDING))
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise InputError(
            f"similarity of {row} and {column} is {table[row, column]:g}: give cosines, from -1 to "
            "1, with ones on the diagonal, and NaN in the whole row and column of a client that "
            "sent nothing"
        )
    expect_symmetric(table, _ROUNDING)
    return ((table + table.T) / 2)[np.ix_(sent, sent)], sent


def _clearest(cosines: FloatArray) -> tuple[IntArray, float]:
    """Groups of the contradicting level with the largest ratio, and that; else all 0, and 0."""
    (tree,) = trees = _trees(cosines[None])
    (ratios,) = _ratios(trees)
    found, best = np.zeros(len(cosines), dtype=np.int64), 0.0
    labels = np.arange(len(cosines))
    for step, (one, other) in enumerate(tree[:-1, :2]):
        labels[(labels == one) | (labels == other)] = len(cosines) + step
        if ratios[step] > best and _contradict(cosines, labels):
            found, best = numbered(labels), float(ratios[step])
    return found, best


def _contradict(cosines: FloatArray, labels: IntArray) -> bool:
    """Whether groups of two or more are alike inside, and far less so to each other."""
    members = (labels[:, None] == np.unique(labels)).astype(float)
    sizes = members.sum(axis=0)
    members, sizes = members[:, sizes > 1], sizes[sizes > 1]
    sums = members.T @ cosines @ members
    inside = (np.diag(sums) - sizes) / (sizes * (sizes - 1))
    if inside.min() <= 0:
        return False
    most = MOST_BETWEEN * np.sqrt(np.outer(inside, inside)) * np.outer(sizes, sizes)
    return bool((sums <= most)[~np.eye(sizes.size, dtype=bool)].all())


def _reached(
    cosines: FloatArray, groups: IntArray, statistic: float, most: int, stop: int, seed: int
) -> tuple[int, int]:
    """How many rotations reach a statistic, and of how many; they end when ``stop`` have."""
    lengths, directions = np.random.default_rng(seed).spawn(2)
    spread = _spread(cosines, groups)
    reached, drawn = 0, 0
    while drawn < most:
        count = min(_BATCH, max(1, _ENTRIES // cosines.size), most - drawn)
        updates = _lengthened(cosines, spread, count, lengths)
        turned = _turned(updates, _rotations(len(cosines), count, directions))
        beyond = reached + np.cumsum(_ratios(_trees(turned)).max(axis=1) >= statistic)
        if beyond[-1] >= stop:
            return stop, drawn + int(np.argmax(beyond == stop)) + 1
        reached, drawn = int(beyond[-1]), drawn + count
    return reached, drawn


def _spread(cosines: FloatArray, groups: IntArray) -> float:
    """Variance of the cosines around their means inside and between groups."""
    members = np.eye(groups.max() + 1)[groups]
    off = 1 - np.eye(len(cosines))
    pairs = members.T @ off @ members
    means = members.T @ (cosines * off) @ members / np.maximum(pairs, 1)
    rest = (cosines - means[np.ix_(groups, groups)]) * off
    free = off.sum() / 2 - np.count_nonzero(np.triu(pairs))
    return float((rest**2).sum() / 2 / max(free, 1))


def _lengthened(
    cosines: FloatArray, spread: float, count: int, rng: np.random.Generator
) -> FloatArray:
    """Products of updates with these cosines, ``count`` times, their lengths drawn as of noise.

    Of normal noise in d dimensions cosines have variance 1 / d, squared lengths 2 / d.
    """
    variance = max(2 * spread, _LEAST)
    lengths = np.sqrt(rng.gamma(1 / variance, variance, (count, len(cosines))))
    products: FloatArray = cosines * lengths[:, :, None] * lengths[:, None, :]
    return products


def _rotations(n_clients: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Matrices that leave the vector of ones where it is, uniform in the other dimensions."""
    from scipy.linalg import helmert

    basis = helmert(n_clients)
    q, r = np.linalg.qr(rng.standard_normal((count, n_clients - 1, n_clients - 1)))
    # Without the signs of the diagonal the factor is not uniform (Stewart 1980).
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    rotations: FloatArray = 1 / n_clients + basis.T @ q @ basis
    return rotations


def _turned(updates: FloatArray, rotations: FloatArray) -> FloatArray:
    """Cosines of the updates after each rotation."""
    turned = rotations @ updates @ rotations.transpose(0, 2, 1)
    lengths = np.sqrt(np.maximum(np.diagonal(turned, axis1=1, axis2=2), _LEAST))
    cosines: FloatArray = turned / lengths[:, :, None] / lengths[:, None, :]
    return cosines


def _trees(tables: FloatArray) -> FloatArray:
    """Average linkage of each matrix, ``(n_tables, n_clients - 1, 4)`` as SciPy gives it."""
    from scipy.cluster.hierarchy import linkage

    one, other = np.triu_indices(tables.shape[1], 1)
    own = np.diagonal(tables, axis1=1, axis2=2)
    apart = own[:, one] + own[:, other] - 2 * tables[:, one, other]
    return np.stack([linkage(row, "average") for row in apart])


def _ratios(trees: FloatArray) -> FloatArray:
    """F after each merge but the last, ``(n_trees, n_clients - 2)``; -inf of levels not counted.

    The height of a merge is the mean squared distance between two groups. What is left of it
    without their own mean squares is the squared distance of their means.
    """
    n_trees, n_clients = len(trees), trees.shape[1] + 1
    sizes = np.ones((n_trees, 2 * n_clients - 1))
    sizes[:, n_clients:] = trees[:, :, 3]
    squares = np.zeros_like(sizes)  # of a group around its mean
    added = np.empty((n_trees, n_clients - 1))
    children = trees[:, :, :2].astype(np.int64)
    rows = np.arange(n_trees)
    for step in range(n_clients - 1):
        one, other = (rows, children[:, step, 0]), (rows, children[:, step, 1])
        n_one, n_other = sizes[one], sizes[other]
        between = trees[:, step, 2] - squares[one] / n_one - squares[other] / n_other
        added[:, step] = n_one * n_other / (n_one + n_other) * between
        squares[:, n_clients + step] = squares[one] + squares[other] + added[:, step]
    within = added.cumsum(axis=1)
    total, within = within[:, -1:], within[:, :-1]
    n_groups = np.arange(n_clients - 1, 1, -1)
    alone = n_clients - (children < n_clients).sum(axis=2).cumsum(axis=1)[:, :-1]
    left = np.maximum(within, np.maximum(_LEAST * total, np.finfo(float).tiny))
    ratios = ((total - within) / (n_groups - 1)) / (left / (n_clients - n_groups))
    return np.where((n_groups - alone >= 2) & (alone <= 1), ratios, -np.inf)
