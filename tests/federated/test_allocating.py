"""Allocation while training: what an allocator sees, what follows, and what is stored of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from hasa_opt import AllocationProblem, Clients, Switches, solve, utility
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Checkpoint,
    Execution,
    Faults,
    History,
    LocalTraining,
    Participation,
    Seen,
    Server,
    Subnets,
    evaluate,
    run,
)
from hasa_opt.federated.allocating import follow
from hasa_opt.federated.federation import Federation
from hasa_opt.models import MLP, block, extract, fresh
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
WIDTHS = np.array([0.5, 0.5, 0.5, 0.5])
SAMPLES = np.array([20, 23, 26, 29])


def split(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return Split(torch.randn(n, 6, generator=generator) + targets[:, None], targets)


def task_of() -> Task:
    parts = [[split(int(n), 10 * part + row) for row, n in enumerate(SAMPLES)] for part in range(3)]
    return Task("toy", tuple("abcd"), *parts, np.ones((4, 3), dtype=int), 3)


def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 12)), 1)


@dataclass(frozen=True)
class Scripted:
    """Answers by the number of the round, and remembers what it saw."""

    answers: dict
    every: int = 1
    budget: float | None = None
    budget_over: str = "run"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", [])

    def __call__(self, seen):
        self.seen.append(seen)
        return self.answers.get(seen.round)


def test_before_the_first_round_nothing_is_seen():
    scripted = Scripted({0: WIDTHS}, every=2)
    run(mlp(), task_of(), scripted, rounds=5)
    assert [seen.round for seen in scripted.seen] == [0, 2, 4]
    first = scripted.seen[0]
    assert first.rounds == 5
    assert first.clients.size == 0
    assert np.isnan(first.update_similarity).all()
    assert first.update_similarity.shape == (4, 4)
    assert first.subnets is first.budget_left is None
    assert first.samples.tolist() == SAMPLES.tolist()


def test_an_allocator_that_says_nothing_more_is_a_plain_run():
    plain = run(mlp(), task_of(), WIDTHS, rounds=4, seed=2)
    asked = run(mlp(), task_of(), Scripted({0: WIDTHS}), rounds=4, seed=2)
    np.testing.assert_array_equal(asked.test_loss, plain.test_loss)
    again = run(mlp(), task_of(), Scripted({0: WIDTHS, 2: WIDTHS}), rounds=4, seed=2)
    np.testing.assert_array_equal(again.test_loss, plain.test_loss)
    assert [decision.round for decision in again.decisions] == [0, 2]
    assert not plain.decisions


@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_norms_and_cosines_are_those_of_what_clients_sent(engine):
    """The mean of the updates is what the server's weights have moved by."""
    scripted, execution = Scripted({0: WIDTHS}, every=1), Execution(engine=engine)
    run(mlp(), task_of(), scripted, rounds=4, seed=2, execution=execution)
    weights = SAMPLES / SAMPLES.sum()
    kept = block(mlp(), 0.5, 0.0)
    states = [extract(mlp(), 0.5, kept).state_dict()]
    for rounds in (1, 2, 3):
        server = mlp()
        found = run(mlp(), task_of(), WIDTHS, rounds=rounds, seed=2, execution=execution)
        server.load_state_dict(found.weights)
        states.append(extract(server, 0.5, kept).state_dict())
    for seen, before, after in zip(scripted.seen[1:], states, states[1:], strict=False):
        moved = sum(float((after[name] - before[name]).double().square().sum()) for name in after)
        vectors = weights * seen.update_norm
        assert vectors @ seen.update_similarity @ vectors == pytest.approx(moved, rel=1e-4)
        np.testing.assert_allclose(np.diag(seen.update_similarity), 1)
        np.testing.assert_array_equal(seen.update_similarity, seen.update_similarity.T)


