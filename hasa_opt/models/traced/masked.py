"""Masked programs: full width, with normalisations that see the kept units alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hasa_opt.models.cuts import Coordinates, DimensionCut, Kept, count_kept
from hasa_opt.models.traced.program import Program, operation_of

__all__ = ["over_kept"]

_WRITES_UNITS = ("aten.layer_norm", "aten.rms_norm", "aten.group_norm")


@dataclass(frozen=True)
class _OverKept:
    """A call that reads the kept units of its arguments; what it writes for the others is zero."""

    function: Callable[..., Any]
    writes_units: bool
    cuts: Mapping[int | str, tuple[DimensionCut, ...]]
    sizes: Mapping[str, int]
    kept: Kept

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        given: dict[int | str, Any] = dict(enumerate(args)) | kwargs
        places = {
            place: Coordinates.of(cuts, given[place].shape, self.sizes, self.kept)
            for place, cuts in self.cuts.items()
        }
        read = {place: where.read(given[place]) for place, where in places.items()}
        positional = [read.get(place, argument) for place, argument in enumerate(args)]
        result = self.function(
            *positional, **{name: read.get(name, part) for name, part in kwargs.items()}
        )
        if not self.writes_units:
            return result
        source: Tensor = given[0]
        full = torch.zeros(source.shape, dtype=result.dtype, device=result.device)
        places[0].write(full, result)
        return full


def over_kept(program: Program, sizes: Mapping[str, int], kept: Kept) -> Program:
    """Let the normalisations of a program at full width run over the kept units.

    Parameters
    ----------
    program : Program
        As it was traced, before :meth:`Program.at`.
    sizes : mapping of str to int
        Number of units of each width group.
    kept : mapping of str to slice or (n_kept,) int64 tensor
        The kept ones.
    """
    whole = program.at(sizes)
    part = program.at({group: count_kept(units, sizes[group]) for group, units in kept.items()})

    def step(full: Any, cut: Any) -> Any:
        if not full.normalised:
            return full
        writes = operation_of(full).startswith(_WRITES_UNITS)
        function = _OverKept(full.function, writes, full.normalised, sizes, kept)
        return replace(cut, function=function)

    return replace(whole, steps=tuple(map(step, whole.steps, part.steps)))
