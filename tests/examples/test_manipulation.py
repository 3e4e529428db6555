"""Clients that exaggerate: what the server is told, what it gains, what rank and caps hold."""

from __future__ import annotations

import manipulation
import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import rules, scores
from hasa_opt.errors import InputError

COUNTS = np.array([[90, 5, 5, 0], [10, 80, 10, 0], [30, 30, 38, 2], [2, 3, 15, 1], [60, 60, 60, 4]])
CLIENTS = hasa.Clients(COUNTS.sum(axis=1), counts=COUNTS)


def test_what_the_server_is_told():
    told = manipulation.reported(CLIENTS, 1, "one_hot", factor=2)
    assert told.counts[1].tolist() == [0, 0, 0, 200]
    told = manipulation.reported(CLIENTS, 1, "scaled", factor=10)
    assert told.counts[1].tolist() == [100, 800, 100, 0]
    told = manipulation.reported(CLIENTS, 3, "scaled", factor=0.1)
    assert told.counts[3].tolist() == [1, 1, 2, 1]
    told = manipulation.reported(CLIENTS, 1, "samples", factor=10)
    assert told.samples.tolist() == [100, 1000, 100, 21, 184]
    np.testing.assert_array_equal(told.counts, COUNTS)
    np.testing.assert_array_equal(CLIENTS.counts, COUNTS)  # the truth stays


def test_honest_others_are_not_touched():
    for lie in manipulation.LIES:
        told = manipulation.reported(CLIENTS, 2, lie)
        others = np.arange(5) != 2
        np.testing.assert_array_equal(told.counts[others], COUNTS[others])
        np.testing.assert_array_equal(told.samples[others], CLIENTS.samples[others])


@pytest.mark.parametrize("lie", manipulation.LIES)
@pytest.mark.parametrize("score", ["jensen_shannon", "excess"])
def test_each_client_lies_in_turn(lie, score):
    found = manipulation.grab(CLIENTS, lie, factor=5, score=score)
    truth = COUNTS.sum(axis=1)
    honest = rules.hasa(scores.SCORES[score](COUNTS), truth)
    np.testing.assert_allclose(found.honest, honest)
    for row in range(5):
        told = manipulation.reported(CLIENTS, row, lie, 5)
        widths = rules.hasa(scores.SCORES[score](told.counts), told.samples)
        assert found.widths[row] == pytest.approx(widths)
        assert found.gain[row] == pytest.approx(widths[row] - honest[row])
        assert found.lost[row] == pytest.approx(np.delete(honest - widths, row).max())
        others = np.delete(widths, row).std() / np.delete(honest, row).std()
        assert found.kept[row] == pytest.approx(others)
        assert found.spent[row] == pytest.approx((truth * widths).sum() / truth.sum())
    if lie != "samples":
        np.testing.assert_allclose(found.spent, 0.5)


def test_one_token_of_each_kind_is_enough_for_the_top_rank():
    found = manipulation.grab(CLIENTS, "one_hot", factor=1)
    liars = [
        scores.jensen_shannon(manipulation.reported(CLIENTS, row, "one_hot", 1).counts).argmax()
        for row in range(5)
    ]
    assert liars == list(range(5))
    assert found.gain.max() > 0.2


def test_no_lie_passes_a_cap():
    caps = np.array([0.5, 0.3, 0.7, 0.4, 0.6])
    capped = hasa.Clients(CLIENTS.samples, counts=COUNTS, max_width=caps)
    for lie in manipulation.LIES:
        found = manipulation.grab(capped, lie, budget=0.45)
        assert np.all(found.widths <= caps + 1e-12)


@pytest.mark.parametrize("score", ["jensen_shannon", "excess"])
def test_ranks_keep_the_others_apart_where_scores_push_them_together(score):
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 800, 30)
    counts = [rng.multinomial(size, rng.dirichlet(np.full(8, 3.0))) for size in sizes]
    many = hasa.Clients.from_counts(counts)
    kept = {
        by: manipulation.grab(many, "one_hot", score=score, by=by).kept for by in ("rank", "score")
    }
    assert np.median(kept["rank"]) > 0.9
    assert np.median(kept["score"]) < np.median(kept["rank"]) - 0.2


def test_two_clients_have_no_spread_to_lose():
    two = hasa.Clients.from_counts([[3, 4], [9, 1]])
    assert manipulation.grab(two, "scaled").kept.tolist() == [1.0, 1.0]


def test_it_prints_what_each_lie_gains(capsys):
    manipulation.main()
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(":")[0].split() for line in lines]
    assert told == [[lie, "by", by] for lie in manipulation.LIES for by in ("rank", "score")]


def test_clients_without_counts_are_refused():
    with pytest.raises(InputError, match="no counts"):
        manipulation.grab(hasa.Clients([3, 4]), "scaled")
