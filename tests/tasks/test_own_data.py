"""A user's own data become a task in one statement, whatever they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from hasa_opt import tasks
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.federated import LocalTraining, run
from hasa_opt.models import MLP, fresh
from hasa_opt.tasks import Lazy, Task
from hasa_opt.tasks.dealing import Shares

PARTS = ("train", "validation", "test")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
OWNER = np.array(["ann", "bob", "cy"])[np.arange(90) % 3]


def rows_of(task: Task, part: str) -> list[list[float]]:
    """First features of each client's samples, which tell all samples apart."""
    return [split.inputs.flatten(1)[:, 0].tolist() for split in getattr(task, part)]


# ------------------------------------------------------------------------------- dealing


@given(
    st.integers(1, 40),
    st.floats(0, 0.49),
    st.floats(0, 0.49),
    st.integers(0, 9),
    st.text("ab", min_size=1),
)
def test_every_row_is_dealt_once_and_every_split_filled_that_can_be(
    size, test, validation, seed, name
):
    dealt = Shares(test, validation, seed).deal(name, size)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(size))
    wanted = [True, test > 0, validation > 0]
    can_be = [filled for filled in range(3) if wanted[filled]][:size]
    assert [len(part) > 0 for part in (dealt.train, dealt.test, dealt.validation)] == [
        kind in can_be for kind in range(3)
    ]


def test_splits_hang_on_seed_and_name_not_on_who_else_is_there() -> None:
    whole = tasks.from_arrays(X, Y, OWNER, validation_share=0.2)
    kept = OWNER != "ann"
    fewer = tasks.from_arrays(X[kept], Y[kept], OWNER[kept], validation_share=0.2)
    other = tasks.from_arrays(X, Y, OWNER, validation_share=0.2, seed=1)
    for part in PARTS:
        assert rows_of(whole, part)[1:] == rows_of(fewer, part)
        assert rows_of(whole, part) != rows_of(other, part)


@pytest.mark.parametrize(("test", "validation"), [(1.0, 0.0), (-0.1, 0.0), (0.5, 0.5), ("x", 0.0)])
def test_shares_that_leave_nothing_are_refused(test, validation) -> None:
    with pytest.raises(InputError, match="share"):
        tasks.from_arrays(X, Y, OWNER, test_share=test, validation_share=validation)


def test_a_client_of_one_sample_trains_and_is_not_measured() -> None:
    task = tasks.from_arrays(X[:31], Y[:31], ["ann"] * 30 + ["dan"])
    assert [len(split) for split in task.test] == [4, 0]
    history = run(MLP(3, 3), task, [1.0, 1.0], rounds=1)
    assert np.isfinite(history.train_loss).all()
    assert np.isfinite(history.test_metric).tolist() == [[True, False]]
    assert np.isnan(history.validation_metric).all()


# ------------------------------------------------------------------------------- one task


class Pairs(Dataset[Any]):
    """Items that are read when they are asked for."""

    def __init__(self, rows: np.ndarray, as_rows: bool = False) -> None:
        self.rows, self.as_rows = rows, as_rows
        self.reads = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> Any:
        self.reads += 1
        row = self.rows[item]
        pair = torch.tensor(X[row], dtype=torch.float32), int(Y[row])
        return dict(zip(("picture", "label"), pair, strict=True)) if self.as_rows else pair


def by_client(make: Any) -> dict[str, Any]:
    return {name: make(np.flatnonzero(name == OWNER)) for name in ("ann", "bob", "cy")}


def tensors(rows: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.tensor(X[rows], dtype=torch.float32), torch.tensor(Y[rows]))


def pairs(rows: np.ndarray) -> list[tuple[Any, Any]]:
    return list(zip(X[rows], Y[rows], strict=True))


COLUMNS = {"who": OWNER, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "label": Y}


def frame_of(library: str) -> Any:
    return pytest.importorskip(library).DataFrame(COLUMNS)


