"""Steps of local training: equal to a loop written down from the formulas, on every engine."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support import plain_loop
from torch import nn
from torch.optim import SGD, Adafactor, Adagrad, AdamW, Optimizer, RMSprop

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    ENGINES,
    CosineDecay,
    Execution,
    Job,
    LocalTraining,
    StepDecay,
    Subnets,
    local_train,
    run,
)
from hasa_opt.federated.stepper import steps_entry_by_entry
from hasa_opt.models import MLP, fresh, prefix
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)

WIDTHS = [0.25, 0.5, 1.0, 0.5, 0.75]
SIZES = (12, 30, 21, 17, 8)
ROUNDS, STEPS, RATE = 3, 4, 0.1


def points(n: int, seed: int) -> Split:
    drawn = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=drawn)
    inputs = torch.randn(n, 6, generator=drawn, dtype=torch.float64) + targets[:, None]
    return Split(inputs, targets)


def make_task() -> Task:
    parts = [tuple(points(n, 10 * part + c) for c, n in enumerate(SIZES)) for part in range(3)]
    return Task("points", tuple("abcde"), *parts, counts=np.ones((5, 3), dtype=int), n_outputs=3)


def make_model() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 12)), seed=1).double()


def trained(engine: str = "sequential", **settings: object):
    training = LocalTraining(epochs=STEPS, batch_size=32, learning_rate=RATE, **settings)
    how = {"rounds": ROUNDS, "training": training, "execution": Execution(engine=engine)}
    return run(make_model(), make_task(), WIDTHS, seed=2, **how)


def plain(**settings: object) -> dict[str, torch.Tensor]:
    data = [(split.tensor, split.targets) for split in make_task().train]
    how = {"rounds": ROUNDS, "steps": STEPS, "rate": lambda number: RATE}
    return plain_loop.federated(make_model().state_dict(), data, WIDTHS, **how | settings)


def assert_close(found, expected, atol=1e-6) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=atol, msg=name)


def cosine(number: int) -> float:
    """One round of warm-up out of five, down to a tenth."""
    return 0.1 + 0.9 * (1 + math.cos(math.pi * (number - 1) / 4)) / 2 if number else 1.0


CASES = {
    "sgd": ({"optimizer": "sgd"}, {"rule": plain_loop.sgd()}),
    "momentum and decay": (
        {"optimizer": partial(SGD, momentum=0.9, weight_decay=0.05)},
        {"rule": plain_loop.sgd(0.9, 0.05)},
    ),
    "AdamW": (
        {"optimizer": partial(AdamW, betas=(0.8, 0.95), weight_decay=0.2)},
        {"rule": plain_loop.adam(0.8, 0.95, decay=0.2)},
    ),
    "clipping": ({"optimizer": SGD, "clip_norm": 0.3}, {"rule": plain_loop.sgd(), "clip": 0.3}),
    "cosine": (
        {"optimizer": SGD, "schedule": CosineDecay(rounds=5, warm_up=1, least=0.1)},
        {"rule": plain_loop.sgd(), "rate": lambda number: RATE * cosine(number)},
    ),
    "steps": (
        {"optimizer": "adam", "schedule": StepDecay(at=(1, 2), factor=0.5)},
        {"rule": plain_loop.adam(), "rate": lambda number: RATE * 0.5**number},
    ),
    "FedProx": ({"optimizer": "sgd", "proximal": 2.0}, {"rule": plain_loop.sgd(), "proximal": 2}),
    "all": (
        {
            "optimizer": partial(SGD, momentum=0.5, weight_decay=0.01),
            "schedule": lambda number: 1 / (1 + number),
            "clip_norm": 0.5,
            "proximal": 0.7,
        },
        {
            "rule": plain_loop.sgd(0.5, 0.01),
            "rate": lambda number: RATE / (1 + number),
            "clip": 0.5,
            "proximal": 0.7,
        },
    ),
}


@pytest.mark.parametrize(
    ("case", "engine"),
    [*((case, "sequential") for case in CASES), ("AdamW", "batched"), ("all", "batched")],
)
def test_a_run_is_that_of_an_independent_loop(case, engine):
    ours, theirs = CASES[case]
    found, expected = trained(engine, **ours), plain(**theirs)
    assert_close(found.weights, expected)
    start = make_model().state_dict()
    assert max(float((start[n] - expected[n]).abs().max()) for n in start) > 0.01
    without = plain(rule=plain_loop.adam() if case == "steps" else plain_loop.sgd())
    assert case == "sgd" or max(float((without[n] - expected[n]).abs().max()) for n in start) > 1e-3


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", torch.optim.Adam)])
def test_a_class_gives_the_bits_of_its_name(name, kind):
    assert_close(trained(optimizer=kind).weights, trained(optimizer=name).weights, atol=0)


# ------------------------------------------------------------------------------------- engines

SHRINKING = [13, 40, 8, 25, 31, 7, 30, 1]


def jobs_of(model):
    for client, n in enumerate(SHRINKING):
        width = (0.5, 1.0)[client % 2]
        yield Job(client, width, prefix(model, width), points(n, client), (3, 2, client))


@pytest.mark.parametrize(
    "optimizer",
    [partial(SGD, momentum=0.9, weight_decay=0.01), AdamW, RMSprop, Adagrad],
    ids=["SGD", "AdamW", "RMSprop", "Adagrad"],
)
def test_engines_agree_where_clients_end_one_after_another(optimizer):
    model = fresh(MLP(6, 3, hidden=(8, 12)), seed=1).double()
    settings = LocalTraining(
        epochs=2,
        batch_size=10,
        learning_rate=0.05,
        optimizer=optimizer,
        schedule=StepDecay(at=(2,), factor=0.5),
        clip_norm=0.4,
        proximal=0.5,
    )
    alone, together = (
        list(ENGINES[engine](model, jobs_of(model), settings))
        for engine in ("sequential", "batched")
    )
    assert {(report.method, report.reason) for report in together} == {("folded", "")}
    for one, other in zip(alone, together, strict=True):
        assert_close(other.state, one.state, atol=1e-9)


def test_tied_weights_count_once_in_the_norm_of_a_stack():
    class Tied(MLP):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.again = self.layers[0]

        def cuts(self):
            own = super().cuts()
            return own | {f"again.{end}": own[f"layers.0.{end}"] for end in ("weight", "bias")}

    model = fresh(Tied(6, 3, (8, 12)), seed=1).double()
    settings = LocalTraining(batch_size=10, optimizer="sgd", learning_rate=0.5, clip_norm=0.1)
    alone, together = (
        list(ENGINES[engine](model, jobs_of(model), settings))
        for engine in ("sequential", "batched")
    )
    assert {report.method for report in together} == {"folded"}
    for one, other in zip(alone, together, strict=True):
        assert_close(other.state, one.state, atol=1e-9)


def test_a_parameter_that_is_one_number_is_clipped_in_a_stack():
    class Warm(MLP):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.warmth = nn.Parameter(torch.tensor(2.0))

        def cuts(self):
            return super().cuts() | {"warmth": ()}

        def forward(self, features):
            return super().forward(features) * self.warmth

    model = fresh(Warm(6, 3, (8, 12)), seed=1).double()
    settings = LocalTraining(batch_size=10, optimizer="sgd", learning_rate=0.5, clip_norm=0.1)
    alone, together = (
        list(ENGINES[engine](model, jobs_of(model), settings))
        for engine in ("sequential", "batched")
    )
    assert {report.method for report in together} == {"mapped"}
    for one, other in zip(alone, together, strict=True):
        assert_close(other.state, one.state, atol=1e-9)


class Noisy(SGD):
    """Steps by chance."""

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad += torch.rand_like(parameter)
        return super().step(closure)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adam", True),
        (partial(SGD, momentum=0.9, nesterov=True), True),
        (torch.optim.NAdam, True),
        (torch.optim.Rprop, True),
        pytest.param(Adafactor, False, marks=pytest.mark.slow),
        (torch.optim.Muon, False),
        (Noisy, False),
    ],
)
def test_which_optimizers_step_entry_by_entry(optimizer, expected):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert steps_entry_by_entry(optimizer) is expected
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------------------- FedProx


def test_the_pull_of_fedprox_reaches_all_that_a_client_holds():
    """Also the coordinates that a batch of the scheme "ordered_dropout" does not train."""
    subnets = Subnets([1.0], scheme="ordered_dropout")
    splits = tuple((points(12, seed),) for seed in range(3))
    task = Task("one", ("a",), *splits, counts=np.ones((1, 3), dtype=int), n_outputs=3)
    training = LocalTraining(epochs=40, batch_size=32, optimizer="sgd", learning_rate=0.1)
    near, far = (
        run(make_model(), task, subnets, rounds=1, seed=4, training=how)
        for how in (replace(training, proximal=9.0), training)
    )
    start = make_model().state_dict()
    for name in ("layers.1.weight", "layers.2.weight"):
        moved = [float((found.weights[name] - start[name]).abs().max()) for found in (near, far)]
        assert moved[0] < moved[1] / 2


def test_the_reported_loss_has_no_term_of_fedprox():
    """The first step starts where the pull is 0, so that two steps see the same weights."""
    settings = LocalTraining(epochs=2, optimizer="sgd", learning_rate=0.1)
    losses = [
        local_train(make_model(), points(20, 0), how, (0, 0, 0)).loss
        for how in (settings, replace(settings, proximal=5.0))
    ]
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------ refusals


class Closing(SGD):
    def step(self, closure):
        return super().step(closure)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adagrad"}, r"unknown optimizer 'adagrad': use one of \('adam', 'sgd'\), a"),
        ({"optimizer": nn.Linear}, "unknown optimizer Linear: use one of"),
        ({"optimizer": 3}, "unknown optimizer of type int: use one of"),
        ({"optimizer": partial(max, 3)}, "unknown optimizer of type builtin_function_or_method"),
        ({"optimizer": Optimizer}, "unknown optimizer Optimizer"),
        (
            {"optimizer": partial(SGD, lr=1)},
            r"SGD\(lr=1\) has lr, which learning_rate gives",
        ),
        ({"optimizer": partial(SGD, [])}, r"has arguments by position: give them by name"),
        (
            {"optimizer": partial(SGD, momentum=-1)},
            r"SGD\(momentum=-1\) cannot take a step \(ValueError: Invalid momentum value: -1\)",
        ),
        ({"optimizer": partial(SGD, mass=1)}, r"unexpected keyword argument 'mass'.*correct its"),
        ({"optimizer": torch.optim.SparseAdam}, "does not support dense gradients"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS computes the loss several times within a step"),
        ({"optimizer": Closing}, "Closing computes the loss several times"),
        ({"clip_norm": 0}, "clip_norm = 0 must be positive and finite; None clips nothing"),
        ({"clip_norm": math.inf}, "clip_norm = inf"),
        ({"proximal": -1}, "proximal = -1 must be at least 0 and finite"),
        ({"proximal": math.nan}, "proximal = nan"),
        ({"schedule": 0.5}, r"schedule is a float: give CosineDecay\(\.\.\.\)"),
    ],
)
def test_what_cannot_be_used_is_refused_when_the_settings_are_made(settings, words):
    with pytest.raises(InputError, match=words):
        LocalTraining(**settings)
