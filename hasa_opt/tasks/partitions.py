"""Datasets of Hugging Face and partitions of flwr-datasets as they come; neither is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hasa_opt._utils.names import distinct
from hasa_opt.errors import InputError
from hasa_opt.tasks.dealing import rows_by_client

__all__ = ["by_client", "by_column", "by_split", "is_hugging_face"]


def is_hugging_face(value: Any) -> bool:
    """Whether a value is a dataset of Hugging Face, or several by the names of their splits."""
    return _is_of("datasets", value)


def by_split(datasets: Any) -> dict[str, Any]:
    """Partitioners of a FederatedDataset, where it is one: those of clients as "train".

    Raises
    ------
    InputError
        If it is not clear which split the clients train on.
    """
    if not _is_of("flwr_datasets", datasets) or not hasattr(datasets, "partitioners"):
        return {"train": datasets}
    found = dict(datasets.partitioners)
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    if "train" not in found:
        raise InputError(
            f"the FederatedDataset has partitions of {', '.join(map(repr, found))}: name the one "
            "that trains 'train', or give datasets.partitioners[NAME]"
        )
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def by_client(what: str, given: Any) -> dict[str, Any]:
    """Datasets by the tidy names of their clients; partitions by natural id, or by number.

    Raises
    ------
    InputError
        If it is neither a mapping of clients nor partitioned.
    """
    if _is_of("flwr_datasets", given) and hasattr(given, "load_partition"):
        numbers = range(given.num_partitions)
        names = getattr(given, "partition_id_to_natural_id", {})
        given = {str(names.get(row, row)): given.load_partition(row) for row in numbers}
    if is_hugging_face(given):
        raise InputError(
            f"{what} is a {type(given).__name__} of Hugging Face: give a mapping of each client to "
            "its dataset, or from_frame(dataset, client='COLUMN', ...) where a column names the "
            "client"
        )
    if not isinstance(given, Mapping):
        raise InputError(
            f"{what} is a {type(given).__name__}: give a mapping of each client to its dataset"
        )
    return dict(zip(distinct(list(given), what), given.values(), strict=True))


def by_column(dataset: Any, column: str) -> dict[str, Any]:
    """Part a dataset of Hugging Face by a column that names the client of each row.

    Raises
    ------
    InputError
        If it is another kind of data, or there is no such column.
    """
    if not is_hugging_face(dataset) or not hasattr(dataset, "select"):
        raise InputError(
            f"a split is a {type(dataset).__name__}: give a Dataset of Hugging Face for each, such "
            "as from_frame(splits['train'], test=splits['test'], ...)"
        )
    names = dataset.column_names
    if column not in names:
        raise InputError(f"the dataset has no column {column!r}: its columns are {names}")
    rows = rows_by_client(list(dataset[column]), len(dataset))
    return {owner: dataset.select(own) for owner, own in rows.items()}


def _is_of(package: str, value: Any) -> bool:
    """Whether a value is an instance of a class of some package."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)