def test_updates_are_summed_and_clients_that_sent_none_are_not_seen():
    every = Scripted({0: WIDTHS}, every=3)
    single = Scripted({0: WIDTHS}, every=1)
    how = {"rounds": 4, "seed": 5, "participation": Participation(clients_per_round=2)}
    history = run(mlp(), task_of(), every, **how)
    run(mlp(), task_of(), single, **how)
    seen = every.seen[1]
    trained = np.isfinite(history.train_loss[:3])
    assert seen.clients.tolist() == np.flatnonzero(trained.any(axis=0)).tolist()
    once = trained.sum(axis=0) == 1
    for client in np.flatnonzero(once):
        then = single.seen[1 + int(np.flatnonzero(trained[:, client])[0])]
        assert seen.update_norm[client] == pytest.approx(then.update_norm[client])
        assert seen.train_loss[client] == then.train_loss[client]
    absent = ~trained.any(axis=0)
    assert np.isnan(seen.update_similarity[absent]).all()
    assert np.isfinite(seen.update_similarity[np.ix_(~absent, ~absent)]).all()


def test_narrow_clients_are_compared_in_the_units_that_all_hold():
    scripted = Scripted({0: np.array([0.25, 0.5, 1, 0.75])})
    run(mlp(), task_of(), scripted, rounds=2)
    assert np.isfinite(scripted.seen[1].update_similarity).all()
    blocks = Scripted({0: Subnets(WIDTHS, starts=[0, 0, 0.5, 0.5])})
    run(mlp(), task_of(), blocks, rounds=2, server=Server(aggregation="selective"))
    assert np.isnan(blocks.seen[1].update_similarity).all()


def test_a_group_takes_along_what_it_held():
    """Without any step of training, moved clients are tested on the same model."""
    moved = Subnets(WIDTHS, starts=[0, 0, 0.5, 0.5], reason="two groups")
    trained = run(mlp(), task_of(), Scripted({0: WIDTHS, 2: moved}), rounds=2, seed=1)
    stay = run(mlp(), task_of(), WIDTHS, rounds=2, seed=1)
    np.testing.assert_array_equal(trained.test_loss, stay.test_loss)
    server = mlp()
    server.load_state_dict(stay.weights)
    before = evaluate(extract(server, 0.5, block(server, 0.5, 0.0)), task_of().test[2]).loss
    away = Participation(faults=Faults(absent={0, 1, 2, 3}))
    with pytest.warns(UserWarning, match="no update was left"):
        found = run(
            server, task_of(), Scripted({0: WIDTHS, 1: moved}), rounds=2,
            participation=away,
        )  # fmt: skip
    np.testing.assert_allclose(found.test_loss[1], found.test_loss[0], rtol=1e-6)
    assert found.test_loss[1, 2] == pytest.approx(before, rel=1e-6)
    server.load_state_dict(found.weights)
    for client, start in enumerate(moved.starts):
        left = extract(server, 0.5, block(server, 0.5, float(start))).state_dict()
        first = extract(server, 0.5, block(server, 0.5, 0.0)).state_dict()
        for name, tensor in first.items():
            torch.testing.assert_close(left[name], tensor, msg=f"{client}: {name}")


def test_overlapping_blocks_begin_as_the_mean_of_what_groups_held():
    how = {"rounds": 3, "seed": 0, "server": Server(), "keep_models": False}
    federation = Federation.begin(
        mlp(), task_of(), Subnets(WIDTHS), training=LocalTraining(),
        participation=Participation(), **how,
    )  # fmt: skip
    federation.begin_round(1)
    before = {name: tensor.clone() for name, tensor in federation.model.state_dict().items()}
    follow(federation, Subnets(WIDTHS, starts=[0, 0.25, 0.5, 0.5]), 1)
    after = federation.model.state_dict()
    first = next(name for name, tensor in before.items() if tensor.shape == (8, 6))
    a, rest = before[first][:4], SAMPLES
    torch.testing.assert_close(after[first][:2], a[:2])
    both = (rest[0] * a[2:4] + rest[1] * a[0:2]) / (rest[0] + rest[1])
    torch.testing.assert_close(after[first][2:4], both)
    torch.testing.assert_close(after[first][6:], a[2:4])
    assert federation.server.aggregation == "selective"


CHANGING = {
    0: WIDTHS,
    2: Subnets(WIDTHS, later=Subnets(WIDTHS + 0.25), later_share=np.full(4, 0.5)),
    4: Subnets(WIDTHS, starts=[0, 0.5, 0, 0.5], reason="alike"),
    6: Subnets(WIDTHS, models=[0, 1, 2, 2]),
    8: Subnets(WIDTHS, reason="together"),
}