SOURCES = {
    "tensors": lambda: tasks.from_arrays(torch.tensor(X).float(), torch.tensor(Y), OWNER.tolist()),
    "tensor datasets": lambda: tasks.from_datasets(by_client(tensors)),
    "datasets": lambda: tasks.from_datasets(by_client(Pairs)),
    "lists": lambda: tasks.from_datasets(by_client(pairs)),
    "rows": lambda: tasks.from_datasets(
        by_client(lambda rows: Pairs(rows, True)), inputs="picture", target="label"
    ),
    "columns": lambda: tasks.from_frame(COLUMNS, client="who", target="label"),
    "pandas": lambda: tasks.from_frame(frame_of("pandas"), client="who", target="label"),
    "polars": lambda: tasks.from_frame(
        frame_of("polars"), client="who", target="label", inputs=["a", "b", "c"]
    ),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_same_data_make_the_same_task(source) -> None:
    expected, task = tasks.from_arrays(X, Y, OWNER), source()
    assert task.client_names == ("ann", "bob", "cy")
    assert task.n_outputs == 3
    assert np.array_equal(dense(task.counts), dense(expected.counts))
    for part in PARTS:
        for own, wanted in zip(getattr(task, part), getattr(expected, part), strict=True):
            assert torch.equal(own.inputs, wanted.inputs)
            assert torch.equal(own.targets, wanted.targets)


def test_items_are_read_once_then_when_a_client_is_drawn() -> None:
    datasets = by_client(Pairs)
    task = tasks.from_datasets(datasets)
    assert isinstance(task.train, Lazy)
    before = [dataset.reads for dataset in datasets.values()]
    assert before == [32, 31, 31]  # 30, one of the empty split, and one that shows the kind
    assert len(task.train[1]) == 26
    assert [dataset.reads for dataset in datasets.values()] == [32, 57, 31]


def test_given_splits_are_taken_as_they_are() -> None:
    first, second = np.arange(60), np.arange(60, 90)
    task = tasks.from_arrays(
        X[first], Y[first], OWNER[first],
        test=(X[second], Y[second], OWNER[second]),
        validation=(X[:1], Y[:1], ["bob"]),
    )  # fmt: skip
    assert [len(split) for split in task.train] == [20, 20, 20]
    assert [len(split) for split in task.test] == [10, 10, 10]
    assert [len(split) for split in task.validation] == [0, 1, 0]
    own = tasks.from_datasets(by_client(tensors), test={"cy": tensors(second)})
    assert [len(split) for split in own.test] == [0, 0, 30]
    with pytest.raises(InputError, match="test has samples of 'dan', who has none to train on"):
        tasks.from_arrays(X, Y, OWNER, test=(X[:1], Y[:1], ["dan"]))


# ------------------------------------------------------------------------------- labels and texts


def test_labels_may_be_strings() -> None:
    words = np.array(["no", "perhaps", "yes"])[Y]
    for task in (
        tasks.from_arrays(X, words, OWNER),
        tasks.from_arrays(X, words.tolist(), OWNER),
        tasks.from_frame({**COLUMNS, "label": words.tolist()}, client="who", target="label"),
        tasks.from_datasets(by_client(lambda rows: list(zip(X[rows], words[rows], strict=True)))),
    ):
        assert task.labels == ("no", "perhaps", "yes")
        assert torch.equal(task.train[0].targets, tasks.from_arrays(X, Y, OWNER).train[0].targets)


def test_labels_of_datasets_are_those_of_all_splits_or_in_a_given_order() -> None:
    train = {"ann": [([0.0], "no"), ([1.0], "yes")], "bob": [([0.0], "no")] * 3}
    test = {"bob": [([2.0], "perhaps")]}
    task = tasks.from_datasets(train, test=test)
    assert task.labels == ("no", "perhaps", "yes")
    assert [split.targets.tolist() for split in (*task.train, task.test[1])] == [
        [0, 2], [0, 0, 0], [1]
    ]  # fmt: skip
    given = tasks.from_datasets(train, test=test, labels=["yes", "perhaps", "no"])
    assert given.train[0].targets.tolist() == [2, 0]
    with pytest.raises(InputError, match=r"client 'bob': the label 'perhaps' is none of labels"):
        tasks.from_datasets(train, test=test, labels=["yes", "no"])


def test_texts_and_images_of_datasets_become_what_models_read() -> None:
    texts = {"ann": [("The cat", 0), ("the dog", 1)] * 3, "bob": [("a cat", 0)] * 3}
    task = tasks.from_datasets(texts, max_tokens=3, min_count=2, test_share=0)
    frame = {
        "who": ["ann"] * 6 + ["bob"] * 3,
        "text": [text for pairs in texts.values() for text, _ in pairs],
        "label": [label for pairs in texts.values() for _, label in pairs],
    }
    wanted = tasks.from_frame(frame, client="who", target="label", max_tokens=3, test_share=0)
    for own, other in zip(task.train, wanted.train, strict=True):
        assert torch.equal(own.inputs, other.inputs)
    image = Image.new("RGB", (6, 4), (255, 0, 51))
    seen = tasks.from_datasets({"ann": [(image, 0), (image.convert("L"), 1)][:1]})
    assert seen.train[0].inputs[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    deep = Image.new("I;16", (6, 4))
    with pytest.raises(InputError, match="mode 'I;16', more than eight bits"):
        tasks.from_datasets({"ann": [(deep, 0)]})


def test_texts_become_the_words_of_the_training_texts() -> None:
    texts = [f"word{row} same again" for row in range(40)]
    frame = {"who": ["ann", "bob"] * 20, "text": texts, "label": ["x", "y", "z", "x"] * 10}
    task = tasks.from_frame(frame, client="who", target="label", inputs="text", max_tokens=4)
    assert task.n_outputs == 3
    inputs = torch.cat([split.inputs for split in (*task.train, *task.test)])
    assert inputs.shape == (40, 4)
    assert {tuple(row) for row in inputs.tolist()} == {(1, 3, 2, 0)}  # rare, then by frequency
    every = tasks.from_frame(
        frame, client="who", target="label", inputs="text", max_tokens=4, min_count=1
    )
    assert {row[0] for split in every.test for row in split.inputs.tolist()} == {1}
    assert 1 not in {row[0] for split in every.train for row in split.inputs.tolist()}


def test_a_folder_of_images_is_read_lazily(tmp_path: Path) -> None:
    for client in ("ann", "bob"):
        for label, grey in (("dark", 0), ("light", 255)):
            (tmp_path / client / label).mkdir(parents=True)
            for row in range(3):
                image = Image.new("RGB", (6, 4), (grey, 0, grey))
                image.save(tmp_path / client / label / f"{row}.png")
    (tmp_path / ".hidden").mkdir()
    task = tasks.from_folder(tmp_path)
    assert (task.client_names, task.labels, task.n_outputs) == (
        ("ann", "bob"),
        ("dark", "light"),
        2,
    )
    split = task.train[0]
    assert split.inputs.shape == (5, 3, 4, 6)
    assert torch.equal(split.inputs[:, 0, 0, 0], split.targets.float())
    assert split.inputs[:, 1].max() == 0
    small = tasks.from_folder(tmp_path, size=(2, 3), grey=True)
    assert small.test[1].inputs.shape == (1, 1, 2, 3)
    (tmp_path / "bob" / "dark" / "0.png").write_text("no image")
    with pytest.raises(InputError, match=r"0\.png is no image"):
        tasks.from_folder(tmp_path)
    with pytest.raises(InputError, match="holds no class/file"):
        tasks.from_folder(tmp_path / "ann")


# ------------------------------------------------------------------------------- what is refused


REFUSED = {
    "5 entries for 90 samples: give one per sample": lambda: tasks.from_arrays(X, Y, OWNER[:5]),
    r"test is a tensor|test is a Tensor: give \(inputs, targets, client\)": lambda: (
        tasks.from_arrays(X, Y, OWNER, test=torch.zeros(1))
    ),
    "no column 'age': its columns are 'who'": lambda: tasks.from_frame(
        COLUMNS, client="who", target="age"
    ),
    "row 1, column 'a' holds nothing": lambda: tasks.from_frame(
        {"who": ["p", "p"], "a": [1.0, None], "y": [0, 1]}, client="who", target="y"
    ),
    "column 'b' holds 'x', which is no number": lambda: tasks.from_frame(
        {"who": ["p", "p"], "a": [1.0, 2.0], "b": ["x", "y"], "y": [0, 1]}, client="who", target="y"
    ),
    "no columns are left": lambda: tasks.from_frame(
        {"who": ["p", "p"], "y": [0, 1]}, client="who", target="y"
    ),
    "from_arrays, or a file to text_csv": lambda: tasks.from_frame(
        COLUMNS, client="who", target="label", loss="next_token"
    ),
    "datasets is a list: give a mapping": lambda: tasks.from_datasets([tensors(np.arange(3))]),
    "client 'ann' in datasets is empty": lambda: tasks.from_datasets({"ann": []}),
    "client 'ann' in datasets has no length": lambda: tasks.from_datasets({"ann": iter([])}),
    "say where inputs and target are": lambda: tasks.from_datasets(
        {"ann": [{"picture": [1.0], "label": 0}]}
    ),
    "targets hold 'a': loss='mse' takes numbers": lambda: tasks.from_arrays(
        [[1.0]], ["a"], ["p"], loss="mse"
    ),
    "targets hold 'no': loss='mse' takes numbers": lambda: tasks.from_datasets(
        {"ann": [([0.0], "no")]}, loss="mse"
    ),
    "holds? 'x': loss='next_token' takes token ids": lambda: tasks.from_datasets(
        {"ann": [("a b c", "x")]}, loss="next_token"
    ),
    "texts stand alone": lambda: tasks.from_datasets({"ann": [(("a", "b"), 0)]}),
    "is no folder": lambda: tasks.from_folder("nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_used_is_named_with_the_remedy(message) -> None:
    with pytest.raises(InputError, match=message):
        REFUSED[message]()


def test_training_on_lazy_and_held_samples_gives_the_same_bits() -> None:
    settings = LocalTraining(epochs=2, batch_size=8)
    one, other = (
        run(fresh(MLP(3, 3), seed=1), source(), [0.5, 1.0, 1.0], rounds=2, training=settings)
        for source in (SOURCES["datasets"], SOURCES["tensors"])
    )
    np.testing.assert_array_equal(one.test_metric, other.test_metric)
    for name, weights in one.weights.items():
        assert torch.equal(weights, other.weights[name])
