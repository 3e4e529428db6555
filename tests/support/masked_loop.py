"""A federated loop in which nobody cuts anything: whole models, with the units of others at zero.

Clients take plain steps of gradient descent on all of their samples at once, so that the order of
the samples has no say. Each coordinate is averaged over the clients that hold it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from hasa_opt.tasks import Split

Weights = dict[str, Tensor]
Block = tuple[float, float]
"""Width and start, in shares of the units."""


def units(size: int, own: Block) -> Tensor:
    """1 for the units of a block: floor(width K), at least one, from floor(start K) on."""
    width, start = own
    count = max(1, math.floor(width * size + 1e-9))
    first = min(math.floor(start * size + 1e-9), size - count)
    mask = torch.zeros(size)
    mask[first : first + count] = 1
    return mask


def masks_of(model: nn.Module, own: Block) -> Weights:
    """1 where a client holds a coordinate of a parameter, by the model's table of cuts."""
    found, cuts = {}, model.cuts()
    for name, parameter in model.named_parameters():
        mask = torch.ones_like(parameter)
        for axis, cut in enumerate(cuts[name]):
            if cut is not None:
                kept = units(model.sizes[cut.group], own)
                kept = kept.repeat_interleave(cut.span).repeat(cut.blocks)
                mask *= kept.reshape([-1 if each == axis else 1 for each in range(mask.dim())])
        found[name] = mask
    return found


def masked(model: nn.Module, weights: Weights, masks: Weights) -> nn.Module:
    """The whole network with zeros outside; layer normalisation sees the units that are held."""
    network = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name] * masks[name])
    for path, part in network.named_modules():
        if isinstance(part, nn.LayerNorm):
            part.register_forward_hook(_over(masks[f"{path}.weight"].bool()))
    return network


def _over(held: Tensor):
    def hook(part: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        own = functional.layer_norm(
            inputs[0][..., held], (int(held.sum()),), part.weight[held], part.bias[held], part.eps
        )
        spread = torch.zeros_like(output)
        spread[..., held] = own
        return spread

    return hook


def loss_of(network: nn.Module, split: Split) -> Tensor:
    outputs = network(split.inputs)
    return functional.cross_entropy(outputs.flatten(0, -2), split.targets.flatten())


@dataclass
class Clients:
    """What the clients of a masked loop train, and what they keep.

    ``local`` names the parameter that each client keeps to itself, if any.
    """

    model: nn.Module
    splits: Sequence[Split]
    rate: float
    steps: int
    local: str = ""
    kept: dict[int, Weights] = field(default_factory=dict)

    def received(self, client: int, server: Weights) -> Weights:
        """The server's weights, but for what the client keeps to itself."""
        own = self.kept.get(client, {})
        return server | ({self.local: own[self.local]} if self.local in own else {})

    def train(self, client: int, server: Weights, masks: Weights) -> Weights:
        network = masked(self.model, self.received(client, server), masks)
        for _ in range(self.steps):
            network.zero_grad()
            loss_of(network, self.splits[client]).backward()
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameter -= self.rate * parameter.grad * masks[name]
        self.kept[client] = {name: each.detach() for name, each in network.named_parameters()}
        return self.kept[client]

    def loss(
        self, client: int, server: Weights, masks: Weights, split: Split, share: float = 0.0
    ) -> float:
        """Of the server's model in a client's units, moved by a share to what it trained last."""
        weights = self.received(client, server)
        mixed = {
            name: torch.lerp(tensor, self.kept[client][name], share)
            for name, tensor in weights.items()
        }
        network = masked(self.model, mixed, masks)
        with torch.no_grad():
            self._fill_statistics(network, masked(self.model, weights, masks))
            return float(loss_of(network.eval(), split))

    def _fill_statistics(self, network: nn.Module, common: nn.Module) -> None:
        """Give batch normalisation the means over the batches of all clients in a common model."""
        names = [name for name, _ in network.named_buffers() if "running" in name]
        total, momentum = sum(map(len, self.splits)), 0.1
        for name in names:
            network.get_buffer(name).zero_()
        for split in self.splits if names else ():
            for name in names:
                common.get_buffer(name).zero_()
            common.train()(split.inputs)
            for name in names:
                seen = common.get_buffer(name) / momentum
                network.get_buffer(name).add_(seen * (len(split) / total))


def moved(
    model: nn.Module, server: Weights, before: Sequence[Block], after: Sequence[Block]
) -> Weights:
    """The weights once blocks of the same width, and apart, have taken along what they held."""
    found = {name: tensor.clone() for name, tensor in server.items()}
    for old, new in set(zip(before, after, strict=True)):
        sources, places = masks_of(model, old), masks_of(model, new)
        for name, tensor in found.items():
            tensor[places[name].bool()] = server[name][sources[name].bool()]
    return found


def federated(
    clients: Clients, rounds: Sequence[Sequence[Block]], moves: Collection[int] = ()
) -> Weights:
    """The server's weights after some rounds, in each of which every client trains a block.

    In the rounds ``moves`` blocks that begin elsewhere begin as a copy of what they were.
    """
    server = {name: each.detach().clone() for name, each in clients.model.named_parameters()}
    for number, blocks in enumerate(rounds):
        if number in moves:
            server = moved(clients.model, server, rounds[number - 1], blocks)
        sums = {name: torch.zeros_like(tensor) for name, tensor in server.items()}
        holders = {name: torch.zeros_like(tensor) for name, tensor in server.items()}
        for client, own in enumerate(blocks):
            masks, samples = masks_of(clients.model, own), len(clients.splits[client])
            trained = clients.train(client, server, masks)
            for name, mask in masks.items():
                sums[name] += samples * mask * trained[name]
                holders[name] += samples * mask
        for name in server.keys() - {clients.local}:
            held = holders[name] > 0
            server[name] = torch.where(held, sums[name] / holders[name].clamp(min=1), server[name])
    return server
