"""Splits: samples with their targets, in the types that models train on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral, Real
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.checks import array, expect
from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError

__all__ = ["Lazy", "Split", "loaded", "samples_to_try"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False, init=False)
class Split:
    """Samples of one client with their targets.

    Arrays of numpy, lists and data frames of numbers become tensors: floats float32, whole numbers
    int64. A tensor keeps its floating-point type, which has to be that of the model's weights.

    Parameters
    ----------
    inputs : (n, T) integers, or (n, ...) floats
        Token ids, padded with 0; or features, such as images (n, C, H, W) in [0, 1].
    targets : (n, T) integers, or (n,) integers
        The next token of each position, or the class of each sample, as whole numbers from 0.
        -100: nothing to predict (padding). -1, in next-token prediction alone: a word outside the
        vocabulary, which counts as an error in the accuracy and is left out of the loss.

    Raises
    ------
    InputError
        For what is neither, such as one-hot targets, classes as floats, or pixels as whole numbers.
    """

    inputs: Tensor
    targets: Tensor

    def __init__(self, inputs: Tensor | npt.ArrayLike, targets: Tensor | npt.ArrayLike) -> None:
        samples, labels = _inputs(inputs), _targets(targets)
        if len(samples) != len(labels):
            raise InputError(
                f"a split holds {len(samples)} inputs and {len(labels)} targets: "
                "give one target per input"
            )
        _check_shape(labels, samples)
        object.__setattr__(self, "inputs", samples)
        object.__setattr__(self, "targets", labels)

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def __repr__(self) -> str:
        parts = (self.inputs, self.targets)
        inputs, targets = (f"{tuple(part.shape)} {part.dtype}" for part in parts)
        return f"Split(inputs {inputs}, targets {targets})"


class Lazy(Sequence[Split]):
    """One split per client, loaded anew each time that it is asked for and never kept.

    Parameters
    ----------
    sizes : (n_clients,) integers
        Samples in each client's split, at least 1.
    load : callable
        From the row of a client to its split, the same each time.

    Raises
    ------
    InputError
        If a size is not a whole number of at least 1; later, if a split cannot be loaded, or has
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
        if self.sizes.min(initial=1) < 1:
            raise InputError(
                f"client {int(self.sizes.argmin())} has {self.sizes.min()} samples: give it at "
                "least one or leave the client out"
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


def _tensor(values: Any, what: str) -> Tensor:
    """Convert arrays and lists; tensors stay what they are."""
    if isinstance(values, Tensor):
        if values.layout is not torch.strided:
            raise InputError(f"the {what} are {values.layout}: give {what}.to_dense()")
        return values
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], Tensor):
        try:
            return torch.stack(list(values))
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"the {what} are tensors that do not stack ({error}): give them one shape"
            ) from error
    table = array(values, f"the {what}")
    if table.dtype.kind in "uO":
        table = _known_numbers(table, what)
    if table.dtype.kind not in "biuf":
        raise InputError(f"the {what} hold {table.dtype} values: give numbers")
    if table.dtype.kind == "f":
        return torch.tensor(table.astype(np.float32))
    keeps_its_type = table.dtype in (np.bool_, np.uint8)
    return torch.tensor(table if keeps_its_type else table.astype(np.int64))


def _known_numbers(table: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Numbers that may stand among objects, as those of nullable columns do, and fit in int64."""
    entries = table.ravel().tolist()
    odd = [value for value in entries if not isinstance(value, Real)]
    if odd:
        raise InputError(f"the {what} hold {odd[0]!r}: give numbers")
    if not all(isinstance(value, Integral) for value in entries):
        return table.astype(np.float64)
    large = [value for value in entries if abs(value) > np.iinfo(np.int64).max]
    if large:
        raise InputError(f"the {what} hold {large[0]}, which exceeds the largest 64-bit integer")
    return table if table.dtype == np.uint8 else table.astype(np.int64)


def _inputs(values: Any) -> Tensor:
    given = _tensor(values, "inputs")
    if given.dim() < 2:
        raise InputError(
            f"the inputs have shape {tuple(given.shape)}: give one row per sample, (n, ...), for "
            "example inputs.reshape(-1, 1) for a single feature"
        )
    if given.is_floating_point():
        return given
    if given.dtype not in _INTEGERS:
        raise InputError(
            f"the inputs are {given.dtype}: give floats for features or whole numbers for tokens"
        )
    if given.dtype == torch.uint8 and given.dim() > 2:
        raise InputError(
            f"the inputs are whole numbers of shape {tuple(given.shape)}, which look like pixels: "
            "give floats, for example inputs / 255"
        )
    return given.to(torch.int64)


def _targets(values: Any) -> Tensor:
    given = _tensor(values, "targets")
    if given.dim() == 0:
        raise InputError(f"the targets are the number {given.item()}: give one per input")
    if given.dtype not in (*_INTEGERS, torch.bool):
        raise InputError(
            f"the targets are {given.dtype}, but classes and tokens are whole numbers from 0: give "
            "targets.long(), or targets.argmax(1) of one-hot rows"
        )
    return given.to(torch.int64)


def _check_shape(targets: Tensor, inputs: Tensor) -> None:
    """Refuse targets in a column, and one-hot rows; positions of a sequence may look the same."""
    if targets.dim() != 2 or not len(targets):
        return
    has_positions = inputs.dim() == 3 or (inputs.dim() == 2 and not inputs.is_floating_point())
    if has_positions and targets.shape[1] == inputs.shape[1]:
        return
    if targets.shape[1] == 1:
        raise InputError(
            f"the targets have shape {tuple(targets.shape)}, a column: give one class per sample, "
            "targets[:, 0]"
        )
    if bool(((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all()):
        raise InputError(
            f"the targets of shape {tuple(targets.shape)} are one-hot rows: give the classes, "
            "targets.argmax(1)"
        )
