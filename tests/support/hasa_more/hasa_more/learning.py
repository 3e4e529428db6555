"""What the learning side takes: a model, a task, a kind of average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from hasa_opt.models import Cut, TaskModel
from hasa_opt.tasks import Split, Task

__all__ = ["Shallow", "coins", "damped"]


class Shallow(TaskModel):
    """One hidden layer, whose units are the width group ``hidden``."""

    def __init__(self, inputs: int, classes: int, hidden: int = 20) -> None:
        super().__init__({"hidden": hidden}, classes)
        self.inputs = inputs
        self.below = nn.Linear(inputs, hidden)
        self.above = nn.Linear(hidden, classes)

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a classifier for float samples of any shape, flattened."""
        return cls(inputs[0].numel(), n_outputs, **options)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, ``(batch, classes)``."""
        logits: Tensor = self.above(torch.tanh(self.below(features.flatten(1))))
        return logits

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Rows of the first layer, columns of the second."""
        hidden = Cut("hidden")
        return {
            "below.weight": (hidden, None),
            "below.bias": (hidden,),
            "above.weight": (None, hidden),
            "above.bias": (None,),
        }

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same model with another number of hidden units."""
        return type(self)(self.inputs, self.n_outputs, sizes["hidden"])


def coins(*, seed: int = 0) -> Task:
    """Which of two coins was thrown? Ten throws a sample, three clients."""
    generator = torch.Generator().manual_seed(seed)

    def split(size: int) -> Split:
        coin = torch.randint(0, 2, (size,), generator=generator)
        chance = torch.where(coin == 1, 0.7, 0.4)[:, None].expand(size, 10)
        return Split(torch.bernoulli(chance, generator=generator), coin)

    train, validation, test = (
        [split(size) for size in sizes] for sizes in ((60, 40, 20), (20, 20, 20), (30, 30, 30))
    )
    counts = torch.stack([part.targets.bincount(minlength=2) for part in train]).numpy()
    return Task("coins", ("a", "b", "c"), train, validation, test, counts=counts, n_outputs=2)


def damped(sums: Tensor, held: Tensor, total: float, server: Tensor) -> Tensor:
    """Half of the way from the server's values to the average of those that hold them."""
    return (server + sums / held) / 2
