"""Tasks and splits: what becomes what models train on, and what is refused when a task is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import hasa_opt as hasa
from hasa_opt import federated
from hasa_opt.clients.counts import dense
from hasa_opt.errors import InputError
from hasa_opt.models import MLP
from hasa_opt.tasks import Lazy, Split, Task
from hasa_opt.tasks.text import build

PARTS = ("train", "validation", "test")
FEATURES = torch.arange(12.0).reshape(4, 3)
CLASSES = torch.tensor([0, 2, 1, 2])


def make_task(**changes: object) -> Task:
    split = Split(FEATURES, CLASSES)
    parts: dict[str, object] = {
        "name": "t",
        "client_names": ("a", "b"),
        **dict.fromkeys(PARTS, (split, split)),
        "counts": np.ones((2, 4), dtype=np.int64),
        "n_outputs": 4,
    }
    return Task(**{**parts, **changes})  # type: ignore[arg-type]


def labelled(targets: object, part: str = "train", **changes: object) -> Task:
    """A task in which the second client has these targets."""
    other = Split(FEATURES[: len(targets)], targets)
    return make_task(**{part: (Split(FEATURES, CLASSES), other), **changes})


# ------------------------------------------------------------------------------- conversion


def test_a_task_hands_its_training_columns_to_clients() -> None:
    clients = make_task().clients()
    assert clients.samples.tolist() == [4, 4]
    assert clients.names == ("a", "b")
    assert np.array_equal(clients.counts, np.ones((2, 4)))


SAME_INPUTS = {
    "numpy float64": FEATURES.double().numpy(),
    "numpy float16": FEATURES.half().numpy(),
    "lists": FEATURES.tolist(),
    "list of rows": list(FEATURES),
    "list of numpy rows": list(FEATURES.numpy()),
    "objects": FEATURES.numpy().astype(object),
    "nullable frame": pd.DataFrame(FEATURES.numpy()).astype({0: "Int64", 1: "Float64"}),
}
SAME_TARGETS = {
    "lists": CLASSES.tolist(),
    "int32": CLASSES.int(),
    "uint8": CLASSES.to(torch.uint8),
    "numpy": CLASSES.numpy(),
    "numpy int32": CLASSES.numpy().astype(np.int32),
    "numpy uint16": CLASSES.numpy().astype(np.uint16),
    "list of scalars": list(CLASSES),
    "objects": CLASSES.numpy().astype(object),
    "nullable column": pd.Series(CLASSES.numpy(), dtype="Int64"),
    "numpy uint64": CLASSES.numpy().astype(np.uint64),
}


@pytest.mark.parametrize("inputs", SAME_INPUTS.values(), ids=SAME_INPUTS)
def test_inputs_become_float32(inputs) -> None:
    split = Split(inputs, CLASSES)
    assert split.inputs.dtype == torch.float32
    assert torch.equal(split.inputs, FEATURES)


@pytest.mark.parametrize("targets", SAME_TARGETS.values(), ids=SAME_TARGETS)
def test_targets_become_int64(targets) -> None:
    split = Split(FEATURES, targets)
    assert split.targets.dtype == torch.int64
    assert torch.equal(split.targets, CLASSES)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_tokens_become_int64(dtype) -> None:
    tokens = torch.tensor([[3, 1, 0], [2, 2, 1]])
    split = Split(tokens.to(dtype), [[1, 0, -100], [2, 1, -100]])
    assert split.inputs.dtype == torch.int64
    assert torch.equal(split.inputs, tokens)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_tensor_keeps_its_floating_point_type(dtype) -> None:
    assert Split(FEATURES.to(dtype), CLASSES).inputs.dtype == dtype


def test_a_split_is_no_view_of_an_array() -> None:
    table, labels = FEATURES.numpy().copy(), CLASSES.numpy().copy()
    split = Split(table, labels)
    table[:], labels[:] = 7, 3
    assert torch.equal(split.inputs, FEATURES)
    assert torch.equal(split.targets, CLASSES)


COUNTS = [[3, 0, 2], [1, 4, 0]]
SAME_COUNTS = {
    "lists": COUNTS,
    "int32": np.array(COUNTS, dtype=np.int32),
    "whole floats": np.array(COUNTS, dtype=np.float64),
    "sparse": sp.csr_matrix(COUNTS),
}


@pytest.mark.parametrize("counts", SAME_COUNTS.values(), ids=SAME_COUNTS)
def test_counts_become_int64_in_the_order_of_the_clients(counts) -> None:
    task = make_task(counts=counts)
    assert task.counts.dtype == np.int64
    assert dense(task.counts).tolist() == COUNTS
    assert dense(task.clients().counts).tolist() == COUNTS


def test_rows_of_a_frame_are_matched_by_name() -> None:
    pd = pytest.importorskip("pandas")
    for frame in (
        pd.DataFrame(COUNTS),
        pd.DataFrame(COUNTS, index=["a", "b"]),
        pd.DataFrame(COUNTS[::-1], index=["b", "a"]),
    ):
        assert make_task(counts=frame).counts.tolist() == COUNTS
    with pytest.raises(InputError, match="rows for 'a', 'c', but the clients are 'a', 'b'"):
        make_task(counts=pd.DataFrame(COUNTS, index=["a", "c"]))


def test_names_that_are_one_are_refused() -> None:
    assert make_task(client_names=["a ", "b"]).client_names == ("a", "b")
    with pytest.raises(InputError, match="task 't': row 1, client_names: ' a' already names"):
        make_task(client_names=("a", " a"))


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (FEATURES, CLASSES[:3], "4 inputs and 3 targets"),
        (FEATURES, CLASSES.float(), r"targets are torch.float32.*targets.long\(\)"),
        (FEATURES, CLASSES.double().numpy(), "targets are torch.float32"),
        (FEATURES, CLASSES[:, None], r"targets have shape \(4, 1\), a column.*targets\[:, 0\]"),
        (FEATURES, torch.eye(3)[CLASSES], r"one-hot rows: give the classes, targets.argmax\(1\)"),
        (FEATURES, torch.eye(3).long()[CLASSES], r"\(4, 3\) are one-hot rows.*argmax\(1\)"),
        (FEATURES[:, None, :, None], torch.eye(3).long()[CLASSES], "one-hot rows"),
        (FEATURES, torch.tensor(3), "the targets are the number 3"),
        (FEATURES, ["cat", "dog", "cat", "dog"], "targets hold <U3 values"),
        (FEATURES, np.array(["cat", 0, 1, 2], dtype=object), "targets hold 'cat': give numbers"),
        (FEATURES, [0, 1, 2, 10**30], "targets hold 10{30}, which exceeds the largest 64-bit"),
        (FEATURES, np.array([0, 1, 2, 2**63], dtype=np.uint64), f"targets hold {2**63}, which"),
        (
            pd.DataFrame({0: pd.array([1, 2, 3, None], dtype="Int64"), 1: "x"}),
            CLASSES,
            "inputs hold 'x': give numbers",
        ),
        (FEATURES.to_sparse(), CLASSES, r"torch.sparse_coo: give inputs.to_dense\(\)"),
        (FEATURES, CLASSES.to_sparse(), r"torch.sparse_coo: give targets.to_dense\(\)"),
        (FEATURES, [[0], [1, 2], [0], [1]], "targets.*ragged"),
        (FEATURES[:, 0], CLASSES, r"inputs have shape \(4,\).*reshape\(-1, 1\)"),
        (FEATURES > 2, CLASSES, "inputs are torch.bool"),
        (FEATURES.to(torch.complex64), CLASSES, "inputs are torch.complex64"),
        (FEATURES.numpy().astype(complex), CLASSES, "inputs: complex"),
        ([FEATURES[0], FEATURES[1, :2]], CLASSES[:2], "inputs are tensors that do not stack"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), CLASSES, "pixels.*inputs / 255"),
        (np.zeros((4, 8, 8), dtype=np.uint8), CLASSES, "pixels.*inputs / 255"),
    ],
)
def test_a_split_blames_what_is_wrong(inputs, targets, message) -> None:
    with pytest.raises(InputError, match=message):
        Split(inputs, targets)


def test_positions_of_a_sequence_may_look_like_one_hot_rows() -> None:
    tags = torch.tensor([[1, 0], [0, 1]])
    assert torch.equal(Split(torch.tensor([[4, 5], [6, 7]]), tags).targets, tags)
    assert torch.equal(Split(torch.zeros(2, 2, 9), tags).targets, tags)
    assert Split(torch.zeros(2, 1, dtype=torch.int64), tags[:, :1]).targets.shape == (2, 1)


NONE = Split(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client_names": ()}, "no clients"),
        ({"test": ()}, "'test' has 0 entries for 2 clients"),
        ({"train": (Split(FEATURES, CLASSES), NONE)}, "train split of client 'b' is empty"),
        ({"train": Lazy([4, 0], lambda row: NONE)}, "train split of client 'b' is empty"),
        ({"train": Lazy([4, 4, 4], lambda row: Split(FEATURES, CLASSES))}, "'train' has 3 entries"),
        ({"train": ((FEATURES, CLASSES), (FEATURES, CLASSES))}, "client 'a' is a tuple"),
        ({"train": Split(FEATURES, CLASSES)}, r"train Split\(inputs \(4, 3\).* is not a sequence"),
        ({"counts": np.ones((3, 4), dtype=np.int64)}, "'counts' has 3 rows"),
        ({"counts": np.full((2, 4), 0.5)}, r"client|row 0 \('a'\).*whole number"),
        ({"counts": -np.ones((2, 4), dtype=np.int64)}, r"row 0 \('a'\).*-1 is negative"),
        ({"counts": sp.csr_array([[1, -2], [1, 1]])}, "-2 is negative"),
        ({"labels": ("x",)}, "1 labels for 4 outputs"),
        ({"n_outputs": 0}, "n_outputs 0 must be a whole number"),
        ({"n_outputs": 2.5}, "n_outputs 2.5 must be a whole number"),
        ({"loss": "huber"}, "loss 'huber' is not known"),
        ({"metric": "mse"}, "'mse' does not go with the loss 'cross_entropy'"),
        ({"metric": "f1"}, "metric 'f1' is not known"),
        ({"metric": len}, "nobody says whether more of the metric len is better"),
        ({"loss": "next_token"}, r"targets of shape \(4,\) for inputs of shape \(4, 3\)"),
    ],
)
def test_a_task_refuses_parts_that_disagree(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        make_task(**changes)


ENTRIES = {
    "run": lambda task: federated.run(MLP(3, 4), task, [0.5, 0.5], rounds=1),
    "study": lambda task: hasa.Study(task, MLP(3, 4)),
    "probe": lambda task: hasa.probe(MLP(3, 4), task, [0.5, 1.0], 2, 0),
}


@pytest.mark.parametrize("enter", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("given", [[Split(FEATURES, CLASSES)], None, "digits"])
def test_what_is_no_task_is_refused_wherever_a_task_goes(enter, given) -> None:
    with pytest.raises(InputError, match=f"task is a {type(given).__name__}: give a"):
        enter(given)


# ------------------------------------------------------------------------------- types of inputs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_task_trains_models_of_the_type_of_its_inputs(dtype) -> None:
    split = Split(FEATURES.to(dtype), CLASSES)
    task = make_task(**dict.fromkeys(PARTS, (split, split)))
    history = federated.run(MLP(3, 4).to(dtype), task, [0.5, 1.0], rounds=1)
    assert {tensor.dtype for tensor in history.weights.values()} == {dtype}
    with pytest.raises(InputError, match=f"the model's weights are torch.float32.*{dtype}"):
        federated.run(MLP(3, 4), task, [0.5, 1.0], rounds=1)


@given(st.sampled_from([torch.bfloat16, torch.float32]), st.integers(0, 3), st.integers(0, 2))
def test_the_checksum_of_a_task_tells_inputs_apart(dtype, row, column) -> None:
    def checksum(inputs: Tensor) -> str:
        split = Split(inputs, CLASSES)
        return make_task(**dict.fromkeys(PARTS, (split, split))).checksum

    inputs = FEATURES.to(dtype)
    changed = inputs.clone()
    changed[row, column] += 0.5
    assert checksum(inputs) == checksum(inputs.clone())
    assert checksum(inputs) != checksum(changed)


# ------------------------------------------------------------------------------- negative targets


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("targets", "wrong"), [([-1, 1, 1, -1], -1), ([0, -7, 1, 1], -7), ([0, 1, -100, -2], -2)]
)
def test_labels_that_are_no_classes_are_refused_by_client(part, targets, wrong) -> None:
    with pytest.raises(InputError, match=f"{part} split of client 'b' has the target {wrong},"):
        labelled(targets, part)


def test_the_target_beyond_the_outputs_is_refused_by_client() -> None:
    with pytest.raises(InputError, match="test split of client 'b' has the target 4 for 4 outputs"):
        labelled([0, 4], "test")


def test_nothing_to_predict_passes_everywhere() -> None:
    assert labelled([0, -100, 1, -100]).train[1].targets.tolist() == [0, -100, 1, -100]


TOKENS = torch.tensor([[5, 1, 3, 0], [2, 3, 0, 0]])  # 1 is unknown, 0 fills up
FOLLOWING = torch.tensor([[-1, 3, 2, -100], [3, -1, -100, -100]])


def sequences(inputs: Tensor, targets: Tensor, **changes: object) -> Task:
    split = Split(inputs, targets)
    return make_task(**dict.fromkeys(PARTS, (split, split)), n_outputs=6, **changes)


def test_a_word_outside_the_vocabulary_passes_in_next_token_prediction() -> None:
    assert torch.equal(sequences(TOKENS, FOLLOWING).train[0].targets, FOLLOWING)
    assert sequences(TOKENS, FOLLOWING, loss="next_token").loss == "next_token"
    with pytest.raises(InputError, match="has the target -1, which is no class"):
        sequences(TOKENS, FOLLOWING, loss="cross_entropy")
    with pytest.raises(InputError, match="has the target -7"):
        sequences(TOKENS, FOLLOWING.masked_fill(FOLLOWING == -1, -7), loss="next_token")


def test_tags_of_words_are_classes() -> None:
    tags = torch.tensor([[-1, 1, 1, -100], [1, -1, -100, -100]])
    with pytest.raises(InputError, match=r"the target -1.*needs loss='next_token'"):
        sequences(TOKENS, tags)


def test_a_lazy_split_is_checked_when_it_is_loaded() -> None:
    splits = [Split(FEATURES, CLASSES), Split(FEATURES, [-1, 1, 1, -1])]
    task = make_task(train=Lazy([4, 4], splits.__getitem__))
    assert len(task.train[0]) == 4
    for read in (lambda: task.train[1], lambda: task.train[1:][0], lambda: task.train[-1]):
        with pytest.raises(InputError, match="train split of client 'b' has the target -1"):
            read()
    given = replace(task, train=Lazy([4, 4], lambda row: (FEATURES, CLASSES)))
    with pytest.raises(InputError, match="client 0 is a tuple"):
        given.train[0]


# ------------------------------------------------------------------------------- nothing to learn


def test_texts_of_rare_words_alone_are_refused_with_the_remedy() -> None:
    texts = {
        client: [f"word{client}{row} other{client}{row}" for row in range(5)] for client in "ab"
    }
    with pytest.raises(InputError, match=r"nothing to learn.*lower min_count"):
        build("rare", texts, min_count=3)
    assert build("rare", texts, min_count=1).n_outputs > 2


def test_training_data_without_a_label_are_refused() -> None:
    hidden = Split(FEATURES, [-100] * 4)
    with pytest.raises(InputError, match="no training target has a known label"):
        make_task(train=(hidden, hidden))
    assert len(make_task(train=(hidden, Split(FEATURES, CLASSES)), test=(hidden, hidden))) == 2


# ------------------------------------------------------------------------------- the kinds


WAYS = {
    "list": lambda tensor: tensor.tolist(),
    "numpy": lambda tensor: tensor.numpy(),
    "rows": list,
    "tensor": lambda tensor: tensor,
}
NARROW = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@given(
    st.sampled_from(sorted(WAYS)),
    st.sampled_from(sorted(WAYS)),
    st.sampled_from(NARROW),
    st.lists(st.integers(0, 100), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_the_way_that_data_come_in_changes_nothing(inputs_as, targets_as, dtype, labels, columns):
    features = torch.arange(len(labels) * columns, dtype=torch.float32).reshape(-1, columns)
    targets = torch.tensor(labels)
    split = Split(WAYS[inputs_as](features), WAYS[targets_as](targets.to(dtype)))
    assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
    assert torch.equal(split.inputs, features)
    assert torch.equal(split.targets, targets)


@given(st.lists(st.integers(-120, 8), min_size=1, max_size=6), st.integers(1, 6))
def test_a_task_has_classes_and_nothing_else(labels, n_outputs):
    """Whatever the labels are, a task is made of classes and -100 alone, or refused by client."""
    allowed = {-100, *range(n_outputs)}
    features = torch.zeros(len(labels), 2)
    split, fine = Split(features, labels), Split(FEATURES, [0] * 4)
    parts = dict.fromkeys(("validation", "test"), (fine, fine))
    if set(labels) <= allowed:
        task = make_task(**parts, train=(fine, split), n_outputs=n_outputs)
        assert task.train[1].targets.tolist() == labels
    else:
        with pytest.raises(InputError, match="client 'b' has the target") as refused:
            make_task(**parts, train=(fine, split), n_outputs=n_outputs)
        named = int(str(refused.value).split("has the target ")[1].split()[0].rstrip(","))
        assert named in set(labels) - allowed


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=6), min_size=1, max_size=5),
    st.integers(2, 9),
)
def test_texts_are_told_from_tags_by_what_follows(texts, vocabulary):
    """Targets that are the next tokens may be outside a vocabulary, without anybody saying so."""
    length = max(map(len, texts)) - 1
    inputs = torch.zeros(len(texts), length, dtype=torch.int64)
    targets = torch.full_like(inputs, -100)
    for row, tokens in enumerate(texts):
        ids = [token if token < vocabulary else None for token in tokens]
        inputs[row, : len(ids) - 1] = torch.tensor([1 if i is None else i for i in ids[:-1]])
        targets[row, : len(ids) - 1] = torch.tensor([-1 if i is None else i for i in ids[1:]])
    fine = Split(FEATURES, [0] * 4)
    parts = dict.fromkeys(PARTS, (fine, Split(inputs, targets)))
    assert len(make_task(**parts, n_outputs=vocabulary)) == 2
