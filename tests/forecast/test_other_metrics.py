"""Forecasts by other metrics: what is mirrored says the same, and errors are judged as errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.probes import CLIENTS, DIVERSE, written
from torch import Tensor
from torch.nn import functional

import hasa_opt as hasa
from hasa_opt import federated, models, tasks
from hasa_opt._utils.scale import Scale
from hasa_opt.errors import InputError
from hasa_opt.forecast.gains import Gain
from hasa_opt.forecast.probing import Probe
from hasa_opt.forecast.warm_up import halves, judged
from hasa_opt.tasks import Task

ERROR = Scale("error", higher_is_better=False)
MENU = (0.25, 0.5, 1.0)


def mirrored(probe: Probe) -> Probe:
    """Its accuracies in percent, below zero, as errors; gains stay gains."""
    return replace(
        probe,
        reached=-100 * probe.reached,
        halves=-100 * probe.halves,
        covariance=1e4 * probe.covariance,
        scale=ERROR,
    )


def test_headroom_of_a_mirrored_probe_is_the_same_gain_in_another_unit() -> None:
    probe = written(DIVERSE)
    plain, other = (hasa.headroom(own, CLIENTS, 0.5) for own in (probe, mirrored(probe)))
    assert other.widths.tolist() == plain.widths.tolist() == [0.2, 0.8, 0.2, 0.8]
    for name in ("gain", "low", "high", "promised"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name))
    assert other.worthwhile
    assert " in error here: " in other.sentence
    assert "points" not in other.sentence + str(other)
    assert other.record()["metric"] == {"name": "error", "higher_is_better": False}
    assert other.record()["rules"] == pytest.approx(plain.record()["rules"])


def test_a_gain_shows_two_digits_of_its_interval() -> None:
    shown = {
        (0.0123, 0.0017, 0.0229): "+0.012 [0.002, 0.023] in error",
        (-1.5, -3.0, 0.0): "-1.5 [-3.0, 0.0] in error",
        (12345.0, 11000.0, 14000.0): "+12300 [11000, 14000] in error",
        (0.0, 0.0, 0.0): "+0 [0, 0] in error",
    }
    for values, words in shown.items():
        assert Gain(*values, scale=ERROR).told == words
    assert Gain(0.31, 0.1, 0.52).told == "+0.3 [0.1, 0.5] points"


# --- Regression ----------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(180, 3)).astype(np.float32)
OWNER = np.resize(["ann", "bob", "cid"], 180)
PRICE = X @ [2.0, -1.0, 0.5] + np.where(OWNER == "ann", 3.0, 0.0)


def regression(**options: Any) -> Task:
    return tasks.from_arrays(X, PRICE, OWNER, **({"loss": "mse"} | options))


def network(seed: int = 0) -> models.SupernetModel:
    return models.fresh(models.MLP(3, 1, hidden=(8,)), seed)


@pytest.fixture(scope="module")
def probed() -> Probe:
    torch.set_num_threads(1)
    return hasa.probe(network(), regression(), MENU, 4, 0, budget=0.5)


@pytest.mark.slow
def test_a_probe_of_a_regression_measures_its_metric(probed: Probe) -> None:
    assert probed.scale == Scale("mse", higher_is_better=False)
    np.testing.assert_allclose(probed.reached, probed.loss)
    assert (np.diff(probed.utility) >= -1e-12).all(), "more is better, and wider is not worse"
    assert probed.utility.sum(axis=0).mean() == pytest.approx(-probed.reached.mean())
    with pytest.raises(InputError, match="the metric is mse, no accuracy"):
        _ = probed.accuracy
    text = str(probed)
    assert "mse on held-back training samples" in text
    assert "%" not in text
    assert f"{probed.utility[0, 0] * -3:#.4g}" in text


@pytest.mark.slow
def test_each_sample_adds_its_squared_error(probed: Probe) -> None:
    task = regression()
    _, held = halves(task, 0)
    model = models.fresh(network(), 3)
    own = judged([model, models.extract(model, 0.5)], held[0], task.problem)
    given = model(held[0].tensor).detach().numpy()[:, 0] - held[0].targets.numpy()
    np.testing.assert_allclose(own.score[:, 0], given.astype(float) ** 2, rtol=1e-4)
    assert (probed.covariance[:, range(3), range(3)] > 0).all()


@pytest.mark.slow
def test_headroom_of_a_regression(probed: Probe) -> None:
    room = hasa.headroom(probed, regression().clients(), 0.5)
    assert " in mse here" in room.sentence
    assert sorted(room.rules) == ["hasa", "reverse"]


def quantile(outputs: Tensor, targets: Tensor) -> Tensor:
    error = targets - outputs[:, 0]
    return torch.maximum(0.9 * error, -0.1 * error).mean()


def rmse(outputs: Tensor, targets: Tensor) -> float:
    return float(functional.mse_loss(outputs[:, 0], targets).sqrt())


@pytest.mark.slow
def test_a_metric_of_whole_splits_is_probed_by_the_loss() -> None:
    task = regression(loss=quantile, metric=rmse, higher_is_better=False)
    found = hasa.probe(network(), task, MENU, 2, 0)
    assert found.scale == Scale("loss", higher_is_better=False)
    np.testing.assert_allclose(found.reached, found.loss)


@pytest.mark.slow
def test_what_diverges_is_refused_with_a_remedy() -> None:
    wild = federated.LocalTraining(optimizer="sgd", learning_rate=1e22, batch_size=99)
    with pytest.raises(InputError, match=r"client 'ann' is not finite .*: lower the learning"):
        hasa.probe(network(), regression(), MENU, 1, 0, training=wild)
