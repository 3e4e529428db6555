"""Stacks: one subnet with the weights of many clients, and whether a model can be stacked.

There are two ways. *Folded*: the model runs once on the samples of all clients, one client after
another along the batch, and the layers of :data:`hasa_opt.federated.stacked_layers.LAYERS` apply
each client's own weights. *Mapped*: ``torch.func.vmap`` maps the whole model over the clients; it
takes more models and is slower. Neither is taken on trust: see :func:`find_stack`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hasa_opt.federated.batches import DropoutShapes, only_rows, output_layer
from hasa_opt.federated.jobs import Job
from hasa_opt.federated.stacked_layers import LAYERS, CannotStackError, linear, unfold
from hasa_opt.federated.units import Extraction, Mould, Recent
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.targets import counted, cross_entropy

FEW_LOGITS = 2**15
"""Logits of one client in a step above which its output layer is computed by itself, so that they
stay in the processor's cache. Measured with ten clients, both ways took as long up to 2**16 logits;
by itself took 0.95 of the time at 2**17, and 0.8 at 2**19."""

OTHER = 0.9
"""Factor that makes the weights of a second client, where a stack is tried; any but 1 would do."""

Masks = Callable[[Tensor, float], Tensor]
"""Applies dropout to folded activations; it is given them and the probability."""


class Stack(Protocol):
    """A subnet that holds the weights of several clients."""

    def __init__(self, mould: Mould, head: nn.Linear | None) -> None: ...

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put in weights of shape (n_clients, ...), and return the parameters that share them."""

    def predict(self, inputs: Tensor, masks: Masks) -> Tensor:
        """Predict.

        Parameters
        ----------
        inputs : (n_clients, batch, ...) tensor
        masks : callable
            Applies dropout.

        Returns
        -------
        (n_clients, n_positions, n_outputs) tensor
            Logits of all positions of all samples.
        """

    def losses(self, inputs: Tensor, targets: Tensor, masks: Masks) -> Tensor:
        """Sum each client's loss, shape (n_clients,).

        Parameters
        ----------
        inputs : (n_clients, batch, ...) tensor
        targets : (n_clients, batch, ...) int64 tensor
            IGNORED ones do not enter the loss.
        masks : callable
            Applies dropout.
        """


class Folded:
    """Runs the model once on the folded samples of all clients."""

    def __init__(self, mould: Mould, head: nn.Linear | None) -> None:
        if mould.buffers:
            raise CannotStackError(f"{mould.buffers} are not parameters")
        self._mould, self._head = mould, head

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put in stacked weights."""
        held = self._mould.fill(tensors)
        self._stacked = {id(parameter) for parameter in held.values()}
        return held

    def predict(self, inputs: Tensor, masks: Masks) -> Tensor:
        """Predict all clients' samples."""
        with _Folding(len(inputs), self._stacked, masks):
            logits: Tensor = self._mould.model(inputs.flatten(0, 1))
        return logits.reshape(len(inputs), -1, logits.shape[-1])

    def losses(self, inputs: Tensor, targets: Tensor, masks: Masks) -> Tensor:
        """Sum each client's loss; a known head predicts the positions with a target alone."""
        targets = targets.flatten(1)
        if self._head is None:
            return _summed(self.predict(inputs, masks), targets)
        known = counted(targets)
        counts = known.sum(1)
        known_first = (~known).to(torch.uint8).argsort(dim=1, stable=True)
        rows = known_first[:, : max(1, int(counts.max()))]
        targets = targets.gather(1, rows)
        clients, positions = known.shape
        below = torch.arange(0, clients * positions, positions, device=rows.device)
        folding = _Folding(clients, self._stacked, masks, self._head)
        with only_rows(self._head, (rows + below.unsqueeze(1)).flatten()), folding:
            hidden = self._mould.model(inputs.flatten(0, 1))
        weight, bias = self._head.weight, self._head.bias
        if rows.shape[1] * weight.shape[1] < FEW_LOGITS:
            logits = linear(clients, hidden, weight, bias)
            return _summed(logits.view(clients, -1, logits.shape[-1]), targets)
        biases = [None] * clients if bias is None else bias.unbind()
        states = hidden.view(clients, rows.shape[1], -1)
        losses = []
        for client, count in enumerate(counts.tolist()):
            alone = functional.linear(states[client, :count], weight[client], biases[client])
            losses.append(cross_entropy(alone, targets[client, :count], "sum"))
        return torch.stack(losses)


