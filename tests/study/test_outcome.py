"""Rounds, columns, files, summaries and contrasts, against numbers worked out by hand."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.fake_study import FOURTEEN, make_study

from hasa_opt.errors import InputError
from hasa_opt.study.claims import (
    against,
    against_plain,
    against_same_options,
    hinges,
    plain_of,
    reference_of,
)
from hasa_opt.study.outcome import (
    chosen_round,
    gather,
    pooled_validation,
    validation_targets,
)
from hasa_opt.study.results import Results, read_results
from hasa_opt.study.summary import by_width, for_json, left_out, summarise
from hasa_opt.tasks import LearningProblem


def outcome(policy: str, seed: int, own: list[float], **changes: Any) -> SimpleNamespace:
    """An outcome of three clients, two rounds."""
    history = SimpleNamespace(
        widths=np.array([0.25, 0.5, 0.75]),
        rounds=2,
        mean_width=np.array([[0.25, 0.5, np.nan], [0.25, 0.4, np.nan]]),
        flops=np.array([[10, 20, 0], [10, 20, 0]]),
        bytes_down=np.array([[1, 2, 3], [1, 2, 3]]),
        bytes_up=np.array([[1, 2, 0], [1, 2, 0]]),
        clock_seconds=np.array([[2.0, 5.0, np.nan], [3.0, 4.0, np.nan]]),
        clock_joules=np.array([[0.5, 0.25, np.nan], [0.5, 0.25, np.nan]]),
        round_seconds=np.array([6.0, 4.0]),
        server_bytes=4000,
    )
    fields = {
        "widths": np.array([0.5, 0.5, 1.0]),
        "realised": 0.5,
        "history": history,
        "own": np.array(own),
        "supernet": np.array(own) / 2,
        "rounds": 2,
        "device_bytes": 10.0,
    }
    return SimpleNamespace(policy=policy, seed=seed, **(fields | changes))


CLIENTS, SAMPLES = ("a", "b, c", "d"), np.array([10, 30, 60])
OUTCOMES = [
    outcome("uniform", 4, [0.1, 0.2, 0.6]),
    outcome("uniform", 7, [0.2, 0.3, 0.4]),
    outcome("hasa", 4, [0.4, 0.2, 0.6], realised=0.4974),
    outcome("hasa", 7, [0.2, 0.3, 0.7]),
]


def results(outcomes: list[SimpleNamespace] = OUTCOMES) -> Results:
    return gather(outcomes, CLIENTS, SAMPLES, lambda width: 1000 * width)  # type: ignore[arg-type]


# --- Rounds --------------------------------------------------------------------------------------


def curve(validation: list[list[float]], test: list[list[float]] | None = None) -> Any:
    own = np.array(validation)
    return SimpleNamespace(
        widths=np.full(own.shape[1], 0.5),
        rounds=len(own),
        validation_metric=own,
        test_metric=np.array(test) if test else own,
        higher_is_better=True,
    )


def test_the_round_is_chosen_on_pooled_validation() -> None:
    history = curve([[0.9, 0.10], [0.1, 0.30], [0.2, 0.25]], test=[[1, 1], [0, 0], [1, 1]])
    assert chosen_round(history, "validation", np.array([1, 99])) == 2
    assert chosen_round(history, "validation", np.array([99, 1])) == 1
    assert chosen_round(history, "fixed", np.array([1, 99])) == 3
    assert pooled_validation(history, np.array([1, 3])) == pytest.approx([0.3, 0.25, 0.2375])


def test_of_equal_rounds_the_first_is_chosen() -> None:
    assert chosen_round(curve([[0.1], [0.3], [0.3]]), "validation", np.array([5])) == 2


def test_rounds_that_measured_fewer_clients_are_not_chosen() -> None:
    nan = np.nan
    history = curve([[0.9, nan], [nan, 0.9], [0.2, 0.2]])
    assert chosen_round(history, "validation", np.array([5, 5])) == 3
    unmeasured = curve([[0.3, nan], [0.2, nan]])
    assert chosen_round(unmeasured, "validation", np.array([5, 0])) == 1
    assert chosen_round(curve([[nan], [nan]]), "validation", np.array([0])) == 2


def test_a_wrong_rule_or_number_of_targets_is_refused() -> None:
    with pytest.raises(InputError, match="'test': give 'fixed' or 'validation'"):
        chosen_round(curve([[0.1]]), "test", np.array([1]))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 numbers of validation targets for 1 clients"):
        chosen_round(curve([[0.1]]), "validation", np.array([1, 2]))


def test_padding_is_no_validation_target() -> None:
    splits = [SimpleNamespace(targets=torch.tensor([[3, -100], [-1, 2]]))]
    task = SimpleNamespace(validation=splits, problem=LearningProblem("next_token"))
    assert validation_targets(task).tolist() == [3]  # type: ignore[arg-type]


# --- Columns and files ---------------------------------------------------------------------------


def test_columns_are_what_the_outcomes_hold() -> None:
    found = results()
    assert (found.policies, found.seeds, found.clients) == (("uniform", "hasa"), (4, 7), CLIENTS)
    assert found.own[1, 0].tolist() == [0.4, 0.2, 0.6]
    assert found.supernet[0, 1].tolist() == [0.1, 0.15, 0.2]
    assert found.trained[0, 0] == pytest.approx([0.25, 0.45, np.nan], nan_ok=True)
    assert (found.flops[0, 0].tolist(), found.bytes[0, 0].tolist()) == ([20, 40, 0], [4, 8, 6])
    assert found.realised.tolist() == [[0.5, 0.5], [0.4974, 0.5]]
    assert found.memory[0, 0] == 750
    assert (found.seconds[0, 0], found.joules[0, 0]) == (10, 1.5)


def test_a_missing_or_double_run_is_refused() -> None:
    for wrong in (OUTCOMES[:3], [*OUTCOMES, OUTCOMES[0]], []):
        with pytest.raises(InputError, match="one for each pair"):
            results(wrong)


@pytest.mark.parametrize("file", ["results.csv", "results.csv.gz"])
def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path, file: str) -> None:
    own = replace(results(), own=np.random.default_rng(0).random((2, 2, 3)))
    own.own[1, 1, 2] = np.nan
    own.write(tmp_path / file)
    written = (tmp_path / file).read_bytes()
    assert (written[:2] == b"\x1f\x8b") == file.endswith(".gz")
    found = read_results(tmp_path / file)
    found.write(tmp_path / file)
    assert (tmp_path / file).read_bytes() == written
    for name, value in vars(own).items():
        other = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, other, equal_nan=value.dtype.kind == "f")
            assert other.dtype == value.dtype
        else:
            assert value == other
    assert str(summarise(found, 0.5)) == str(summarise(own, 0.5))
    assert against(found) == against(own)


def test_a_file_without_storage_is_read(tmp_path: Path) -> None:
    results().write(tmp_path / "now.csv")
    with (tmp_path / "now.csv").open(newline="", encoding="utf-8") as file:
        added = ("server_bytes", "device_bytes", "seconds", "joules")
        lines = [{name: cell for name, cell in line.items() if name not in added}
                 for line in csv.DictReader(file)]  # fmt: skip
    with (tmp_path / "old.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, lines[0])
        out.writeheader()
        out.writerows(lines)
    found = read_results(tmp_path / "old.csv")
    assert (found.own == results().own).all()
    assert np.isnan(found.server_bytes).all()
    assert np.isnan(found.device_bytes).all()
    assert np.isnan(found.seconds).all()


def test_a_file_has_one_line_per_policy_seed_and_client(tmp_path: Path) -> None:
    gather(OUTCOMES, CLIENTS, SAMPLES).write(tmp_path / "r.csv")  # type: ignore[arg-type]
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 2 * 3
    expected = {"policy": "uniform", "seed": "4", "client": "b, c", "samples": "30", "own": "0.2",
                "supernet": "0.1", "deployed": "0.5", "peak": "0.5", "trained": "0.45",
                "flops": "40", "bytes": "8", "realised": "0.5", "rounds": "2",
                "memory": "nan", "server_bytes": "4000.0", "device_bytes": "10.0",
                "seconds": "10.0", "joules": "1.5"}  # fmt: skip
    assert lines[1] == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("own,", "mine,", 1), "has no column own"),
        (lambda text: text.replace("0.1,", "x,", 1), "line 2, column 'own': 'x' is not a float"),
        (lambda text: text.rsplit("\n", 2)[0], "0 lines for policy hasa, seed 7, client d"),
        (lambda text: text + text.splitlines()[1], "2 lines for policy uniform, seed 4, client a"),
        (lambda text: text.splitlines()[0], "no lines below its header"),
        (lambda text: text.replace(",30,", f",{2**70},"), "line 3, column 'samples': .* 64 bits"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    place = tmp_path / "r.csv"
    results().write(place)
    place.write_text(change(place.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_results(place)
    with pytest.raises(InputError, match=r"cannot read .*absent\.csv"):
        read_results(tmp_path / "absent.csv")


# --- Measures ------------------------------------------------------------------------------------


def test_measures_are_what_their_names_say() -> None:
    found = results()
    assert found.measure()[0] == pytest.approx([30, 30])
    assert found.measure("weighted")[0] == pytest.approx([43, 35])
    assert found.measure("worst")[0] == pytest.approx([10, 20])
    assert found.measure("worst_third")[0] == pytest.approx([10, 20])
    assert found.measure("spread")[0] == pytest.approx([np.sqrt(1400 / 3), np.sqrt(200 / 3)])
    assert found.measure("mean", "supernet")[1] == pytest.approx([20, 20])
    with pytest.raises(InputError, match="measure 'median' is not known"):
        found.measure("median")


def test_a_summary_row_holds_accuracies_and_costs() -> None:
    uniform, hasa_ = summarise(results(), 0.5)
    assert (uniform.mean, uniform.mean_std) == pytest.approx((30, 0))
    assert (uniform.worst, uniform.worst_std) == pytest.approx((15, np.sqrt(50)))
    assert hasa_.supernet.mean == pytest.approx(20)
    assert (uniform.flagged, hasa_.flagged) == (False, True)
    assert hasa_.realised == pytest.approx(0.4987)
    costs = uniform.costs
    assert (costs.peak, costs.deployed, costs.memory) == pytest.approx((0.75, 0.8, 750))
    assert (costs.flops, costs.bytes, costs.rounds) == (60, 18, 2)
    assert (costs.server, costs.device) == (4000, 10)


def test_a_client_that_was_not_measured_everywhere_counts_nowhere() -> None:
    changed = [*OUTCOMES[:3], outcome("hasa", 7, [0.2, np.nan, 0.7])]
    found = results(changed)
    assert found.measured().tolist() == [0, 2]
    assert found.measure()[0] == pytest.approx([35, 30])
    none = results([outcome("uniform", 0, [np.nan] * 3), outcome("hasa", 0, [np.nan] * 3)])
    assert np.isnan(none.measure()).all()
    assert against(none) == []
    assert np.isnan(summarise(none, 0.5)[0].mean)


def test_accuracy_by_width_takes_the_nearest_of_the_menu() -> None:
    accuracy, share = by_width(results(), [0.2, 0.45, 1.0])
    assert share.tolist() == [[0, 4, 2], [0, 4, 2]]
    assert accuracy == pytest.approx(np.array([[np.nan, 20, 50], [np.nan, 27.5, 65]]), nan_ok=True)


def test_clients_are_left_out_in_turn() -> None:
    assert left_out(results())[0, 0] == pytest.approx([40, 35, 15])
    alone = gather([outcome("uniform", 0, [0.5, np.nan, np.nan])], CLIENTS, SAMPLES)  # type: ignore[list-item]
    assert np.isnan(left_out(alone)).all()


def test_json_knows_no_nan() -> None:
    assert for_json({"a": [np.nan, 1.5, (np.inf, "x")]}) == {"a": [None, 1.5, [None, "x"]]}


# --- Contrasts -----------------------------------------------------------------------------------

NAMES = ("uniform", "hasa", "uniform+personal", "hasa+personal", "hasa+selective+personal",
         "uniform+personal+selective", "fjord+n^0.5")  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "reference"),
    [
        ("hasa", "uniform"),
        ("uniform", None),
        ("hasa+personal", "uniform+personal"),
        ("uniform+personal", None),
        ("hasa+selective+personal", "uniform+personal+selective"),
        ("fjord+n^0.5", None),
    ],
)
def test_the_fair_reference_has_the_same_options(policy: str, reference: str | None) -> None:
    assert reference_of(policy, NAMES) == reference


def test_the_plain_policy_has_no_options() -> None:
    assert [plain_of(name) for name in NAMES[:4]] == ["uniform", "hasa", "uniform", "hasa"]


def test_contrasts_are_paired_by_seed_and_corrected_by_family() -> None:
    gains = {"uniform": 0.0, "hasa": 0.2, "uniform+personal": 1.0, "hasa+personal": 1.1}
    found = make_study(gains, n_seeds=6).results
    means = dict(zip(found.policies, 100 * found.own.mean(axis=2), strict=True))
    by_uniform = against(found)
    assert [(own.policy, own.reference) for own in by_uniform] == [
        (name, "uniform") for name in found.policies[1:]
    ]
    for own in by_uniform:
        reference = stats.ttest_rel(means[own.policy], means["uniform"])
        assert own.difference.p_t == pytest.approx(reference.pvalue)
    assert [(own.policy, own.reference) for own in against_same_options(found)] == [
        ("hasa+personal", "uniform+personal")
    ]
    assert [(own.policy, own.reference) for own in against_plain(found)] == [
        ("uniform+personal", "uniform"),
        ("hasa+personal", "hasa"),
    ]
    (part,) = against_same_options(found)
    assert part.difference.p_holm == part.difference.p_t, "a family of its own"
    # The parts add up: option + allocation with that option = total.
    total, option = by_uniform[2].difference.mean, by_uniform[1].difference.mean
    assert total == pytest.approx(option + part.difference.mean)
    assert against(found, "hasa")[0].policy == "uniform"
    assert against(found, "absent") == []


def test_clients_on_which_a_difference_hangs_are_found() -> None:
    changed = [
        outcome("uniform", 0, [0.2, 0.2, 0.2]),
        outcome("uniform", 1, [0.2, 0.2, 0.2]),
        outcome("hasa", 0, [0.8, 0.19, 0.19]),
        outcome("hasa", 1, [0.81, 0.19, 0.19]),
    ]
    found = hinges(results(changed))
    assert {own.client: own.turns for own in found} == {"a": True, "b, c": False, "d": False}
    assert found[0].difference == pytest.approx((60.5 - 1 - 1) / 3)
    assert found[0].without == pytest.approx(-1)
    same = [outcome("hasa", seed, [0.3 + seed / 10, 0.3, 0.3]) for seed in (0, 1)]
    assert hinges(results([*changed[:2], *same])) == [], "every client alike, a wide interval"
    assert hinges(results(), "absent") == []


def test_many_clients_and_policies_take_little_time() -> None:
    rng = np.random.default_rng(0)
    shape = (len(FOURTEEN), 5, 5000)
    base = results()
    own = replace(
        base,
        policies=FOURTEEN,
        seeds=tuple(range(5)),
        clients=tuple(map(str, range(5000))),
        samples=rng.integers(1, 100, 5000),
        **{name: rng.random(shape) for name in ("own", "supernet", "deployed", "peak", "trained")},
        **{name: rng.integers(1, 9, shape) for name in ("flops", "bytes")},
        **{name: rng.random(shape[:2]) for name in ("realised", "memory", "server_bytes")},
        **{name: np.zeros(shape[:2]) for name in ("device_bytes", "seconds", "joules")},
        rounds=np.ones(shape[:2], dtype=int),
    )
    assert len(summarise(own, 0.5)) == 14
    assert len(against(own)) == 13
    hinges(own)
