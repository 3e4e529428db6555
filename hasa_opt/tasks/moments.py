"""Moments: mean and variance of each client's training numbers, one client at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import tensors
from hasa_opt.tasks.splits import Split

__all__ = ["Moments", "Side", "moments_of"]

Side = Literal["inputs", "targets"]
"""Which half of the samples."""

_ROWS = 1024
"""Samples that are held in double precision at a time: a choice, which moves last digits."""


class Moments(NamedTuple):
    """What :func:`hasa_opt.rules.scores.frechet` takes.

    Attributes
    ----------
    mean, variance : (n_clients, n_features) floats
    samples : (n_clients,) ints
    """

    mean: FloatArray
    variance: FloatArray
    samples: IntArray


def moments_of(side: Side, names: Sequence[str], splits: Sequence[Split]) -> Moments:
    """Mean and variance of every number of a sample, over each client's samples.

    Parameters
    ----------
    side : {"inputs", "targets"}
    names : n_clients strings
    splits : n_clients splits
        Lazy ones are loaded one after another.

    Raises
    ------
    InputError
        If the numbers are token ids or classes, have other shapes from client to client, or hold
        NaN or infinity.
    """
    if side not in ("inputs", "targets"):
        raise InputError(f"moments of {side!r}: give 'inputs' or 'targets'")
    found: list[tuple[FloatArray, FloatArray]] = []
    sizes: list[int] = []
    for name, split in zip(names, splits, strict=True):
        parts = tensors(split.inputs) if side == "inputs" else [split.targets]
        own = _moments(parts, f"the {side} of client {name!r}")
        if found and own[0].shape != found[0][0].shape:
            raise InputError(
                f"the {side} of client {name!r} are {own[0].size} numbers per sample, those of "
                f"{names[0]!r} {found[0][0].size}: bring all to one shape, or give counts of bins "
                "of your own"
            )
        found.append(own)
        sizes.append(len(split))
    mean, variance = (np.stack(column) for column in zip(*found, strict=True))
    return Moments(mean, variance, np.array(sizes))


def _moments(parts: Sequence[Tensor], whose: str) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of each number, in two passes over blocks of samples."""
    for part in parts:
        if not part.is_floating_point():
            raise InputError(
                f"{whose} are whole numbers, such as tokens or classes, which have no mean: score "
                "their counts, such as score='jensen_shannon'"
            )
    rows = torch.cat([part.flatten(1) if part.dim() > 1 else part[:, None] for part in parts], 1)
    blocks = torch.split(rows, _ROWS)
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / len(rows)
    squares = torch.stack([(block.double() - mean).square().sum(0) for block in blocks]).sum(0)
    if not bool(torch.isfinite(mean).all()):
        raise InputError(f"{whose} hold NaN or infinity: leave such samples out")
    return mean.numpy(force=True), (squares / len(rows)).numpy(force=True)
