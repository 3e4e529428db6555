"""Signature: which inputs a traced module reads, and which of their sizes vary together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Self, TypeAlias

import torch
from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs, describe, each, tensors
from hasa_opt.models.traced.axes import Size

__all__ = ["Signature", "check_example", "doubled"]

_OTHER_LENGTHS: tuple[Callable[[list[int]], list[int]], ...] = (
    lambda steps: steps[:1],
    lambda steps: steps[:-1],
    lambda steps: [*steps, 0],
)

Shape: TypeAlias = tuple[int | str, ...]
"""Sizes of a tensor: a number, or the name of one that varies."""


@dataclass(frozen=True)
class Signature:
    """The inputs of a traced module.

    Parameters
    ----------
    shapes : dict
        Name of each input, or its position, -> shape. Sizes of one name are equal in a batch.
    """

    shapes: Mapping[str | int, Shape]

    @classmethod
    def of(cls, example: Inputs, sizes: Sequence[Sequence[Size]]) -> Self:
        """Read the signature off what was traced.

        Sizes that are equal in the example, of the batch or in time, stay equal.

        Parameters
        ----------
        example : Inputs
        sizes : sequence of shapes
            Of each of its tensors, with symbols for sizes that vary.
        """
        names = list(example) if isinstance(example, dict) else range(len(sizes))
        alike: dict[tuple[int, int], str] = {}
        shapes = [
            tuple(
                n if isinstance(n, int) else alike.setdefault((axis, length), str(n))
                for axis, (n, length) in enumerate(zip(shape, part.shape, strict=True))
            )
            for shape, part in zip(sizes, tensors(example), strict=True)
        ]
        return cls(dict(zip(names, shapes, strict=True)))

    def read(self, inputs: Sequence[Tensor], named: Mapping[str, Tensor]) -> list[Tensor]:
        """Put what a module is called with in the order of the traced inputs.

        Raises
        ------
        InputError
            If there are others, or one has another shape.
        """
        given: dict[str | int, Tensor] = dict(enumerate(inputs)) | dict(named)
        if given.keys() != self.shapes.keys() or not self._agrees(given):
            one = tuple(inputs) if len(inputs) != 1 else inputs[0]
            raise InputError(
                f"the supernet reads {self}, not {describe(dict(named) or one)}: build it with an "
                "example of the task's inputs"
            )
        return [given[name] for name in self.shapes]

    def _agrees(self, given: Mapping[str | int, Tensor]) -> bool:
        """Whether all shapes are those that were traced, and what varies together is equal."""
        seen: dict[str, int] = {}
        for name, shape in self.shapes.items():
            if len(shape) != given[name].dim():
                return False
            for size, actual in zip(shape, given[name].shape, strict=True):
                known = size if isinstance(size, int) else seen.setdefault(size, actual)
                if known != actual:
                    return False
        return True

    def __str__(self) -> str:
        shapes = {
            name: tuple("any" if isinstance(size, str) else size for size in shape)
            for name, shape in self.shapes.items()
        }
        if list(shapes) == [0]:
            return f"inputs of shape {shapes[0]}"
        return "inputs of " + ", ".join(f"{name!r}: {shape}" for name, shape in shapes.items())

    def variations(self, inputs: Inputs) -> list[Inputs]:
        """List inputs of other batch sizes and, for sequences, of other lengths."""
        shapes = self.shapes.values()
        varied = [each(itemgetter([0]), inputs)]
        times = {shape[1] for shape in shapes if len(shape) > 1}
        for time in sorted(name for name in times if isinstance(name, str)):
            varied += [self._in_time(inputs, time, steps) for steps in _OTHER_LENGTHS]
        return [sample for sample in varied if all(part.numel() for part in tensors(sample))]

    def _in_time(
        self, inputs: Inputs, time: str, steps: Callable[[list[int]], list[int]]
    ) -> Inputs:
        """Take some steps of all inputs that share a time."""
        shapes = iter(self.shapes.values())

        def taken(part: Tensor) -> Tensor:
            for axis, size in enumerate(next(shapes)):
                if axis and size == time:
                    rows = torch.tensor(steps(list(range(part.shape[axis]))), dtype=torch.int64)
                    part = part.index_select(axis, rows.to(part.device))
            return part

        return each(taken, inputs)


def check_example(example: object) -> None:
    """Refuse what is no batch of samples.

    Raises
    ------
    InputError
        With the remedy.
    """
    if isinstance(example, dict | tuple):
        parts = list(example.values() if isinstance(example, dict) else example)
        least = 1
    else:
        parts, least = [example], 2
    if not parts or not all(isinstance(part, Tensor) and part.dim() >= least for part in parts):
        raise InputError(
            "example_input must be a batch of samples: a tensor of shape (n, ...), or a dict or "
            "tuple of tensors with a row for each sample"
        )
    if not len(parts[0]) or any(len(part) != len(parts[0]) for part in parts):
        sizes = [len(part) for part in parts]
        raise InputError(
            f"example_input has {sizes} rows: give a batch of at least one sample, with a row of "
            "each input for each"
        )


def doubled(example: Inputs) -> Inputs:
    """A batch twice, where it is a single sample: such would be taken for one to broadcast."""
    if len(tensors(example)[0]) > 1:
        return example
    return each(lambda part: torch.cat([part, part]), example)
