"""Pictures of problems and allocations show the numbers that these hold, at any size."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.problem.plots import dominated, plot_groups, plot_options

figures = pytest.importorskip("matplotlib.figure")

WIDTHS = (0.25, 0.5, 0.75, 1.0)


def fleet(n_clients: int, sites: int = 3, seed: int = 0) -> hasa.AllocationProblem:
    rng = np.random.default_rng(seed)
    clients = hasa.Clients(
        rng.integers(1, 500, n_clients),
        names=[f"device $x_{row}$ of a rather long name" for row in range(n_clients)],
        site=rng.integers(0, sites, n_clients).tolist(),
        max_width=rng.choice([0.5, 0.75, 1.0], n_clients),
    )
    return hasa.AllocationProblem.build(
        clients, widths=WIDTHS, budget=0.5,
        utility=hasa.utility.measured(rng.random((n_clients, 4))),
    )  # fmt: skip


def texts(labels) -> list[str]:
    return [label.get_text() for label in labels]


def lengths(bars) -> list[float]:
    return [bar.get_width() for bar in bars]


def test_few_clients_have_a_bar_each_as_wide_as_their_subnet() -> None:
    problem = fleet(10)
    result = hasa.solve(problem, "greedy")
    axes = result.plot().axes[0]
    widest, has = axes.containers
    assert lengths(has) == result.widths.tolist()
    assert lengths(widest) == problem.clients.max_width.tolist()
    assert len(axes.get_yticks()) == 10
    assert texts(axes.get_yticklabels())[3].startswith("device $x_3$ of")
    assert all(len(name) <= 26 for name in texts(axes.get_yticklabels()))
    assert not any(label.get_parse_math() for label in axes.get_yticklabels())


def test_options_without_widths_are_points_on_their_names() -> None:
    menu = hasa.Menu(
        ["skip", "light", "full"], costs={"joules": [0, 3, 7]}, per="client", full="full",
        allowed=[[True, True, False], [True, True, True]],
    )  # fmt: skip
    problem = hasa.AllocationProblem.build(
        hasa.Clients([5, 6]), menu=menu, budget=0.75,
        utility=hasa.utility.measured([[0, 1, np.nan], [0, 3, 9]]),
    )  # fmt: skip
    axes = hasa.solve(problem, "highs").plot().axes[0]
    can, has = (points.get_offsets().tolist() for points in axes.collections)
    assert can == [[0, 0], [1, 0], [0, 1], [1, 1], [2, 1]]
    assert has == [[1, 0], [2, 1]]
    assert texts(axes.get_xticklabels()) == ["skip", "light", "full"]


def test_of_options_with_widths_the_names_stand_at_the_bars() -> None:
    menu = hasa.Menu(
        ["half", "half twice"], costs={"joules": [3, 7]}, per="client", full="half twice",
        attributes={"width": [0.5, 0.5], "epochs": [1, 2]},
    )  # fmt: skip
    problem = hasa.AllocationProblem.build(
        hasa.Clients([5, 6]), menu=menu, budget=0.75,
        utility=hasa.utility.measured([[1, 2], [1, 9]]),
    )  # fmt: skip
    axes = hasa.solve(problem, "highs").plot().axes[0]
    assert [text.strip() for text in texts(axes.texts)] == ["half", "half twice"]


@pytest.mark.parametrize("n_clients", [31, 1000])
def test_of_many_clients_those_at_each_width_are_counted(n_clients: int) -> None:
    result = hasa.solve(fleet(n_clients), "greedy")
    axes = result.plot().axes[0]
    counts = [int((result.widths == width).sum()) for width in WIDTHS]
    assert lengths(axes.containers[0]) == counts
    assert texts(axes.get_yticklabels()) == ["0.25", "0.5", "0.75", "1"]
    assert [text.split()[0] for text in texts(axes.texts)] == [f"{count:,}" for count in counts]


@pytest.mark.slow
def test_a_million_clients_have_few_labels_and_right_counts() -> None:
    rng = np.random.default_rng(0)
    menu = hasa.Menu.of_widths(np.arange(1, 65) / 64)
    choice = rng.integers(0, 64, 10**6)
    axes = plot_options(None, menu, choice)
    assert lengths(axes.containers[0]) == np.bincount(choice, minlength=64).tolist()
    assert len(axes.get_yticks()) <= 30
    assert not axes.texts
    site = rng.integers(0, 999, 10**6)
    rows = plot_groups(None, menu, choice, (np.arange(999).astype(str), site))
    assert len(rows.get_yticks()) == 30
    others = np.sort(np.bincount(site))[:970].sum()
    assert texts(rows.get_yticklabels())[-1] == f"970 others ({others:,})"
    assert len(rows.get_legend().get_texts()) <= 10


def test_shares_by_site_and_by_labels_of_ones_own() -> None:
    problem = fleet(200)
    result = hasa.solve(problem, "greedy")
    sites = np.array(problem.clients.site)
    axes = result.plot(by="site").axes[0]
    assert texts(axes.get_yticklabels()) == [
        f"{site} ({np.count_nonzero(sites == site)})" for site in ("0", "1", "2")
    ]
    for width, bars in zip(WIDTHS, axes.containers, strict=True):
        shares = [(result.widths[sites == site] == width).mean() for site in ("0", "1", "2")]
        assert lengths(bars) == pytest.approx(shares)
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1]]
    assert ends == pytest.approx([1, 1, 1])
    own = result.plot(by=(problem.clients.samples > 250).tolist()).axes[0]
    assert [text.split()[0] for text in texts(own.get_yticklabels())] == ["False", "True"]


def test_of_many_groups_the_small_ones_are_one() -> None:
    problem = fleet(400, sites=40)
    result = hasa.solve(problem, "greedy")
    names = texts(result.plot(by="site").axes[0].get_yticklabels())
    sizes = np.sort(np.bincount(np.array(problem.clients.site, dtype=int)))
    assert len(names) == 30
    assert names[-1] == f"11 others ({sizes[:11].sum()})"


@pytest.mark.parametrize(
    ("by", "words"),
    [("device", "they have: 'site'"), ("colour", "no such column"), (["a"], "1 labels for 40"),
     (3, "not a sequence")],
)  # fmt: skip
def test_groups_that_are_none_are_refused(by: object, words: str) -> None:
    with pytest.raises(hasa.InputError, match=words):
        hasa.solve(fleet(40), "greedy").plot(by=by)


def test_few_clients_have_a_line_each_through_what_is_not_dominated() -> None:
    problem = fleet(10)
    beaten = dominated(problem.costs, problem.utilities, problem.admissible)
    axes = problem.plot().axes[0]
    for row, line in enumerate(axes.lines):
        kept = problem.admissible[row] & ~beaten[row]
        assert line.get_xdata().tolist() == problem.costs[row, kept].tolist()
        assert line.get_ydata().tolist() == problem.utilities[row, kept].tolist()
    crosses = axes.collections[0].get_offsets()
    assert (
        crosses.tolist()
        == np.stack([problem.costs[beaten], problem.utilities[beaten]], axis=1).tolist()
    )
    assert len(axes.get_legend().get_texts()) == 11


def test_what_is_dominated_is_what_another_option_beats() -> None:
    rng = np.random.default_rng(1)
    shape = (300, 6)
    costs, worth = rng.integers(0, 5, shape), rng.integers(0, 5, shape).astype(float)
    admissible = rng.random(shape) < 0.8
    found = dominated(costs, worth, admissible)
    assert found.any()
    for row in range(300):
        for option in range(6):
            better = [
                other
                for other in np.flatnonzero(admissible[row])
                if costs[row, other] <= costs[row, option]
                and worth[row, other] >= worth[row, option]
                and (other < option or (costs[row, other], worth[row, other])
                     != (costs[row, option], worth[row, option]))
                and other != option
            ]  # fmt: skip
            assert found[row, option] == (bool(better) and admissible[row, option])


def test_of_many_clients_the_quantiles_of_each_width_are_drawn() -> None:
    problem = fleet(1000)
    figure = problem.plot()
    points = figure.axes[0].collections[-1]
    beaten = dominated(problem.costs, problem.utilities, problem.admissible)
    lowest = np.where(problem.admissible, problem.utilities, np.inf).min(axis=1)
    highest = np.where(problem.admissible, problem.utilities, -np.inf).max(axis=1)
    for option, (across, up) in enumerate(points.get_offsets()):
        own = problem.admissible[:, option]
        gain = (problem.utilities[:, option] - lowest) / (highest - lowest)
        assert across == pytest.approx(WIDTHS[option])
        assert up == pytest.approx(np.median(gain[own]))
        assert points.get_array()[option] == pytest.approx(beaten[own, option].mean())
    share = beaten.sum() / problem.admissible.sum()
    assert f"{share:.1%} of their widths are dominated" in figure.axes[0].get_title(loc="left")


@pytest.mark.slow
@pytest.mark.parametrize("n_clients", [1, 30])
def test_pictures_have_room_for_what_they_show(n_clients: int) -> None:
    problem = fleet(n_clients)
    result = hasa.solve(problem.with_budget(0.9), "greedy")
    sure = hasa.sensitivity(result, n_samples=2)
    for figure in (
        result.plot(), result.plot(by="site"), problem.plot(), sure.plot(), sure.plot("noise"),
        hasa.frontier(problem, [0.8, 0.9]).plot(), hasa.compare(problem, "greedy").plot(),
    ):  # fmt: skip
        figure.savefig(io.BytesIO())  # a warning, where the axes have none, is an error


def test_pictures_are_drawn_where_they_are_asked_for() -> None:
    mine = figures.Figure()
    left, right = mine.subplots(1, 2)
    assert hasa.solve(fleet(10), "greedy").plot(ax=right) is mine
    assert fleet(10).plot(ax=left) is mine
    assert left.lines
    assert right.containers


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch) -> None:
    problem = fleet(5)
    result = hasa.solve(problem, "greedy")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (problem.plot, result.plot, lambda: result.plot(by="site")):
        with pytest.raises(hasa.errors.MissingExtraError, match="pip install matplotlib"):
            draw()
