"""Splits: samples with their targets, in the types that models train on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.checks import expect
from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs, describe, each, join, kind, tensors
from hasa_opt.tasks.learning import Loss
from hasa_opt.tasks.targets import INTEGERS, as_targets, as_tensor, check_shape

__all__ = ["Lazy", "Split", "loaded", "samples_to_try"]


@dataclass(frozen=True, eq=False, init=False)
class Split:
    """Samples of one client with their targets.

    Arrays of numpy, lists and data frames of numbers become tensors: floats float32, whole numbers
    int64. A tensor keeps its floating-point type, which has to be that of the model's weights.

    Parameters
    ----------
    inputs : (n, T) integers, or (n, ...) floats, or a mapping of them
        Token ids, padded with 0; or features, such as images (n, C, H, W) in [0, 1]. Several, by
        the names under which the model takes them, or by their positions from 0: each with a row
        for every sample, whole numbers and masks too.
    targets : (n, T) integers, (n,) integers, or what the loss takes
        The next token of each position, or the class of each sample, as whole numbers from 0.
        -100: nothing to predict (padding). -1, in next-token prediction alone: a word outside the
        vocabulary, which counts as an error in the accuracy and is left out of the loss. Other
        kinds are in the table of :mod:`hasa_opt.tasks.targets`.
    loss : str or function
        What the targets are for, as in :class:`LearningProblem`.

    Raises
    ------
    InputError
        For what is neither, such as one-hot targets, classes as floats, or pixels as whole numbers.
    """

    inputs: Inputs
    targets: Tensor

    def __init__(
        self,
        inputs: Tensor | npt.ArrayLike | Mapping[Any, Any],
        targets: Tensor | npt.ArrayLike,
        loss: Loss = "cross_entropy",
    ) -> None:
        samples = _several(inputs) if isinstance(inputs, Mapping) else _inputs(inputs)
        labels = as_targets(as_tensor(targets, "targets"), loss)
        for part in tensors(samples):
            if len(part) != len(labels):
                raise InputError(
                    f"a split holds {len(part)} inputs and {len(labels)} targets: "
                    "give one target per input"
                )
        if isinstance(samples, Tensor):
            check_shape(labels, samples, loss)
        object.__setattr__(self, "inputs", samples)
        object.__setattr__(self, "targets", labels)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def kind(self) -> Hashable:
        """What splits have to share to be joined or stacked: names, types and shapes of samples."""
        return kind(self.inputs), self.targets.shape[1:], self.targets.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of inputs and targets."""
        return sum(part.nbytes for part in (*tensors(self.inputs), self.targets))

    @property
    def tensor(self) -> Tensor:
        """The inputs, where they are one tensor.

        Raises
        ------
        InputError
            Where they are several.
        """
        if not isinstance(self.inputs, Tensor):
            raise InputError(f"{describe(self.inputs)} are given where one tensor is read")
        return self.inputs

    def take(self, rows: Tensor | npt.ArrayLike) -> Split:
        """Take some samples, by their rows; their kind was checked and is not checked again."""
        chosen = torch.as_tensor(rows)
        return self._alike(each(lambda given: given[chosen], self.inputs), self.targets[chosen])

    def blank(self) -> Split:
        """One sample of the same kind whose inputs are all zero."""
        zeros = each(lambda given: torch.zeros_like(given[:1]), self.inputs)
        return self._alike(zeros, self.targets[:1])

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Split:
        """Apply a function that keeps values to inputs and targets."""
        return self._alike(each(function, self.inputs), function(self.targets))

    def unlike(self) -> Split:
        """The first sample with other inputs, and with a target at every position."""
        return self._alike(each(_changed, self.inputs), torch.zeros_like(self.targets[:1]))

    @staticmethod
    def join(splits: Sequence[Split]) -> Split:
        """Put splits of one kind behind one another."""
        inputs = join([split.inputs for split in splits])
        return Split._alike(inputs, torch.cat([split.targets for split in splits]))

    @staticmethod
    def _alike(inputs: Inputs, targets: Tensor) -> Split:
        made = object.__new__(Split)
        object.__setattr__(made, "inputs", inputs)
        object.__setattr__(made, "targets", targets)
        return made

    @property
    def is_padded(self) -> bool:
        """Whether targets belong to positions of a sequence, which padding may end."""
        targets, inputs = self.targets, self.inputs
        return (
            targets.dim() == 2
            and isinstance(inputs, Tensor)
            and not targets.is_floating_point()
            and targets.shape[1] == inputs.shape[1]
        )

    def __repr__(self) -> str:
        targets = f"{tuple(self.targets.shape)} {self.targets.dtype}"
        if isinstance(self.inputs, Tensor):
            inputs = f"inputs {tuple(self.inputs.shape)} {self.inputs.dtype}"
        else:
            inputs = describe(self.inputs)
        return f"Split({inputs}, targets {targets})"


