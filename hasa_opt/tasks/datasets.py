"""Your own data: one torch Dataset for each client, or what is indexed like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.files import sha256
from hasa_opt._utils.names import distinct
from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import tensors
from hasa_opt.models.states import as_array
from hasa_opt.tasks.assembly import Recipe, check_names
from hasa_opt.tasks.dealing import Shares
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.splits import Lazy, Split
from hasa_opt.tasks.task import PARTS, Task

__all__ = ["Source", "from_datasets", "read_once"]

IN_MEMORY = (TensorDataset, list, tuple)
"""Kinds of datasets that hold their items anyway."""


@dataclass(frozen=True, eq=False)
class Source:
    """Some items of one client's dataset.

    Attributes
    ----------
    client : str
    dataset : Dataset
    rows : (n,) int64
        Which items; there may be none.
    keys : (str or int, str or int)
        Where an item holds its input and its target.
    loss : str or function
        What the targets are for.
    """

    client: str
    dataset: Any
    rows: IntArray
    keys: tuple[str | int, str | int]
    loss: Loss

    def load(self) -> Split:
        """Read the items; of none, the kind of the first one."""
        rows = self.rows.tolist() or [0]
        pairs = [self._pair(row) for row in rows]
        try:
            inputs, targets = (list(column) for column in zip(*pairs, strict=True))
            split = Split(_columns(inputs), targets, self.loss)
        except InputError as error:
            raise InputError(f"the dataset of client {self.client!r}: {error}") from error
        return split.take(np.arange(len(self.rows)))

    def _pair(self, row: int) -> tuple[Any, Any]:
        item = self.dataset[row]
        try:
            return item[self.keys[0]], item[self.keys[1]]
        except (KeyError, IndexError, TypeError) as error:
            found = f"the columns {tuple(item)}" if isinstance(item, Mapping) else repr(type(item))
            raise InputError(
                f"item {row} of the dataset of client {self.client!r} has no {error} but is of "
                f"{found}: say where inputs and target are, such as inputs='image', target='label'"
            ) from error


def from_datasets(
    datasets: Mapping[str, Any],
    *,
    inputs: str | int = 0,
    target: str | int = 1,
    test: Mapping[str, Any] | None = None,
    validation: Mapping[str, Any] | None = None,
    test_share: float = 0.15,
    validation_share: float = 0.0,
    loss: Loss = "cross_entropy",
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    n_outputs: int | None = None,
    counts: Any = None,
    labels: Sequence[str] = (),
    seed: int = 0,
    name: str = "own",
) -> Task:
    """Make a task of one dataset for each client.

    Every item is read once, to see the targets and to tell the data apart. Afterwards a client's
    items are read when it is drawn, and not kept; those of a TensorDataset or a list are.

    Parameters
    ----------
    datasets : {client: Dataset}
        With ``len()`` and items ``(input, target)``, where an input may be a mapping or tuple of
        what the model reads, or with rows of which ``inputs`` and
        ``target`` name two columns, such as Hugging Face's.
    inputs, target : str or int
        Where an item holds them.
    test, validation : {client: Dataset}, optional
        Given splits. A client without one is not measured there.
    test_share, validation_share, loss, metric, higher_is_better, n_outputs, counts, seed, name
        As in :func:`from_arrays`.
    labels : n_outputs strings, optional
        Names of the classes.

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If a dataset has no length, is empty or has other items, or breaks a rule of :class:`Task`.
    """
    shares = Shares.beside(test, validation, test_share, validation_share, seed)
    recipe = Recipe(loss, metric, higher_is_better, shares, n_outputs, counts, name)
    keys, whole = (inputs, target), _by_name("datasets", datasets)
    sizes = {client: _length("datasets", client, dataset) for client, dataset in whole.items()}
    dealt = {client: shares.deal(client, size) for client, size in sizes.items()}
    sources = {
        part: [
            Source(client, dataset, getattr(dealt[client], part), keys, loss)
            for client, dataset in whole.items()
        ]
        for part in PARTS
    }
    for part, given in (("test", test), ("validation", validation)):
        if given is not None:
            named = _by_name(part, given)
            check_names(part, named, list(whole))
            sources[part] = [
                Source(client, own, np.arange(_length(part, client, own)), keys, loss)
                if (own := named.get(client)) is not None
                else Source(client, whole[client], np.zeros(0, dtype=np.int64), keys, loss)
                for client in whole
            ]
    return read_once(recipe, sources, labels)


def read_once(
    recipe: Recipe, sources: Mapping[str, Sequence[Source]], labels: Sequence[str]
) -> Task:
    """Read every item once, and make a task whose splits are read again when they are needed.

    Parameters
    ----------
    recipe : Recipe
    sources : {"train", "validation", "test"} to n_clients sources
    labels : sequence of str
        Names of the classes.
    """
    targets: list[Tensor] = []
    digests, n_outputs, splits = [], 1, {}
    for part, own in sources.items():
        kept: list[Split] = []
        for source in own:
            split = source.load()
            n_outputs = max(n_outputs, recipe.outputs([split]))
            held = (*tensors(split.inputs), split.targets)
            digests.append(sha256(map(as_array, held)))
            if part == "train":
                targets.append(split.targets)
            if isinstance(source.dataset, IN_MEMORY):
                kept.append(split)
        sizes = [len(source.rows) for source in own]
        lazy = Lazy(sizes, lambda client, own=own: own[client].load())  # type: ignore[misc]
        splits[part] = kept if len(kept) == len(own) else lazy
    names = [source.client for source in sources["train"]]
    items = sha256([np.frombuffer("".join(digests).encode(), dtype=np.uint8)])
    told = {"items sha256": items}
    return recipe.make(names, splits, targets, n_outputs, labels=labels, fingerprint=told)


def _columns(samples: list[Any]) -> Any:
    """One list of samples; of samples that are mappings or tuples, one for each of their parts."""
    first = samples[0]
    if isinstance(first, Mapping):
        return {name: [sample[name] for sample in samples] for name in first}
    if isinstance(first, tuple):
        return {row: [sample[row] for sample in samples] for row in range(len(first))}
    return samples


def _by_name(what: str, given: Any) -> dict[str, Any]:
    """Datasets by the tidy names of their clients."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"{what} is a {type(given).__name__}: give a mapping of each client to its dataset"
        )
    return dict(zip(distinct(list(given), what), given.values(), strict=True))


def _length(what: str, client: str, dataset: Any) -> int:
    """Number of a client's items."""
    try:
        size = len(dataset)
    except TypeError as error:
        raise InputError(
            f"the dataset of client {client!r} in {what} has no length ({first_line(error)}): give "
            "one with __len__ and __getitem__, such as a list of its items"
        ) from error
    if not size:
        raise InputError(
            f"the dataset of client {client!r} in {what} is empty: leave the client out"
        )
    return int(size)
