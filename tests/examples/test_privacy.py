"""What private scores cost, by the example: clients that change width, and the figure."""

from __future__ import annotations

from math import sqrt

import numpy as np
import privacy
import pytest
from matplotlib.figure import Figure

import hasa_opt as hasa
from hasa_opt import scores
from hasa_opt.errors import InputError
from hasa_opt.rules.private import sigma


def clients() -> hasa.Clients:
    rng = np.random.default_rng(3)
    counts = rng.multinomial(400, rng.dirichlet(np.full(10, 0.5), 12).mean(axis=0), size=12)
    counts[:6] = rng.multinomial(400, rng.dirichlet(np.full(10, 0.5)), size=6)
    return hasa.Clients.from_counts(counts * rng.integers(1, 6, (12, 1)))


def test_fewer_clients_change_width_the_larger_epsilon():
    found = privacy.widths_against_epsilon(
        clients(), [0.01, 1, 1e6], seeds=range(8), solver="highs"
    )
    assert found.widths.shape == (3, 8, 12)
    share = found.changed.mean(axis=1)
    assert share[0] > share[1] > share[2] == 0
    assert abs(share[0] - found.changed_by_chance) < 3
    assert found.sigmas[0] == pytest.approx(sigma(0.01, 1e-5, sqrt(2)))
    scored = scores.private(clients().counts, 1, 1e-5, seed=2)
    problem = hasa.AllocationProblem.build(
        clients(), widths=(0.2, 0.35, 0.5, 0.65, 0.8), budget=0.5,
        utility=hasa.utility.hasa(scored),
    )  # fmt: skip
    assert found.widths[1, 2].tolist() == hasa.solve(problem, "highs").widths.tolist()
    assert found.changed[1, 2] == (found.widths[1, 2] != found.plain).sum()


def test_the_figure_shows_the_shares():
    found = privacy.widths_against_epsilon(clients(), [0.1, 100], seeds=range(3), solver="highs")
    axes = Figure().add_subplot()
    found.draw(axes)
    shown = axes.lines[0].get_ydata()
    np.testing.assert_allclose(shown, 100 * found.changed.mean(axis=1) / 12)
    assert axes.lines[0].get_xdata().tolist() == [0.1, 100]
    assert "epsilon" in axes.get_xlabel().lower()


def test_training_with_the_widths_learns_something(monkeypatch):
    monkeypatch.setattr(privacy, "ROUNDS", 3)
    assert privacy.accuracy(np.full(7, 0.5), seed=0) > 15  # of ten classes


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([0.0],), {}, "epsilon"),
        (([1.0],), {"unit": "client"}, "give a finite clip"),
        (([1.0],), {"delta": 2}, "delta"),
    ],
)
def test_bad_mechanisms_are_refused(arguments, options, words):
    with pytest.raises(InputError, match=words):
        privacy.widths_against_epsilon(clients(), *arguments, **options)


def test_clients_without_counts_are_refused():
    with pytest.raises(InputError, match="no counts"):
        privacy.widths_against_epsilon(hasa.Clients([3, 4]), [1.0])
