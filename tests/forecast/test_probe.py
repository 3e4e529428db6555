"""A probe sees training data alone, counts what it costs, and measures what it says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hasa_opt as hasa
from hasa_opt import federated, models, tasks
from hasa_opt.cli import app
from hasa_opt.federated import CosineDecay, Faults, LocalTraining, Participation
from hasa_opt.forecast.measuring import measure
from hasa_opt.forecast.probing import Probe, _between_runs, _shares
from hasa_opt.forecast.warm_up import (
    Judged,
    Plan,
    halves,
    judge,
    judged,
    menu_draw,
    warm_up,
)
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow

MENU = (0.25, 0.5, 1.0)
SMALL = LocalTraining(batch_size=8)


def split(size: int, rng: np.random.Generator) -> Split:
    targets = rng.integers(0, 3, size)
    inputs = np.eye(3)[targets] + rng.normal(0, 0.3, (size, 3))
    return Split(torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets))


def small_task(sizes: tuple[int, ...] = (40, 25, 60)) -> Task:
    rng = np.random.default_rng(0)
    train = tuple(split(size, rng) for size in sizes)
    counts = np.array([np.bincount(own.targets, minlength=3) for own in train])
    other = tuple(split(5, rng) for _ in sizes)
    names = tuple(f"c{row}" for row in range(len(sizes)))
    return Task("small", names, train, other, other, counts, 3)


class Untouchable(tuple):
    """Splits that may be counted, and nothing else."""

    def __getitem__(self, item: object) -> object:
        raise AssertionError("a split that is not training data was read")


def small_model(seed: int = 0) -> models.SupernetModel:
    return models.fresh(models.MLP(3, 3, hidden=(8,)), seed)


def plan_of(rounds: int) -> Plan:
    return Plan(
        np.array(MENU),
        np.full(3, 1 / 3),
        rounds,
        training=SMALL,
        participation=Participation(),
        seed=0,
    )


@pytest.fixture(scope="module")
def probed() -> Probe:
    return hasa.probe(small_model(), small_task(), MENU, 4, 0, budget=0.5, training=SMALL)


def test_shapes_and_ranges(probed: Probe) -> None:
    assert probed.accuracy.shape == probed.loss.shape == probed.utility.shape == (3, 3)
    assert probed.halves.shape == (2, 3, 3)
    assert ((probed.halves >= 0) & (probed.halves <= 1)).all()
    assert probed.widths.tolist() == list(MENU)


def test_it_learns_what_can_be_learned() -> None:
    found = hasa.probe(small_model(), small_task(), MENU, 40, 0, training=SMALL)
    assert found.accuracy.min() > 0.8
    assert found.loss.max() < 0.6


def test_accuracy_is_that_of_both_halves_by_targets(probed: Probe) -> None:
    sizes = np.array([40, 25, 60])
    first, second = (sizes + 1) // 2, sizes // 2
    # halves[0] is judged on the second deal, by the model that trained on the first.
    wanted = (probed.halves[0].T * second + probed.halves[1].T * first) / sizes
    assert pytest.approx(wanted) == probed.accuracy.T


def test_validation_and_test_are_never_read() -> None:
    task = small_task()
    guarded = replace(task)
    object.__setattr__(guarded, "validation", Untouchable(task.validation))
    object.__setattr__(guarded, "test", Untouchable(task.test))
    plain = hasa.probe(small_model(), task, MENU, 1, 0, budget=0.5)
    found = hasa.probe(small_model(), guarded, MENU, 1, 0, budget=0.5)
    assert (found.accuracy == plain.accuracy).all()


def test_halves_are_disjoint_and_together_everything() -> None:
    task = small_task()
    parts = halves(task, 3)
    for client, own in enumerate(task.train):
        rows = torch.cat([part[client].inputs for part in parts])
        assert len(rows) == len(own)
        assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in own.inputs.tolist()}
    other = halves(task, 4)[0][0].inputs
    assert not torch.equal(parts[0][0].inputs, other)


def test_nothing_of_the_held_back_half_is_trained_on() -> None:
    task = small_task()
    plan = plan_of(2)
    _, second = halves(task, 0)
    changed = list(task.train)
    rows = torch.tensor(np.isin(task.train[0].inputs[:, 0], second[0].inputs[:, 0]))
    targets = task.train[0].targets.clone()
    targets[rows] = (targets[rows] + 1) % 3
    changed[0] = Split(task.train[0].inputs, targets)
    plain = measure(small_model(), task, plan).outcomes[0]
    found = measure(small_model(), replace(task, train=tuple(changed)), plan).outcomes[0]
    # The model of the first half is the same, so other clients are judged the same.
    assert (plain[1].score == found[1].score).all()
    assert not (plain[0].score == found[0].score).all()


def test_outcomes_of_samples_add_up_to_the_evaluation() -> None:
    task = tasks.load("docstrings", seed=0, n_texts=400)
    model = models.fresh(models.GRULanguageModel(task.n_outputs, embedding=8, hidden=8), 0)
    subnet = models.extract(model, 0.5)
    own = judged([subnet], task.test[0])
    wanted = federated.evaluate(subnet, task.test[0])
    assert own.score[:, 0].sum() / own.targets.sum() == pytest.approx(wanted.accuracy)
    assert own.loss[:, 0].sum() / own.known.sum() == pytest.approx(wanted.loss, rel=1e-5)


def test_covariance_is_that_of_a_bootstrap_over_samples() -> None:
    from hasa_opt.forecast.probing import _ratios

    rng = np.random.default_rng(0)
    targets = rng.integers(1, 8, 400).astype(float)
    ease = rng.uniform(0, 1, 400)
    correct = np.stack([rng.binomial(targets.astype(int), ease * own) for own in (0.5, 0.8)], 1)
    own = Judged(targets, targets, correct.astype(float), correct.astype(float))
    _, covariance, degrees = _ratios([[own], [own]])
    both = [np.concatenate([value, value]) for value in (targets, correct)]
    draws = rng.integers(0, 800, (4000, 800))
    ratios = both[1][draws].sum(axis=1) / both[0][draws].sum(axis=1)[:, None]
    assert covariance[0] == pytest.approx(np.cov(ratios.T), rel=0.15)
    assert degrees == 798


@pytest.mark.parametrize("run", [0.0, 0.02, 0.05])
def test_the_noise_of_another_run_is_found(run: float) -> None:
    # Half-tables of 3,000 clients: the same samples' noise in all widths is no difference.
    rng = np.random.default_rng(0)
    sampling = 0.02 * rng.standard_normal((2, 3000, 4)) + 0.3 * rng.standard_normal((2, 3000, 1))
    halves = sampling + run * rng.standard_normal((2, 3000, 4))
    covariance = (np.eye(4) * 0.02**2 + 0.3**2) / 2  # of the mean of the halves
    found = _between_runs(halves[0] - halves[1], np.tile(covariance, (3000, 1, 1)))
    assert found == pytest.approx(run**2 / 2, rel=0.1, abs=1e-5)


def test_cost_is_that_of_what_was_done() -> None:
    task, model = small_task(), small_model()
    one = model.profile(MENU, task.train[0].inputs[:1]).flops  # a sample, forward and backward
    samples = int(task.samples.sum())
    found = hasa.probe(model, task, (0.5, 1.0), 3, 0, training=SMALL)
    trained = found.flops - samples * (one[1] + one[2]) // 3
    assert 3 * samples * one[1] <= trained + 4 <= 3 * samples * one[2] + 8
    assert found.round_flops.tolist() == [samples * one[1], samples * one[2]]
    assert found.cost(10, 0.5) == pytest.approx(found.flops / (10 * samples * one[1]))
    narrow = hasa.probe(model, task, (0.5, 1.0), 3, 0, training=SMALL, budget=0.5)
    assert narrow.flops - samples * (one[1] + one[2]) // 3 == pytest.approx(3 * samples * one[1])


@pytest.mark.parametrize("budget", [0.25, 0.3, 0.5, 0.9, 1.0])
def test_drawn_widths_have_the_budget_as_mean(budget: float) -> None:
    menu = np.array(MENU)
    shares = _shares(menu, budget)
    assert shares.sum() == pytest.approx(1)
    assert shares @ menu == pytest.approx(budget, abs=2e-3)
    drawn = menu_draw(menu, shares)(1.0, (0, 0, 0))
    widths = [next(drawn) for _ in range(60)]
    assert np.mean(widths) == pytest.approx(budget, abs=0.03)
    assert set(widths) <= set(MENU)


def test_it_depends_on_the_seed_alone_and_leaves_the_model(probed: Probe) -> None:
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(1)
    again = hasa.probe(model, small_task(), MENU, 4, 0, budget=0.5, training=SMALL)
    assert (again.accuracy == probed.accuracy).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other = hasa.probe(model, small_task(), MENU, 4, 1, budget=0.5, training=SMALL)
    assert (other.accuracy != probed.accuracy).any()


def test_utility_is_the_client_mean_in_points(probed: Probe) -> None:
    assert probed.utility.sum(axis=0).mean() == pytest.approx(100 * probed.accuracy.mean())
    assert (np.diff(probed.utility) >= -1e-12).all()
    table = hasa.utility.measured(probed.utility)
    problem = hasa.AllocationProblem.build(
        small_task().clients(), widths=MENU, budget=0.5, utility=table
    )
    assert hasa.solve(problem, "highs").has_solution
    clients = small_task().clients()
    assert isinstance(hasa.headroom(probed, clients, 0.5), hasa.Headroom)
    with pytest.raises(
        hasa.InputError, match="row 0 of the probe is 'c0', that of the clients 'c2'"
    ):
        hasa.headroom(probed, hasa.Clients(clients.samples, names=clients.names[::-1]), 0.5)
    with pytest.raises(hasa.InputError, match="rounds 0"):
        probed.cost(0, 0.5)


def test_updates_of_each_three_rounds_are_compared(probed: Probe) -> None:
    (cosines,) = probed.similarities  # Four rounds: the last one is not looked at.
    count = len(probed.names)
    assert cosines.shape == (count, count)
    assert np.diagonal(cosines) == pytest.approx(np.ones(count))
    assert (np.abs(cosines) <= 1 + 1e-9).all()
    assert np.ptp(cosines) > 0.01
    drawn = hasa.probe(
        small_model(), small_task(), MENU, 3, 0, participation=Participation(clients_per_round=2)
    )
    assert drawn.similarities == ()


@pytest.mark.slow
def test_a_probe_sees_groups_that_differ_in_inputs_alone() -> None:
    task = tasks.load("fonts", seed=0)
    model = models.fresh(models.CNN.for_data(task.train[0].inputs, task.n_outputs), 0)
    probe = hasa.probe(model, task, (0.2, 0.5, 0.8), 3, 0)
    found = hasa.headroom(probe, task.clients(), 0.5)
    assert found.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert "4 and 4 alike clients by the updates" in str(found.foretold)
    assert found.foretold.gain.low > 0
    assert found.record()["own_units"]["value"] == found.foretold.gain.value


def two_kinds(contradict: bool, kinds: int = 2) -> Task:
    """Six clients whose counts show groups; labels contradict each other between them, or not."""
    task, counts = small_task((60,) * 6), np.array([[90, 10, 0], [0, 10, 90]])
    rows = np.arange(6) % kinds
    train = [
        replace(own, targets=(own.targets + int(row) * contradict) % 3)
        for own, row in zip(task.train, rows, strict=True)
    ]
    return replace(task, train=tuple(train), counts=counts[rows])


def room_of(task: Task, training: LocalTraining = SMALL) -> hasa.Headroom:
    probe = hasa.probe(small_model(), task, MENU, 12, 0, training=training)
    return hasa.headroom(probe, task.clients(), 0.5)


def test_what_groups_gain_is_measured_where_they_are_found() -> None:
    contradicting, alike = (room_of(two_kinds(each)) for each in (True, False))
    for found in (contradicting, alike):
        assert found.groups.tolist() == [0, 1, 0, 1, 0, 1]
    assert contradicting.foretold.gain.low > 10
    assert str(contradicting.foretold).endswith(
        f"units of their own are worth {contradicting.foretold.gain.told} here, "
        "train the policy recommended"
    )
    assert alike.foretold.gain.low <= 0
    assert str(alike.foretold).endswith("points here, which is no sure gain: do not bother")
    assert "own units of the groups" in str(alike)


def test_what_is_measured_apart_is_that_of_each_group_trained_alone() -> None:
    task, plan = two_kinds(True), plan_of(3)
    found = measure(small_model(), task, plan)
    half, held = halves(task, plan.seed)
    for group in (0, 1):
        rows = [row for row in range(6) if row % 2 == group]
        alone = replace(
            task,
            client_names=tuple(task.client_names[row] for row in rows),
            counts=task.counts[rows],
            train=tuple(half[row] for row in rows),
            validation=tuple(task.validation[row] for row in rows),
            test=tuple(task.test[row] for row in rows),
        )
        both = replace(task, train=half)
        begun = warm_up(small_model(), both, plan).federation.model
        own, common = (
            judge(warm_up(begun, each, plan, plan.rounds), MENU, [held[row] for row in rows])
            for each in (alone, both)
        )
        for row, one, other in zip(rows, own, common, strict=True):
            np.testing.assert_array_equal(found.apart[0][row].score, one.score - other.score)


def test_workers_give_the_same_bits_and_tell_how_far_they_are() -> None:
    def probed(**options: object) -> hasa.Probe:
        return hasa.probe(small_model(), two_kinds(True), MENU, 3, 0, training=SMALL, **options)

    told: list[tuple[int, int]] = []
    alone, side = probed(workers=1), probed(workers=2, on_round=lambda *now: told.append(now))
    for name in ("loss", "reached", "halves", "covariance", "utility", "similarities", "flops"):
        np.testing.assert_array_equal(getattr(side, name), getattr(alone, name))
    assert alone.apart is not None
    assert side.apart is not None
    np.testing.assert_array_equal(side.apart.difference, alone.apart.difference)
    assert told == sorted(told)
    assert told[-1] == (18, 18)
    assert {of for done, of in told if done <= 6} == {6}


@pytest.mark.parametrize("workers", [0, 1.5])
def test_workers_are_a_number_of_processes(workers: float) -> None:
    with pytest.raises(hasa.InputError, match="workers"):
        hasa.probe(small_model(), two_kinds(True), MENU, 1, 0, workers=workers)


def test_without_groups_nothing_more_is_spent() -> None:
    plain, grouped = (
        hasa.probe(small_model(), two_kinds(False, kinds), MENU, 12, 0, training=SMALL)
        for kinds in (1, 2)
    )
    assert plain.apart is None
    assert "do not bother" in str(plain.foretold)
    assert grouped.flops == pytest.approx(3 * plain.flops, rel=0.1)  # Other widths are drawn.
    assert (grouped.reached == plain.reached).all()


def test_a_schedule_begins_anew_where_groups_go_on() -> None:
    falling = replace(SMALL, schedule=CosineDecay(rounds=12))
    assert room_of(two_kinds(True), falling).foretold.gain.low > 10


def test_a_network_with_batch_norm_is_told_of_groups_without_a_gain() -> None:
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    found = hasa.probe(
        models.Supernet(network, torch.zeros(4, 3)), two_kinds(True), MENU, 1, 0, training=SMALL
    )
    assert found.foretold.groups.any()
    assert found.apart is None


@pytest.mark.parametrize(
    ("sizes", "options", "why"),
    [
        ((4,) * 201, {}, "there are more than 200 clients"),
        ((9, 9, 9), {"clients_per_round": 2}, "not all clients take part in each round"),
        ((9, 9, 9), {}, "that takes 3 rounds"),
    ],
)
def test_it_says_why_no_updates_were_compared(sizes: tuple, options: dict, why: str) -> None:
    task = small_task(sizes)
    task = replace(task, counts=np.ones((len(sizes), 3), dtype=int))
    rounds = 1 if "takes" in why or len(sizes) > 3 else 3
    found = hasa.probe(
        small_model(), task, (0.5, 1.0), rounds, 0, participation=Participation(**options)
    )
    told = str(hasa.headroom(found, task.clients(), 0.5).foretold)
    assert f"the probe compared no updates, as {why}; groups that differ in inputs alone" in told


def test_it_shows_a_table(probed: Probe) -> None:
    assert "c2" in str(probed)
    assert repr(probed).startswith(f"Probe({len(probed.names)} clients x ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": (0.5, 0.25)}, "widths"),
        ({"rounds": 0}, "rounds"),
        ({"seed": -1}, "seed"),
        ({"budget": 0.1}, "outside the menu"),
        ({"budget": "a"}, "budget"),
        ({"participation": Participation(clients_per_round=4)}, "clients_per_round"),
        ({"participation": Participation(faults=Faults(dropout=0.1))}, "knows no faults"),
        ({"task": small_task((1, 9, 9))}, "1 training sample"),
        ({"model": models.MLP(3, 4)}, "outputs"),
        ({"model": 3}, r"model is a int: give a hasa_opt\.models\.SupernetModel"),
        ({"task": 3}, r"task is a int: give a hasa_opt\.tasks\.Task"),
        ({"model": models.MLP(5, 3)}, "cannot process"),
    ],
)
def test_bad_input_is_refused_before_any_work(changes: dict, words: str) -> None:
    given = {"model": small_model(), "task": small_task(), "widths": MENU, "rounds": 1, "seed": 0}
    with pytest.raises(hasa.InputError, match=words):
        hasa.probe(**(given | changes))


def test_lazy_splits_give_the_same() -> None:
    task = small_task()
    lazy = replace(task, train=tasks.Lazy(task.samples, lambda client: task.train[client]))
    plain = hasa.probe(small_model(), task, MENU, 1, 0)
    assert (hasa.probe(small_model(), lazy, MENU, 1, 0).accuracy == plain.accuracy).all()


def test_a_network_with_batch_norm_is_judged_by_the_statistics_of_its_width() -> None:
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    model = models.Supernet(network, torch.zeros(4, 3))
    found = hasa.probe(model, small_task((41, 26, 61)), MENU, 20, 0, training=SMALL)
    assert found.accuracy[:, -1].min() > 0.8


def test_command_probes_and_tells_the_cost() -> None:
    words = "headroom --task digits --model mlp --rounds 1 --widths 0.5,1 --budget 0.5 --json"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert 0 < record["probe"]["cost"] < 0.1  # of 100 rounds
    assert len(record["probe"]["accuracy"]) == len(record["widths"]) == 7
    assert set(record["rules"]) == {"hasa", "reverse"}
