"""A multilayer perceptron whose hidden units can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut
from hasa_opt.models.subnets import check_sizes
from hasa_opt.models.supernet import TaskModel


class MLP(TaskModel):
    """Classifier of flat features: linear layers with ReLU between them.

    Parameters
    ----------
    inputs : int
        Number of features of a sample once it is flattened.
    classes : int
        Number of classes.
    hidden : sequence of int
        Units of each hidden layer (width groups ``hidden0``, ``hidden1``, ...).

    Raises
    ------
    InputError
        If a size is below 1, or there are no hidden layers to cut.
    """

    def __init__(self, inputs: int, classes: int, hidden: Sequence[int] = (64, 64)) -> None:
        if not hidden:
            raise InputError("hidden is empty, but only hidden layers are cut: give at least one")
        check_sizes(inputs=inputs)
        super().__init__({f"hidden{layer}": size for layer, size in enumerate(hidden)}, classes)
        self.inputs = inputs
        lengths = [inputs, *hidden, classes]
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(lengths))

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a classifier for float samples of any shape, flattened."""
        if not inputs.is_floating_point():
            raise InputError(
                f"an MLP reads float features, not {inputs.dtype}: use the model lstm for tokens"
            )
        return cls(inputs[0].numel(), n_outputs, **options)

    def forward(self, features: Tensor) -> Tensor:
        """Classify samples.

        Parameters
        ----------
        features : (batch, ...) float Tensor
            With ``inputs`` numbers per sample.

        Returns
        -------
        (batch, classes) Tensor
            Logits.
        """
        states = features.flatten(1)
        for layer in self.layers[:-1]:
            states = layer(states).relu()
        return self.layers[-1](states)  # type: ignore[no-any-return]

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Cut each layer's rows by its own group and its columns by the group below."""
        units: list[Cut | None] = [None, *map(Cut, self.sizes), None]
        cuts: dict[str, tuple[Cut | None, ...]] = {}
        for layer, (below, above) in enumerate(pairwise(units)):
            cuts[f"layers.{layer}.weight"] = (above, below)
            cuts[f"layers.{layer}.bias"] = (above,)
        return cuts

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same perceptron with other hidden sizes."""
        return type(self)(self.inputs, self.n_outputs, [sizes[group] for group in self.sizes])
