"""Groups of alike clients by the cosines of their updates."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from hasa_opt.errors import InputError
from hasa_opt.rules import by_updates, rotation


def cosines_of(updates):
    updates = updates / np.linalg.norm(updates, axis=1, keepdims=True)
    return updates @ updates.T


def planted(groups, seed, *, noise=1.0, dimensions=300):
    """One direction common to all, one for each group, and noise."""
    rng = np.random.default_rng(seed)
    updates = noise * rng.standard_normal((len(groups), dimensions)) / np.sqrt(dimensions)
    updates[:, 0] += 0.3
    updates[np.arange(len(groups)), 1 + np.asarray(groups)] += 1
    return cosines_of(updates)


def without_groups(n_clients, seed, dimensions=300):
    rng = np.random.default_rng(seed)
    return cosines_of(rng.standard_normal((n_clients, dimensions)))


def clearest_by_definition(c):
    """The contradicting level with the largest F, every mean and sum taken anew."""
    n = len(c)
    groups, found, best = [[i] for i in range(n)], None, 0.0
    while len(groups) > 2:
        apart = {
            (a, b): np.mean([c[i, i] + c[j, j] - 2 * c[i, j] for i in groups[a] for j in groups[b]])
            for a, b in combinations(range(len(groups)), 2)
        }
        a, b = min(apart, key=apart.get)
        rest = [members for at, members in enumerate(groups) if at not in (a, b)]
        groups = [*rest, groups[a] + groups[b]]
        large = [members for members in groups if len(members) > 1]
        if len(large) < 2 or len(groups) - len(large) > 1:
            continue
        inside = [np.mean([c[i, j] for i, j in combinations(g, 2)]) for g in large]
        if min(inside) <= 0 or any(
            np.mean(c[np.ix_(large[a], large[b])]) > 0.5 * np.sqrt(inside[a] * inside[b])
            for a, b in combinations(range(len(large)), 2)
        ):
            continue
        k, held = len(groups), sum(c[np.ix_(g, g)].sum() / len(g) for g in groups)
        ratio = ((held - c.sum() / n) / (k - 1)) / ((np.trace(c) - held) / (n - k))
        if ratio > best:
            found, best = {frozenset(g) for g in groups}, ratio
    return found, best


def members(groups):
    return {frozenset(np.flatnonzero(groups == at).tolist()) for at in np.unique(groups)}


@pytest.mark.parametrize("seed", range(6))
def test_the_statistic_and_the_groups_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, rng.integers(6, 11))
    similarity = planted(groups, seed, noise=1.5, dimensions=20)
    expected, statistic = clearest_by_definition(similarity)
    found = by_updates(similarity, level=0.9)
    assert found.statistic == pytest.approx(statistic)
    if expected is None:
        assert not found.groups.any()
        assert (found.p_value, found.draws) == (1.0, 0)
    elif found.p_value <= 0.9:
        assert members(found.groups) == expected


@pytest.mark.parametrize(
    "groups",
    [
        [0, 0, 0, 1, 1],
        [0, 1, 0, 1, 0, 1, 0, 1],
        [0, 1, 2, 2, 1, 0, 0, 1, 2],
        [0, 0, 0, 0, 1, 1, 1, 2],
    ],
)
def test_planted_groups_are_found_a_lone_client_among_them(groups):
    found = by_updates(planted(groups, 0, noise=0.7))
    assert found.groups.dtype == np.int64
    assert found.groups.tolist() == groups
    assert found.p_value <= 0.01
    assert found.draws == 999


def test_the_result_in_words():
    found = by_updates(planted([0, 0, 0, 0, 1, 1, 1, 2], 0, noise=0.7))
    assert str(found) == found.reason
    assert str(found).startswith("3 groups of 4, 3 and 1 clients: F = ")
    assert f"of 999 rotations, p = {found.p_value:.2g}" in str(found)
    assert str(by_updates(np.ones((5, 5)))) == "no groups: no two groups of clients contradict"
    assert str(by_updates(np.eye(3))).startswith("no groups: 3 clients sent updates")
    assert "above the level of 0.01" in str(by_updates(without_groups(8, 0)))


@pytest.mark.slow
def test_chance_is_seldom_taken_for_groups():
    """Rotations of the cosines alone, without lengths, find groups in 26 of these 40 draws."""
    found = [by_updates(without_groups(20, seed), level=0.05) for seed in range(40)]
    assert sum(bool(result.groups.any()) for result in found) <= 5
    assert all(result.groups.any() == (result.p_value <= 0.05) for result in found)


def test_unequal_noise_around_one_direction_does_not_contradict():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((10, 300)) * np.repeat([0.02, 0.1], 5)[:, None]
        noise[:, 0] += 1
        assert not by_updates(cosines_of(noise), level=0.5).groups.any()


def test_a_clear_no_is_cheap():
    found = by_updates(without_groups(8, 0), level=0.01)
    assert found.draws < 500
    assert found.p_value == 10 / found.draws
    few = by_updates(without_groups(8, 0), level=0.01, draws=99)
    assert few.p_value == 1 / few.draws


def test_the_order_of_the_clients_only_permutes_the_groups():
    groups = np.array([0, 1, 0, 1, 0, 1, 2, 2])
    similarity = planted(groups, 3, noise=0.6)
    order = np.random.default_rng(0).permutation(8)
    turned = by_updates(similarity[np.ix_(order, order)])
    found = by_updates(similarity)
    assert members(turned.groups) == members(found.groups[order])
    assert turned.groups[0] == 0
    assert turned.statistic == pytest.approx(found.statistic)


def test_a_seed_decides_the_draws_and_their_batches_do_not(monkeypatch):
    similarity = without_groups(8, 1)
    first = by_updates(similarity, seed=5)
    assert by_updates(similarity, seed=5).p_value == first.p_value
    assert by_updates(similarity, seed=6).p_value != first.p_value
    monkeypatch.setattr(rotation, "_BATCH", 7)
    assert by_updates(similarity, seed=5).p_value == first.p_value


def test_rotations_leave_ones_where_they_are_and_are_uniform_in_the_rest():
    turned = rotation._rotations(5, 4000, np.random.default_rng(0))
    assert np.allclose(turned @ turned.transpose(0, 2, 1), np.eye(5))
    assert np.allclose(turned.sum(axis=2), 1)
    inner = np.eye(5) - 0.2
    # In the mean Q is the projection onto the ones; <a, Q b> of unit vectors has variance 1/4.
    assert np.allclose(turned.mean(axis=0), 0.2, atol=0.03)
    along = np.einsum("i,tij,j->t", inner[0], turned, inner[0]) / inner[0, 0]
    assert along.var() == pytest.approx(1 / 4, abs=0.02)


def test_clients_that_sent_nothing_join_the_largest_group():
    groups = np.array([0, 0, 0, 1, 1, 1, 1])
    similarity = np.full((9, 9), np.nan)
    there = np.array([1, 2, 3, 5, 6, 7, 8])
    similarity[np.ix_(there, there)] = planted(groups, 0, noise=0.6)
    found = by_updates(similarity)
    assert found.groups.tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert found.reason.startswith("2 groups of 4 and 3 clients")
    assert not by_updates(np.full((3, 3), np.nan)).groups.any()


def test_what_is_no_matrix_of_cosines_is_refused():
    good = planted([0, 0, 1, 1], 0)
    with pytest.raises(InputError, match=r"shape \(4, 3\): give a square matrix"):
        by_updates(good[:, :3])
    crooked = np.full((5, 5), np.nan)
    crooked[1:, 1:] = good
    crooked[3, 2] += 0.1
    with pytest.raises(InputError, match=r"similarity of 2 and 3 .* symmetric"):
        by_updates(crooked)
    with pytest.raises(InputError, match=r"similarity of 0 and 0 is 4: give cosines"):
        by_updates(4 * good)
    hole = good.copy()
    hole[0, 3] = hole[3, 0] = np.nan
    with pytest.raises(InputError, match=r"0 and 3 is nan: .* NaN in the whole row"):
        by_updates(hole)


def test_single_precision_is_taken():
    similarity = planted([0, 1, 0, 1, 0, 1, 0, 1], 0, noise=0.7).astype(np.float32)
    assert by_updates(similarity).groups.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_levels_that_cannot_be_reached_are_refused():
    good = planted([0, 0, 1, 1], 0)
    with pytest.raises(InputError, match=r"draws 98 never .* level 0\.01: give at least 99"):
        by_updates(good, draws=98)
    with pytest.raises(InputError, match=r"level 1 must lie in \(0, 1\)"):
        by_updates(good, level=1)
    assert by_updates(good, level=0.01 / 5).draws <= 4999