def _summed(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum the cross entropy over each client's targets."""
    return cross_entropy(logits, targets).view(targets.shape).sum(1)


class _Folding(TorchFunctionMode):
    """Replaces the functions that are given stacked parameters, and dropout."""

    def __init__(
        self, clients: int, stacked: set[int], masks: Masks, skipped: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self._skipped = None if skipped is None else skipped.weight
        self._clients, self._stacked, self._masks = clients, stacked, masks

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the stacked counterpart where there are stacked parameters."""
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if not self._concerns(args) and not self._concerns(tuple(kwargs.values())):
            return func(*args, **kwargs)
        if func is functional.linear and args[1] is self._skipped:
            return args[0]
        if func in LAYERS:
            return LAYERS[func](self._clients, *args, **kwargs)
        if isinstance(func, FunctionType):  # Made of others, which come by here in their turn.
            with self:
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            raise CannotStackError(f"no stacked counterpart of {func}")
        return result

    def _concerns(self, args: tuple[Any, ...]) -> bool:
        """Whether one of the arguments is, or lists, stacked parameters."""
        return any(
            id(arg) in self._stacked or (type(arg) in (list, tuple) and self._concerns(tuple(arg)))
            for arg in args
        )

    def _dropout(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        return self._masks(input, p) if training and p > 0 else input


class Mapped:
    """Maps the model over the clients with vmap; there is no dropout."""

    def __init__(self, mould: Mould, head: nn.Linear | None) -> None:
        self._mould = mould

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put in stacked weights."""
        self._held = self._mould.wrap(tensors)
        return self._held

    def losses(self, inputs: Tensor, targets: Tensor, masks: Masks) -> Tensor:
        """Sum each client's loss."""
        return _summed(self.predict(inputs, masks), targets.flatten(1))

    def predict(self, inputs: Tensor, masks: Masks) -> Tensor:
        """Predict all clients' samples."""

        def of_one(weights: dict[str, Tensor], samples: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._mould.model, weights, (samples,))
            return logits.flatten(0, -2)

        return vmap(of_one, randomness="error")(self._held, inputs)


STACKS: dict[str, type[Stack]] = {"folded": Folded, "mapped": Mapped}
"""Name of each way to stack -> its class, the fastest first."""

Found = tuple[str, Stack]

_found: WeakKeyDictionary[nn.Module, Recent[Found | None]] = WeakKeyDictionary()


def group_of(extraction: Extraction, job: Job) -> tuple[Any, ...]:
    """Say what clients must share to be stacked: width, sizes, shapes and types of the samples."""
    return job.width, extraction.place(job.kept).sizes, job.split.kind


def find_stack(extraction: Extraction, job: Job) -> Found | None:
    """Find a way to stack subnets such as this job's; None if each must be trained by itself.

    A way is taken if it gives what the plain subnet gives, for two clients with different weights,
    numbers of samples and lengths of sequences. So a model whose samples, or whose padding, have
    an influence on each other is never stacked, whatever it is made of.

    Returns
    -------
    tuple
        Name and stack, remembered as long as the server lives.
    """
    known = _found.setdefault(extraction.server, Recent())
    return known.get(group_of(extraction, job), lambda: _find(extraction, job))


def _find(extraction: Extraction, job: Job) -> Found | None:
    for name in STACKS:
        if _reproduces(name, extraction, job):
            return name, _build(name, extraction, job)
    return None


def _build(name: str, extraction: Extraction, job: Job) -> Stack:
    mould = extraction.mould(job)
    mould.model.train()
    return STACKS[name](mould, output_layer(mould.model, job.split))


def _reproduces(name: str, extraction: Extraction, job: Job) -> bool:
    """Whether the stack gives the logits of two separate subnets, but for rounding."""
    weights = extraction.weights(job)
    others = {key: OTHER * t if t.is_floating_point() else t for key, t in weights.items()}
    device = next(iter(weights.values())).device
    few = _different(job.split.tensor[[0, len(job.split) // 2, -1]].to(device))
    length = few.shape[1] - 1 if job.split.is_padded and few.shape[1] > 1 else None
    fewer = few[:2] if length is None else few[:2, :length]
    padded = few[[0, 1, 0]].clone()
    if length is not None:
        padded[:, length:] = 0
    both = {key: torch.stack([weights[key], others[key]]) for key in weights}
    alone = extraction.mould(job)
    alone.model.train()
    expected = []
    try:
        with torch.no_grad(), seeded_rng(0):
            for state, inputs in ((weights, few), (others, fewer)):
                alone.fill({key: t.clone() for key, t in state.items()})
                with DropoutShapes():
                    logits = alone.model(inputs)
                    expected.append(logits.reshape(len(inputs), -1, logits.shape[-1]))
            stack = _build(name, extraction, job)
            stack.fill(both)
            logits = stack.predict(torch.stack([few, padded]), _no_masks)
    except Exception:  # Whatever a foreign model raises when it is stacked: it cannot be.
        return False
    return all(
        _close(unfold(3, actual)[: len(plain), : plain.shape[1]], plain)
        for actual, plain in zip(logits, expected, strict=True)
    )


def _different(samples: Tensor) -> Tensor:
    """Make three samples differ and be finite, even where a client has but one, or damaged ones."""
    if samples.is_floating_point():
        factors = torch.tensor([1.0, 0.9, 1.1]).to(samples)
        drawn = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)).to(samples)
        finite = torch.where(samples.isfinite(), samples, drawn)
        return finite * factors.view(3, *[1] * (samples.dim() - 1))
    return torch.stack([sample.roll(by, -1) for by, sample in enumerate(samples)])


def _no_masks(folded: Tensor, p: float) -> Tensor:
    if len(folded) != 6:
        raise CannotStackError("dropout of what has no batch in front")
    return folded


def _close(actual: Tensor, expected: Tensor) -> bool:
    """Whether logits differ by rounding alone, of which single precision leaves about 1e-6."""
    if not bool(expected.isfinite().all()):
        return False
    return torch.allclose(
        actual, expected, rtol=1e-4, atol=1e-5 * (1 + float(expected.abs().max()))
    )
