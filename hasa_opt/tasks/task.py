"""A federated task: every client's training, validation and test data, and what it counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
from torch import Tensor

from hasa_opt.basics.checksum import sha256
from hasa_opt.clients import Clients, Counts, IntArray
from hasa_opt.errors import InputError
from hasa_opt.tasks.lazy import Lazy

__all__ = ["IGNORED", "OUTSIDE", "PADDING", "UNKNOWN", "Split", "Task", "generator", "split_rows"]

PADDING, UNKNOWN = 0, 1
"""Token ids that stand for no word: a filled-up position and a word outside the vocabulary."""

IGNORED, OUTSIDE = -100, -1
"""Targets that are no class: nothing to predict here, and a word outside the vocabulary."""

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
        own = self.counts
        counts = [own] if isinstance(own, np.ndarray) else [own.data, own.indices, own.indptr]
        parts = (getattr(self, name) for name in _SPLITS)
        splits = chain.from_iterable(part for part in parts if not isinstance(part, Lazy))
        tensors = chain.from_iterable((split.inputs, split.targets) for split in splits)
        return sha256(chain(counts, (tensor.numpy(force=True) for tensor in tensors)))

    def clients(self) -> Clients:
        """Columns that scores and allocations need; they see the training data alone."""
        return Clients(self.samples, counts=self.counts, names=self.client_names)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Random generator of one stream of a task, independent of all other streams and seeds."""
    if seed < 0:
        raise InputError(f"seed is {seed}: it must be at least 0")
    return np.random.default_rng([seed, *stream])


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
