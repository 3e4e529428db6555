"""A federated loop in plain PyTorch: written down from the formulas, with nothing of the library.

An MLP of two hidden layers in double precision, cut to prefixes; whole batches, so that the order
of the samples has no say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]
Rule = Callable[[Weights, Weights, dict, float, int], Weights]
"""From weights, gradients, a state of its own, the rate and the number of the step (from 1)."""


def cut(weights: Weights, width: float) -> Weights:
    """Leading units of both hidden layers."""
    first, second = (
        max(1, math.floor(width * len(weights[f"layers.{layer}.weight"]) + 1e-9))
        for layer in (0, 1)
    )
    ends = {"0": (first, None), "1": (second, first), "2": (None, second)}
    return {
        name: (
            tensor[: ends[name[7]][0], : ends[name[7]][1]]
            if tensor.dim() == 2
            else tensor[: ends[name[7]][0]]
        ).clone()
        for name, tensor in weights.items()
    }


def gradients(weights: Weights, inputs: Tensor, targets: Tensor) -> Weights:
    held = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    states = inputs
    for layer in range(3):
        states = states @ held[f"layers.{layer}.weight"].T + held[f"layers.{layer}.bias"]
        states = states.relu() if layer < 2 else states
    loss = functional.cross_entropy(states, targets)
    return dict(zip(held, torch.autograd.grad(loss, list(held.values())), strict=True))


def federated(
    weights: Weights,
    data: Sequence[tuple[Tensor, Tensor]],
    widths: Sequence[float],
    *,
    rounds: int,
    steps: int,
    rule: Rule,
    rate: Callable[[int], float],
    clip: float = math.inf,
    proximal: float = 0.0,
    server: Rule | None = None,
    server_rate: float = 1.0,
) -> Weights:
    """The server's weights after some rounds: clients weigh by samples, and fill what they lack."""
    total, server_state = sum(len(targets) for _, targets in data), {}
    for number in range(rounds):
        averaged = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        for (inputs, targets), width in zip(data, widths, strict=True):
            received = cut(weights, width)
            local, state = dict(received), {}
            for step in range(1, steps + 1):
                slopes = gradients(local, inputs, targets)
                for name in slopes:
                    slopes[name] = slopes[name] + proximal * (local[name] - received[name])
                norm = math.sqrt(sum(float((slope**2).sum()) for slope in slopes.values()))
                if norm > clip:
                    slopes = {name: slope * clip / norm for name, slope in slopes.items()}
                local = rule(local, slopes, state, rate(number), step)
            for name, tensor in weights.items():
                filled = tensor.clone()
                filled[tuple(map(slice, local[name].shape))] = local[name]
                averaged[name] += len(targets) / total * filled
        if server is None:
            weights = averaged
        else:
            pseudo = {name: weights[name] - averaged[name] for name in weights}
            weights = server(weights, pseudo, server_state, server_rate, number + 1)
    return weights


def sgd(momentum: float = 0.0, decay: float = 0.0) -> Rule:
    """Heavy ball, with the L2 penalty in the gradient."""

    def step(weights: Weights, slopes: Weights, state: dict, rate: float, number: int) -> Weights:
        for name, slope in slopes.items():
            slope = slope + decay * weights[name]
            state[name] = slope if number == 1 else momentum * state[name] + slope
        return {name: weights[name] - rate * state[name] for name in weights}

    return step


def adam(first: float = 0.9, second: float = 0.999, tiny: float = 1e-8, decay: float = 0.0) -> Rule:
    """Adam with corrected bias (arXiv:1412.6980), and AdamW's decay (arXiv:1711.05101)."""

    def step(weights: Weights, slopes: Weights, state: dict, rate: float, number: int) -> Weights:
        moved = {}
        for name, slope in slopes.items():
            mean, square = state.get(name, (torch.zeros_like(slope), torch.zeros_like(slope)))
            mean = first * mean + (1 - first) * slope
            square = second * square + (1 - second) * slope**2
            state[name] = mean, square
            size = (square / (1 - second**number)).sqrt() + tiny
            moved[name] = (
                weights[name] * (1 - rate * decay) - rate * mean / (1 - first**number) / size
            )
        return moved

    return step
