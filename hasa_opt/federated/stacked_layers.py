"""Layers of many clients at once, each with weights of its own.

Every function takes the number of clients and then the arguments of the PyTorch function that it
stands for. Parameters are stacked: (clients, ...). Activations are folded: the first dimension
holds the batch of one client after another, so that whatever has no parameters and treats each
sample by itself needs no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class CannotStackError(Exception):
    """A model, or the way in which it calls a layer, has no stacked counterpart."""


def unfold(clients: int, folded: Tensor) -> Tensor:
    """Give (clients * batch, ...) the shape (clients, batch, ...)."""
    return folded.reshape(clients, -1, *folded.shape[1:])


Layer = Callable[
    [Tensor, tuple[Tensor, ...], Tensor, Tensor | None], tuple[Tensor, tuple[Tensor, ...]]
]
"""Runs a layer over what the input adds to the gates, (clients, batch, time, gates), from a state
with the recurrent weight and bias. Gives the hidden units at each step, and the last state."""


def lstm(
    clients: int,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run all clients' LSTMs, for ``torch.lstm``."""
    _check(params, has_biases, num_layers, dropout and train, bidirectional, batch_first)
    output, (hidden, cells) = _run(clients, input, tuple(hx), params, has_biases, _lstm)
    return output, hidden, cells