@pytest.mark.parametrize("stop", [0, 1, 2, 4, 5, 6, 7, 8])
def test_a_run_goes_on_to_the_same_bits(tmp_path, stop):
    how = {"rounds": 10, "seed": 3, "participation": Participation(clients_per_round=3)}
    whole = Scripted(CHANGING, every=2)
    expected = run(mlp(), task_of(), whole, **how)

    def end(number, row):
        if number == stop:
            raise RuntimeError("the power is gone")

    place = Checkpoint(tmp_path / "run", resume=True)
    with pytest.raises(RuntimeError, match="power"):
        run(mlp(), task_of(), Scripted(CHANGING, 2), checkpoint=place, on_round=end, **how)
    second = Scripted(CHANGING, every=2)
    found = run(mlp(), task_of(), second, checkpoint=place, **how)
    for column in ("train_loss", "test_loss", "mean_width", "bytes_up", "bytes_down"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor)
    told = [(decision.round, decision.reason) for decision in found.decisions]
    assert told == [(0, ""), (2, ""), (4, "alike"), (6, ""), (8, "together")]
    assert found.widths.tolist() == expected.widths.tolist()
    later = {seen.round: seen for seen in second.seen[1:]}
    for seen in whole.seen[1:]:
        if seen.round in later:
            again = later[seen.round]
            np.testing.assert_array_equal(again.update_similarity, seen.update_similarity)
            np.testing.assert_array_equal(again.train_loss, seen.train_loss)
    found.save(tmp_path / "kept")
    loaded = History.load(tmp_path / "kept")
    assert [decision.subnets.starts is not None for decision in loaded.decisions] == [
        False, False, True, False, False,
    ]  # fmt: skip
    other = Scripted(CHANGING, every=1)
    with pytest.raises(InputError, match="allocator"):
        run(mlp(), task_of(), other, checkpoint=place, **how)


def test_who_shares_the_supernet_again_brings_along_what_it_has_learned():
    apart, standing = Subnets(WIDTHS, models=[0, 1, 2, 2]), LocalTraining(schedule=lambda n: n < 2)
    alone = run(mlp(), task_of(), apart, rounds=2, training=standing)
    back = Scripted({0: apart, 2: Subnets(np.full(4, 0.25))})
    found = run(mlp(), task_of(), back, rounds=3, training=standing)
    weights = {0: SAMPLES[0], 1: SAMPLES[1], 2: SAMPLES[2:].sum()}
    for name, tensor in found.weights.items():
        models = [weight * alone.clients[f"own/{each}/{name}"] for each, weight in weights.items()]
        torch.testing.assert_close(tensor, sum(models) / SAMPLES.sum())
    assert not any(name.startswith("own/") for name in found.clients)
    half = run(mlp(), task_of(), WIDTHS, rounds=1).bytes_up[0]
    narrow = run(mlp(), task_of(), np.full(4, 0.25), rounds=1).bytes_up[0]
    sent = np.where([True, True, False, False], half + narrow, narrow)
    np.testing.assert_array_equal(found.bytes_up[2], sent, "the server has the model of two")
    once = LocalTraining(schedule=lambda n: n < 1)
    again = run(
        mlp(), task_of(), Scripted({0: apart, 1: WIDTHS, 2: apart}), rounds=3, training=once
    )
    for name, tensor in again.weights.items():
        torch.testing.assert_close(again.clients[f"own/0/{name}"], tensor, msg="begun anew")


def test_the_budget_of_a_run_is_what_is_left_of_it():
    weights = SAMPLES / SAMPLES.sum()
    wide = np.array([1, 0.25, 0.25, 0.25])
    scripted = Scripted({0: wide, 1: np.full(4, 0.5)}, budget=0.5)
    run(mlp(), task_of(), scripted, rounds=4)
    assert scripted.seen[0].budget_left == 0.5
    assert scripted.seen[1].budget_left == pytest.approx((2 - weights @ wide) / 3)
    over = Scripted({0: WIDTHS, 1: np.full(4, 0.6)}, budget=0.5)
    with pytest.raises(InputError, match=r"Scripted.* spends 0\.56.* before round 1, above its"):
        run(mlp(), task_of(), over, rounds=3)
    with pytest.raises(InputError, match=r"in a round .* above its budget 0\.5"):
        run(mlp(), task_of(), replace(over, budget_over="round"), rounds=30)


