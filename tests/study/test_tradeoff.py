"""Worth against cost: who is on the frontier, how it is drawn, and the measure that is chosen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.browser import CHROMIUM, browser
from support.fake_study import FakeStudy, make_study

from hasa_opt.errors import InputError
from hasa_opt.study import curves, plots
from hasa_opt.study.dots import scatter_plots
from hasa_opt.study.report import write_report
from hasa_opt.study.results import CHOICES, MEASURES
from hasa_opt.study.tradeoff import trade_off, trade_offs, undominated

GAINS = {"uniform": 0.0, "hasa": 0.5, "reverse": -0.8, "optimal": 0.35}
BYTES = {"uniform": 1.0, "hasa": 1.4, "reverse": 1.2, "optimal": 1.2}


def study_of_costs() -> FakeStudy:
    """Bytes differ by policy, operations do not."""
    study = make_study(GAINS, n_seeds=4)
    for outcome in study.outcomes:
        for table in (outcome.history.bytes_up, outcome.history.bytes_down):
            table[:] = (BYTES[outcome.policy] * table).astype(int)
    return study


def test_a_point_is_on_the_frontier_unless_another_beats_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs, worth = rng.integers(0, 6, (2, 9)).astype(float)
        found = undominated(costs, worth)
        beaten = {
            a
            for a in range(9)
            for b in range(9)
            if costs[b] <= costs[a]
            and worth[b] >= worth[a]
            and (costs[b] < costs[a] or worth[b] > worth[a])
        }
        assert set(found.tolist()) == set(range(9)) - beaten
        assert (np.diff(costs[found]) >= 0).all()
        assert (np.diff(worth[found]) >= 0).all()


def test_where_lower_is_better_or_costs_are_equal() -> None:
    trade = trade_off(study_of_costs().results, "bytes")
    names = [trade.policies[row] for row in trade.frontier]
    assert names == ["uniform", "optimal", "hasa"], "reverse is worse than uniform, and dearer"
    alike = trade_off(study_of_costs().results, "flops")
    assert [alike.policies[row] for row in alike.frontier] == ["hasa"]
    spread = trade_off(study_of_costs().results, "bytes", "spread")
    assert spread.frontier[0] == 0
    assert undominated(spread.costs, -spread.values).tolist() == spread.frontier.tolist()


def test_bars_are_intervals_of_the_paired_difference() -> None:
    study = study_of_costs()
    trade, values = trade_off(study.results, "bytes"), study.results.measure()
    assert np.isnan(trade.reach[0]), "uniform is what the others are compared with"
    gaps = values[1] - values[0]
    wanted = stats.t.ppf(0.975, 3) * gaps.std(ddof=1) / 2
    assert trade.reach[1] == pytest.approx(wanted)
    assert np.isnan(trade_off(make_study(n_seeds=1).results, "bytes").reach).all()


def test_costs_that_are_unknown_are_no_choice() -> None:
    known = [trade.cost for trade in trade_offs(study_of_costs().results)]
    assert known == ["flops", "bytes", "storage"]
    assert trade_offs(make_study(noise=float("nan"), n_seeds=2).results) == []


def test_the_figure_has_a_point_for_each_policy_and_the_frontier() -> None:
    results = study_of_costs().results
    axes = plots.trade_off(results).axes[1]
    trade = trade_off(results, "bytes")
    points = {each.get_label(): each.lines[0].get_xydata()[0] for each in axes.containers}
    for row, policy in enumerate(trade.policies):
        assert points[policy] == pytest.approx([trade.costs[row], trade.values[row]])
    line = axes.lines[-1].get_xydata()
    assert line == pytest.approx(np.stack([trade.costs, trade.values], axis=1)[trade.frontier])
    with pytest.raises(InputError, match="no client was tested under all policies and seeds"):
        plots.trade_off(make_study(noise=float("nan"), n_seeds=2).results)


def test_the_names_of_many_policies_do_not_cover_each_other() -> None:
    names = dict.fromkeys([f"p{row}" for row in range(17)], 0.1)
    for plot in scatter_plots(make_study(names, n_seeds=2, noise=1e-6).results):
        labels = np.sort([dot.label for dot in plot.dots])
        assert np.diff(labels).min() > 0.054
        assert labels[0] >= 0
        assert labels[-1] <= 1


@pytest.mark.parametrize("measure", ["worst", "worst_third", "weighted"])
def test_curves_and_differences_show_another_measure(measure: str) -> None:
    study = make_study(n_seeds=3)
    figure = curves.by_cost(study.results, study.outcomes, measure)
    line = figure.axes[0].lines[0]
    assert line.get_label() == "uniform"
    assert line.get_ydata()[-1] == pytest.approx(study.results.measure(measure)[0].mean())
    gaps = plots.differences(study.results, measure).axes[0]
    worth = study.results.worth(measure).mean(axis=1)
    means = [own for own in gaps.lines if own.get_marker() == "o" and own.get_markersize() == 6]
    assert means[0].get_xdata()[0] == pytest.approx(worth[1] - worth[0])
    assert MEASURES[measure] in gaps.get_xlabel()


def test_clients_that_sat_out_a_round_do_not_count_in_it() -> None:
    study = make_study({"uniform": 0.0}, n_seeds=1)
    study.outcomes[0].history.test_metric[4, :3] = np.nan
    (line,) = curves.by_cost(study.results, study.outcomes, "worst").axes[0].lines
    tested = study.outcomes[0].history.test_metric[4, 3:]
    assert line.get_ydata()[4] == pytest.approx(100 * tested.min())


def test_without_a_script_the_report_shows_the_client_mean_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.study.report.pictures", lambda *measured: [])
    study = study_of_costs()
    path = write_report(study, study.results, study.outcomes, None, tmp_path / "report.html")  # type: ignore[arg-type]
    page = path.read_text(encoding="utf-8")
    blocks = re.findall(r'<\w+[^>]* data-measure="(\w+)"( data-cost="\w+")?( hidden)?', page)
    assert {name for name, _, _ in blocks} == set(CHOICES)
    shown = [(name, cost) for name, cost, hidden in blocks if not hidden]
    assert {name for name, _ in shown} == {"mean"}
    assert [cost for _, cost in shown if cost] == [' data-cost="flops"']
    assert re.search(r"<label[^>]* hidden>", page), "a choice needs the script"


@pytest.mark.nightly
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_measure_and_a_cost_are_chosen_by_keys_alone(tmp_path: Path, width: int) -> None:
    study = study_of_costs()
    path = write_report(study, study.results, study.outcomes, None, tmp_path / "report.html")  # type: ignore[arg-type]
    with browser(tmp_path / "profile") as page:
        page.open(path, width)
        seen = "[...document.querySelectorAll('[data-measure]')].filter(own => !own.hidden)"
        measures = f"[...new Set({seen}.map(own => own.dataset.measure))]"
        assert page.get(measures) == ["mean"]
        assert "Client mean (%)" in page.text("#answer th")
        page.get("document.querySelector('#answer select').focus()")
        page.press("ArrowRight", 2)
        assert page.get(measures) == ["worst"]
        chosen = page.get(
            "[...document.querySelectorAll('[data-choice=measure]')].map(own => own.value)"
        )
        assert set(chosen) == {"worst"}, "all choices of one kind agree"
        worst = f"{study.results.measure('worst')[1].mean():.2f}"
        cells = page.text("#answer div:not([hidden]) td")
        assert any(cell.split()[0] == worst for cell in cells)
        assert page.get("document.documentElement.scrollWidth") <= width
        assert page.complaints == []
        outside = [each for each in page.requested if not each.startswith("data:")]
        assert outside == [path.as_uri()]
