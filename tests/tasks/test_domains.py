"""The task of the two domains, and the functions behind the phase diagram."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import hasa_opt as hasa
from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.tasks import Task

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.load("domains", seed=3)


@pytest.fixture(scope="module")
def phase() -> Iterator[ModuleType]:
    folder = str(ROOT / "docs" / "reproduction")
    sys.path.insert(0, folder)
    yield import_module("phase")
    sys.path.remove(folder)


# --- Task ---------------------------------------------------------------------------------------


def test_four_clients_hold_scans_and_four_photographs(task: Task) -> None:
    assert [name.split()[0] for name in task.client_names] == ["scans"] * 4 + ["photographs"] * 4
    assert task.samples.tolist() == [220, 160, 100, 80, 440, 320, 200, 160]
    for client, name in enumerate(task.client_names):
        seen = {len(getattr(task, split)[client].targets.unique()) for split in SPLITS}
        assert seen == ({5} if name.startswith("scans") else {10})
    for split in SPLITS:
        for own in getattr(task, split):
            assert own.inputs.shape[1:] == (1, 16, 16)
            assert own.inputs.dtype == torch.float32
            assert 0 <= own.inputs.min() <= own.inputs.max() <= 1


def test_counts_are_training_labels_and_score_the_easy_clients_highest(task: Task) -> None:
    for counts, split in zip(task.counts, task.train, strict=True):
        assert counts.tolist() == np.bincount(split.targets, minlength=10).tolist()
    scores = hasa.scores.jensen_shannon(task.counts)
    assert scores[:4].min() > 3 * scores[4:].max()


def test_no_image_occurs_twice(task: Task) -> None:
    images = [
        image.numpy().tobytes()
        for split in SPLITS
        for own in getattr(task, split)
        for image in own.inputs
    ]
    assert len(set(images)) == len(images)


def test_scans_are_real_and_used_once(task: Task) -> None:
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    # Bilinear enlargement by two keeps the mean of the inner pixels' neighbourhoods: compare means.
    known: dict[int, list[float]] = {digit: [] for digit in range(5)}
    for image, digit in zip(pixels, digits, strict=True):
        if digit < 5:
            known[digit].append(float(image.mean() / 16))
    for split in SPLITS:
        for own in getattr(task, split)[:4]:
            for image, digit in zip(own.inputs, own.targets.tolist(), strict=True):
                nearest = min(abs(float(image.mean()) - mean) for mean in known[digit])
                assert nearest < 1e-3


def test_photographs_of_the_splits_are_disjoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles of one grey level each and blank prints, a patch names its tile."""
    module = import_module("hasa_opt.tasks.images")
    levels = np.linspace(0, 1, 190, dtype=np.float32)
    flat = np.broadcast_to(levels[:, None, None], (190, 32, 32))
    monkeypatch.setattr(module, "_tiles", lambda: flat)
    monkeypatch.setattr(module, "printed", lambda digit, rng: np.zeros((16, 16), np.float32))
    made = tasks.load("domains")
    seen = {
        split: {float(image.unique()) for own in getattr(made, split)[4:] for image in own.inputs}
        for split in SPLITS
    }
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))
    assert len(seen["train"]) > 100
    assert min(map(len, seen.values())) > 20


def test_domains_depend_on_the_seed_alone(task: Task) -> None:
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    again = tasks.load("domains", seed=3)
    assert again.checksum == task.checksum
    assert again.fingerprint == task.fingerprint
    assert tasks.load("domains", seed=4).checksum != task.checksum
    with pytest.raises(InputError, match="seed is -1"):
        tasks.load("domains", seed=-1)


# --- Phase diagram ------------------------------------------------------------------------------


def test_place_of_hand_made_curves(phase: ModuleType) -> None:
    slopes = np.array([10.0, 30.0])  # points per unit of width
    table = slopes[:, None] * np.array(phase.WIDTHS)
    equal = phase.place(table, np.array([50, 50]), 0.5)
    assert equal.steepness == pytest.approx(2.0)  # per 0.1
    assert equal.spread == pytest.approx(0.5)  # slopes 10 and 30: 10 around 20
    # Three times the samples at three times the slope: a unit of budget is worth the same at both.
    assert phase.place(table, np.array([25, 75]), 0.5).spread == pytest.approx(0, abs=1e-12)
    assert np.isnan(phase.place(-table, np.array([50, 50]), 0.5).spread)


def test_alike_curves_leave_nothing_to_the_optimum(phase: ModuleType) -> None:
    gains = phase.planted_gains(2.0, 0.0, 0.5)
    assert gains["optimum"] == pytest.approx(0, abs=1e-9)
    assert gains["HASA, score = need"] < -0.5
    assert gains["HASA, against need"] == pytest.approx(gains["HASA, score = need"])


def test_optimum_is_the_best_of_all_allocations(phase: ModuleType) -> None:
    table = np.array([[50, 60, 66, 70, 72], [90, 91, 91.5, 92, 92], [20, 22, 24, 26, 28.0]])
    samples = np.array([10, 20, 10])
    best = max(
        np.mean([table[row, k] for row, k in enumerate(choice)])
        for choice in np.ndindex(5, 5, 5)
        if samples @ np.array(phase.WIDTHS)[list(choice)] <= 0.5 * 40 + 1e-9
    )
    widths = phase.optimum(table, samples, 0.5)
    assert phase.reach(table, widths) == pytest.approx(best)
    uniform = table[:, 2].mean()
    assert phase.gain(table, samples, 0.5, widths) == pytest.approx(best - uniform)


def test_planted_curves_stand_where_they_should(phase: ModuleType) -> None:
    table = phase.planted(1.5, 0.75, 0.35)
    found = phase.place(table, np.full(len(table), 7), 0.35)
    assert found == pytest.approx((1.5, 0.75))
    assert (np.diff(table) > 0).all()
    assert (np.diff(table, n=2) < 0).all()


def test_committed_grid_is_what_the_code_computes(phase: ModuleType) -> None:
    rows = phase.read(phase.PLANTED)
    assert len(rows) == len(phase.BUDGETS) * len(phase.STEEPNESS) * len(phase.SPREAD)
    for row in rows[7::31]:
        budget, steepness, spread = (float(row[k]) for k in ("budget", "steepness", "spread"))
        for name, own in phase.planted_gains(steepness, spread, budget).items():
            assert float(row[name]) == pytest.approx(own, abs=2e-6)


def test_tau_is_recovered(phase: ModuleType) -> None:
    ranges = np.array([5.0, 40.0, 20.0])
    table = 80 - ranges[:, None] * np.exp(-np.array(phase.WIDTHS) / 0.45)
    assert phase.fitted_tau(table) == pytest.approx(0.45, abs=1e-3)


def test_figure_shows_the_numbers_of_the_files(phase: ModuleType) -> None:
    figure = import_module("phase_figure")
    rows = phase.read(phase.PLANTED)
    shown = figure.grid(rows, 0.35, "optimum")
    assert shown.shape == (len(phase.SPREAD), len(phase.STEEPNESS))
    (one,) = (
        row
        for row in rows
        if (float(row["budget"]), float(row["spread"]), float(row["steepness"])) == (0.35, 2.5, 6)
    )
    assert shown[-1, -1] == float(one["optimum"])
    drawn = figure.draw()
    texts = {text.get_text() for text in drawn.axes[0].texts}
    assert set(phase.tables()) <= texts
    table, samples = phase.tables()["domains"]
    places = [tuple(np.ravel(line.get_data())) for line in drawn.axes[0].lines]
    assert any(place == pytest.approx(phase.place(table, samples, 0.5)) for place in places)
