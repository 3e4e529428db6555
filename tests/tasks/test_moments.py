"""Moments of training data: numpy's, a client at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.tasks import Lazy, Task

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (3000, 2, 4)).astype(np.float32)
Y = RNG.normal(-1.0, 5.0, 3000).astype(np.float32)
OWNER = np.repeat(["ann", "bob"], [2600, 400])


def whole(inputs: Any = X, targets: Any = Y, loss: Any = "mse") -> Task:
    return tasks.from_arrays(inputs, targets, OWNER, loss=loss, test_share=0.0)


def test_they_are_those_of_numpy_in_double_precision() -> None:
    task = whole()
    for side, values in (("inputs", X.reshape(3000, 8)), ("targets", Y[:, None])):
        found = task.moments(side)  # type: ignore[arg-type]
        for row, name in enumerate(("ann", "bob")):
            own = values[name == OWNER].astype(np.float64)
            np.testing.assert_allclose(found.mean[row], own.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(found.variance[row], own.var(axis=0), rtol=1e-10)
    assert found.samples.tolist() == [2600, 400]


def test_lazy_splits_are_loaded_one_after_another() -> None:
    task, asked = whole(), []

    def load(client: int) -> tasks.Split:
        asked.append(client)
        return task.train[client]

    lazy = replace(task, train=Lazy(task.samples, load))
    np.testing.assert_array_equal(lazy.moments("inputs").mean, task.moments("inputs").mean)
    assert asked == [0, 1]


def test_several_inputs_count_together() -> None:
    task = whole({"image": X, "age": Y[:, None]})
    found = task.moments("inputs")
    assert found.mean.shape == (2, 9)
    np.testing.assert_allclose(found.mean[:, 8], whole().moments("targets").mean[:, 0])


def test_what_has_no_mean_is_refused() -> None:
    with pytest.raises(InputError, match=r"targets of client 'ann' are whole numbers.*counts"):
        whole(targets=(Y > 0).astype(int), loss="cross_entropy").moments("targets")
    tokens = RNG.integers(0, 9, (3000, 5))
    with pytest.raises(InputError, match="inputs of client 'ann' are whole numbers"):
        whole(inputs=tokens).moments("inputs")
    spoilt = X.copy()
    spoilt[-1] = np.nan
    with pytest.raises(InputError, match="inputs of client 'bob' hold NaN"):
        whole(inputs=spoilt).moments("inputs")
    with pytest.raises(InputError, match="moments of 'labels'"):
        whole().moments("labels")  # type: ignore[arg-type]
    task = whole()
    first, second = task.train
    narrow = tasks.Split(second.tensor[:, :1], second.targets, "mse")
    with pytest.raises(InputError, match="'bob' are 4 numbers per sample, those of 'ann' 8"):
        replace(task, train=(first, narrow)).moments("inputs")


def test_a_task_says_what_it_counted() -> None:
    assert whole().counted == "how many targets lie in each tenth of all clients'"
    assert whole(targets=Y[:, None] > 0, loss="bce_with_logits").counted.startswith("how often")
    assert whole(targets=(Y > 0).astype(int), loss="cross_entropy").counted == "the classes"
