"""A federated task: every client's training, validation and test data, and what it counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.files import sha256
from hasa_opt._utils.streams import FOLDS, generator
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.models.targets import IGNORED, OUTSIDE

__all__ = [
    "IGNORED",
    "OUTSIDE",
    "PADDING",
    "UNKNOWN",
    "Fold",
    "Lazy",
    "Split",
    "Task",
    "folds",
    "split_rows",
]


class Lazy(Sequence["Split"]):
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
        If a size is not a whole number of at least 1; later, if a loaded split has another size.

    Examples
    --------
    ``Lazy(sizes, lambda client: torch.load(f"{client}.pt"))``
    """

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
            return Lazy(self.sizes[client], lambda row: self._load(rows[row]))
        size = self.sizes[client]
        row = range(len(self))[client]
        split = self._load(row)
        if len(split) != size:
            raise InputError(
                f"the split of client {row} was loaded with {len(split)} samples, but its size is "
                f"{size}: correct sizes or load"
            )
        return split


PADDING, UNKNOWN = 0, 1
"""Token ids that stand for no word: a filled-up position and a word outside the vocabulary."""

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one client with their targets.

    Parameters
    ----------
    inputs : (n, T) int64 or (n, C, H, W) float32
        Token ids, padded with 0, or images in [0, 1].
    targets : (n, T) int64 or (n,) int64
        The next token of each position, or the class of each image. -100: nothing to predict
        (padding). -1: a word outside the vocabulary, which counts as an error in the accuracy
        and is left out of the loss.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InputError(
                f"a split holds {len(self.inputs)} inputs and {len(self.targets)} targets: "
                "give one target per input"
            )

    def __len__(self) -> int:
        return self.inputs.shape[0]


@dataclass(frozen=True, eq=False)
class Task:
    """What a study trains on: one entry per client in every sequence.

    Parameters
    ----------
    name : str
        The name that tables and reports show.
    client_names : n_clients distinct strings
    train, validation, test : n_clients splits each
        None may be empty. Tuples, or :class:`hasa_opt.tasks.Lazy`, whose splits are loaded when a
        client is drawn.
    counts : (n_clients, n_labels) int64 array or scipy CSR array
        Tokens or labels that each client counted in its *training* split.
    n_outputs : int
        Classes that the model predicts: the vocabulary size of a language task.
    labels : n_outputs strings, optional
        The word or class behind each output.
    fingerprint : dict of str to str, optional
        What identifies the data: versions, checksums, seeds. Of lazy splits, nothing else does.

    Raises
    ------
    InputError
        If the parts disagree in length, a client has an empty split, or a target that is not lazy
        is no output.
    """

    name: str
    client_names: tuple[str, ...]
    train: Sequence[Split]
    validation: Sequence[Split]
    test: Sequence[Split]
    counts: Counts
    n_outputs: int
    labels: tuple[str, ...] = ()
    fingerprint: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_lengths(self)
        _check_splits(self)
        if self.labels and len(self.labels) != self.n_outputs:
            raise InputError(
                f"task {self.name!r} has {len(self.labels)} labels for {self.n_outputs} outputs: "
                "give one label per output or none"
            )

    def __len__(self) -> int:
        return len(self.client_names)

    def __repr__(self) -> str:
        return (
            f"Task({self.name!r}, n_clients={len(self)}, samples={int(self.samples.sum())}, "
            f"n_outputs={self.n_outputs})"
        )

    @property
    def samples(self) -> IntArray:
        """Training samples of each client, ``(n_clients,)``."""
        return _sizes(self.train)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the counts and of every split that is not lazy, in hexadecimal."""
        table = self.counts
        counts = (
            [table] if isinstance(table, np.ndarray) else [table.data, table.indices, table.indptr]
        )
        parts = (getattr(self, name) for name in _SPLITS)
        splits = chain.from_iterable(part for part in parts if not isinstance(part, Lazy))
        tensors = chain.from_iterable((split.inputs, split.targets) for split in splits)
        return sha256(chain(counts, (tensor.numpy(force=True) for tensor in tensors)))

    def clients(self) -> Clients:
        """Columns that scores and allocations need; they see the training data alone."""
        return Clients(self.samples, counts=self.counts, names=self.client_names)


def split_rows(size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
    """Shuffle the rows of one client and share them out 70/15/15.

    The shares depend on the number of rows and on the generator, never on what the rows hold.

    Parameters
    ----------
    size : int
        Rows of the client, at least 3: every split gets at least one.
    rng : numpy Generator

    Returns
    -------
    train, validation, test : int64 arrays
        Row numbers; together every row once.
    """
    if size < len(_SPLITS):
        raise InputError(f"{size} sample(s) cannot fill three splits: at least 3 are needed")
    held_out = max(1, round(0.15 * size))
    validation, test, train = np.split(rng.permutation(size), [held_out, 2 * held_out])
    return train, validation, test


def _sizes(splits: Sequence[Split]) -> IntArray:
    """Samples in each client's split, ``(n_clients,)``, without loading lazy ones."""
    if isinstance(splits, Lazy):
        return splits.sizes.astype(np.int64)
    return np.array([len(split) for split in splits], dtype=np.int64)


