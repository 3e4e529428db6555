"""What tells one trial of a study from another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hasa_opt.federated import Evaluation, LocalTraining, Participation, Server
from hasa_opt.models import MLP
from hasa_opt.policies import Subnets
from hasa_opt.study.trials import Trial
from hasa_opt.tasks import Split, Task


@pytest.fixture
def trial() -> Trial:
    """Two clients, of whom the second is left out and deploys the half."""
    drawn = torch.Generator().manual_seed(0)
    splits = [
        Split(torch.randn(8, 3, generator=drawn), torch.randint(0, 2, (8,), generator=drawn))
        for _ in range(2)
    ]
    task = Task("points", ("a", "b"), splits, splits, splits, np.ones((2, 2), int), 2)
    return Trial(
        task=task,
        model=MLP(3, 2, hidden=(4,)),
        allocation=Subnets(np.array([1.0, 0.0]), deployed=np.array([1.0, 0.5])),
        seed=0,
        rounds=1,
        training=LocalTraining(),
        server=Server(),
        evaluation=Evaluation(),
        participation=Participation(),
        engine="sequential",
    )


@pytest.mark.parametrize(
    "other",
    [{"deployed": np.array([1.0, 0.25])}, {"epochs": np.array([2, 1])}],
    ids=["deployed", "epochs"],
)
def test_subnets_that_differ_beside_their_widths_are_another_trial(
    trial: Trial, other: dict[str, np.ndarray], tmp_path: Path
) -> None:
    trial.run(tmp_path / "kept")
    assert trial.stored(tmp_path / "kept") is not None
    changed = replace(trial, allocation=replace(trial.allocation, **other))
    assert changed.digest != trial.digest
    assert changed.stored(tmp_path / "kept") is None
