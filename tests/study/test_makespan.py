"""The shortest round: proven against all allocations, and told by a study with a clock."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from support.killed_runs import split

from hasa_opt import Clock, Study
from hasa_opt.federated import Availability, Participation
from hasa_opt.models import MLP
from hasa_opt.study.makespan import least_makespan
from hasa_opt.tasks import Task

torch.set_num_threads(1)
SIZES = (30, 20, 40, 25, 10)


@pytest.mark.parametrize("seed", range(20))
def test_no_allocation_of_the_same_cost_is_faster(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seconds = rng.integers(1, 9, (4, 3)).astype(float)
    costs = rng.integers(0, 9, (4, 3))
    needed = int(rng.integers(1, costs.max(axis=1).sum() + 2))
    rows = np.arange(4)
    lasted = [
        seconds[rows, list(chosen)].max()
        for chosen in product(range(3), repeat=4)
        if costs[rows, list(chosen)].sum() >= needed
    ]
    assert least_makespan(seconds, costs, needed) == min(lasted, default=np.inf)


@pytest.fixture
def study() -> Study:
    parts = [[split(n, 10 * k + at) for at, n in enumerate(SIZES)] for k in range(3)]
    counts = np.array([[9, 1, 1], [1, 9, 1], [1, 1, 9], [4, 4, 3], [3, 4, 4]])
    names = tuple(f"client {row}" for row in range(5))
    task = Task("toy", names, *parts, counts, 3)
    clock = Clock([1e5, 2e5, 1e5, 4e5, 1e5], 2e3, 5e2, compute_w=1, radio_w=1)
    return Study(
        task, MLP(6, 3, hidden=(8, 4)), policies=["uniform", "hasa"], seeds=[0, 1], rounds=2,
        participation=Participation(clock=clock), budget=0.5,
    )  # fmt: skip


def test_a_study_tells_seconds_joules_and_what_is_left_to_gain(study: Study, tmp_path: Path):
    study = study.run()
    found = study.results
    assert (found.seconds > 0).all()
    assert (found.joules > 0).all()
    run = study.outcomes[0].history
    assert found.seconds[0, 0] == pytest.approx(run.round_seconds.sum())
    assert found.joules[0, 0] == pytest.approx(np.nansum(run.clock_joules))
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(study.costs_table())
    text = " ".join(console.export_text().split())
    assert "A round in which all clients spend this budget lasts at least" in text
    least = float(text.split("lasts at least ")[1].split(" s,")[0])
    lasted = found.seconds.mean(axis=1).min() / 2
    assert 0 < least <= lasted * 1.001
    page = study.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "whatever the allocation (proven)" in page
    assert "Seconds by the clock" in page
    assert [axes.get_xlabel() for axes in study.plot("by_cost").axes][2:] == [
        "Seconds by the clock",
        "Joules by the clock",
    ]


def test_who_is_not_always_there_makes_a_study_partial(study: Study) -> None:
    half = Participation(availability=Availability(0.5))
    other = Study(study.task, study.model, seeds=[0], rounds=1, participation=half)
    assert other.partial
    assert other.description["Availability"] == "given"
    assert study.description["Clock"] == "given"
    assert not study.partial
