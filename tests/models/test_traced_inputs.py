"""Modules of several inputs, by name or by position, become supernets as those of one do."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hasa_opt import federated, tasks
from hasa_opt.errors import InputError
from hasa_opt.models import Supernet, extract, fresh, scatter
from hasa_opt.models.inputs import Inputs, each, predict

GENERATOR = torch.Generator().manual_seed(0)
TOKENS = torch.randint(1, 9, (4, 6), generator=GENERATOR)
MASK = torch.arange(6) < torch.tensor([6, 3, 4, 1])[:, None]


class Attending(nn.Module):
    """Attention to the tokens that a mask lets through, then their mean."""

    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
        seen = mask[..., None].to(x.dtype)
        return self.head((x * seen).sum(1) / seen.sum(1))


class Both(nn.Module):
    """An image and some numbers, which no operation compares but by their rows."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = nn.Conv2d(1, 6, 3), nn.Linear(3, 4)
        self.head = nn.Linear(10, 2)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        seen = self.image(image).relu().mean((2, 3))
        return self.head(torch.cat([seen, self.table(table).relu()], dim=1))


BOTH = {
    "image": torch.randn(4, 1, 5, 5, generator=GENERATOR),
    "table": torch.randn(4, 3, generator=GENERATOR),
}
KINDS: dict[str, tuple[Callable[[], nn.Module], Inputs, dict[str, int]]] = {
    "by name": (Attending, {"mask": MASK, "tokens": TOKENS}, {"embedding": 8, "attention": 4}),
    "by position": (Attending, (TOKENS, MASK), {"embedding": 8, "attention": 4}),
    "of two kinds": (Both, BOTH, {"image": 6, "table": 4}),
}


@cache
def traced(kind: str) -> tuple[nn.Module, Supernet]:
    build, inputs, _ = KINDS[kind]
    torch.manual_seed(1)
    module = build().eval()
    return module, Supernet(module, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_full_width_is_the_module_and_a_subnet_the_masked_module(kind: str) -> None:
    (module, supernet), (_, inputs, sizes) = traced(kind), KINDS[kind]
    assert supernet.sizes == sizes
    assert torch.equal(predict(supernet, inputs), predict(module, inputs))
    module, subnet, empty = deepcopy(module), extract(supernet, 0.5), extract(supernet, 1.0)
    empty.load_state_dict({name: torch.zeros_like(t) for name, t in module.state_dict().items()})
    module.load_state_dict(scatter(empty, 0.5, subnet.state_dict()))
    torch.testing.assert_close(predict(subnet.eval(), inputs), predict(module, inputs))


def test_batch_and_time_vary_together() -> None:
    _, supernet = traced("by name")
    shorter = supernet(mask=MASK[:1, :2], tokens=TOKENS[:1, :2])
    assert shorter.shape == (1, 3)
    with pytest.raises(InputError, match=r"reads inputs of 'mask': \('any', 'any'\), 'tokens'"):
        supernet(tokens=TOKENS, mask=MASK[:, :2])
    with pytest.raises(InputError, match="not an input of shape"):
        supernet(TOKENS)
    with pytest.raises(InputError, match=r"not inputs of 0: .*, 1: "):
        supernet(TOKENS, MASK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_width_costs_is_measured_on_the_example(kind: str) -> None:
    profile = traced(kind)[1].profile([0.5])
    assert profile.batch_size == 4
    assert profile.flops[0] < profile.flops[1]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({}, "must be a batch of samples"),
        ({"tokens": TOKENS, "mask": 1}, "must be a batch of samples"),
        ((TOKENS, MASK[:2]), r"has \[4, 2\] rows"),
        ({"tokens": TOKENS, "masks": MASK}, "cannot process the example input, inputs of 'tokens'"),
    ],
)
def test_examples_are_checked(example: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Supernet(Attending(), example)


class BranchOnMaskTime(Attending):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        scores = super().forward(tokens, mask)
        return scores * 2 if mask.shape[1] > 4 else scores


@pytest.mark.slow
def test_a_branch_on_the_shape_of_any_input_is_refused() -> None:
    with pytest.raises(InputError, match="must not branch on the shape of its input"):
        Supernet(BranchOnMaskTime(), {"tokens": TOKENS, "mask": MASK})


class OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x).relu()).squeeze(-1)


def test_one_number_for_each_sample_needs_no_column() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(90, 3)).astype(np.float32)
    task = tasks.from_arrays(features, features[:, 0], np.arange(90) % 3, loss="mse")
    supernet = fresh(Supernet(OneNumber(), task.train[0].inputs), seed=0)
    assert (supernet.n_outputs, supernet.sizes) == (1, {"body": 16})
    training = federated.LocalTraining(epochs=5, batch_size=8, learning_rate=0.01)
    history = federated.run(supernet, task, [0.5, 1.0, 1.0], rounds=4, training=training)
    assert history.final_metric.mean() < 0.2 * features[:, 0].var()


@pytest.mark.slow
def test_a_model_of_transformers_reads_its_attention_mask() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=8, num_labels=3,
    )  # fmt: skip
    module = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": TOKENS, "attention_mask": MASK.long()}
    supernet = Supernet(module, inputs)
    with torch.no_grad():
        torch.testing.assert_close(supernet(**inputs), module(**inputs).logits)
        subnet = extract(supernet, 0.5).eval()
        hidden = {**inputs, "input_ids": torch.where(MASK, TOKENS, 1)}
        torch.testing.assert_close(subnet(**inputs), subnet(**hidden))
        shown = {**inputs, "attention_mask": torch.ones_like(TOKENS)}
        assert not torch.allclose(subnet(**inputs), subnet(**shown))


@pytest.mark.slow
def test_a_run_trains_on_several_inputs() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, size=(240, 6))
    mask = np.arange(6) < rng.integers(2, 7, size=(240, 1))
    label = ((tokens == 3) & mask).any(axis=1).astype(int)
    owner = np.arange(240) % 3
    task = tasks.from_arrays({"tokens": tokens, "mask": mask}, label, owner)
    supernet = fresh(Supernet(Attending(2), each(lambda part: part[:2], task.train[0].inputs)), 0)
    training = federated.LocalTraining(batch_size=8, learning_rate=0.01)
    history = federated.run(supernet, task, [0.5, 1.0, 1.0], rounds=4, training=training)
    constant = max(label.mean(), 1 - label.mean())
    assert history.final_accuracy.mean() > constant + 0.1
