"""Learning rates chosen alike for all policies, on validation data of exploratory seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hasa_opt.errors import InputError
from hasa_opt.federated import Execution, LocalTraining
from hasa_opt.models import MLP
from hasa_opt.study import Study
from hasa_opt.study.tuning import tune
from hasa_opt.tasks import Split, Task

RATES = (1e-4, 3e-2, 1.0)


def study(seeds: tuple[int, ...] = (0, 1), *policies: str) -> Study:
    def draw(row: int, part: int) -> Split:
        generator = torch.Generator().manual_seed(10 * part + row)
        inputs = torch.randn(60, 4, generator=generator)
        return Split(inputs, (inputs[:, 0] + 0.3 * inputs[:, 1] > 0).long())

    parts = [[draw(row, part) for row in range(3)] for part in range(3)]
    task = Task("lines", tuple("abc"), *parts, np.full((3, 2), 30), 2)
    return Study(
        task, MLP(4, 2, hidden=(10,)), policies=policies or ("uniform", "ditto"), seeds=seeds,
        rounds=6, training=LocalTraining(batch_size=20), execution=Execution(workers=1),
    )  # fmt: skip


def common(done: Study, policy: str) -> float:
    """Mean validation metric of the common models after the last round."""
    histories = [own.history for own in done.outcomes if own.policy == policy]
    return float(np.mean([history.validation_metric[-1] for history in histories]))


def test_the_best_on_validation_data_is_chosen_for_what_is_deployed(tmp_path) -> None:
    with pytest.warns(UserWarning, match="'ditto' is 1, at the end"):
        found = tune(study(), rates=RATES, most=0, directory=tmp_path)
    at_rate = [
        replace(study(), training=LocalTraining(batch_size=20, learning_rate=rate)).run(
            compare_solvers=False
        )
        for rate in RATES
    ]
    expected = [common(done, "uniform") for done in at_rate]
    mine = found["uniform"]
    np.testing.assert_allclose(list(mine.reached.values()), expected)
    assert mine.best == RATES[int(np.argmax(expected))] == 3e-2
    assert not mine.at_edge
    shared = [common(done, "ditto") for done in at_rate]
    assert not np.allclose(list(found["ditto"].reached.values()), shared), "own models are judged"


def test_a_best_rate_at_the_end_takes_the_grid_on() -> None:
    found = tune(study((0,), "uniform"), rates=(1e-5, 1e-4), most=5)["uniform"]
    assert len(found.reached) > 2
    np.testing.assert_allclose(list(found.reached)[:3], [1e-5, 1e-4, 1e-3])
    assert not found.at_edge
    assert min(found.reached) < found.best < max(found.reached)


def test_what_stays_at_the_end_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"best learning rate of 'uniform' is 0\.0001, at the end"):
        found = tune(study((0,), "uniform"), rates=(1e-5, 1e-4), most=0)["uniform"]
    assert found.at_edge


@pytest.mark.parametrize(
    ("seeds", "rates", "message"),
    [
        ((0, 100), RATES, "seed 100 is for results"),
        ((0,), (0.1, 0.01), "must be two or more ascending"),
        ((0,), (0.1,), "must be two or more ascending"),
        ((0,), (0.0, 0.1), "must be two or more ascending"),
    ],
)
def test_what_would_spoil_the_choice_is_refused(seeds, rates, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tune(study(seeds), rates=rates)


def test_a_task_without_validation_data_is_refused() -> None:
    given = study((0,), "uniform")
    nothing = [split.take(torch.arange(0)) for split in given.task.validation]
    bare = replace(given, task=replace(given.task, validation=nothing))
    with pytest.raises(InputError, match="no validation targets to choose by"):
        tune(bare, rates=RATES)
