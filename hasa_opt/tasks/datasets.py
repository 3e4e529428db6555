"""Your own data: one torch Dataset for each client, or what is indexed like one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from hasa_opt._utils.files import sha256
from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import tensors
from hasa_opt.models.states import as_array
from hasa_opt.tasks.assembly import Recipe, check_names
from hasa_opt.tasks.dealing import Shares
from hasa_opt.tasks.items import Reader, Source
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.partitions import by_client, by_split
from hasa_opt.tasks.splits import Lazy, Split
from hasa_opt.tasks.task import PARTS, Task

__all__ = ["from_datasets", "read_once"]

IN_MEMORY = (TensorDataset, list, tuple)
"""Kinds of datasets that hold their items anyway."""

NAMES = {"train": "datasets", "validation": "validation", "test": "test"}
"""What the splits are called in messages."""


def from_datasets(
    datasets: Any,
    *,
    inputs: str | int | Sequence[str] = 0,
    target: str | int | Sequence[str] = 1,
    test: Any = None,
    validation: Any = None,
    test_share: float = 0.15,
    validation_share: float = 0.0,
    loss: Loss = "cross_entropy",
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    n_outputs: int | None = None,
    counts: Any = None,
    labels: Sequence[str] = (),
    max_tokens: int = 32,
    min_count: int = 2,
    seed: int = 0,
    name: str = "own",
) -> Task:
    """Make a task of one dataset for each client.

    Every item is read once, to see the targets and to tell the data apart, and where there are
    texts or labels to be numbered once more before. Afterwards a client's items are read when it
    is drawn, and not kept; those of a TensorDataset or a list are.

    Parameters
    ----------
    datasets : {client: Dataset}, or FederatedDataset or partitioner of flwr-datasets
        With ``len()`` and items ``(input, target)``, where an input may be a mapping or tuple of
        what the model reads, or with rows that have columns, such as Hugging Face's. Partitions
        are clients, by number or natural id; of a FederatedDataset those of "train", and those of
        "test" and "validation", where it has them, are given splits.
    inputs, target : str, int or list of str
        Where an item holds them. Several columns of numbers are ``(n, n_columns)`` floats, others
        go to the model by their names. Images of pillow become ``(n, channels, height, width)``
        floats in [0, 1], as targets whole numbers ``(n, height, width)``; texts become token ids
        as in :func:`from_frame`. Targets may be strings, labels of classes.
    test, validation : as datasets, optional
        Given splits. A client without one is not measured there.
    test_share, validation_share, loss, metric, higher_is_better, n_outputs, counts, seed, name
        As in :func:`from_arrays`.
    labels : n_outputs strings, optional
        Names of the classes. Default: what a ClassLabel of Hugging Face says, or all strings among
        the targets in alphabetical order.
    max_tokens, min_count : int
        As in :func:`from_frame`.

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If a dataset has no length, is empty or has other items, or breaks a rule of :class:`Task`.
    """
    given = by_split(datasets)
    given |= {
        part: own for part, own in (("test", test), ("validation", validation)) if own is not None
    }
    shares = Shares.beside(
        given.get("test"), given.get("validation"), test_share, validation_share, seed
    )
    recipe = Recipe(loss, metric, higher_is_better, shares, n_outputs, counts, name)
    clients = {part: by_client(NAMES[part], own) for part, own in given.items()}
    sources = _sources(clients, shares)
    reader = Reader(_places(inputs), _places(target), loss, max_tokens, tuple(labels))
    return read_once(recipe, sources, reader.taught(sources, min_count))


def _places(given: str | int | Sequence[str]) -> tuple[str | int, ...]:
    return (given,) if isinstance(given, str | int) else tuple(given)


def _sources(clients: Mapping[str, Mapping[str, Any]], shares: Shares) -> dict[str, list[Source]]:
    """Which items of which dataset are in each split of each client."""
    whole = clients["train"]
    sizes = {name: _length("datasets", name, dataset) for name, dataset in whole.items()}
    dealt = {name: shares.deal(name, size) for name, size in sizes.items()}
    sources = {
        part: [Source(name, own, getattr(dealt[name], part)) for name, own in whole.items()]
        for part in PARTS
    }
    for part in (part for part in PARTS[1:] if part in clients):
        named = clients[part]
        check_names(part, named, list(whole))
        sources[part] = [
            Source(name, named[name], np.arange(_length(part, name, named[name])))
            if name in named
            else Source(name, own, np.zeros(0, dtype=np.int64))
            for name, own in whole.items()
        ]
    return sources


def read_once(recipe: Recipe, sources: Mapping[str, Sequence[Source]], reader: Reader) -> Task:
    """Read every item once, and make a task whose splits are read again when they are needed.

    Parameters
    ----------
    recipe : Recipe
    sources : {"train", "validation", "test"} to n_clients sources
    reader : Reader
    """
    targets: list[Tensor] = []
    digests, n_outputs, splits = [], 1, {}
    for part, own in sources.items():
        kept: list[Split] = []
        for source in own:
            split = reader.load(source)
            n_outputs = max(n_outputs, recipe.outputs([split]))
            held = (*tensors(split.inputs), split.targets)
            digests.append(sha256(map(as_array, held)))
            if part == "train":
                targets.append(split.targets)
            if isinstance(source.dataset, IN_MEMORY):
                kept.append(split)
        sizes = [len(source.rows) for source in own]
        lazy = Lazy(sizes, lambda client, own=own: reader.load(own[client]))  # type: ignore[misc]
        splits[part] = kept if len(kept) == len(own) else lazy
    names = [source.client for source in sources["train"]]
    items = sha256([np.frombuffer("".join(digests).encode(), dtype=np.uint8)])
    told = {"items sha256": items}
    return recipe.make(names, splits, targets, n_outputs, labels=reader.labels, fingerprint=told)


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
