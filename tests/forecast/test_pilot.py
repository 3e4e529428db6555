"""A pilot sees training data alone, counts what it costs, and its intervals keep their word."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import hasa_opt as hasa
from hasa_opt import federated, models
from hasa_opt.cli import app
from hasa_opt.errors import InputError
from hasa_opt.forecast.gains import Gain
from hasa_opt.forecast.piloting import Pilot, pilot
from hasa_opt.forecast.recommendation import advise
from hasa_opt.forecast.trial_runs import TrialRuns
from hasa_opt.policies import POLICIES, Subnets, read_policy
from hasa_opt.rules.difficulty import by_difficulty, easy_clients, falls_in_two
from hasa_opt.tasks import Split, Task
from hasa_opt.tasks.task import folds

pytestmark = pytest.mark.slow

DRAWS = 400


def split(size: int, rng: np.random.Generator) -> Split:
    targets = rng.integers(0, 3, size)
    inputs = np.eye(3)[targets] + rng.normal(0, 0.5, (size, 3))
    return Split(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets))


class Untouchable(tuple):
    """Splits that may be counted, and nothing else."""

    def __getitem__(self, item: object) -> object:
        raise AssertionError("a split that is not training data was read")


def small_task(sizes: tuple[int, ...] = (40, 25, 60)) -> Task:
    rng = np.random.default_rng(0)
    train = tuple(split(size, rng) for size in sizes)
    counts = np.array([np.bincount(own.targets, minlength=3) for own in train])
    names = tuple(f"c{row}" for row in range(len(sizes)))
    other = tuple(split(5, rng) for _ in sizes)
    task = Task("small", names, train, other, other, counts, 3)
    for part in ("validation", "test"):
        object.__setattr__(task, part, Untouchable(other))
    return task


def small_model() -> models.SupernetModel:
    return models.fresh(models.MLP(3, 3, hidden=(8,)), 0)


SMALL = federated.LocalTraining(batch_size=8)
WAYS = {"uniform": [0.5, 0.5, 0.5], "wide first": [1.0, 0.5, 0.25], "same": [0.5, 0.5, 0.5]}


@pytest.fixture(scope="module")
def piloted() -> Pilot:
    return pilot(small_model(), small_task(), WAYS, 3, 0, training=SMALL, repeats=3)


# ------------------------------------------------------------------------------------ what it runs


def test_it_is_the_federated_run_on_the_kept_parts(piloted: Pilot) -> None:
    task = small_task()
    for repeat in range(2):
        kept, held = folds(task, 0, 3)[repeat]
        part = Task(
            "part", task.client_names, tuple(kept), tuple(held), tuple(held), task.counts, 3
        )
        for row, widths in enumerate(WAYS.values()):
            own = federated.run(
                small_model(),
                part,
                widths,
                rounds=3,
                training=SMALL,
                evaluation=federated.Evaluation(also=["personal"]),
                seed=repeat,
            )
            np.testing.assert_array_equal(piloted.accuracy[repeat, row, 0], own.test_accuracy[-1])
            wanted = own.personal_accuracy[-1]
            np.testing.assert_array_equal(piloted.accuracy[repeat, row, 1], wanted)


def test_allocations_meet_the_clients_by_name() -> None:
    """An allocation, or a mapping, of the clients in another order; of others it is refused."""
    caps = {"c2": 0.25, "c0": 1.0, "c1": 0.5}
    problem = hasa.AllocationProblem.build(
        hasa.Clients([10] * 3, names=list(caps), max_width=list(caps.values())),
        widths=(0.25, 0.5, 1.0),
        budget=1.0,
        utility=hasa.utility.alpha_fair(),
    )
    ways = {"solved": hasa.solve(problem, "greedy"), "mapped": caps, "bare": [1.0, 0.5, 0.25]}
    found = TrialRuns(model=small_model(), rounds=1).read(small_task(), ways, 0)
    assert {tuple(own.widths.tolist()) for own in found.values()} == {(1.0, 0.5, 0.25)}
    with pytest.raises(InputError, match="has no width for 'c1'"):
        pilot(small_model(), small_task(), ways | {"other": {"c0": 1, "c2": 1, "c9": 1}}, 1, 0)


def test_the_parts_hold_each_sample_once() -> None:
    task = small_task((7, 10))
    dealt = folds(task, 3, 3)
    for client in range(2):
        whole = sorted(task.train[client].inputs.sum(dim=1).tolist())
        held = torch.cat([fold.held[client].inputs for fold in dealt]).sum(dim=1)
        assert sorted(held.tolist()) == whole
        for kept, own in dealt:
            both = torch.cat([kept[client].inputs, own[client].inputs]).sum(dim=1)
            assert sorted(both.tolist()) == whole
            assert len(own[client]) in (len(whole) // 3, len(whole) // 3 + 1)


def test_what_trains_alike_gains_nothing_and_is_dropped(piloted: Pilot) -> None:
    gain = piloted.gain("same", "uniform")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert np.isfinite(piloted.accuracy[:2]).all()
    assert np.isnan(piloted.accuracy[2, 2]).all()


def test_it_ends_when_nothing_is_left() -> None:
    ways = {"uniform": [0.5] * 3, "same": [0.5] * 3}
    found = pilot(small_model(), small_task(), ways, 1, 0, repeats=5)
    assert np.isfinite(found.accuracy[:2]).all()
    assert np.isnan(found.accuracy[2:]).all()


def test_its_compute_is_counted() -> None:
    # Two runs of 4 rounds on half of 128 samples, twice, cost what 2 x 4 rounds on all of them do;
    # judging 9 forward passes of the other half is as much again as 1.5 epochs of training it.
    task = small_task((40, 24, 64))
    ways = {"uniform": [0.5] * 3, "same": [0.5] * 3}
    found = pilot(small_model(), task, ways, 4, 0, repeats=2, training=SMALL)
    step = small_model().profile((0.5,), task.train[0].inputs[:1]).flops[0]
    assert found.round_flops == pytest.approx(128 * step)
    assert found.flops == pytest.approx(128 * step * 2 * (4 + 9 / 3), rel=0.01)
    assert found.cost(70) == pytest.approx(0.2, rel=0.01)


def test_ordered_dropout_deploys_wider_than_it_trains() -> None:
    wide = [0.75] * 3
    ordered = Subnets(wide, scheme="ordered_dropout", mean_widths=[0.5] * 3)
    drawn, fixed = (
        pilot(
            small_model(),
            small_task(),
            {"uniform": [0.5] * 3, "fjord": fjord},
            2,
            0,
            repeats=2,
            training=SMALL,
        )
        for fjord in (ordered, wide)
    )
    assert drawn.flops < fixed.flops
    assert (drawn.accuracy[:, 0] == fixed.accuracy[:, 0]).all()
    assert (drawn.accuracy[:, 1] != fixed.accuracy[:, 1]).any()


def test_the_model_and_the_random_state_are_left_alone() -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = [pilot(model, small_task(), WAYS, 1, seed, repeats=2).accuracy for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_it_shows_a_table(piloted: Pilot) -> None:
    shown = str(piloted)
    assert repr(piloted).startswith("Pilot(uniform, ")
    assert "wide first+personal" in shown
    assert "over uniform+personal" in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allocations": {"uniform": [0.5] * 3}}, "at least two"),
        ({"allocations": [[0.5] * 3] * 2}, "allocations are a list: name them"),
        ({"allocations": WAYS | {"hasa+personal": [0.5] * 3}}, "leave it out"),
        ({"allocations": WAYS | {"hasa": [0.5, 0.5]}}, "one width per client"),
        ({"repeats": 1}, "at least 2"),
        ({"repeats": 2.5}, "repeats"),
        ({"repeats": 26}, "'c1' has 25 training sample"),
        ({"rounds": 0}, "rounds"),
        ({"seed": -1}, "seed"),
        ({"participation": federated.Participation(clients_per_round=4)}, "clients_per_round"),
        ({"evaluation": federated.Evaluation(interpolation="validation")}, "give a number"),
        ({"execution": federated.Execution(executor="ray")}, "leave it out"),
        ({"allocations": WAYS | {"odd": Subnets([0.5] * 3, "magic")}}, "unknown scheme"),
        ({"model": models.MLP(3, 4)}, "outputs"),
    ],
)
def test_bad_input_is_refused(changes: dict, words: str) -> None:
    given = {"model": small_model(), "task": small_task(), "allocations": WAYS}
    with pytest.raises(hasa.InputError, match=words):
        pilot(**(given | {"rounds": 1, "seed": 0} | changes))


def test_unknown_names_and_confidences_are_refused(piloted: Pilot) -> None:
    with pytest.raises(hasa.InputError, match="'hasa' is not in the pilot"):
        piloted.gain("hasa")
    with pytest.raises(hasa.InputError, match="confidence"):
        piloted.gain("same", confidence=1.0)
    with pytest.raises(hasa.InputError, match="confidence 'a'"):
        piloted.gain("same", confidence="a")
    with pytest.raises(hasa.InputError, match="rounds 0"):
        piloted.cost(0)


# --------------------------------------------------------------------------------------- in use


def grouped_task() -> Task:
    """Two clients whose labels can be read off the inputs, and two with labels drawn by lot."""
    rng = np.random.default_rng(0)
    easy = tuple(split(60, rng) for _ in range(2))
    hard = tuple(Split(split(60, rng).inputs, split(60, rng).targets) for _ in range(2))
    train = easy + hard
    counts = np.array([np.bincount(own.targets, minlength=3) for own in train])
    return Task("grouped", ("a", "b", "c", "d"), train, train, train, counts, 3)


def study(workers: int | None = 1, **changes: object) -> hasa.Study:
    given = {"policies": ("uniform", "recommended"), "seeds": (0,), "rounds": 6, "training": SMALL}
    given |= {"widths": (0.25, 0.5, 0.75), "probe_rounds": 6, "pilot_repeats": 2}
    given |= {"execution": federated.Execution(workers=workers)}
    return hasa.Study(grouped_task(), small_model(), **(given | changes))


def test_a_study_pilots_what_the_probe_proposes() -> None:
    planner = study().planner
    found = planner.recommendation(0)
    assert "by_difficulty" in [own.policy.rule for own in found.proposals]
    assert "of a run's training, the pilot " in planner.reason(0)
    assert "in the pilot" in found.reason or "the pilot confirms no proposal" in found.reason
    named = [read_policy(name) for name in ("uniform", "measured", "recommended")]
    before = [planner.measuring(policy, 0) for policy in named]
    assert 0 == before[0] < before[1] < before[2], "nothing, a probe, a probe and a pilot"
    assert planner.resolved(POLICIES["recommended"], 0) == found.policy
    assert planner.subnets(POLICIES["recommended"], 0) is found.subnets
    assert planner.subnets(POLICIES[found.policy.rule], 0) is found.subnets, "in whole units"
    easy_first = planner.subnets(POLICIES["by_difficulty"], 0)
    assert easy_first.widths.tolist() == [0.25, 0.25, 0.75, 0.75]


def test_without_a_pilot_a_study_trains_uniform() -> None:
    planner = study(pilot_repeats=0).planner
    found = planner.recommendation(0)
    assert (found.policy.rule, len(found.proposals) > 0) == ("uniform", True)
    assert "a pilot could try" in planner.reason(0)
    assert "the pilot " not in planner.reason(0)


def test_probe_and_pilot_are_kept_in_the_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = study(2, seeds=(0, 1)).run(directory=tmp_path, compare_solvers=False)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("hasa_opt.study.planner.probe", forbidden)
    monkeypatch.setattr("hasa_opt.study.planner.pilot", forbidden)
    with pytest.raises(AssertionError, match="measured again"):
        study(probe_rounds=5).run(directory=tmp_path, compare_solvers=False)
    with pytest.raises(AssertionError, match="measured again"):
        study(pilot_repeats=3).run(directory=tmp_path, compare_solvers=False)
    again = study(seeds=(0, 1)).run(directory=tmp_path, compare_solvers=False)
    assert [own.reason for own in again.outcomes] == [own.reason for own in first.outcomes]
    assert np.array_equal(again.results.own, first.results.own)


def test_workers_measure_what_one_process_does() -> None:
    alone, together = study(seeds=(0, 1)), study(2, seeds=(0, 1))
    together.allocate("uniform", 0)  # what has been looked at before need not go to the workers
    alone = alone.run(compare_solvers=False)
    together = together.run(compare_solvers=False)
    assert [own.reason for own in alone.outcomes] == [own.reason for own in together.outcomes]


def test_a_table_beforehand_keeps_what_it_measures_and_what_follows_uses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[str] = []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append("probe")
        return hasa.probe(*args, **kwargs)

    monkeypatch.setattr("hasa_opt.study.planner.probe", counted)
    first = study(pilot_repeats=0)
    first.prepare(tmp_path)
    first.allocation_table()
    done = first.run(directory=tmp_path, compare_solvers=False)
    done.allocation_table()
    study(pilot_repeats=0).prepare(tmp_path)
    assert calls == ["probe"]


def test_seeds_are_probed_in_parallel_under_a_budget_of_flops() -> None:
    done = study(2, seeds=(0, 1), budget_in="flops", pilot_repeats=0)
    done.prepare()
    assert sorted(done.planner._probes) == [0, 1]


ON_SUPERNET = federated.Evaluation(on="supernet")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pilot_repeats": 1}, "pilot_repeats 1 must be 0 or from 2 to 60"),
        ({"pilot_repeats": 61}, "pilot_repeats 61 must be 0 or from 2 to 60"),
        ({"pilot_repeats": -1}, "pilot_repeats -1 must be a whole number"),
        ({"probe_rounds": 0}, "probe_rounds 0 must be a whole number"),
        ({"evaluation": ON_SUPERNET}, "'recommended' deploys personal subnets"),
        ({"evaluation": ON_SUPERNET, "policies": ("uniform+personal",)}, "'uniform.personal' dep"),
        ({"policies": ("recommended+n^0.5",)}, "about which 'recommended' decides"),
    ],
)
def test_a_study_refuses_what_its_measurements_would(changes: dict, words: str) -> None:
    with pytest.raises(hasa.InputError, match=words):
        study(**changes)


def test_command_pilots_and_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasa_opt.cli.headroom.load_task", lambda *given: grouped_task())
    command = ["headroom", "--task", "digits", "--model", "mlp", "--hidden", "8", "--rounds", "4"]
    command += ["--widths", "0.25,0.5,0.75", "--pilot", "2", "--batch-size", "8"]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    advised = json.loads(done.stdout)["recommended"]
    assert "by_difficulty" in advised["proposals"]
    assert len(advised["widths"]) == 4
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "120"}).output
    assert "over uniform+personal" in shown
    assert f"recommended: {advised['reason']}" in shown
    assert "the pilot cost" in shown


def test_command_recommends_by_what_devices_can_deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def remembered(*given: object, deploy: float | None, **options: object) -> object:
        asked.append(deploy)
        return advise(*given, deploy=deploy, **options)

    monkeypatch.setattr("hasa_opt.cli.headroom.load_task", lambda *given: grouped_task())
    monkeypatch.setattr("hasa_opt.cli.headroom.advise", remembered)
    command = ["headroom", "--task", "digits", "--model", "mlp", "--hidden", "8", "--rounds", "1"]
    command += ["--widths", "0.25,0.5,0.75", "--batch-size", "8", "--json", "--deploy"]
    done = CliRunner().invoke(app, [*command, "0.8"])
    assert done.exit_code == 0, done.output
    advised = json.loads(done.stdout)["recommended"]
    assert set(asked) == {0.8}
    assert (advised["policy"] == "fjord") == (advised["scheme"] == "ordered_dropout")
    refused = CliRunner().invoke(app, [*command, "0.2"])
    assert isinstance(refused.exception, hasa.InputError)
    assert "--deploy 0.2 must lie between the narrowest width, 0.25, and 1" in str(
        refused.exception
    )


@pytest.mark.parametrize("option", [("--pilot", "2"), ("--deploy", "0.8")])
def test_command_recommends_nothing_by_a_table(option: tuple[str, str]) -> None:
    command = ["headroom", "c.csv", "--utilities", "u.csv", *option]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, hasa.InputError)
    assert "--pilot and --deploy need data" in str(done.exception)


# -------------------------------------------------------------------------------------- intervals


def written(gains: np.ndarray) -> Pilot:
    """A pilot of two allocations that differ by these gains in points, ``(repeats, clients)``."""
    reached = np.zeros((len(gains), 2, 2, gains.shape[1]))
    reached[:, 1] = gains[:, None] / 100
    return Pilot(("uniform", "other"), reached, 1, 1, 1.0)


def test_the_interval_of_shared_errors_is_that_of_the_mean() -> None:
    gains = np.array([[1.0, 1.2], [3.0, 3.1], [2.0, 1.9]])
    found = written(gains).gain("other", "uniform")
    wanted = stats.ttest_1samp(gains.mean(axis=1), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_the_interval_of_independent_errors_is_that_of_welch() -> None:
    # One client up, the other down: the mean hardly moves, the clients do.
    gains = np.array([[5.0, -2.9], [1.0, 1.1], [3.0, -1.0], [0.0, 2.0]])
    found = written(gains).gain("other+personal", "uniform")
    welch = stats.ttest_ind(gains[:, 0], -gains[:, 1], equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low / 2, welch.high / 2))


def test_clients_without_a_target_are_left_out() -> None:
    gains = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, 2.0]])
    whole = written(gains[:, [0, 2]]).gain("other", "uniform")
    assert written(gains).gain("other", "uniform") == whole


def planted(kind: str, true: float, seed: int) -> Pilot:
    """Four repetitions of eight clients, 100 to 500 samples each, every sample judged once.

    A sample is right under one allocation alone in 16 % of the cases. Beside that there is noise of
    the training run: that a client has for itself, that all clients share, or none.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(25, 125, 8)
    one = np.array([[rng.multinomial(n, [0.08, 0.84, 0.08]) for n in sizes] for _ in range(4)])
    gains = 100 * (one[:, :, 0] - one[:, :, 2]) / sizes + true
    spread = {"samples": 0.0, "own": 4.0, "shared": 1.5}[kind]
    shape = (4, 1) if kind == "shared" else (4, 8)
    return written(gains + spread * rng.standard_normal(shape))


