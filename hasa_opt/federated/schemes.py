"""Schemes: which units of the supernet a client's subnet is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hasa_opt.federated.local import derive_seed
from hasa_opt.models.cuts import Cut, Kept
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.models.supernet import prefix as leading_units

Key = tuple[int, int, int]
"""(seed, round, client), of which a client's random numbers in a round are made."""

Scheme = Callable[[SupernetModel, float, Key], Kept]
"""Chooses the kept units from the server's model, the width and the key (seed, round, client)."""

Draw = Callable[[float, Key], Iterator[float]]
"""Draws the width of each batch, without end, from the client's width and the key."""

_UNITS, _WIDTHS = 1, 2  # Streams of a key; training itself draws from the key as it is.
_WHOLE = 1e-6


def prefix(model: SupernetModel, width: float, key: Key) -> Kept:
    """Keep the first units of each group, in every round (HeteroFL, arXiv:2010.01264)."""
    return leading_units(model, width)


def rolling(model: SupernetModel, width: float, key: Key) -> Kept:
    """Keep a window that moves on by one unit per round and wraps (FedRolex, arXiv:2212.01548).

    In round t it starts at unit t of each group, for all clients alike, so K rounds train each of
    the K units of a group equally often.
    """
    return {
        group: _ascending((torch.arange(count) + key[1]) % model.sizes[group])
        for group, count in model.subnet_sizes(width).items()
    }


def random(model: SupernetModel, width: float, key: Key) -> Kept:
    """Draw units anew per client and round (Federated Dropout, arXiv:1812.07210)."""
    generator = torch.Generator().manual_seed(derive_seed((*key, _UNITS)))
    return {
        group: _ascending(torch.randperm(model.sizes[group], generator=generator)[:count])
        for group, count in model.subnet_sizes(width).items()
    }


def magnitude(model: SupernetModel, width: float, key: Key) -> Kept:
    """Keep the units whose weights have the largest Euclidean norm in the server's model.

    A unit's weights are all parameters that go with it when it is cut: into it, out of it, biases.
    Of equal units the first ones are kept.
    """
    norms = _squared_norms(model)
    return {
        group: _ascending(norms[group].argsort(descending=True, stable=True)[:count].cpu())
        for group, count in model.subnet_sizes(width).items()
    }


def ordered_dropout(model: SupernetModel, width: float, key: Key) -> Kept:
    """Hold the prefix; each batch trains a narrower prefix of it (FjORD, arXiv:2102.13451).

    :func:`uniform_fifths` draws the width of each batch.
    """
    return leading_units(model, width)


def uniform_fifths(width: float, key: Key) -> Iterator[float]:
    """Draw the width of each batch from 0.2, 0.4, 0.6, 0.8 below the client's, and the client's.

    All are equally likely: the uniform distribution over five widths of FjORD, arXiv:2102.13451.
    """
    menu = [fifth / 5 for fifth in range(1, 5) if fifth / 5 < width] + [float(width)]
    generator = np.random.default_rng(derive_seed((*key, _WIDTHS)))
    while True:
        yield menu[generator.integers(len(menu))]


@dataclass(frozen=True)
class MirroredWidths:
    """Draws the width of each batch evenly around a mean, in antithetic pairs.

    Widths are ``mean + d step`` for a whole number d, uniform between ``2 mean - width`` and the
    client's width. Of two batches in a row the second has -d, and so has each batch of an odd
    round beside that of the round before: over two rounds the mean is exact.

    Parameters
    ----------
    mean
        Mean of the widths.
    step
        Distance between neighbouring widths.
    """

    mean: float
    step: float

    def __call__(self, width: float, key: Key) -> Iterator[float]:
        """Draw without end, from the client's width and the key."""
        seed, number, client = key
        generator = np.random.default_rng(derive_seed((seed, number // 2, client, _WIDTHS)))
        most = int((width - self.mean) / self.step + _WHOLE)
        sign = -1 if number % 2 else 1
        while True:
            distance = sign * int(generator.integers(-most, most + 1)) * self.step
            yield self.mean + distance
            yield self.mean - distance


def _ascending(units: Tensor) -> Tensor:
    """Keep the units in the supernet's order: at width 1 the subnet is the supernet."""
    return units.sort().values


def _squared_norms(model: SupernetModel) -> dict[str, Tensor]:
    """Sum the squares of all parameters that go with each unit, ``(units,)`` for each group."""
    norms = {group: torch.zeros(size, dtype=torch.float64) for group, size in model.sizes.items()}
    cuts = model.cuts()
    for name, parameter in model.named_parameters():
        squares = parameter.detach().to(torch.float64).square()
        for dim, cut in enumerate(cuts[name]):
            segments: Sequence[Cut | int] = (cut,) if isinstance(cut, Cut) else cut or ()
            rest = squares.movedim(dim, 0).reshape(squares.shape[dim], -1).sum(1).cpu()
            for segment in segments:
                if isinstance(segment, int):
                    rest = rest[segment:]
                    continue
                length = segment.blocks * model.sizes[segment.group] * segment.span
                blocks = rest[:length].view(segment.blocks, -1, segment.span)
                norms[segment.group] += blocks.sum((0, 2))
                rest = rest[length:]
    return norms


SCHEMES: dict[str, Scheme] = {
    "prefix": prefix,
    "rolling": rolling,
    "random": random,
    "magnitude": magnitude,
    "ordered_dropout": ordered_dropout,
}
"""Name of each scheme -> its function."""

DRAWS: dict[str, Draw] = {"ordered_dropout": uniform_fifths}
"""Name of each scheme whose batches train less than the client holds -> how much they train."""


def find_draw(model: SupernetModel, scheme: str, mean: float | None = None) -> Draw | None:
    """Find what draws the width of a client's batches; None: all train the whole subnet.

    Parameters
    ----------
    model
        The supernet.
    scheme
        Name in :data:`SCHEMES`.
    mean
        Mean of the widths under "ordered_dropout"; None: five widths, as in FjORD.
    """
    if mean is None:
        return DRAWS.get(scheme)
    return MirroredWidths(mean, 1 / math.gcd(*model.sizes.values()))
