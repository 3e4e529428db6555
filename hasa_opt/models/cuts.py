"""Cuts: how width groups cut the dimensions of a tensor: the one place where tensors are sliced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from hasa_opt.errors import InputError


@dataclass(frozen=True)
class Cut:
    """How a width group cuts one dimension of a tensor.

    The dimension holds ``blocks`` copies of the group one after another (an LSTM stacks four
    gates), and each unit owns ``span`` consecutive entries (a channel that was flattened).

    Parameters
    ----------
    group : str
        Name of the width group.
    blocks : int
        Number of stacked copies, each cut separately.
    span : int
        Number of consecutive entries per unit.
    """

    group: str
    blocks: int = 1
    span: int = 1


Segments = tuple[Cut | int, ...]
"""How several groups cut one dimension: one after another; a number is a length that stays."""

DimensionCut = Cut | Segments | None
"""What cuts a dimension; None leaves it whole."""

Kept = Mapping[str, slice | Tensor]
"""The kept units of each width group: a slice or an int64 tensor of unit indices."""


@dataclass(frozen=True)
class Coordinates:
    """The entries of one full-size tensor that a subnet holds.

    Parameters
    ----------
    full_blocks : tuple of int
        Shape of the full tensor, each dimension that one group cuts unfolded into (blocks, units,
        span).
    index : tuple of slice or int64 Tensor
        What is kept of each unfolded dimension, ready for tensor indexing.
    kept_blocks : tuple of int
        Shape of the kept entries, unfolded in the same way.
    shape : tuple of int
        Shape of the subnet's tensor.
    """

    full_blocks: tuple[int, ...]
    index: tuple[slice | Tensor, ...]
    kept_blocks: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls,
        cuts: Sequence[DimensionCut],
        shape: Sequence[int],
        sizes: Mapping[str, int],
        kept: Kept,
    ) -> Self:
        """Locate the kept units of the groups within one tensor.

        Parameters
        ----------
        cuts : sequence of Cut, Segments or None
            What cuts each dimension.
        shape : sequence of int
            Of the full tensor.
        sizes : mapping of str to int
            Number of units of each group.
        kept : mapping of str to slice or int64 Tensor
            The kept ones.

        Raises
        ------
        InputError
            If the cuts do not fit the shape.
        """
        kept_sizes = {group: count_kept(units, sizes[group]) for group, units in kept.items()}
        dims = list(zip(cuts, shape, strict=True))
        full = [unfold(cut, length, sizes) for cut, length in dims]
        part = [unfold(cut, length, kept_sizes) for cut, length in dims]
        if tuple(math.prod(blocks) for blocks in full) != tuple(shape):
            raise InputError(
                f"the cuts describe the blocks {full}, but its shape is {tuple(shape)}"
            )
        full_blocks = tuple(chain.from_iterable(full))
        selections = [_selections(cut, kept, sizes) for cut in cuts]
        return cls(
            full_blocks,
            _open_mesh(list(chain.from_iterable(selections)), full_blocks),
            tuple(chain.from_iterable(part)),
            tuple(math.prod(blocks) for blocks in part),
        )

    def read(self, full: Tensor) -> Tensor:
        """Copy the kept entries out of a full-size tensor."""
        kept = full.reshape(self.full_blocks)[self.index]
        return kept.clone(memory_format=torch.contiguous_format).view(self.shape)

    def write(self, full: Tensor, part: Tensor) -> None:
        """Overwrite the kept entries of a contiguous full-size tensor in place."""
        full.view(self.full_blocks)[self.index] = part.reshape(self.kept_blocks).to(full.dtype)

    def add(self, full: Tensor, part: Tensor | float) -> None:
        """Add to the kept entries of a contiguous full-size tensor in place."""
        if isinstance(part, Tensor):
            part = part.reshape(self.kept_blocks)
        full.view(self.full_blocks)[self.index] += part


def count_kept(units: slice | Tensor, size: int) -> int:
    """Count the kept units of a group."""
    return len(range(size)[units]) if isinstance(units, slice) else len(units)


def unfold(cut: DimensionCut, length: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Split the length of a dimension that one group cuts into (blocks, units, span).

    Parameters
    ----------
    cut : Cut, Segments or None
        What cuts the dimension.
    length : int
        Its full length.
    sizes : mapping of str to int
        Number of units of each group, full or kept; the product of the result is the length then.
    """
    if isinstance(cut, Cut):
        return (cut.blocks, sizes[cut.group], cut.span)
    return (length if cut is None else sum(_length(segment, sizes) for segment in cut),)


def _length(segment: Cut | int, sizes: Mapping[str, int]) -> int:
    """Count the entries of a segment."""
    if isinstance(segment, int):
        return segment
    return segment.blocks * sizes[segment.group] * segment.span


def _selections(cut: DimensionCut, kept: Kept, sizes: Mapping[str, int]) -> list[slice | Tensor]:
    """List what is kept of a dimension once it is unfolded."""
    everything = slice(None)
    if cut is None:
        return [everything]
    if isinstance(cut, Cut):
        return [everything, kept[cut.group], everything]
    parts: list[Tensor] = []
    start = 0
    for segment in cut:
        entries = torch.arange(start, start := start + _length(segment, sizes))
        if isinstance(segment, Cut):
            blocks = entries.view(segment.blocks, sizes[segment.group], segment.span)
            entries = blocks[:, kept[segment.group]].flatten()
        parts.append(entries)
    return [torch.cat(parts)]


def _open_mesh(index: Sequence[slice | Tensor], shape: Sequence[int]) -> tuple[slice | Tensor, ...]:
    """Make the selections apply independently: slices do already, index tensors need a mesh."""
    if all(isinstance(selection, slice) for selection in index):
        return tuple(index)
    units = [torch.arange(size)[selection] for size, selection in zip(shape, index, strict=True)]
    return tuple(u.view(-1, *[1] * (len(units) - 1 - dim)) for dim, u in enumerate(units))