def test_what_is_no_allocator_is_refused():
    with pytest.raises(InputError, match="gives nothing before the first round"):
        run(mlp(), task_of(), Scripted({}), rounds=2)
    with pytest.raises(InputError, match="every"):
        run(mlp(), task_of(), Scripted({0: WIDTHS}, every=0), rounds=2)
    with pytest.raises(InputError, match="4 clients"):
        run(mlp(), task_of(), Scripted({0: WIDTHS, 1: np.ones(3)}), rounds=2)


def test_updates_of_rounds_at_two_widths_are_summed():
    """The wider one comes in the second of three rounds: coordinates are those of the narrower."""
    later = Subnets(np.full(4, 0.75))
    plan = Subnets(WIDTHS, later=later, later_share=np.full(4, 0.75))
    scripted = Scripted({0: plan}, every=3)
    run(mlp(), task_of(), scripted, rounds=4)
    np.testing.assert_allclose(np.diag(scripted.seen[1].update_similarity), 1)
    assert np.isfinite(scripted.seen[1].update_similarity).all()


def test_an_allocator_that_looks_at_test_data_is_told_what_it_may_look_at() -> None:
    seen = Seen.nothing(np.array([3, 4]), 5)
    with pytest.raises(AttributeError, match=r"not shown 'test_loss', as test data decide nothing"):
        seen.test_loss  # noqa: B018
    with pytest.raises(AttributeError, match=r"the server has not seen it: use round, "):
        seen.accuracy  # noqa: B018


@dataclass(frozen=True)
class Steady:
    """Widths that are worth most, by losses that are given, of which few may change at a time."""

    losses: dict
    switches: int
    obeys: bool = True
    every: int = 1

    def __call__(self, seen):
        if seen.round not in self.losses:
            return None
        worth = utility.measured(np.outer(self.losses[seen.round], [0.5, 1.0]))
        limits = [Switches(seen.widths, self.switches)] if seen.round and self.obeys else []
        clients = Clients(seen.samples, names=list("abcd"))
        return solve(AllocationProblem.build(
            clients, widths=(0.5, 1.0), budget=0.79, utility=worth, constraints=limits
        ))  # fmt: skip


def test_switches_limit_who_trains_something_else():
    losses = {0: [9, 9, 1, 1], 2: [1, 1, 9, 9], 3: [1, 1, 9, 9]}
    free = run(mlp(), task_of(), Steady(losses, switches=4), rounds=5)
    assert [each.changed.sum() for each in free.decisions] == [0, 4, 0]
    steady = run(mlp(), task_of(), Steady(losses, switches=2), rounds=5)
    assert [each.changed.sum() for each in steady.decisions] == [0, 2, 2]
    assert steady.widths.tolist() == free.widths.tolist() == [0.5, 0.5, 1, 1]
    with pytest.raises(InputError, match=r"changes what 4 clients train before round 2, more than"):
        run(mlp(), task_of(), Steady(losses, switches=2, obeys=False), rounds=5)
    with pytest.raises(InputError, match="switches -1 must be a whole number"):
        run(mlp(), task_of(), Steady(losses, switches=-1), rounds=5)


@pytest.mark.parametrize(
    "other",
    [
        Subnets(WIDTHS, starts=[0, 0, 0, 0.5]),
        Subnets(WIDTHS, models=[3, 3, 3, 4]),
        Subnets([0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_other_units_and_another_model_are_changes(other):
    scripted = Scripted({0: WIDTHS, 1: other, 2: other})
    decided = run(mlp(), task_of(), scripted, rounds=3).decisions
    everybody = other.models is not None
    assert decided[1].changed.tolist() == [everybody] * 3 + [True]
    assert not decided[0].changed.any()
    assert not decided[2].changed.any()


def test_a_decision_says_who_changes_to_which_units():
    apart = Subnets(WIDTHS, starts=[0, 0, 0.25, 0.5], reason="three kinds")
    found = run(mlp(), task_of(), Scripted({0: WIDTHS, 2: apart}), rounds=3).decisions
    assert str(found[1]) == (
        "round 2: three kinds (2 of 4 clients change: blocks of units from 0, 0.25, 0.5)"
    )
