"""A model whose outputs do not match the targets is refused beforehand, for the right reason."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TIMES
from torch import Tensor, nn
from torch.nn import functional

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.federated import run
from hasa_opt.models import Cut, LSTMLanguageModel, Supernet, SupernetModel, fresh
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)


class Segmenter(SupernetModel):
    """A class for each pixel; the classes come last, or right after the samples."""

    def __init__(self, hidden: int, classes: int, last: bool, bias: bool = True) -> None:
        super().__init__({"hidden": hidden}, classes)
        self.last, self.bias = last, bias
        self.body = nn.Conv2d(1, hidden, 3, padding=1)
        self.head = nn.Conv2d(hidden, classes, 1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(images).relu())
        return scores.movedim(1, -1) if self.last else scores

    def cuts(self) -> Mapping[str, tuple[Cut | None, ...]]:
        hidden = Cut("hidden")
        cut = {
            "body.weight": (hidden, None, None, None),
            "body.bias": (hidden,),
            "head.weight": (None, hidden, None, None),
        }
        return cut | ({"head.bias": (None,)} if self.bias else {})

    def build(self, sizes: Mapping[str, int]) -> Self:
        return type(self)(sizes["hidden"], self.n_outputs, self.last, self.bias)


def pixels(height: int, width: int, classes: int) -> Task:
    """The class of a pixel is its row's, so that height is no width."""

    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(height)[:, None].expand(height, width) % classes
        images = rows / classes + torch.rand(n, 1, height, width, generator=generator)
        return Split(images, rows.expand(n, height, width).contiguous())

    parts = [tuple(split(5, 10 * part + row) for row in range(2)) for part in range(3)]
    counts = np.ones((2, classes), dtype=np.int64)
    return Task("pixels", ("a", "b"), *parts, counts=counts, n_outputs=classes)


def test_classes_after_the_samples_are_refused_though_all_sizes_are_equal() -> None:
    model = fresh(Segmenter(4, 3, last=False), seed=1)
    words = r"shape \(1, 3, 3, 3\), have the 3 classes on axis 1: .* end with \.movedim\(1, -1\)"
    with pytest.raises(InputError, match=words):
        run(model, pixels(3, 3, 3), [0.5, 1.0], rounds=1)
    done = run(fresh(Segmenter(4, 3, last=True), seed=1), pixels(3, 3, 3), [0.5, 1.0], rounds=1)
    assert np.isfinite(done.train_loss).all()


@pytest.mark.fuzz
@settings(max_examples=15 * TIMES, deadline=None)
@given(
    height=st.integers(2, 4),
    width=st.integers(2, 4),
    classes=st.integers(2, 4),
    last=st.booleans(),
    bias=st.booleans(),
)
def test_the_axis_of_the_classes_is_found_whatever_the_sizes(
    height: int, width: int, classes: int, last: bool, bias: bool
) -> None:
    model, task = fresh(Segmenter(4, classes, last, bias), seed=1), pixels(height, width, classes)
    if last:
        run(model, task, [0.5, 1.0], rounds=1)
    else:
        with pytest.raises(InputError, match=f"the {classes} classes on axis 1: "):
            run(model, task, [0.5, 1.0], rounds=1)


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (3, 4), (4, 5)])
def test_a_traced_module_with_the_classes_on_another_axis_is_refused(size: tuple[int, int]) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    model = Supernet(module, torch.zeros(2, 1, *size))
    with pytest.raises(InputError, match="the 3 classes on axis 1"):
        run(model, pixels(*size, 3), [0.5, 1.0], rounds=1)


@pytest.mark.parametrize("last", [nn.Softmax, nn.LogSoftmax])
def test_shares_of_classes_on_another_axis_are_refused(last: type[nn.Module]) -> None:
    """Every weight reaches every share, so that the last layer does not tell the axis."""
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1), last(1)
    model = Supernet(nn.Sequential(*layers), torch.zeros(2, 1, 3, 3))
    with pytest.raises(InputError, match="the 3 classes on axis 1"):
        run(model, pixels(3, 3, 3), [0.5, 1.0], rounds=1)


def test_targets_of_another_shape_are_named() -> None:
    task = pixels(4, 4, 3)
    flat = [
        tuple(Split(split.inputs, split.targets[:, 0, 0]) for split in getattr(task, part))
        for part in ("train", "validation", "test")
    ]
    wrong = Task("flat", ("a", "b"), *flat, counts=task.counts, n_outputs=3)
    words = r"outputs of shape \(1, 4, 4, 3\) for targets of shape \(1,\): .* \(1, 3\), the 3 class"
    with pytest.raises(InputError, match=words):
        run(Segmenter(4, 3, last=True), wrong, [0.5, 1.0], rounds=1)


def test_a_probe_refuses_such_a_model_too() -> None:
    with pytest.raises(InputError, match="the 3 classes on axis 1"):
        hasa.probe(Segmenter(4, 3, last=False), pixels(3, 3, 3), widths=(0.5, 1), rounds=1, seed=0)


class Tied(nn.Module):
    """Its table of words is its output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(6, 4), nn.Linear(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.inner(self.words(tokens)).relu(), self.words.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_as_many_words_as_positions_are_no_reason_to_refuse(tied: bool) -> None:
    tokens = torch.arange(6).repeat(8, 1)
    split = Split(tokens, tokens.roll(-1, 1))
    task = Task("words", ("a",), (split,), (split,), (split,), np.ones((1, 6), dtype=np.int64), 6)
    model = Supernet(Tied(), tokens[:2]) if tied else LSTMLanguageModel(6, 4, 6)
    assert np.isfinite(run(model, task, [1.0], rounds=1).train_loss).all()