@cache
def drawn(kind: str, true: float) -> list[Gain]:
    return [planted(kind, true, seed).gain("other", "uniform") for seed in range(DRAWS)]


KINDS = ["samples", "own", "shared"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_gain_the_whole_interval_is_above_zero_in_one_case_of_forty(kind: str) -> None:
    wrong = np.mean([own.low > 0 for own in drawn(kind, 0.0)])
    assert wrong <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / DRAWS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_covers_the_gain_at_its_nominal_rate(kind: str) -> None:
    covered = np.mean([own.low <= 1.5 <= own.high for own in drawn(kind, 1.5)])
    assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / DRAWS)
    assert abs(np.mean([own.value for own in drawn(kind, 1.5)]) - 1.5) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_gain_is_found(kind: str) -> None:
    assert np.mean([own.low > 0 for own in drawn(kind, 6.0)]) >= 0.88


# ------------------------------------------------------------------------------------- difficulty


def test_easy_clients_are_those_below_the_best_cut() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 7, 12):
        loss = rng.exponential(1.0, size)
        found = easy_clients(loss)
        costs = [
            sum(own.var() * own.size for own in (loss[loss <= cut], loss[loss > cut]))
            for cut in np.sort(loss)[:-1]
        ]
        assert loss[found].max() == np.sort(loss)[int(np.argmin(costs))]
        assert loss[found].max() < loss[~found].min()


