"""The reproduction: pages rebuilt from committed measurements, and the command that makes them."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from hasa_opt import tasks
from hasa_opt._utils.streams import STREAMS
from hasa_opt.errors import InputError
from hasa_opt.study.claims import against
from hasa_opt.study.inference import paired
from hasa_opt.study.results import read_results
from hasa_opt.study.summary import summarise

pytestmark = pytest.mark.slow

HERE = Path(__file__).parents[2] / "docs" / "reproduction"
EARLIER_RULE = "probe_alone"  # the first rule of what to recommend: no policy of today


def load(name: str) -> ModuleType:
    sys.path[:0] = [] if str(HERE) in sys.path else [str(HERE)]  # the scripts import each other
    spec = importlib.util.spec_from_file_location(f"reproduction_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_rebuilt_from_the_committed_measurements():
    tables = load("tables")
    assert tables.PAGE.read_text(encoding="utf-8") == tables.page()
    stored = {path.name: path.read_text(encoding="utf-8") for path in tables.TABLES.glob("*")}
    assert stored == tables.tables()


def test_the_committed_measurements_are_of_the_frozen_settings():
    run = load("run")
    settings = {str(setting): setting for setting in run.SETTINGS}
    files = sorted((HERE / "results").glob("*-*-*.csv.gz"))
    assert files
    for path in files:
        results = read_results(path)
        assert results.seeds == tuple(run.SEEDS)
        assert set(results.policies) <= {*run.POLICIES, EARLIER_RULE}
        budget = settings[load("records").setting_of(path)].budget
        assert np.abs(results.realised / budget - 1).max() < 0.005
        assert (results.rounds == run.ROUNDS).all()
        assert len(results.clients) == 7


def test_raw_results_are_small_and_none_lies_there_twice():
    found = list((HERE / "results").rglob("*.csv.gz"))
    assert found
    assert sum(path.stat().st_size for path in found) <= 1.5e6
    assert not [path for path in found if path.with_suffix("").exists()]


def test_the_recommendation_is_confirmed_on_fresh_seeds():
    run, domains, records = load("run"), load("domains"), load("records")
    rounds = dict.fromkeys(map(str, run.SETTINGS), run.ROUNDS)
    rounds |= {f"domains-cnn-{budget:g}": domains.ROUNDS for budget in domains.BUDGETS.values()}
    files = sorted((HERE / "results" / "confirmation").glob("*-*-*.csv.gz"))
    assert files
    for path in files:
        results = read_results(path)
        assert results.seeds == tuple(range(220, 240))
        assert (results.rounds == rounds[records.setting_of(path)]).all()
        budget = float(records.setting_of(path).split("-")[2])
        assert np.abs(results.realised / budget - 1).max() < 0.005
        chosen = records.chosen(path)
        assert chosen.total() == len(results.seeds)
        for name in chosen.keys() & set(results.policies):
            if chosen[name] == len(results.seeds):
                same = results.own[results.row("recommended")] == results.own[results.row(name)]
                assert same.all(), "what is recommended is trained once"


def test_the_readme_shows_what_was_measured():
    tables = load("tables")
    demo = read_results(HERE.parent / "images" / "result.csv")
    found = {name: own for name, own in tables.settings().items() if name.startswith("titles")}
    worse = [name for name, own in found.items() if above_uniform(own, "hasa").holm_high < 0]
    confirmed = [gain(f"titles-{name}", "recommended") for name in ("16-0.35", "64-0.5")]
    images = [gain(f"domains-cnn-{budget}", "hasa") for budget in ("0.5", "0.35")]
    readme = " ".join((HERE.parents[1] / "README.md").read_text(encoding="utf-8").split())
    own = above_uniform(demo, "hasa")
    side = "above" if own.mean > 0 else "below"
    assert f"under HASA is {abs(own.mean):.2f} points {side} uniform" in readme
    assert own.low < 0 < own.high
    assert (len(found), len(worse)) == (6, 2)
    assert "repeated in six settings" in readme
    assert "below it in two" in readme
    assert f"gain {confirmed[0].mean:.2f} and {confirmed[1].mean:.2f} points" in readme
    assert f"by {images[0].mean:.1f} and {images[1].mean:.1f} points on images" in readme
    for own in found.values():
        better = {row.policy for row in against(own) if row.difference.holm_low > 0}
        assert not [name for name in better - {"recommended", EARLIER_RULE} if "+" not in name]


def test_the_page_of_worth_shows_the_demo_and_the_confirmation():
    page = (HERE.parent / "worth.rst").read_text(encoding="utf-8")
    demo = read_results(HERE.parent / "images" / "result.csv")
    lines = [" ".join(line.split()) for line in page.splitlines() if re.match(r"   \w+ +\d", line)]
    shown = []
    for row in summarise(demo, budget=0.5):
        cells = [row.policy, f"{row.mean:.2f} ± {row.mean_std:.2f}"]
        if row.policy != "uniform":
            own = above_uniform(demo, row.policy)
            cells.append(f"{own.mean:+.2f} [{own.low:+.2f}, {own.high:+.2f}]")
        cells += [f"{value:.2f}" for value in (row.worst, row.worst_third, row.supernet.mean)]
        shown.append(" ".join([*cells, f"{row.realised:.4f}"]))
    assert lines == shown
    header, gains = page.partition("   * - titles, 64")[2].split("\n\n")[0].split("   * - ")
    assert header.count("     - ") == 3
    files = ("titles-64-0.5", "titles-16-0.35", "docstrings-64-0.5", "docstrings-16-0.35")
    found = [gain(name, "recommended") for name in files]
    expected = [f"{own.mean:+.2f} ({own.low:.2f} to {own.high:.2f})" for own in found]
    assert gains.strip().split("\n     - ") == expected


def gain(name, policy):
    """What a policy gains over uniform on the confirming seeds."""
    return above_uniform(read_results(load("tables").CONFIRMATION / f"{name}.csv.gz"), policy)


def above_uniform(results, policy):
    """Difference to uniform in the client mean, in points, among all policies that were trained."""
    return next(row.difference for row in against(results) if row.policy == policy)


@pytest.mark.parametrize("budget", ["0.5", "0.35"])
def test_the_page_when_to_bother_shows_what_was_measured(budget):
    tables = load("tables")
    results = read_results(tables.CONFIRMATION / f"domains-cnn-{budget}.csv.gz")
    text = (HERE.parent / "when_to_bother.rst").read_text(encoding="utf-8")
    shown = text.partition(f"list-table:: Budget {budget}\n")[2].partition("\n\n")[2]
    rows = shown.split("\n\n")[0].split("   * - ")[2:]
    assert len(rows) == 6
    for row in rows:
        title, *cells = row.strip().split("\n     - ")
        better, worse = (
            {"by domain": "by_domain", "HASA": "hasa"}.get(name, name)
            for name in title.split(" - ")
        )
        for cell, measure in zip(cells, ("mean", "weighted", "worst"), strict=True):
            own = tables.gap(tables.Claim("", better, worse, measure), results)
            assert cell == interval(own), title


def test_the_page_of_the_image_study_shows_what_was_measured():
    tables = load("tables")
    text = (HERE / "index.rst").read_text(encoding="utf-8")
    shown = text.partition("   * - Against uniform\n     - 0.5\n")[2].split("\n\n")[0]
    rows = shown.split("   * - ")[1:]
    assert len(rows) > 10
    for row in rows:
        policy, *cells = row.strip().split("\n     - ")
        for place, cell in enumerate(cells):
            budget, measure = ("0.5", "0.35")[place // 2], ("mean", "worst")[place % 2]
            results = read_results(tables.CONFIRMATION / f"domains-cnn-{budget}.csv.gz")
            own = tables.gap(tables.Claim("", policy, "uniform", measure), results)
            assert cell.replace("\N{MINUS SIGN}", "-") == interval(own), policy


def interval(own):
    low, high = (f"{end:.1f}".replace("-0.0", "0.0") for end in (own.low, own.high))
    return f"{own.mean:+.1f} ({low} to {high})"


def test_a_difference_is_the_mean_over_seeds_of_unrounded_client_means():
    results = read_results(HERE / "results" / "titles-64-0.5.csv.gz")
    own = 100 * results.own[results.row("hasa")].mean(axis=1)
    base = 100 * results.own[results.row("uniform")].mean(axis=1)
    table = (load("tables").TABLES / "titles-64-0.5-policies.csv").read_text(encoding="utf-8")
    (row,) = (line.split(",") for line in table.splitlines() if line.startswith("hasa,"))
    assert row[2] == f"{(own - base).mean():.2f}"


def test_what_is_recommended_is_kept_beside_the_results(tmp_path):
    records = load("records")
    records.keep_choices("a-1-0.5", {1: "uniform+personal: why", 0: "fjord: why, too"}, tmp_path)
    records.keep_choices("b-1-0.5", {1: "uniform: b", 2: "round 3: 2 groups"}, tmp_path)
    records.keep_choices("a-1-0.5", {1: "fjord: again"}, tmp_path)
    assert records.chosen(tmp_path / "a-1-0.5.csv.gz") == {"fjord": 2}
    assert records.chosen(tmp_path / "b-1-0.5.csv.gz") == {"uniform": 1}
    assert records.chosen(tmp_path / "c-1-0.5.csv.gz") == {}


def test_results_of_other_random_streams_are_not_mixed(tmp_path):
    """Policies are compared seed by seed, on the same batches."""
    records, here = load("records"), tmp_path / "here"
    records.check_streams(here)
    records.check_streams(here)
    assert records.streams(here) == STREAMS
    (here / "streams.txt").write_text("1\n")
    with pytest.raises(
        InputError, match=r"results of random streams 1, .*new folder with --results"
    ):
        records.check_streams(here)


def test_committed_measurements_tell_their_random_streams():
    tables, page = load("tables"), (HERE / "results.rst").read_text(encoding="utf-8")
    for folder in (tables.RESULTS, tables.CONFIRMATION):
        assert 1 <= load("records").streams(folder) <= STREAMS
    by_rows = load("records").streams(tables.RESULTS) == 1
    assert ("random streams of version 1" in page) == by_rows
    curves = load("phase").read(HERE / "phase_tasks.csv")
    assert all(1 <= int(row["streams"]) <= STREAMS for row in curves)
    shown = (HERE.parent / "when_to_bother.rst").read_text(encoding="utf-8")
    assert ("random streams of version 1" in shown) == any(row["streams"] == "1" for row in curves)


def test_the_command_trains_once_and_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    run = load("run")
    monkeypatch.setattr(run, "ROUNDS", 1)
    small = tasks.load("docstrings", n_texts=400)
    monkeypatch.setattr(run.tasks, "load", lambda name, seed: small)
    arguments = ["--directory", tmp_path / "runs", "--results", tmp_path]
    arguments += ["--settings", "docstrings-16-0.5", "--seeds", 0, 1]
    arguments += ["--policies", "uniform", "uniform+personal", "--workers", 1]
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    run.main()
    results = read_results(tmp_path / "docstrings-16-0.5.csv.gz")
    assert results.policies == ("uniform", "uniform+personal")
    assert results.seeds == (0, 1)
    stored = list((tmp_path / "runs" / "docstrings-16-0.5").iterdir())
    assert len(stored) == 2, "a personal deployment is no training of its own"
    written = (tmp_path / "docstrings-16-0.5.csv.gz").read_bytes()
    monkeypatch.setattr("hasa_opt.study.trials.run", lambda *_, **__: pytest.fail("trained again"))
    run.main()
    assert (tmp_path / "docstrings-16-0.5.csv.gz").read_bytes() == written
    monkeypatch.undo()
    monkeypatch.setattr(run, "ROUNDS", 1)
    monkeypatch.setattr(run.tasks, "load", lambda name, seed: small)
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, [*arguments, "--policies", "reverse"])])
    run.main()
    later = read_results(tmp_path / "docstrings-16-0.5.csv.gz")
    assert later.policies == ("uniform", "uniform+personal", "reverse"), "others stay in the file"
    assert np.array_equal(later.own[:2], results.own)


@pytest.mark.parametrize("tried", ["first", "fifth"])
@pytest.mark.parametrize("column", [0, 1])
def test_the_page_of_worth_shows_what_groups_gain(tried, column):
    groups = load("groups")
    folder, cells = groups.TRIES[tried]
    cell = cells[column]
    results = read_results(folder / f"{cell}.csv.gz")
    assert results.seeds == tuple(cell.seeds)
    assert results.policies == tuple(map(str, cell.policies))
    worth = " ".join((HERE.parent / "worth.rst").read_text(encoding="utf-8").split())
    table = worth.partition("Groups with units of their own")[2]
    means, worst = results.measure("mean"), results.measure("worst")
    today = tried == "fifth"
    for policy in results.policies[1:] if today else ["recommended"]:
        at = results.row(policy)
        found = [paired(measure[at], measure[0]) for measure in (means, worst)]
        told = [f"{own.mean:+.2f} ({own.low:.2f} to {own.high:.2f})" for own in found]
        name = policy if today else f"{policy}, {tried} try"
        row = table.partition(f"* - {name} - ")[2].split(" * - ")[0].split(" - ")
        assert row[2 * column : 2 * column + 2] == told
    if today:
        for other in ("clustered_by_kind", "by_domain"):
            beside = paired(means[1], means[results.row(other)])
            assert f"{beside.mean:+.2f}, {beside.low:.2f} to {beside.high:.2f}" in worth
        readme = " ".join((HERE.parents[1] / "README.md").read_text(encoding="utf-8").split())
        for own in (paired(measure[1], measure[0]) for measure in (means, worst)):
            assert f"{own.mean:.1f}" in readme.partition("units of their own")[2][:160]


@pytest.mark.parametrize("tried", ["first", "second", "third", "fourth"])
def test_the_page_of_worth_shows_what_was_measured_where_counts_show_no_groups(tried):
    groups = load("groups")
    folder, cells = groups.TRIES[tried]
    worth = " ".join((HERE.parent / "worth.rst").read_text(encoding="utf-8").split())
    for cell in set(cells) - set(groups.PRIMARY):
        results = read_results(folder / f"{cell}.csv.gz")
        assert results.seeds == tuple(cell.seeds)
        assert results.policies == tuple(map(str, cell.policies))
        means, of = results.measure("mean"), results.row
        pairs = [("recommended", name) for name in results.policies if name != "recommended"]
        if cell.policies == groups.ON_IMAGES:
            pairs = [(name, "uniform") for name in results.policies[1:]]
        told = [paired(means[of(one)], means[of(other)]) for one, other in pairs]
        row = [f"{own.mean:+.2f} ({own.low:.2f} to {own.high:.2f})" for own in told]
        suffix = "" if tried == "first" else f", {tried} try"
        assert " - ".join([f"* - {cell.task}{suffix}", *row]) in worth


def test_the_page_of_worth_shows_what_was_measured_with_tuned_rates():
    tuned = load("tuned")
    worth = " ".join((HERE.parent / "worth.rst").read_text(encoding="utf-8").split())
    section = worth.partition("Beside tuned baselines")[2]
    for part in tuned.PARTS:
        cells = {}
        for task, letter, other, difference, _, corrected in part.rows():
            assert part.name != "tuned" or letter != "c" or other == "clustered_found"
            named = f", {other}" if part.name != "tuned" and letter == "c" else ""
            cells.setdefault(task, []).append(f"{difference} ({corrected}){named}")
        for task, own in cells.items():
            assert f"* - {task} - {' - '.join(own)}" in section
        for results in part.found().values():
            assert results.seeds == tuple(part.seeds)
            assert results.policies == tuned.POLICIES
    assert tuned.PARTS[0].rows()


def test_what_is_repeated_stands_beside_what_was_committed():
    records, path = load("records"), HERE / "results" / "tuned" / "fonts.csv.gz"
    kept = read_results(path)
    columns = {name: np.asarray(value) for name, value in vars(kept).items()}
    first = {name: value[:, :1] for name, value in columns.items() if value.ndim > 1}
    told = records.repeated(replace(kept, seeds=kept.seeds[:1], **first), path)
    console = Console(record=True, width=120)
    console.print(told)
    means = 100 * kept.own[:, 0].mean(axis=-1)
    lines = [line.split() for line in console.export_text().splitlines()]
    for policy, mean in zip(kept.policies, means, strict=True):
        assert [policy, f"{mean:.2f}", f"{mean:.2f}", "0.00"] in lines


@pytest.mark.nightly
def test_a_cell_can_be_repeated(tmp_path):
    """Another processor rounds otherwise, and thirty rounds carry that on."""
    tuned = load("tuned")
    part = tuned.PARTS[0]
    cell = next(each for each in part.cells if str(each) == "fonts")
    again = tuned.measured(part, cell, part.seeds[0], tmp_path, os.getpid())
    kept = read_results(part.folder / f"{cell}.csv.gz").measure("mean")[:, 0]
    np.testing.assert_allclose(again.measure("mean")[:, 0], kept, atol=2)
