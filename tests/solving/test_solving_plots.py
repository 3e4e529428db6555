"""Pictures of frontiers, sensitivities and comparisons show the numbers that these hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.solving.comparison import Comparison, ComparisonRow

figures = pytest.importorskip("matplotlib.figure")


def fleet(n_clients: int) -> hasa.AllocationProblem:
    rng = np.random.default_rng(0)
    return hasa.AllocationProblem.build(
        hasa.Clients(rng.integers(1, 500, n_clients)),
        widths=np.arange(1, 9) / 10,
        budget=0.4,
        utility=hasa.utility.hasa(rng.random(n_clients)),
    )


def sensitivity(n_clients: int) -> hasa.Sensitivity:
    return hasa.sensitivity(hasa.solve(fleet(n_clients), "exact"), n_samples=10)


def test_a_frontier_is_its_points() -> None:
    budgets = [0.2, 0.4, 0.6]
    found = hasa.frontier(fleet(20), budgets)
    axes = found.plot().axes[0]
    assert axes.lines[0].get_xdata().tolist() == budgets
    assert axes.lines[0].get_ydata().tolist() == found.objectives.tolist()
    mine = figures.Figure()
    assert found.plot(ax=mine.add_subplot()) is mine
    with pytest.raises(InputError, match="ax is a ndarray"):
        found.plot(ax=figures.Figure().subplots(2))


def test_few_clients_have_a_bar_over_the_prices_that_change_nothing() -> None:
    found = sensitivity(10)
    axes = found.plot().axes[0]
    near = axes.get_xlim()
    bars = axes.containers[0]
    starts, ends = np.array([(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]).T
    assert starts == pytest.approx(np.clip(found.widen_price, *near))
    assert ends == pytest.approx(np.clip(found.narrow_price, *near))
    assert axes.lines[0].get_xdata()[0] == found.result.price
    assert len(axes.get_yticks()) == 10


@pytest.mark.parametrize("n_clients", [1000, pytest.param(3000, marks=pytest.mark.slow)])
def test_many_clients_are_counted_where_they_change(n_clients: int) -> None:
    found = sensitivity(n_clients)
    wider, narrower = found.plot().axes[0].lines[:2]
    for line, prices, sign in ((wider, found.widen_price, -1), (narrower, found.narrow_price, 1)):
        finite = prices[np.isfinite(prices)]
        at, count = line.get_xdata(), line.get_ydata()
        assert len(at) == min(finite.size, 2000)
        assert count[-1] == finite.size
        for place in (0, len(at) // 2, -1):
            reached = sign * finite <= sign * at[place]
            assert count[place] == np.count_nonzero(reached)


@pytest.mark.parametrize("n_clients", [10, 1000])
def test_how_sure_widths_are(n_clients: int) -> None:
    found = sensitivity(n_clients)
    axes = found.plot("noise").axes[0]
    if n_clients == 10:
        assert [bar.get_width() for bar in axes.containers[0]] == found.kept.tolist()
        return
    line = axes.lines[0]
    assert line.get_xdata().tolist() == np.sort(found.kept).tolist()
    assert line.get_ydata().tolist() == list(range(1, n_clients + 1))


def test_what_a_sensitivity_does_not_have_is_refused() -> None:
    with pytest.raises(hasa.InputError, match='"price" or "noise"'):
        sensitivity(5).plot("colour")


def test_a_price_of_zero_shows_all_prices() -> None:
    found = hasa.sensitivity(hasa.solve(fleet(10).with_budget(0.9), "exact"), n_samples=1)
    assert found.result.price == 0
    low, high = found.plot().axes[0].get_xlim()
    finite = found.narrow_price[np.isfinite(found.narrow_price)]
    assert low <= 0
    assert high >= finite.max()


def test_a_comparison_is_its_seconds_and_how_each_ended() -> None:
    rows = (
        ComparisonRow("exact", "optimal", 2.0, 2.0, 0.0, 0.5, True),
        ComparisonRow("greedy", "gap reached", 1.0, 2.0, 1.0, 0.01, True),
        ComparisonRow("liar", "failed", 1.0, 2.0, 1.0, 3.0, False),
        ComparisonRow("flow", "not run"),
    )
    axes = Comparison(rows).plot().axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [0.5, 0.01, 3.0]
    assert len({line.get_color() for line in points}) == 3
    assert [text.get_text().strip() for text in axes.texts] == [
        "optimal, gap 0.0e+00", "gap reached, gap 1.0e+00", "failed, FALSE claim", "not run",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.solver for row in rows]
    assert Comparison(tuple(replace(row, cpu_seconds=None) for row in rows)).plot().axes


def test_a_comparison_that_was_run_is_drawn() -> None:
    found = hasa.compare(fleet(10), ["highs", "greedy"])
    points = [line for line in found.plot().axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(
        [max(row.cpu_seconds, 1e-4) for row in found.rows]
    )
