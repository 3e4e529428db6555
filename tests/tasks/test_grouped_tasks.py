"""Tasks whose clients form groups that labels do not show, and their twins without any."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from hasa_opt import rules, tasks
from hasa_opt.tasks import TASKS, Task
from hasa_opt.tasks.images import scanned
from hasa_opt.tasks.task import PARTS

KINDS = {"rotated": 2, "fonts": 2, "unequal": 2, "forty_clients": 4}
groups: Any = import_module("hasa_opt.tasks.groups")


def marked(part: int, labels: Any, rng: np.random.Generator) -> Any:
    """Images with one bright pixel, in the upper left corner."""
    images = np.zeros((len(labels), 16, 16), dtype=np.float32)
    images[:, 0, 0] = 1
    return images


def blank(part: int, labels: Any, rng: np.random.Generator) -> Any:
    return np.zeros((len(labels), 16, 16), dtype=np.float32)


@cache
def scans() -> dict[bytes, int]:
    """Every scan, and its digit; two of the 1,797 may be equal."""
    images, labels = scanned()
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


def kind_of(image: Any, known: dict[bytes, int], digit: int) -> int:
    """Kind of an image where prints are blank and photographs bear a mark."""
    if image.tobytes() in known:
        assert known[image.tobytes()] == digit
        return 0
    return {0: 1, 256: 2, 1: 3}[int(image.sum())]


def kinds(task: Task, part: str, client: int) -> np.ndarray[Any, Any]:
    """How many images a client holds of each digit and kind, ``(10, 4)``."""
    known, table = scans(), np.zeros((10, 4), dtype=int)
    split = getattr(task, part)[client]
    for image, digit in zip(split.inputs.numpy()[:, 0], split.targets.tolist(), strict=True):
        table[digit, kind_of(image, known, digit)] += 1
    return table


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints without ink, and photographs that show a mark alone."""
    monkeypatch.setattr(groups, "photographs", lambda seed: marked)
    monkeypatch.setattr(groups, "_prints", blank)


@pytest.mark.parametrize("name", [*KINDS, *(f"{name}_twin" for name in KINDS)])
def test_every_client_holds_as_many_of_each_digit(name: str, quick: None) -> None:
    task = tasks.load(name)
    assert task.name == name
    for part in PARTS:
        for split in getattr(task, part):
            counted = np.bincount(split.targets, minlength=10)
            assert counted.tolist() == [len(split) // 10] * 10
    assert task.counts.tolist() == [[size // 10] * 10 for size in task.samples]
    assert rules.by_counts(task.counts).tolist() == [0] * len(task)


@pytest.mark.parametrize("name", KINDS)
def test_a_twin_has_the_same_clients_and_labels(name: str, quick: None) -> None:
    task, twin = tasks.load(name), tasks.load(f"{name}_twin")
    assert twin.client_names == task.client_names
    for part in PARTS:
        for one, other in zip(getattr(task, part), getattr(twin, part), strict=True):
            assert torch.equal(one.targets, other.targets)


def test_sizes(quick: None) -> None:
    assert tasks.load("rotated").samples.tolist() == [440, 320, 200, 160] * 2
    assert tasks.load("fonts").samples.tolist() == [400, 300, 200, 160] * 2
    unequal = tasks.load("unequal")
    assert [name[0] for name in unequal.client_names] == ["A"] * 6 + ["B"] * 2
    assert unequal.samples.tolist() == [640, 320, 160, 80, 40, 20, 400, 60]
    forty = tasks.load("forty_clients")
    assert [name[0] for name in forty.client_names] == [*"A" * 10, *"B" * 10, *"C" * 10, *"D" * 10]
    assert forty.samples.max() == 3 * forty.samples.min() == 120


@pytest.mark.parametrize("name", ["rotated", "unequal"])
def test_one_group_sees_everything_upside_down(name: str, quick: None) -> None:
    task, twin = tasks.load(name), tasks.load(f"{name}_twin")
    for part in PARTS:
        for client, own in enumerate(getattr(task, part)):
            corner = (-1, -1) if task.client_names[client].startswith("B") else (0, 0)
            assert (own.inputs[:, 0, *corner] == 1).all()
            mixed = getattr(twin, part)[client]
            upright = mixed.targets[mixed.inputs[:, 0, 0, 0] == 1]
            assert np.bincount(upright, minlength=10).tolist() == [len(mixed) // 20] * 10
            assert (mixed.inputs.sum(dim=(1, 2, 3)) == 1).all()


@pytest.mark.slow
def test_images_of_rotated_and_its_twin_are_the_same_but_for_the_turn() -> None:
    task, twin = tasks.load("rotated", seed=3), tasks.load("rotated_twin", seed=3)
    own, mixed = task.train[0], twin.train[0]
    turned = mixed.inputs.flip(2, 3)
    same, reverse = (own.inputs == mixed.inputs), (own.inputs == turned)
    assert (same.all(dim=(1, 2, 3)) | reverse.all(dim=(1, 2, 3))).all()
    images = {image.numpy().tobytes() for split in task.train for image in split.inputs}
    assert len(images) == task.samples.sum()
    assert own.inputs.dtype == torch.float32
    assert own.inputs.shape[1:] == (1, 16, 16)
    assert 0 <= own.inputs.min() < own.inputs.max() <= 1


@pytest.mark.parametrize("name", ["fonts", "forty_clients"])
def test_groups_hold_one_kind_and_clients_of_the_twin_all(name: str, quick: None) -> None:
    task, twin, n_kinds = tasks.load(name), tasks.load(f"{name}_twin"), KINDS[name]
    for client in range(0, len(task), 3):
        group = "ABCD".index(task.client_names[client][0])
        for part in PARTS:
            share = len(getattr(task, part)[client]) // 10
            own, mixed = (kinds(made, part, client) for made in (task, twin))
            assert (own[:, group] == share).all()
            assert (mixed[:, :n_kinds] == share // n_kinds).all()


@pytest.mark.parametrize("name", ["fonts", "fonts_twin", "forty_clients", "forty_clients_twin"])
def test_no_scan_is_used_twice(name: str, quick: None) -> None:
    task, known = tasks.load(name), scans()
    images = [
        image.numpy().tobytes()
        for part in PARTS
        for split in getattr(task, part)
        for image in split.inputs
    ]
    used = [image for image in images if image in known]
    assert len(used) == len(set(used)) == (1700 if name.startswith("fonts") else 1520)


def test_printed_digits_are_white_on_black_and_all_different() -> None:
    task = tasks.load("fonts")
    prints = [split.inputs for split in task.train[4:]]
    assert all(own.mean() < 0.3 for own in prints)
    images = {image.numpy().tobytes() for own in prints for image in own}
    assert len(images) == 1060


@pytest.mark.parametrize("name", KINDS)
def test_tasks_depend_on_the_seed_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        groups, "_prints", lambda part, labels, rng: rng.random((len(labels), 1, 1))
    )
    monkeypatch.setattr(groups, "photographs", lambda seed: groups._prints)
    first = tasks.load(name, seed=3)
    np.random.seed(5)  # noqa: NPY002
    again, other = tasks.load(name, seed=3), tasks.load(name, seed=4)
    assert again.checksum == first.checksum
    assert again.fingerprint == first.fingerprint
    assert other.checksum != first.checksum


def test_twins_are_known_by_name() -> None:
    assert {f"{name}_twin" for name in KINDS} <= set(TASKS)
