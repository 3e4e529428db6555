"""Tasks whose clients differ in labels alone: groups that overlap, and shares from a Dirichlet."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from hasa_opt import rules, tasks
from hasa_opt.errors import InputError
from hasa_opt.tasks.task import PARTS

NAMES = ("overlapping", "dirichlet_0.1", "dirichlet_1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs are noise."""
    noise = lambda part, labels, rng: rng.random((len(labels), 16, 16), dtype=np.float32)  # noqa: E731
    monkeypatch.setattr(import_module("hasa_opt.tasks.label_skew"), "photographs", lambda _: noise)


def digits(split: Any) -> set[int]:
    return set(split.targets.tolist())


def test_groups_share_three_digits_pairwise_and_none_at_all() -> None:
    task = tasks.load("overlapping")
    assert task.n_outputs == 9
    assert [name[0] for name in task.client_names] == [*"AAAA", *"BBBB", *"CCCC"]
    assert task.samples.tolist() == [300, 240, 180, 120] * 3
    first, second, third = (digits(task.train[row]) for row in (0, 4, 8))
    assert len(first & second) == len(second & third) == len(third & first) == 3
    assert not first & second & third
    assert first | second | third == set(range(9))
    for part in PARTS:
        for row, split in enumerate(getattr(task, part)):
            counted = np.bincount(split.targets, minlength=9)
            assert digits(split) == (first, second, third)[row // 4]
            assert set(counted[counted > 0]) == {len(split) // 6}
    assert rules.by_counts(task.counts).tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("concentration", [0.1, 0.3, 1.0])
def test_the_skew_of_labels_is_what_the_concentration_says(concentration: float) -> None:
    """The mean of the sum of squared shares is (1 + c) / (1 + 10 c), and sampling adds to it."""
    squares = []
    for seed in range(25):
        task = tasks.load(f"dirichlet_{concentration:g}", seed=seed)
        assert task.name == f"dirichlet_{concentration:g}"
        counts, n = task.counts.astype(float), task.samples
        squares += list(((counts * (counts - 1)).sum(axis=1) / (n * (n - 1))).tolist())
    expected = (1 + concentration) / (1 + 10 * concentration)
    error = np.std(squares) / np.sqrt(len(squares))
    assert abs(np.mean(squares) - expected) < 4 * error


def test_splits_of_a_client_have_its_shares() -> None:
    task = tasks.load("dirichlet_0.3")
    assert task.samples.tolist() == [440, 320, 200, 160] * 2
    shares = task.counts / task.samples[:, None]
    tested = np.array([np.bincount(own.targets, minlength=10) / 120 for own in task.test])
    apart = np.abs(shares[:, None] - tested[None]).sum(axis=2)
    assert apart.argmin(axis=1).tolist() == list(range(8))


@pytest.mark.parametrize("name", NAMES)
def test_tasks_depend_on_the_seed_alone(name: str) -> None:
    first = tasks.load(name, seed=3)
    np.random.seed(5)  # noqa: NPY002
    assert tasks.load(name, seed=3).checksum == first.checksum
    assert tasks.load(name, seed=4).checksum != first.checksum


def test_a_concentration_must_be_above_zero() -> None:
    for bad in (0, -1.0):
        with pytest.raises(InputError, match=r"must be above 0, such as 0\.3"):
            tasks.load("dirichlet", concentration=bad)
    with pytest.raises(InputError, match="must be a finite number"):
        tasks.load("dirichlet", concentration=float("nan"))
    assert tasks.load("dirichlet", concentration=1e-300).counts.max(axis=1).tolist() == [
        *(440, 320, 200, 160) * 2
    ]
