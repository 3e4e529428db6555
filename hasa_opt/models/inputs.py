"""Inputs of a model: one tensor, or several by position or by name, with a sample in each row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Inputs", "describe", "each", "join", "kind", "predict", "tensors"]

Inputs: TypeAlias = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""What a model is called with: ``model(x)``, ``model(*xs)`` or ``model(**xs)``."""


def predict(model: nn.Module, inputs: Inputs) -> Any:
    """Call a model: with one tensor, with several by position, or by name."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of which inputs are made."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs)


def each(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply a function to every tensor of the inputs."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return tuple(map(function, inputs))


def join(several: Sequence[Inputs]) -> Inputs:
    """Put the samples of inputs of one kind behind one another."""
    columns = zip(*map(tensors, several), strict=True)
    return each(lambda _: torch.cat(next(columns)), several[0])


def kind(inputs: Inputs) -> Hashable:
    """Names, types and shapes without the samples: alike for inputs that a model reads alike."""
    names = tuple(inputs) if isinstance(inputs, Mapping) else ()
    return names, *((tensor.dtype, tensor.shape[1:]) for tensor in tensors(inputs))


def describe(inputs: Inputs) -> str:
    """Shapes and types in words, for messages."""
    if isinstance(inputs, Tensor):
        return f"an input of shape {tuple(inputs.shape)} and type {inputs.dtype}"
    names = list(inputs) if isinstance(inputs, Mapping) else range(len(inputs))
    parts = zip(names, tensors(inputs), strict=True)
    return "inputs of " + ", ".join(
        f"{name!r}: {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in parts
    )
