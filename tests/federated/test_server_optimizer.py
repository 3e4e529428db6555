"""Server optimizers: FedAvgM and FedAdam as written down, what is stepped, and that runs go on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support import plain_loop
from support.killed_runs import STEPPED, digest, train
from test_stepper import RATE, WIDTHS, assert_close, make_model, make_task, plain
from torch import nn
from torch.optim import SGD, Adam

from hasa_opt import models
from hasa_opt.errors import InputError
from hasa_opt.federated import Checkpoint, History, LocalTraining, Participation, Server, run
from hasa_opt.federated.server_optimizer import ServerOptimizer

SOME = [0.25, 0.5, 0.5, 0.5, 0.75]
"""Widths that leave a quarter of the units to nobody."""


def trained(optimizer, widths=WIDTHS, model=None, **settings):
    training = LocalTraining(epochs=4, batch_size=32, learning_rate=RATE, optimizer="sgd")
    how = {"training": training, "server": Server(optimizer=optimizer), "rounds": 3, "seed": 2}
    return run(model or make_model(), make_task(), widths, **how | settings)


@pytest.mark.parametrize(
    ("optimizer", "rule", "rate"),
    [
        (partial(SGD, lr=1.0, momentum=0.9), plain_loop.sgd(0.9), 1.0),
        (partial(SGD, lr=0.7, weight_decay=0.1), plain_loop.sgd(decay=0.1), 0.7),
        (
            partial(Adam, lr=0.03, betas=(0.9, 0.99), eps=1e-3),
            plain_loop.adam(0.9, 0.99, 1e-3),
            0.03,
        ),
    ],
    ids=["FedAvgM", "decay", "FedAdam"],
)
def test_a_run_is_that_of_an_independent_loop(optimizer, rule, rate):
    expected = plain(rule=plain_loop.sgd(), server=rule, server_rate=rate)
    assert_close(trained(optimizer).weights, expected)
    average = plain(rule=plain_loop.sgd())
    assert max(float((average[n] - expected[n]).abs().max()) for n in average) > 1e-2


def test_a_whole_step_along_the_pseudo_gradient_is_the_average():
    assert_close(trained(partial(SGD, lr=1.0)).weights, trained(None).weights, atol=1e-12)


def test_what_nobody_trains_stays_but_for_weight_decay():
    start, top = make_model().state_dict(), np.s_[9:]
    still = trained(partial(Adam, lr=0.03), SOME).weights
    assert torch.equal(still["layers.1.bias"][top], start["layers.1.bias"][top])
    assert not torch.equal(still["layers.1.bias"][:9], start["layers.1.bias"][:9])
    shrunk = trained(partial(SGD, lr=1.0, weight_decay=0.1), SOME).weights
    expected = 0.9**3 * start["layers.1.bias"][top]
    torch.testing.assert_close(shrunk["layers.1.bias"][top], expected)


def test_momentum_carries_on_what_nobody_trains_in_a_round():
    model = make_model()
    server = ServerOptimizer(model, partial(SGD, lr=1.0, momentum=0.5))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    server.step({name: tensor + 1 for name, tensor in start.items()})
    server.step(model.state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, start[name] + 1.5)


class Holding(models.MLP):
    """An MLP with a frozen parameter, a table of whole numbers and a buffer that is averaged."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("table", torch.arange(3))
        self.register_buffer("seen", torch.zeros(3))
        self.again = self.layers[2]

    def cuts(self):
        own = super().cuts() | {"frozen": (None,), "table": (None,), "seen": (None,)}
        return own | {f"again.{end}": own[f"layers.2.{end}"] for end in ("weight", "bias")}

    def forward(self, features):
        if self.training:
            self.seen += 1
        return super().forward(features) * self.frozen


