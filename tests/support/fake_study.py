"""A stand-in study of known numbers: what tables and reports read, without training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hasa_opt.federated import Participation
from hasa_opt.study.outcome import gather
from hasa_opt.study.results import Results
from hasa_opt.study.summary import SummaryRow, summarise
from hasa_opt.tasks import LearningProblem

NAMES = (
    *("Towards Data Science", "UX Collective", "The Startup", "The Writing Cooperative"),
    *("Data Driven Investor", "Better Marketing", "Better Humans"),
)
SAMPLES = np.array([1020, 388, 2122, 282, 544, 170, 20])
LEVEL = np.array([13.9, 14.6, 12.8, 15.2, 12.9, 15.8, 11.6]) / 100
WIDTHS = {
    "uniform": np.full(7, 0.5),
    "hasa": np.array([0.46, 0.57, 0.45, 0.68, 0.34, 0.8, 0.8]),
    "reverse": np.array([0.5, 0.4, 0.58, 0.3, 0.62, 0.22, 0.2]),
    "optimal": np.array([0.5, 0.5, 0.5, 0.65, 0.35, 0.8, 0.8]),
}
FOURTEEN = (
    *("uniform", "hasa", "hasa2", "reverse", "random", "capacity", "inverse_size", "optimal"),
    *("covered", "measured", "heterofl", "fedrolex", "federated_dropout", "fjord"),
)


@dataclass(frozen=True)
class FakeStudy:
    """What the report reads of a study."""

    task: Any
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    outcomes: tuple[Any, ...]
    comparison: Any = None
    budget: float = 0.5
    budget_in: str = "width"
    widths: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8)
    rounds: int = 30
    command: str | None = None
    description: Any = None
    partial: bool = False
    participation: Participation = field(default_factory=Participation)

    @property
    def compared(self) -> dict[str, SimpleNamespace]:
        return {
            name: SimpleNamespace(name=name, meaning=f"what {name} is") for name in self.policies
        }

    @property
    def results(self) -> Results:
        task = self.task
        return gather(self.outcomes, task.client_names, task.samples, lambda width: 1e6 * width)

    def summary(self) -> list[SummaryRow]:
        return summarise(self.results, self.budget)


def make_study(
    gains: dict[str, float] | None = None,
    *,
    n_seeds: int = 10,
    noise: float = 0.002,
    names: tuple[str, ...] = NAMES,
    supernet: bool = False,
    seed: int = 0,
    flagged: tuple[str, ...] = (),
    **changes: Any,
) -> FakeStudy:
    """Build a study in which a policy's mean accuracy is ``gains`` points over uniform's.

    Those that are flagged spend 2 % more than the budget of a half.
    """
    gains = gains or {"uniform": 0.0, "hasa": 0.5, "reverse": -0.8, "optimal": 0.35}
    rng = np.random.default_rng(seed)
    level, samples = np.resize(LEVEL, len(names)), np.resize(SAMPLES, len(names))
    outcomes = [
        _outcome(policy, number, level + gain / 100, noise, supernet, rng, policy in flagged)
        for policy, gain in gains.items()
        for number in range(n_seeds)
    ]
    task = SimpleNamespace(
        name="titles",
        client_names=names,
        samples=samples,
        n_outputs=1846,
        problem=LearningProblem(),
        validation=[
            SimpleNamespace(targets=torch.zeros(10 + int(size) % 7, dtype=torch.int64))
            for size in samples
        ],
        fingerprint={"file": "medium_data.csv", "texts": "6488", "texts sha256": "0136" * 16},
    )
    study = FakeStudy(task, tuple(gains), tuple(range(n_seeds)), tuple(outcomes), description={})
    return replace(study, **changes)


def _outcome(
    policy: str,
    seed: int,
    level: np.ndarray,
    noise: float,
    supernet: bool,
    rng: np.random.Generator,
    misses: bool,
) -> SimpleNamespace:
    n_clients = len(level)
    widths = np.resize(WIDTHS.get(policy.split("+")[0], WIDTHS["uniform"]), n_clients)
    wobble = rng.normal(0, noise, (30, n_clients))
    curve = np.outer(1 - np.exp(-np.arange(1, 31) / 7), level) + wobble
    curve -= wobble[-1].mean() * 0.5
    history = SimpleNamespace(
        widths=widths,
        rounds=30,
        test_metric=curve,
        validation_metric=curve + 0.01,
        mean_width=np.tile(widths, (30, 1)),
        flops=np.full((30, n_clients), 10**9),
        bytes_down=np.full((30, n_clients), 10**6),
        bytes_up=np.full((30, n_clients), 10**6),
        clock_seconds=np.full((30, n_clients), np.nan),
        clock_joules=np.full((30, n_clients), np.nan),
        round_seconds=np.zeros(30),
        seconds=np.full((30, n_clients), 0.01),
        server_bytes=2 * 10**6,
        decisions=(),
    )
    return SimpleNamespace(
        policy=policy,
        seed=seed,
        widths=widths,
        realised=0.51 if misses else 0.5,
        history=history,
        own=curve[-1],
        supernet=curve[-1] - 0.01 if supernet else np.full(n_clients, np.nan),
        rounds=30,
        measuring=0.0,
        device_bytes=0.0,
        reason="",
    )
