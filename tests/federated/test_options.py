"""Allocations over options in the loop: clients that are left out, and epochs of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import key_of

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Execution,
    LocalTraining,
    Participation,
    Subnets,
    Update,
    aggregate,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.engines import ENGINES
from hasa_opt.models import MLP, extract, fresh, prefix
from hasa_opt.policies import Policy
from hasa_opt.policies.subnets import EXECUTED
from hasa_opt.tasks import Split, Task

SIZES = (40, 25, 70)
NAMES = ("a", "b", "c")
TRAINING = LocalTraining(batch_size=10, learning_rate=0.05)


def points(size: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=size)
    inputs = rng.normal(size=(size, 6)) + np.eye(3, 6)[labels]
    return Split(torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels))


def make_task() -> Task:
    parts = [
        tuple(points(size, 10 * part + client) for client, size in enumerate(sizes))
        for part, sizes in enumerate((SIZES, (30, 50, 20), (60, 60, 60)))
    ]
    counts = np.array([np.bincount(split.targets, minlength=3) for split in parts[0]])
    return Task("points", NAMES, *parts, counts=counts, n_outputs=3)


@pytest.fixture
def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 12)), seed=1)


def allocation(attributes: dict, chosen: dict, max_width=None, order=NAMES) -> hasa.Allocation:
    """An allocation in which each client has the option that is named."""
    names = ["skip", "narrow", "wide"]
    menu = hasa.Menu(names, costs={"s": [0, 1, 2]}, per="client", attributes=attributes)
    caps = None if max_width is None else [max_width[name] for name in order]
    clients = hasa.Clients(
        [SIZES[NAMES.index(name)] for name in order], names=list(order), max_width=caps
    )
    problem = hasa.AllocationProblem.build(
        clients,
        menu=menu,
        utility=hasa.utility.measured(np.ones((3, 3))),
        constraints=[hasa.Fixed(chosen)],
    )
    return hasa.solve(problem)


def test_a_client_that_is_left_out_neither_trains_nor_sends_yet_it_is_tested(mlp):
    task = make_task()
    chosen = {"a": "wide", "b": "skip", "c": "narrow"}
    found = allocation({"width": [0, 0.5, 1]}, chosen, {"a": 1, "b": 0.5, "c": 0.5})
    history = run(mlp, task, found, rounds=2, training=TRAINING, seed=3)
    assert history.widths.tolist() == [1, 0, 0.5]
    assert (history.flops[:, 1] == 0).all()
    assert (history.bytes_down[:, 1] == 0).all()
    assert (history.bytes_up[:, 1] == 0).all()
    assert np.isnan(history.train_loss[:, 1]).all()
    assert np.isfinite(history.test_accuracy).all()
    assert history.tally == {}
    server = fresh(MLP(6, 3, hidden=(8, 12)), seed=1)
    for number in range(2):
        updates = []
        for client, width in ((0, 1.0), (2, 0.5)):
            subnet = extract(server, width)
            local_train(subnet, task.train[client], TRAINING, key_of(3, number, "abc"[client]))
            updates.append(Update(width, SIZES[client], subnet.state_dict()))
        server.load_state_dict(aggregate(server, updates))
    for name, tensor in server.state_dict().items():
        assert torch.equal(history.weights[name], tensor)
    deployed = extract(server, 0.5)  # the widest that its device could have had
    assert history.test_loss[1, 1] == evaluate(deployed, task.test[1]).loss


@pytest.mark.parametrize("engine", ["sequential", "batched", "auto"])
def test_each_client_trains_its_own_epochs(mlp, engine):
    task = make_task()
    chosen = {"a": "wide", "b": "narrow", "c": "narrow"}
    found = allocation({"width": [0, 1, 1], "epochs": [0, 1, 3]}, chosen)
    history = run(
        mlp, task, found, rounds=1, training=TRAINING, seed=3, execution=Execution(engine=engine)
    )
    updates = []
    for client, epochs in enumerate((3, 1, 1)):
        subnet = extract(mlp, 1.0)
        own = LocalTraining(batch_size=10, learning_rate=0.05, epochs=epochs)
        local_train(subnet, task.train[client], own, key_of(3, 0, "abc"[client]))
        updates.append(Update(1.0, SIZES[client], subnet.state_dict()))
    for name, tensor in aggregate(mlp, updates).items():
        torch.testing.assert_close(history.weights[name], tensor, rtol=1e-5, atol=1e-6)
    per_sample = history.flops[0] / (np.array(SIZES) * [3, 1, 1])
    assert len(set(per_sample.tolist())) == 1


def test_the_batched_engine_stacks_clients_of_unequal_epochs(mlp):
    from hasa_opt.federated import Job

    jobs = [
        Job(client, 1.0, prefix(mlp, 1.0), points(size, client), (0, 0, client), epochs=epochs)
        for client, (size, epochs) in enumerate(zip((30, 12, 45, 21), (1, 4, 2, 3), strict=True))
    ]
    alone = list(ENGINES["sequential"](mlp, iter(jobs), TRAINING))
    together = list(ENGINES["batched"](mlp, iter(jobs), TRAINING))
    assert {report.method for report in together} == {"folded"}
    for first, second in zip(alone, together, strict=True):
        assert first.result.n_steps == second.result.n_steps
        assert first.result.trained == second.result.trained
        for name, tensor in first.state.items():
            torch.testing.assert_close(second.state[name], tensor, rtol=1e-4, atol=1e-5)


def test_an_allocation_meets_the_clients_of_a_task_by_name(mlp):
    task = make_task()
    chosen = {"a": "wide", "b": "skip", "c": "narrow"}
    straight = run(mlp, task, allocation({"width": [0, 0.5, 1]}, chosen), rounds=1, seed=3)
    turned = allocation({"width": [0, 0.5, 1]}, chosen, order=("c", "b", "a"))
    found = run(mlp, task, turned, rounds=1, seed=3)
    assert found.widths.tolist() == [1, 0, 0.5]
    assert all(torch.equal(found.weights[name], t) for name, t in straight.weights.items())
    others = hasa.solve(
        hasa.AllocationProblem.build(
            hasa.Clients([1, 2, 3], names=["a", "b", "x"]),
            widths=[0.5],
            budget=1,
            utility=hasa.utility.alpha_fair(),
        )
    )
    with pytest.raises(InputError, match="'c'"):
        run(mlp, task, others, rounds=1)


def test_attributes_that_nobody_executes_are_refused_by_name(mlp):
    found = allocation(
        {"width": [0.5, 0.5, 1], "rank": [1, 2, 4]}, {"a": "wide", "b": "skip", "c": "narrow"}
    )
    with pytest.raises(InputError, match="would ignore the attribute 'rank'"):
        run(mlp, make_task(), found, rounds=1)
    without = allocation({}, {"a": "wide", "b": "skip", "c": "narrow"})
    with pytest.raises(InputError, match="no attribute 'width'"):
        run(mlp, make_task(), without, rounds=1)


def test_what_is_executed_is_written_in_one_table():
    page = (Path(__file__).parents[2] / "docs" / "options.rst").read_text(encoding="utf-8")
    table = page.split("What the loop executes")[1].split(".. ")[1].split("\n\n")[1]
    executed = [row.split("``")[1] for row in table.split("   * - ")[2:] if "refuses" not in row]
    assert tuple(executed) == EXECUTED


def test_a_policy_cannot_smuggle_attributes_in(mlp):
    found = allocation(
        {"width": [0.5, 0.5, 1], "rank": [1, 2, 4]}, {"a": "wide", "b": "skip", "c": "narrow"}
    )
    own = Policy("own", lambda setting: found)
    with pytest.raises(InputError, match="policy 'own' gives an Allocation, of which all but"):
        hasa.Study(make_task(), mlp, policies=[own], seeds=[0]).subnets(own)


def test_bare_widths_of_0_say_nothing_of_what_is_deployed(mlp):
    with pytest.raises(InputError, match=r"'b' has width 0.*Subnets\(widths, deployed"):
        run(mlp, make_task(), [0.5, 0, 1], rounds=1)
    with pytest.raises(InputError, match="say what it deploys"):
        Subnets([0.5, 0, 1])
    with pytest.raises(InputError, match="deployed"):
        Subnets([0.5, 0, 1], deployed=[0.5, 0, 1])
    with pytest.raises(InputError, match="row 1 has 0: give whole numbers"):
        Subnets([0.5, 0.5, 1], epochs=[1, 0, 2])


def test_if_nobody_trains_the_model_is_kept_with_a_warning(mlp):
    subnets = Subnets([0.0, 0.0, 0.0], deployed=[0.5, 0.5, 1.0])
    with pytest.warns(UserWarning, match="no update was left"):
        history = run(mlp, make_task(), subnets, rounds=1)
    assert all(torch.equal(history.weights[name], t) for name, t in mlp.state_dict().items())
    assert np.isfinite(history.test_accuracy).all()


def test_the_only_client_that_trains_is_to_blame_if_it_cannot(mlp):
    class Broken(MLP):
        def forward(self, features):
            if self.training and torch.is_grad_enabled():
                raise RuntimeError("no luck")
            return super().forward(features)

    subnets = Subnets([0.0, 0.5, 0.0], deployed=[0.5, 0.5, 1.0])
    with pytest.raises(InputError, match="no client could train in round 0: client 'b'"):
        run(fresh(Broken(6, 3, hidden=(8, 12)), seed=1), make_task(), subnets, rounds=1)


def test_batches_are_those_of_the_clients_that_train(mlp):
    subnets = Subnets([0.5, 0.5, 0.0], deployed=[0.5, 0.5, 1.0])
    training = LocalTraining(batch_size=50, drop_last=True)
    with pytest.raises(InputError, match="leaves no client a batch of 50: the largest has 40"):
        run(mlp, make_task(), subnets, rounds=1, training=training)


def test_a_drawn_client_that_is_left_out_stays_out(mlp):
    subnets = Subnets([0.0, 0.5, 1.0], deployed=[0.5, 0.5, 1.0])
    participation = Participation(clients_per_round=2)
    history = run(mlp, make_task(), subnets, rounds=6, participation=participation, seed=1)
    assert (history.bytes_up[:, 0] == 0).all()
    assert (history.bytes_up[:, 1:] > 0).any(axis=0).all()
