"""Losses, metrics and settings of a user's own: what goes wrong in silence is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.federated import run
from hasa_opt.models import MLP, fresh

ROWS = 60
INPUTS = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
TARGETS = INPUTS @ np.array([1.0, -2.0, 0.5, 0.0], dtype=np.float32)
OWNERS = np.repeat(["a", "b", "c"], ROWS // 3)


def trained(targets=TARGETS, **problem: object):
    task = tasks.from_arrays(INPUTS, targets, OWNERS, **problem)
    return run(fresh(MLP(4, 1, hidden=(8,)), 0), task, [0.5, 0.5, 1.0], rounds=1)


SPREADING = {
    "difference": lambda outputs, targets: (outputs - targets).abs().mean(),
    "squares": nn.MSELoss(),
    "huber": lambda outputs, targets: nn.functional.huber_loss(outputs, targets),
    "comparison": lambda outputs, targets: (outputs > targets).float().mean() + outputs.mean(),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", SPREADING)
def test_a_column_of_outputs_beside_a_row_of_targets_is_refused(name):
    words = r"\(n, 1\) and \(n,\).*squeeze\(-1\), or compare outputs\[:, 0\]"
    with pytest.raises(InputError, match=f"the loss .*{words}"):
        trained(loss=SPREADING[name])
    with pytest.raises(InputError, match=f"the metric .*{words}"):
        trained(loss="mse", metric=SPREADING[name], higher_is_better=False)


FITTING = {
    "of the first": lambda outputs, targets: (outputs[:, 0] - targets).abs().mean(),
    "flat": lambda outputs, targets: (outputs.flatten() - targets).abs().mean(),
    "viewed": lambda outputs, targets: (outputs.view_as(targets) - targets).abs().mean(),
}


@pytest.mark.parametrize("name", FITTING)
def test_functions_that_compare_like_with_like_are_taken(name):
    for problem in (
        {"loss": FITTING[name]},
        {"loss": "mse", "metric": FITTING[name], "higher_is_better": False},
    ):
        assert np.isfinite(trained(**problem).final_metric).all()


def test_columns_beside_columns_are_taken():
    history = trained(TARGETS[:, None], loss=SPREADING["difference"])
    assert np.isfinite(history.final_metric).all()


def test_a_metric_that_a_few_samples_do_not_suffice_for_is_not_refused():
    def correlation(outputs, targets):
        if len(targets.unique()) < 2:
            raise ValueError("needs different targets")
        return torch.corrcoef(torch.stack([outputs[:, 0], targets]))[0, 1]

    history = trained(loss="mse", metric=correlation, higher_is_better=True)
    assert np.isfinite(history.final_metric).any()


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"loss": nn.L1Loss}, r"the loss is the class L1Loss: give an object, such as L1Loss\(\)"),
        ({"loss": "mse", "metric": nn.L1Loss}, "the metric is the class L1Loss"),
        ({"loss": "mae"}, "loss 'mae' is not known"),
    ],
)
def test_what_is_no_loss_is_named(problem, words):
    with pytest.raises(InputError, match=words):
        trained(**problem)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("training", {"learning_rate": 1}),
        ("server", torch.optim.Adam),
        ("evaluation", 2),
        ("participation", 3),
        ("execution", "batched"),
    ],
)
def test_settings_of_another_kind_are_named(name, given):
    task = tasks.from_arrays(INPUTS, (TARGETS > 0).astype(int), OWNERS)
    model = fresh(MLP(4, 2, hidden=(8,)), 0)
    with pytest.raises(InputError, match=f"{name} is a .*give a hasa_opt.federated."):
        run(model, task, [0.5] * 3, rounds=1, **{name: given})


@pytest.mark.parametrize("use", [lambda model: fresh(model, 0), lambda model: trained_by(model)])
def test_a_module_that_is_no_supernet_is_told_how_to_become_one(use):
    with pytest.raises(InputError, match=r"Sequential.*hasa_opt.models.Supernet\(module, sample\)"):
        use(nn.Sequential(nn.Linear(4, 2)))


def trained_by(model: nn.Module):
    task = tasks.from_arrays(INPUTS, (TARGETS > 0).astype(int), OWNERS)
    return run(model, task, [0.5] * 3, rounds=1)