def test_buffers_are_those_of_the_average_and_frozen_weights_stay():
    model = models.fresh(Holding(6, 3, (8, 12)), seed=1).double()
    found = trained(partial(SGD, lr=0.5, momentum=0.9, weight_decay=0.1), model=model).weights
    average = trained(None, model=model).weights
    for name in ("frozen", "table"):
        assert torch.equal(found[name], model.state_dict()[name])
    assert float(average["seen"][0]) == 12
    torch.testing.assert_close(found["seen"], average["seen"])
    assert torch.equal(found["again.weight"], found["layers.2.weight"])
    assert not torch.equal(found["again.weight"], average["again.weight"])


def test_running_statistics_are_those_of_the_average():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    averaged = {name: tensor + 2 for name, tensor in model.state_dict().items()}
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ServerOptimizer(model, partial(SGD, lr=0.5)).step(averaged)
    for name, tensor in model.state_dict().items():
        is_buffer = name in dict(model.named_buffers())
        torch.testing.assert_close(tensor, start[name] + (2 if is_buffer else 1))


def test_what_clients_keep_to_themselves_is_not_stepped():
    training = LocalTraining(output_bias="local")
    decay = partial(SGD, lr=1.0, weight_decay=0.5)
    found = trained(decay, training=training)
    bias = "layers.2.bias"
    assert torch.equal(found.weights[bias], make_model().state_dict()[bias])


def test_a_round_without_an_update_takes_no_step():
    momentum = Server(optimizer=partial(SGD, lr=1.0, momentum=0.9), max_update_norm=1e-12)
    with pytest.warns(UserWarning, match="no update was left"):
        found = train(None, server=momentum, rounds=2)
    start = models.fresh(models.MLP(6, 3, hidden=(12, 8)), seed=1).state_dict()
    assert all(torch.equal(found.weights[name], start[name]) for name in start)


# ------------------------------------------------------------------------------------- resumed


def test_a_run_goes_on_with_the_same_bits(tmp_path):
    how = STEPPED | {"participation": Participation()}
    whole = train(None, **how)
    for stop in (1, 4):
        train(tmp_path / str(stop), rounds=stop, **how)
        assert digest(train(tmp_path / str(stop), **how)) == digest(whole)
    kept = History.load(tmp_path / "1" / "round-000006").clients
    assert {name.split("/")[1] for name in kept} == {"exp_avg", "exp_avg_sq", "step"}
    assert kept.keys() == whole.clients.keys()


def test_the_bits_hang_on_the_state(tmp_path):
    how = STEPPED | {"participation": Participation()}
    train(tmp_path, rounds=3, **how)
    for place in tmp_path.glob("round-*"):
        replace(History.load(place), clients={}).save(place)
    assert digest(train(tmp_path, **how)) != digest(train(None, **how))


def test_checkpoints_of_another_server_optimizer_are_refused(tmp_path):
    train(tmp_path, rounds=1, server=Server(optimizer=partial(SGD, lr=1.0, momentum=0.9)))
    for other, words in ((None, "None"), (partial(SGD, momentum=0.8, lr=1.0), "0.8")):
        with pytest.raises(InputError, match=rf"server.optimizer 'SGD\(lr=1.0, .* not .*{words}"):
            train(None, server=Server(optimizer=other), checkpoint=Checkpoint(tmp_path, True))


# ------------------------------------------------------------------------------------ refusals


class Counting(SGD):
    """Keeps a number of Python."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["calls"] = 1


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ("adam", r"unknown optimizer 'adam': use a class of torch.optim, or .*SGD, lr=1.0"),
        (SGD, r"SGD has no learning rate: give it, as in functools.partial\(torch.optim.SGD, lr"),
        (partial(SGD, momentum=0.9), "has no learning rate"),
        (partial(SGD, lr=-1), "cannot take a step .*Invalid learning rate: -1"),
        (partial(torch.optim.LBFGS, lr=1), "LBFGS computes the loss several times"),
        (partial(Counting, lr=1), r"Counting\(lr=1\) keeps calls as a int, which checkpoints"),
    ],
)
def test_what_cannot_be_used_is_refused_when_the_settings_are_made(optimizer, words):
    with pytest.raises(InputError, match=words):
        Server(optimizer=optimizer)


def test_clients_start_anew_and_may_keep_what_they_like():
    assert LocalTraining(optimizer=Counting).optimizer is Counting
