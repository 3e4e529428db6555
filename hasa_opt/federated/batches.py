"""Batches of a client's split, windows of clients, and the loss that all share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hasa_opt.federated.settings import LocalTraining
from hasa_opt.models.inputs import Inputs, each, predict
from hasa_opt.models.targets import counted, cross_entropy, known
from hasa_opt.tasks.learning import CLASSES, LearningProblem, Summed
from hasa_opt.tasks.splits import Split

Item = TypeVar("Item")


def windowed(
    items: Iterable[Item], size: Callable[[Item], int], most_bytes: int, most: int | None = None
) -> Iterator[list[Item]]:
    """Take as many items at a time as may be held in memory; one always may.

    Parameters
    ----------
    items : iterable
        Drawn one by one, as they are needed.
    size : callable
        Bytes of an item.
    most_bytes : int
        A window ends with the item that reaches them.
    most : int, optional
        Most items of a window.
    """
    window: list[Item] = []
    held = 0
    for item in items:
        window.append(item)
        held += size(item)
        if len(window) == most or held >= most_bytes:
            yield window
            window, held = [], 0
    if window:
        yield window


def orders(samples: int, settings: LocalTraining, seed: int) -> Iterator[Tensor]:
    """Shuffle a client's samples for each epoch: indices of those that train, int64."""
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        yield torch.randperm(samples, generator=shuffle)[: settings.used(samples)]


def batches(
    split: Split, batch_size: int, order: Tensor, device: torch.device
) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield (inputs, targets) batches of the samples in the given order.

    Sequences are cut after the last column that is not padding in the whole batch. The models read
    from left to right, so that no prediction changes.

    Parameters
    ----------
    split : Split
        The client's samples.
    batch_size : int
        Samples per batch; the last batch may be smaller.
    order : (n,) int64 tensor
        Indices of the samples.
    device : torch.device
        Where the batches go.
    """
    longest = lengths(split.targets) if split.is_padded else None
    for batch in torch.split(order, batch_size) if len(order) else ():
        part = split.take(batch)
        inputs, targets = part.inputs, part.targets
        if longest is not None:
            columns = max(1, int(longest[batch].max()))
            inputs, targets = part.tensor[:, :columns], targets[:, :columns]
        yield each(lambda given: given.to(device), inputs), targets.to(device)


def epochs(
    split: Split, settings: LocalTraining, seed: int, device: torch.device
) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield the batches of all epochs of a client's training; see :func:`batches`."""
    for order in orders(len(split), settings, seed):
        yield from batches(split, settings.batch_size, order, device)


def lengths(targets: Tensor) -> Tensor:
    """Length of each sequence without the padding at its end, shape (n,), int64."""
    positions = torch.arange(1, targets.shape[1] + 1, device=targets.device)
    return (positions * counted(targets)).amax(dim=1)