def _check_lengths(task: Task) -> None:
    n_clients = len(task.client_names)
    if n_clients == 0:
        raise InputError(f"task {task.name!r} has no clients: give at least one")
    if len(set(task.client_names)) < n_clients:
        raise InputError(f"task {task.name!r} names a client twice: names must be distinct")
    lengths = {name: len(getattr(task, name)) for name in _SPLITS}
    lengths["counts"] = task.counts.shape[0]
    for name, length in lengths.items():
        if length != n_clients:
            raise InputError(
                f"task {task.name!r}: {name!r} has {length} entries for {n_clients} clients: "
                "give one per client"
            )
    if not np.issubdtype(task.counts.dtype, np.integer):
        raise InputError(
            f"task {task.name!r}: 'counts' holds {task.counts.dtype} values: give whole numbers"
        )
    values = task.counts if isinstance(task.counts, np.ndarray) else task.counts.data
    if values.min(initial=0) < 0:
        raise InputError(f"task {task.name!r}: 'counts' holds {values.min()}: counts start at 0")


def _check_splits(task: Task) -> None:
    for name in _SPLITS:
        for client in np.flatnonzero(_sizes(getattr(task, name)) == 0):
            raise InputError(
                f"task {task.name!r}: the {name} split of client {task.client_names[client]!r} is "
                "empty: give it at least one sample or leave the client out"
            )
        if not isinstance(splits := getattr(task, name), Lazy):
            _check_targets(task, name, splits)


def _check_targets(task: Task, name: str, splits: Sequence[Split]) -> None:
    for client, split in zip(task.client_names, splits, strict=True):
        if split.targets.numel() and (largest := int(split.targets.max())) >= task.n_outputs:
            raise InputError(
                f"task {task.name!r}: the {name} split of client {client!r} has the target "
                f"{largest} for {task.n_outputs} outputs: targets are below n_outputs"
            )


class Fold(NamedTuple):
    """Splits of all clients: those that train, and those that are held back."""

    kept: Lazy
    held: Lazy


def folds(task: Task, seed: int, count: int) -> tuple[Fold, ...]:
    """Deal each client's training samples into parts, at random by the seed.

    Parameters
    ----------
    task : Task
        Only its training splits are read, when a client's data is asked for.
    seed : int
    count : int
        Number of parts, at least 2. Each is held back by one of the folds.

    Raises
    ------
    InputError
        If a client has fewer samples than there are parts.
    """
    small = np.flatnonzero(task.samples < count)
    if small.size:
        first = small[0]
        raise InputError(
            f"client {task.client_names[first]!r} has {task.samples[first]} training sample(s) "
            f"for {count} parts, of which one judges what the others train: leave the client out "
            f"({small.size} such client(s))"
        )

    def part(fold: int, is_held: bool) -> Lazy:
        def rows(client: int) -> IntArray:
            size = int(task.samples[client])
            mine = (np.arange(size) % count == fold) == is_held
            order = generator(seed, FOLDS, client).permutation(size)
            return np.sort(order[mine])

        def load(client: int) -> Split:
            chosen, split = torch.from_numpy(rows(client)), task.train[client]
            return Split(split.inputs[chosen], split.targets[chosen])

        held = (task.samples + count - 1 - fold) // count
        return Lazy(held if is_held else task.samples - held, load)

    return tuple(Fold(part(fold, False), part(fold, True)) for fold in range(count))
