"""Studies by other metrics than accuracy: a mirrored table says the same, and regression runs."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fake_study import FakeStudy, make_study
from torch import Tensor

import hasa_opt as hasa
from hasa_opt import federated, tasks
from hasa_opt._utils.scale import Scale
from hasa_opt.errors import InputError
from hasa_opt.models import MLP
from hasa_opt.study import plots, read_results
from hasa_opt.study.claims import against, headline, hinge_sentences, hinges
from hasa_opt.study.outcome import chosen_round
from hasa_opt.study.report import write_report
from hasa_opt.study.results import MEASURES, Results, merged
from hasa_opt.study.summary import by_width, left_out
from hasa_opt.study.tables import results_table
from hasa_opt.tasks import LearningProblem, Task

ERROR = Scale("error", higher_is_better=False)


def mirrored(study: FakeStudy) -> Results:
    """The accuracies of a study in percent, below zero, as errors of which less is better."""
    own = study.results
    return replace(own, own=-100 * own.own, supernet=-100 * own.supernet, scale=ERROR)


@pytest.fixture(scope="module")
def study() -> FakeStudy:
    gains = {"uniform": 0.0, "hasa": 0.5, "reverse": -0.8, "uniform+personal": 0.0}
    return make_study(gains | {"hasa+personal": 0.3}, n_seeds=5, supernet=True)


# --- What is said of a mirrored table ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["own", "supernet"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_mirrored_table_has_mirrored_measures_and_the_same_gains(
    study: FakeStudy, measure: str, kind: Any
) -> None:
    own, other = study.results, mirrored(study)
    sign = 1 if measure == "spread" else -1
    np.testing.assert_array_equal(other.measure(measure, kind), sign * own.measure(measure, kind))
    found = against(other, measure=measure, kind=kind)
    assert found == against(own, measure=measure, kind=kind)
    assert {contrast.difference.verdict for contrast in found} > {"better"} or measure == "spread"


def test_less_spread_over_clients_is_better_whatever_the_metric() -> None:
    """Accuracies 0.1, 0.9 and 0.5, 0.5: the second policy is the more even one."""
    base = make_study({"uniform": 0.0, "hasa": 0.0}, n_seeds=6, names=("a", "b")).results
    own = np.array([np.tile([0.1, 0.9], (6, 1)), np.tile([0.5, 0.5], (6, 1))])
    (found,) = against(replace(base, own=own), measure="spread")
    assert (found.difference.mean, found.difference.verdict) == (pytest.approx(40), "better")


def test_the_worst_client_is_the_one_with_the_highest_error(study: FakeStudy) -> None:
    other = replace(mirrored(study), own=np.abs(mirrored(study).own))
    np.testing.assert_array_equal(other.measure("worst"), other.own.max(axis=2))
    thirds = np.sort(other.own, axis=2)[..., -2:].mean(axis=2)
    np.testing.assert_allclose(other.measure("worst_third"), thirds)


def test_clients_on_which_a_gain_hangs_are_the_same(study: FakeStudy) -> None:
    assert hinges(mirrored(study)) == hinges(study.results)
    np.testing.assert_array_equal(left_out(mirrored(study)), -left_out(study.results))
    (mine, _), (theirs, _) = by_width(mirrored(study), [0.5, 1]), by_width(study.results, [0.5, 1])
    np.testing.assert_array_equal(mine, -theirs)


@pytest.mark.parametrize(
    "gains",
    [
        None,
        {"uniform": 0.0, "hasa": -0.6, "reverse": -0.9},
        {"uniform": 0.0, "hasa": 0.01, "reverse": -0.9},
        {"hasa": 0.0, "reverse": -0.6},
        {"uniform": 0.0, "hasa": 0.0, "uniform+personal": 1.0, "hasa+personal": 1.3},
    ],
)
def test_the_headline_mirrors(gains: dict[str, float] | None) -> None:
    study = make_study(gains, noise=0.004, n_seeds=4)
    plain = headline(study.results, 0.5)
    sentence = headline(mirrored(study), 0.5)
    assert not re.search(r"%(?! interval)|points|accurac|highest", sentence), sentence
    first, policy = plain.split()[0], sentence.split()[0]
    assert first == policy
    assert ("highest" in plain) == ("lowest mean client error" in sentence)
    for word in ("is better than", "told from zero", "95 % interval", "there is no uniform"):
        assert (word in plain) == (word in sentence), sentence
    signs = [re.findall("[+\N{MINUS SIGN}](?=[0-9])", text) for text in (plain, sentence)]
    assert signs[0] == signs[1], sentence


def test_another_metric_of_which_more_is_better_has_neither_percent_nor_points() -> None:
    own = make_study(n_seeds=4).results
    scale = Scale("f1")
    found = replace(own, scale=scale)
    sentence = headline(found, 0.5)
    assert "of mean client f1 (0.1" in sentence
    assert not re.search(r"%(?! interval)|points", sentence)
    assert "minus" in results_text(found)
    for one, other in zip(against(found), against(own), strict=True):
        assert 100 * one.difference.mean == pytest.approx(other.difference.mean)


def results_text(found: Results) -> str:
    from hasa_opt._utils.showing import as_text

    return as_text(results_table(found, 0.5, "houses"))


def test_the_table_and_the_sentences_name_the_metric_and_its_better_end(study: FakeStudy) -> None:
    text = results_text(mirrored(study))
    for words in ("Test error on houses", "lower is better", "below uniform", "the highest error"):
        assert words in text
    assert "accuracy" not in text
    assert "%" not in text.replace("95 %", "")
    sentences = hinge_sentences(hinges(mirrored(study)), ERROR)
    assert not any("points" in sentence for sentence in sentences)


def test_the_report_mirrors(study: FakeStudy, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("hasa_opt.study.report.pictures", lambda *measured: [])
    texts = []
    for results in (study.results, mirrored(study)):
        page = write_report(study, results, study.outcomes, None, tmp_path / "r.html")  # type: ignore[arg-type]
        html = page.read_text(encoding="utf-8").partition("</style>")[2]
        texts.append(" ".join(re.sub("<[^>]+>", " ", html).split()))
    plain, other = texts
    other, rule, rest = other.partition(
        "error: lower is better. Differences are gains, above zero where the policy is better than "
        "what it is compared with."
    )
    other += rest
    assert rule
    for word in ("better", "worse", "not told apart"):
        counts = [len(re.findall(rf"\b{word}\b", text)) for text in (plain, other)]
        assert counts[0] == counts[1] > 0, word
    assert "Below uniform" in other
    for words in ("accuracy", "Accuracy", "(%)", "(points)", "Percent", "lowest error"):
        assert words not in other, words


def test_figures_are_labelled_by_the_metric(study: FakeStudy) -> None:
    found = mirrored(study)
    assert plots.by_client(found).axes[0].get_xlabel() == "Test error (lower is better)"
    own, _ = plots.differences(found).axes
    assert own.get_title(loc="left") == "Below uniform: what clients deploy"
    assert own.get_xlabel() == "Gain over uniform, client mean of error"
    names = dict.fromkeys([f"p{row}" for row in range(7)], 0.2) | {"uniform": 0.0}
    matrix = plots.by_client(mirrored(make_study(names, n_seeds=2))).axes[0]
    assert matrix.get_xlabel().endswith("blue: below uniform, red: above")
    assert (np.asarray(matrix.images[0].get_array())[0] > 0).mean() > 0.5, "blue is better"


# --- Files and rounds ----------------------------------------------------------------------------


def test_a_file_names_the_metric_and_is_read_back(study: FakeStudy, tmp_path: Path) -> None:
    found = mirrored(study)
    found.write(tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {"own_error", "supernet_error"} < lines[0].keys()
    assert lines[0]["higher_is_better"] == "False"
    again = read_results(tmp_path / "r.csv")
    assert again.scale == ERROR
    np.testing.assert_array_equal(again.own, found.own)
    assert against(again) == against(found)
    with pytest.raises(InputError, match=r"of accuracy \(higher is better\) and of error \(lower"):
        merged([study.results, found])
    assert merged([found, again]).scale == ERROR
    text = (tmp_path / "r.csv").read_text(encoding="utf-8")
    (tmp_path / "r.csv").write_text(text.replace("False", "no", 1), encoding="utf-8")
    with pytest.raises(InputError, match="one metric is needed, and True or False"):
        read_results(tmp_path / "r.csv")


def test_the_round_with_the_lowest_validation_error_is_chosen() -> None:
    from types import SimpleNamespace

    history = SimpleNamespace(
        rounds=3,
        widths=[0.5, 0.5],
        validation_metric=np.array([[0.9, 0.5], [0.2, 0.4], [0.2, 0.4]]),
        higher_is_better=False,
    )
    targets = np.array([1, 1])
    assert chosen_round(history, "validation", targets) == 2  # type: ignore[arg-type]


# --- Whole studies -------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 4)).astype(np.float32)
OWNER = np.resize(["ann", "bob", "cid", "dan"], 160)
PRICE = X @ [3.0, -2.0, 1.0, 0.0] + np.where(OWNER == "ann", 4.0, 0.0)


def study_of(task: Task, **options: Any) -> hasa.Study:
    settings: dict[str, Any] = {"policies": ("uniform", "hasa", "reverse"), "seeds": (0, 1)}
    settings |= {"rounds": 2, "execution": federated.Execution(workers=1)} | options
    return hasa.Study(task, MLP(4, task.n_outputs, hidden=(16,)), **settings)


def regression(**options: Any) -> Task:
    return tasks.from_arrays(X, PRICE, OWNER, loss="mse", validation_share=0.1, **options)


@pytest.mark.slow
def test_a_regression_study_runs_and_reports(tmp_path: Path) -> None:
    study = study_of(regression(), rounds=4, rounds_by="validation")
    done = study.run(directory=tmp_path, compare_solvers=False)
    assert done.results.scale == Scale("mse", higher_is_better=False)
    first = [outcome.history.test_metric[0].mean() for outcome in done.outcomes]
    assert done.results.own.mean() < np.mean(first), "they learn"
    for row, outcome in enumerate(done.outcomes):
        judged = outcome.history.test_metric[outcome.rounds - 1]
        np.testing.assert_array_equal(done.results.own[row // 2, row % 2], judged)
    assert done.summary()[0].worst == pytest.approx(done.results.own[0].max(axis=1).mean())
    text = done.report(tmp_path / "r.html").read_text(encoding="utf-8")
    for words in (
        "mse at the budget", "mse, lower is better", "Test mse of the network",
        "jensen_shannon of counts: how many targets lie in each tenth of all clients&#39;",
    ):  # fmt: skip
        assert words in text
    assert "ccuracy" not in text
    done.to_csv(tmp_path / "rounds.csv")
    with (tmp_path / "rounds.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["test_mse"]) == done.outcomes[-1].history.test_metric[-1, -1]
    assert done.record()["metric"] == {"name": "mse", "higher_is_better": False}
    assert "Test mse on own" in str(done)


@pytest.mark.slow
def test_what_is_recommended_for_a_regression_is_trained() -> None:
    study = study_of(regression(), policies=("uniform", "recommended"), seeds=(0,), rounds=12)
    done = study.run(compare_solvers=False)
    assert "more than together" in done.outcomes[1].reason
    assert np.isfinite(done.results.own).all()


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    yes = outputs > 0
    hits = (yes & (targets > 0.5)).sum()
    return 2 * hits / (yes.sum() + (targets > 0.5).sum()).clamp(min=1)


@pytest.mark.slow
@pytest.mark.parametrize("metric", [None, f1])
def test_several_labels_by_accuracy_or_a_function(metric: Any) -> None:
    better = None if metric is None else True
    task = tasks.from_arrays(
        X, X[:, :3] > 0, OWNER, loss="bce_with_logits", metric=metric, higher_is_better=better
    )
    done = study_of(task, policies=("uniform", "measured"), seeds=(0,), probe_rounds=1).run(
        compare_solvers=False
    )
    assert done.results.scale == Scale("accuracy" if metric is None else "f1")
    assert ("%" in str(done).replace("95 %", "")) == (metric is None)
    assert done.planner.probe(0).scale == (Scale() if metric is None else Scale("loss", False))
    assert "how often each label is a yes" in done.description["Score"]


def test_a_study_says_which_score_it_used_and_of_what() -> None:
    task = regression()
    study = study_of(task, score="target_moments")
    wanted = hasa.scores.frechet(*task.moments("targets"))
    np.testing.assert_array_equal(study.scores, wanted)
    assert study.scores.argmax() == list(task.client_names).index("ann")
    assert study.description["Score"] == "target_moments"
    assert study.description["Judged by"] == "mse, lower is better"
    assert study_of(task, score="input_moments").scores.max() < study.scores.max()
    given = regression(counts=np.eye(4, dtype=int) + 1)
    assert study_of(given).description["Score"] == "jensen_shannon of counts: given counts"
    classes = tasks.from_arrays(X, X.argmax(1), OWNER)
    described = study_of(classes).description
    assert "Judged by" not in described
    with pytest.raises(InputError, match="targets of client 'ann' are whole numbers"):
        _ = study_of(classes, score="target_moments").scores
    with pytest.raises(InputError, match=r"'magic' is not known: .*input_moments"):
        study_of(classes, score="magic")


def test_the_metric_of_a_task_is_the_scale_of_its_study() -> None:
    torch.manual_seed(0)
    assert LearningProblem().scale == Scale()
    assert LearningProblem("mse", "mae").scale == Scale("mae", higher_is_better=False)