def known_logits(
    model: nn.Module, head: nn.Linear | None, inputs: Inputs, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Predict the targets of a batch that have a known label; negative ones have none.

    With the ``head`` that :func:`output_layer` found, only those positions are predicted. On text
    the output layer and its loss take most of a step, and about a third of the positions of the
    task "docstrings" has no target.

    Returns
    -------
    logits : (n_known, n_outputs) tensor
    labels : (n_known,) int64 tensor
    """
    labels = targets.flatten()
    labelled = known(labels)
    if head is None:
        logits = predict(model, inputs).flatten(0, -2)
        return (logits, labels) if bool(labelled.all()) else (logits[labelled], labels[labelled])
    positions = labelled.nonzero().squeeze(1)
    with only_rows(head, positions):
        return predict(model, inputs), labels[positions]


def summed_loss(
    model: nn.Module,
    head: nn.Linear | None,
    inputs: Inputs,
    targets: Tensor,
    problem: LearningProblem = CLASSES,
) -> Summed:
    """Sum the loss over a batch, of classes over the known targets alone."""
    if not problem.has_classes(targets):
        return problem.summed_loss(predict(model, inputs), targets)
    logits, labels = known_logits(model, head, inputs, targets)
    return Summed(cross_entropy(logits, labels, "sum"), len(labels))


@contextmanager
def only_rows(head: nn.Linear, rows: Tensor) -> Iterator[None]:
    """Within the block, a linear layer reads only some rows of its flattened input.

    Parameters
    ----------
    head : torch.nn.Linear
        Given (..., n_inputs), it returns (n_rows, n_outputs).
    rows : (n_rows,) int64 tensor
        Indices of the rows.
    """
    handle = head.register_forward_pre_hook(
        lambda _, args: (args[0].flatten(0, -2).index_select(0, rows),)
    )
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def output_layer(model: nn.Module, split: Split) -> nn.Linear | None:
    """Find the linear layer that gives what the model returns, position by position.

    None for targets without positions, or if the model ends in another operation.
    """
    if split.targets.dim() < 2:
        return None
    calls: list[tuple[nn.Module, tuple[Tensor, ...], Tensor]] = []
    handles = [
        module.register_forward_hook(lambda *call: calls.append(call))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    was_training = model.training
    try:
        device = next(model.parameters()).device
        result = predict(model.eval(), each(lambda part: part[:1].to(device), split.inputs))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    if not calls:
        return None
    layer, (hidden,), output = calls[-1]
    alone = sum(module is layer for module, _, _ in calls) == 1
    fits = output is result and hidden.shape[:-1] == (1, *split.targets.shape[1:])
    return layer if isinstance(layer, nn.Linear) and alone and fits else None


def scaled_mask(shape: Sequence[int], p: float, generator: torch.Generator) -> Tensor:
    """Draw zeros with probability p and 1 / (1 - p) otherwise, on the CPU."""
    keep = 1 - p
    return torch.empty(tuple(shape)).bernoulli_(keep, generator=generator).div_(keep or 1)


class _OnDropout(TorchFunctionMode, ABC):
    """Replaces ``functional.dropout`` and lets all other functions through."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace dropout."""
        called = self._called if func is functional.dropout else func
        return called(*args, **(kwargs or {}))

    def _called(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        return self._drop(input, p) if training and p > 0 else input

    @abstractmethod
    def _drop(self, input: Tensor, p: float) -> Tensor:
        """What dropout gives."""


class ClientDropout(_OnDropout):
    """Draws the masks of ``functional.dropout`` from a generator of the client.

    PyTorch's own order of drawing depends on the memory layout and on the device, so a client
    that is trained together with others could not repeat it.

    Parameters
    ----------
    seed : int
        Seed of the generator, which stays on the CPU.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self.used = False

    def _drop(self, input: Tensor, p: float) -> Tensor:
        self.used = True
        return input * scaled_mask(input.shape, p, self._generator).to(input)


class DropoutShapes(_OnDropout):
    """Notes the shapes of what ``functional.dropout`` is given, and drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def _drop(self, input: Tensor, p: float) -> Tensor:
        self.shapes.append(tuple(input.shape))
        return input


class StackedDropout:
    """Applies to folded activations the masks that each client draws when it trains alone.

    Parameters
    ----------
    seeds : sequence of int
        Seeds of the clients' generators.
    shapes_for : callable
        From the length of a sequence to the shapes that dropout is given for it, call by call.
    """

    def __init__(
        self, seeds: Sequence[int], shapes_for: Callable[[int], list[tuple[int, ...]]]
    ) -> None:
        self._seeds = seeds
        self._shapes_for = cache(shapes_for)
        self._inputs: Sequence[tuple[int, ...]] = ()
        self._call = 0

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in self._seeds]

    def begin(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Begin a step with each client's (samples,) or (samples, length)."""
        self._inputs, self._call = shapes, 0

    def __call__(self, folded: Tensor, p: float) -> Tensor:
        """Drop entries of activations of shape (clients * batch, ...)."""
        masks = torch.ones(len(self._inputs), max(n for n, *_ in self._inputs), *folded.shape[1:])
        longest = max(shape[1:] for shape in self._inputs)
        for client, (samples, *length) in enumerate(self._inputs):
            rest: tuple[int, ...] = tuple(folded.shape[1:])
            if tuple(length) != longest:
                rest = self._shapes_for(*length)[self._call][1:]
            mask = scaled_mask((samples, *rest), p, self._generators[client])
            masks[client][tuple(map(slice, mask.shape))] = mask
        self._call += 1
        return folded * masks.flatten(0, 1).to(folded)