def gru(
    clients: int,
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """Run all clients' GRUs, for ``torch.gru``."""
    _check(params, has_biases, num_layers, dropout and train, bidirectional, batch_first)
    output, (hidden,) = _run(clients, input, (hx,), params, has_biases, _gru)
    return output, hidden


def _check(
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
) -> None:
    if dropout or bidirectional or not batch_first:
        raise CannotStackError("a recurrent layer with dropout, two directions or time first")
    if len(params) != num_layers * (4 if has_biases else 2):
        raise CannotStackError("a recurrent layer with projections")


def _run(
    clients: int,
    input: Tensor,
    start: tuple[Tensor, ...],
    params: Sequence[Tensor],
    has_biases: bool,
    layer: Layer,
) -> tuple[Tensor, list[Tensor]]:
    """Run layer after layer; the last states have the shape (layers, clients * batch, units)."""
    per_layer = 4 if has_biases else 2
    last: list[tuple[Tensor, ...]] = []
    sequence = input
    for number in range(len(params) // per_layer):
        from_input, from_hidden, *biases = params[number * per_layer : (number + 1) * per_layer]
        state = tuple(unfold(clients, part[number]) for part in start)
        added = sequence.reshape(clients, -1, sequence.shape[2]) @ from_input.mT
        if biases:
            added = added + biases[0].unsqueeze(1)
        added = added.view(clients, -1, sequence.shape[1], added.shape[2])
        bias = biases[1].unsqueeze(1) if biases else None
        hidden, state = layer(added, state, from_hidden, bias)
        sequence = hidden.flatten(0, 1)
        last.append(tuple(part.flatten(0, 1) for part in state))
    return sequence, [torch.stack(parts) for parts in zip(*last, strict=True)]


def _gru(
    added: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    (hidden,) = state
    hiddens = []
    for now in added.unbind(2):
        reset, update, candidate = now.chunk(3, dim=-1)
        product = hidden @ weight.mT if bias is None else torch.baddbmm(bias, hidden, weight.mT)
        of_reset, of_update, of_candidate = product.chunk(3, dim=-1)
        candidate = (candidate + (reset + of_reset).sigmoid() * of_candidate).tanh()
        hidden = candidate + (update + of_update).sigmoid() * (hidden - candidate)
        hiddens.append(hidden)
    return torch.stack(hiddens, dim=2), (hidden,)


def _lstm(
    added: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if bias is not None:
        added = added + bias.unsqueeze(1)
    hiddens, hidden, cell = _LSTM.apply(added, *state, weight)  # type: ignore[no-untyped-call]
    return hiddens, (hidden, cell)


class _LSTM(torch.autograd.Function):
    """Backpropagation through time by hand: half the operations that autograd would record.

    Time comes first in the buffers. The gates are those of PyTorch: in, forget, candidate, out.
    """

    @staticmethod
    def forward(ctx: Any, added: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor) -> Any:
        gates = added.permute(2, 0, 1, 3).clone(memory_format=torch.contiguous_format)
        steps, units = len(gates), weight.shape[2]
        hiddens, cells = (part.new_empty(steps + 1, *part.shape) for part in (hidden, cell))
        squashed = cells.new_empty(steps, *cell.shape)
        hiddens[0], cells[0] = hidden, cell
        for step, now in enumerate(gates):
            now.baddbmm_(hiddens[step], weight.mT)
            enter, forget, candidate, leave = now.chunk(4, dim=-1)
            now[..., : 2 * units].sigmoid_()
            candidate.tanh_()
            leave.sigmoid_()
            torch.mul(forget, cells[step], out=cells[step + 1]).addcmul_(enter, candidate)
            torch.tanh(cells[step + 1], out=squashed[step])
            torch.mul(leave, squashed[step], out=hiddens[step + 1])
        ctx.save_for_backward(gates, hiddens, cells, squashed, weight)
        return hiddens[1:].permute(1, 2, 0, 3), hiddens[-1].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hiddens: Tensor, d_hidden: Tensor, d_cell: Tensor) -> Any:
        gates, hiddens, cells, squashed, weight = ctx.saved_tensors
        enter, forget, candidate, leave = gates.chunk(4, dim=-1)
        to_cell = leave * (1 - squashed**2)
        slopes = torch.stack(
            [
                candidate * enter * (1 - enter),
                cells[:-1] * forget * (1 - forget),
                enter * (1 - candidate**2),
                squashed * leave * (1 - leave),
            ],
            dim=-2,
        )
        d_gates = torch.empty_like(slopes)
        for step in reversed(range(len(gates))):
            d_hidden = d_hidden + d_hiddens[:, :, step]
            d_cell = torch.addcmul(d_cell, d_hidden, to_cell[step])
            torch.mul(slopes[step, ..., :3, :], d_cell.unsqueeze(-2), out=d_gates[step, ..., :3, :])
            torch.mul(slopes[step, ..., 3, :], d_hidden, out=d_gates[step, ..., 3, :])
            d_hidden = torch.bmm(d_gates[step].flatten(2), weight)
            d_cell = d_cell * forget[step]
        d_added = d_gates.flatten(3).permute(1, 2, 0, 3)
        before = hiddens[:-1].permute(1, 2, 0, 3)
        d_weight = d_added.flatten(1, 2).mT @ before.flatten(1, 2)
        return d_added, d_hidden, d_cell, d_weight


def linear(clients: int, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply as one batch of matrix products, for ``functional.linear``."""
    folded = input.reshape(clients, -1, input.shape[-1])
    product: Tensor = _Linear.apply(folded, weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*input.shape[:-1], weight.shape[1])


class _Linear(torch.autograd.Function):
    """Gives weights gradients of their own memory layout, which autograd would have to copy."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        if bias is None:
            return torch.bmm(input, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), input, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if wanted[0] else None,
            torch.bmm(gradient.mT, input) if wanted[1] else None,
            gradient.sum(1) if wanted[2] else None,
        )


def convolution(single: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Convolve with the clients as groups, for ``functional.conv1d`` to ``conv3d``."""

    def stacked(
        clients: int,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        images = unfold(clients, input).transpose(0, 1).flatten(1, 2)
        features = single(
            images,
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            stride,
            padding,
            dilation,
            groups * clients,
        )
        unfolded = features.view(len(features), clients, -1, *features.shape[2:])
        return unfolded.transpose(0, 1).flatten(0, 1)

    return stacked


def embedding(
    clients: int,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Look up rows in one table below another, for ``functional.embedding``."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise CannotStackError("an embedding with max_norm, scale_grad_by_freq or sparse gradients")
    rows = weight.shape[1]
    if bool(((input < 0) | (input >= rows)).any()):  # It would be a row of another client.
        raise IndexError("index out of range in self")  # as torch does for one client
    tables = torch.arange(0, clients * rows, rows, device=input.device)
    below = input.reshape(clients, -1) + tables.unsqueeze(1)
    found = functional.embedding(below.view(input.shape), weight.flatten(0, 1))
    if padding_idx is None:
        return found
    return torch.where((input == padding_idx % rows).unsqueeze(-1), found.detach(), found)


def group_norm(
    clients: int,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise as for one client, then scale as each client does, for ``group_norm``."""
    normal = functional.group_norm(input, num_groups, eps=eps)
    return _scaled(clients, normal, weight, bias, (..., *[None] * (input.dim() - 2)))


def layer_norm(
    clients: int,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise as for one client, then scale as each client does, for ``layer_norm``."""
    normal = functional.layer_norm(input, tuple(normalized_shape), eps=eps)
    inner = input.dim() - 1 - len(normalized_shape)
    return _scaled(clients, normal, weight, bias, (*[None] * inner, ...))


def _scaled(
    clients: int,
    normal: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    dims: tuple[Any, ...],
) -> Tensor:
    """Apply each client's own weight and bias, to which ``dims`` adds those that it lacks."""
    if weight is None:
        return normal
    index = (slice(None), None, *dims)
    unfolded = unfold(clients, normal)
    if bias is None:
        return (unfolded * weight[index]).view(normal.shape)
    return torch.addcmul(bias[index], unfolded, weight[index]).view(normal.shape)


LAYERS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.linear: linear,
    functional.conv1d: convolution(functional.conv1d),
    functional.conv2d: convolution(functional.conv2d),
    functional.conv3d: convolution(functional.conv3d),
    functional.embedding: embedding,
    functional.group_norm: group_norm,
    functional.layer_norm: layer_norm,
    torch.lstm: lstm,
    torch.gru: gru,
}
"""PyTorch's function -> the same for many clients."""