@pytest.mark.parametrize(
    ("loss", "samples", "expected"),
    [
        ([0.2, 0.1, 0.3, 1.7, 1.9, 1.8], [100] * 6, True),
        ([6.4, 6.2, 6.2, 6.0, 6.4, 6.0], [100] * 6, False),  # evenly spread
        ([6.4, 6.4, 6.4, 6.4, 6.4, 1.0], [100] * 6, False),  # a single client is no group
        ([6.4, 6.4, 6.4, 6.4, 1.1, 1.0], [100] * 4 + [5, 6], False),  # nor are few samples
        ([0.1, 0.1, 1.9], [100] * 3, False),
        ([1.0] * 6, [100] * 6, False),
    ],
)
def test_two_groups_are_seen_where_there_are_two(loss, samples, expected) -> None:
    assert falls_in_two(loss, samples) is expected


def test_hard_clients_share_what_easy_ones_leave() -> None:
    samples, loss = np.array([100, 300, 200, 400]), [0.1, 2.0, 0.2, 1.9]
    found = by_difficulty(loss, samples, budget=0.5)
    assert found == pytest.approx([0.2, 0.44 / 0.7, 0.2, 0.44 / 0.7])
    capped = by_difficulty(loss, samples, budget=0.5, caps=[0.8, 0.5, 0.8, 0.8])
    assert capped == pytest.approx([0.2, 0.5, 0.2, (0.44 - 0.15) / 0.4])
    rich = by_difficulty(loss, samples, budget=0.7)
    assert rich == pytest.approx([0.14 / 0.3, 0.8, 0.14 / 0.3, 0.8])
    assert samples @ rich == pytest.approx(700)


def test_difficulty_needs_two_clients_and_a_budget() -> None:
    with pytest.raises(hasa.InputError, match="at least two"):
        by_difficulty([1.0], [10])
    with pytest.raises(hasa.InfeasibleError, match="raise the budget"):
        by_difficulty([1.0, 2.0], [10, 10], budget=0.1)
