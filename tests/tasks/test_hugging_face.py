"""Datasets of Hugging Face and partitions of flwr-datasets become tasks as they come."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hasa_opt import federated, models, tasks
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.tasks import Lazy, Task

# Nothing is asked of the hub, and nobody is told that it was.
os.environ |= {"HF_HUB_OFFLINE": "1", "FLWR_TELEMETRY_ENABLED": "0"}
datasets = pytest.importorskip("datasets", reason="needs datasets of Hugging Face")
PARTS = ("train", "validation", "test")
RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 3))
OWNER = ["ann", "bob", "cy"] * (N // 3)
KIND = np.where(X[:, 0] > 0, "large", "small").tolist()
TEXT = [f"the {kind} one {row % 7}" for row, kind in enumerate(KIND)]
COLUMNS: dict[str, Any] = {
    "who": OWNER, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "kind": KIND, "text": TEXT,
    "label": [int(kind == "small") for kind in KIND],
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> Any:
    return datasets.Dataset.from_dict(COLUMNS)


def by_client(table: Any) -> dict[str, Any]:
    return {
        name: table.select(np.flatnonzero(np.array(OWNER) == name)) for name in ("ann", "bob", "cy")
    }


def assert_alike(task: Task, wanted: Task) -> None:
    assert task.client_names == wanted.client_names
    assert (task.n_outputs, task.labels) == (wanted.n_outputs, wanted.labels)
    assert np.array_equal(dense(task.counts), dense(wanted.counts))
    for part in PARTS:
        for own, other in zip(getattr(task, part), getattr(wanted, part), strict=True):
            assert torch.equal(own.inputs, other.inputs)
            assert torch.equal(own.targets, other.targets)


@pytest.mark.parametrize("target", ["kind", "label", ["a", "b"]])
@pytest.mark.parametrize("inputs", [["a", "b"], "text", "c"])
def test_rows_are_those_of_a_frame(table: Any, inputs: Any, target: Any) -> None:
    settings = {
        "inputs": inputs, "target": target, "validation_share": 0.1,
        "loss": "mse" if target == ["a", "b"] else "cross_entropy",
    }  # fmt: skip
    wanted = tasks.from_frame(COLUMNS, client="who", **settings)
    assert_alike(tasks.from_frame(table, client="who", **settings), wanted)
    assert_alike(tasks.from_datasets(by_client(table), **settings), wanted)


def test_other_columns_are_inputs_by_default(table: Any) -> None:
    numbers = table.remove_columns(["text", "label"])
    task = tasks.from_frame(numbers, client="who", target="kind")
    assert task.train[0].inputs.shape[1] == 3
    assert isinstance(task.train, Lazy)


def test_splits_of_a_dataset_are_given(table: Any) -> None:
    halves = datasets.DatasetDict(train=table.select(range(30)), test=table.select(range(30, 36)))
    names = {"client": "who", "target": "kind", "inputs": "text"}
    task = tasks.from_frame(halves["train"], test=halves["test"], **names)
    assert [len(split) for split in task.train] == [10, 10, 10]
    assert [len(split) for split in task.test] == [2, 2, 2]


@pytest.mark.parametrize("layout", [None, "numpy", "torch"])
def test_any_format_gives_the_same(table: Any, layout: str | None) -> None:
    task = tasks.from_frame(
        table.with_format(layout), client="who", inputs=["a", "b"], target="label"
    )
    plain = tasks.from_frame(COLUMNS, client="who", inputs=["a", "b"], target="label")
    assert_alike(task, plain)


def test_classes_keep_their_numbers_and_names(table: Any) -> None:
    classes = datasets.ClassLabel(names=["small", "large", "huge"])
    known = table.cast_column("kind", classes)
    task = tasks.from_datasets(by_client(known), inputs=["a"], target="kind")
    assert (task.labels, task.n_outputs) == (("small", "large", "huge"), 3)
    inputs, targets = task.train[0].inputs[:, 0], task.train[0].targets
    assert torch.equal(targets, (inputs > 0).long())
    other = table.cast_column("kind", datasets.ClassLabel(names=["large", "small"]))
    mixed = {**by_client(known), "cy": by_client(other)["cy"]}
    with pytest.raises(InputError, match="give all datasets one ClassLabel"):
        tasks.from_datasets(mixed, inputs=["a"], target="kind")


def picture(row: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (6, 4), (row * 10, 0, 255) if mode == "RGB" else row * 10)


def test_images_become_pixels_and_masks_classes() -> None:
    rows = [
        {"image": picture(row), "grey": picture(row, "L"), "mask": Image.new("L", (6, 4), row % 3)}
        for row in range(6)
    ]
    image = datasets.Image()
    table = datasets.Dataset.from_list(
        rows, features=datasets.Features({"image": image, "grey": image, "mask": image})
    )
    task = tasks.from_datasets({"ann": table}, inputs="image", target="mask", test_share=0)
    split = task.train[0]
    assert split.inputs.shape == (6, 3, 4, 6)
    assert torch.equal(split.inputs[:, 0, 0, 0], torch.arange(6) * 10 / 255)
    assert bool((split.inputs[:, 2] == 1).all())
    assert torch.equal(split.targets[:, 0, 0], torch.arange(6) % 3)
    both = tasks.from_datasets({"ann": table}, inputs=["image", "grey"], target="mask")
    assert {name: part.shape[1:] for name, part in both.train[0].inputs.items()} == {
        "image": (3, 4, 6), "grey": (1, 4, 6)
    }  # fmt: skip


def test_tokenized_rows_go_to_the_model_by_their_names() -> None:
    rows = {"input_ids": [[1, 2, 0]] * 8, "attention_mask": [[1, 1, 0]] * 8, "label": [0, 1] * 4}
    table = datasets.Dataset.from_dict(rows)
    names = ["input_ids", "attention_mask"]
    task = tasks.from_datasets({"ann": table}, inputs=names, target="label")
    assert {name: part.tolist()[0] for name, part in task.train[0].inputs.items()} == {
        "input_ids": [1, 2, 0], "attention_mask": [1, 1, 0]
    }  # fmt: skip


def test_rows_are_read_when_a_client_is_drawn(table: Any) -> None:
    lazy = tasks.from_frame(table, client="who", inputs=["a", "b", "c"], target="kind")
    held = tasks.from_frame(COLUMNS, client="who", inputs=["a", "b", "c"], target="kind")
    one, other = (
        federated.run(models.fresh(models.MLP(3, 2), seed=1), task, [0.5, 1.0, 1.0], rounds=2)
        for task in (lazy, held)
    )
    np.testing.assert_array_equal(one.test_metric, other.test_metric)
    again = tasks.from_frame(table, client="who", inputs=["a", "b", "c"], target="kind")
    assert again.fingerprint == lazy.fingerprint
    changed = table.map(lambda row: {"a": row["a"] + 1})
    other_data = tasks.from_frame(changed, client="who", inputs=["a", "b", "c"], target="kind")
    assert other_data.fingerprint != lazy.fingerprint


# ------------------------------------------------------------------------------- partitions


def test_partitions_are_clients_by_natural_id_or_number(table: Any) -> None:
    partitioner = pytest.importorskip("flwr_datasets.partitioner")
    settings: dict[str, Any] = {"inputs": ["a", "b"], "target": "kind"}
    natural = partitioner.NaturalIdPartitioner("who")
    natural.dataset = table
    assert_alike(
        tasks.from_datasets(natural, **settings),
        tasks.from_frame(COLUMNS, client="who", **settings),
    )
    plain = partitioner.IidPartitioner(4)
    plain.dataset = table
    task = tasks.from_datasets(plain, **settings)
    assert task.client_names == ("0", "1", "2", "3")
    assert (task.samples + [len(split) for split in task.test]).tolist() == [15, 15, 15, 15]


def test_a_federated_dataset_gives_the_splits_that_it_has(table: Any, tmp_path: Path) -> None:
    flwr_datasets = pytest.importorskip("flwr_datasets")
    (tmp_path / "data").mkdir()
    for part, rows in (("train", range(40)), ("test", range(40, N))):
        table.select(rows).to_parquet(tmp_path / "data" / f"{part}.parquet")

    def whole(**partitioners: Any) -> Any:
        return flwr_datasets.FederatedDataset(
            dataset=str(tmp_path / "data"),
            partitioners=partitioners,
            cache_dir=str(tmp_path / "cache"),
        )

    settings: dict[str, Any] = {"inputs": ["a", "b"], "target": "kind"}
    task = tasks.from_datasets(whole(train=4, test=4), **settings)
    assert task.samples.tolist() == [10] * 4
    assert [len(split) for split in task.test] == [5] * 4
    alone = tasks.from_datasets(whole(test=2), test_share=0.2, **settings)
    assert alone.samples.tolist() == [8, 8]
    assert [len(split) for split in alone.test] == [2, 2]


# ------------------------------------------------------------------------------- what is refused


REFUSED: dict[str, Any] = {
    "a mapping of each client to its dataset, or from_frame": lambda table: tasks.from_datasets(
        table, inputs="a", target="kind"
    ),
    "datasets is a DatasetDict of Hugging Face": lambda table: tasks.from_datasets(
        datasets.DatasetDict(train=table), inputs="a", target="kind"
    ),
    "a split is a DatasetDict: give a Dataset": lambda table: tasks.from_frame(
        datasets.DatasetDict(train=table), client="who", target="kind"
    ),
    "a split is a dict: give a Dataset": lambda table: tasks.from_frame(
        table, client="who", target="kind", test=COLUMNS
    ),
    "no column 'owner': its columns are": lambda table: tasks.from_frame(
        table, client="owner", target="kind"
    ),
    "say where inputs and target are": lambda table: tasks.from_datasets(by_client(table)),
    "texts stand alone": lambda table: tasks.from_frame(
        table, client="who", inputs=["a", "text"], target="kind"
    ),
    "strings name classes": lambda table: tasks.from_frame(
        table, client="who", inputs="a", target="kind", loss="mse"
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_used_is_named_with_the_remedy(table: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        REFUSED[message](table)