class Lazy(Sequence[Split]):
    """One split per client, loaded anew each time that it is asked for and never kept.

    Parameters
    ----------
    sizes : (n_clients,) integers
        Samples in each client's split; in training at least 1.
    load : callable
        From the row of a client to its split, the same each time.

    Raises
    ------
    InputError
        If a size is not a whole number of at least 0; later, if a split cannot be loaded, or has
        another size.

    Examples
    --------
    ``Lazy(sizes, lambda client: torch.load(f"{client}.pt"))``
    """

    _check: Callable[[int, Split], None] | None = None

    def __init__(self, sizes: npt.ArrayLike, load: Callable[[int], Split]) -> None:
        self.sizes = np.array(sizes)
        if self.sizes.ndim != 1 or not np.issubdtype(self.sizes.dtype, np.integer):
            raise InputError(
                f"sizes has shape {self.sizes.shape} and type {self.sizes.dtype}: give one whole "
                "number of samples per client"
            )
        if self.sizes.min(initial=0) < 0:
            raise InputError(
                f"client {int(self.sizes.argmin())} has {self.sizes.min()} samples: give each a "
                "number of at least 0"
            )
        self._load = load

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, client: int) -> Split: ...

    @overload
    def __getitem__(self, client: slice) -> Lazy: ...

    def __getitem__(self, client: int | slice) -> Split | Lazy:
        if isinstance(client, slice):
            rows = range(len(self))[client]
            return Lazy(self.sizes[client], lambda row: self[rows[row]])
        size = self.sizes[client]
        row = range(len(self))[client]
        try:
            split = self._load(row)
        except Exception as error:  # Whatever the caller's function raises.
            raise InputError(
                f"the split of client {row} could not be loaded ({first_line(error)}): mend it, or "
                "leave the client out"
            ) from error
        expect(split, Split, f"the loaded split of client {row}", package="hasa_opt.tasks")
        if len(split) != size:
            raise InputError(
                f"the split of client {row} was loaded with {len(split)} samples, but its size is "
                f"{size}: correct sizes or load"
            )
        if self._check is not None:
            self._check(row, split)
        return split

    def checked(self, check: Callable[[int, Split], None]) -> Lazy:
        """Give the same splits, each checked when it was loaded.

        Parameters
        ----------
        check : callable
            Called with the row of a client and its split; raises for what is wrong with it. It
            takes the place of an earlier one.
        """
        splits = Lazy(self.sizes, self._load)
        splits._check = check
        return splits


def loaded(
    splits: Sequence[Split], rows: Iterable[int] | None = None
) -> Iterator[tuple[int, Split]]:
    """Load the splits of clients one after another, without those that cannot be loaded.

    Parameters
    ----------
    splits : n_clients splits
    rows : rows of clients, optional
        Default: all.

    Yields
    ------
    tuple
        Row of a client, and its split.
    """
    for row in range(len(splits)) if rows is None else rows:
        try:
            split = splits[row]
        except InputError:
            continue
        yield row, split


def samples_to_try(splits: Sequence[Split]) -> dict[int, Split]:
    """Splits by row on which a model can be tried; of lazy ones, the first that can be loaded.

    Raises
    ------
    InputError
        If no split can be loaded: what the first one gave.
    """
    found = dict(islice(loaded(splits), 1 if isinstance(splits, Lazy) else None))
    return found or {0: splits[0]}


def _changed(given: Tensor) -> Tensor:
    first = given[:1]
    return 1 - first if first.is_floating_point() else first.roll(1, dims=-1)


def _inputs(values: Any) -> Tensor:
    given = as_tensor(values, "inputs")
    if given.dim() < 2:
        raise InputError(
            f"the inputs have shape {tuple(given.shape)}: give one row per sample, (n, ...), for "
            "example inputs.reshape(-1, 1) for a single feature"
        )
    if given.is_floating_point():
        return given
    if given.dtype not in INTEGERS:
        raise InputError(
            f"the inputs are {given.dtype}: give floats for features or whole numbers for tokens"
        )
    if given.dtype == torch.uint8 and given.dim() > 2:
        raise InputError(
            f"the inputs are whole numbers of shape {tuple(given.shape)}, which look like pixels: "
            "give floats, for example inputs / 255"
        )
    return given.to(torch.int64)


def _several(given: Mapping[Any, Any]) -> Inputs:
    """Inputs by name, or by position where the names are numbers from 0."""
    parts = {name: as_tensor(values, f"inputs {name!r}") for name, values in given.items()}
    if not parts:
        raise InputError("the inputs are an empty mapping: give at least one")
    for name, part in parts.items():
        if part.dim() < 1 or part.is_complex():
            raise InputError(
                f"the inputs {name!r} have shape {tuple(part.shape)} and type {part.dtype}: give "
                "one row of real numbers per sample"
            )
        if part.dtype in INTEGERS:
            parts[name] = part.to(torch.int64)
    if list(parts) == list(range(len(parts))):
        return tuple(parts.values())
    wrong = [name for name in parts if not isinstance(name, str)]
    if wrong:
        raise InputError(
            f"the inputs are named {wrong[0]!r}: give the names of the model's arguments, or their "
            "positions from 0"
        )
    return parts
