"""Your own data: a data frame with one row per sample and a column that names the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.checks import listed
from hasa_opt._utils.frames import columns_of
from hasa_opt.errors import InputError
from hasa_opt.tasks.arrays import from_arrays
from hasa_opt.tasks.datasets import from_datasets
from hasa_opt.tasks.dealing import Shares, rows_by_client
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.partitions import by_column, is_hugging_face
from hasa_opt.tasks.task import PADDING, UNKNOWN, Task
from hasa_opt.tasks.tokens import Tokens, encoded, tokenize, vocabulary

__all__ = ["from_frame"]

Columns = Mapping[str, Sequence[Any]]


def from_frame(
    frame: Any,
    *,
    client: str,
    target: str | Sequence[str],
    inputs: str | Sequence[str] | None = None,
    test: Any = None,
    validation: Any = None,
    test_share: float = 0.15,
    validation_share: float = 0.0,
    loss: Loss = "cross_entropy",
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    n_outputs: int | None = None,
    counts: Any = None,
    max_tokens: int = 32,
    min_count: int = 2,
    seed: int = 0,
    name: str = "own",
) -> Task:
    """Make a task of a data frame, one row per sample.

    Parameters
    ----------
    frame : data frame of any library, mapping of column to values, or dataset of Hugging Face
        Rows of the last are read when their client is drawn, as by :func:`from_datasets`.
    client, target : str
        Columns of the client that owns a row, and of what is predicted: numbers, or labels as
        strings. Several targets are a list of columns.
    inputs : str or list of str, optional
        Columns of numbers, ``(n, n_columns)`` floats as they are; or one column of texts,
        ``(n, max_tokens)`` token ids: 0 padding, 1 a word that is rare in training texts, then
        words. Default: all other columns.
    test, validation : data frame, optional
        Given splits, with the same columns.
    test_share, validation_share, loss, metric, higher_is_better, n_outputs, counts, seed, name
        As in :func:`from_arrays`.
    max_tokens, min_count : int
        Words that are kept of a text, and how often a word has to occur in all training texts.

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If a column is missing, holds nothing in a row, or what it holds cannot be used.
    """
    _refuse_next_token(loss)
    settings: dict[str, Any] = {
        "test_share": test_share,
        "validation_share": validation_share,
        "loss": loss,
        "metric": metric,
        "higher_is_better": higher_is_better,
        "n_outputs": n_outputs,
        "counts": counts,
        "seed": seed,
        "name": name,
    }
    parts = {"train": frame, "test": test, "validation": validation}
    given = {part: one for part, one in parts.items() if one is not None}
    if is_hugging_face(frame):
        settings |= {"max_tokens": max_tokens, "min_count": min_count}
        return _lazily(given, client, _names(target), inputs, settings)
    tables = {part: columns_of(one, part) for part, one in given.items()}
    targets = _names(target)
    rest = [column for column in tables["train"] if column not in (client, *targets)]
    read = rest if inputs is None else _names(inputs)
    for table in tables.values():
        _check_columns(table, [client, *targets, *read])
    if len(read) == 1 and isinstance(tables["train"][read[0]][0], str):
        shares = Shares.beside(test, validation, test_share, validation_share, seed)
        trained = _training_rows(tables["train"][client], shares)
        texts = {part: table[read[0]] for part, table in tables.items()}
        samples = _texts(texts, trained, max_tokens, min_count)
    else:
        samples = {part: _numbers(table, read) for part, table in tables.items()}
    return _at_once(tables, client, targets, samples, settings)


def _at_once(
    tables: Mapping[str, Mapping[str, Any]],
    client: str,
    targets: Sequence[str],
    samples: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Task:
    """Make a task of tables whose samples are read."""
    parts = {
        part: (samples[part], _targets(own, targets), own[client]) for part, own in tables.items()
    }
    test, validation = parts.get("test"), parts.get("validation")
    return from_arrays(*parts["train"], test=test, validation=validation, **settings)


def _lazily(
    given: Mapping[str, Any],
    client: str,
    targets: Sequence[str],
    inputs: str | Sequence[str] | None,
    settings: Mapping[str, Any],
) -> Task:
    """Make a task of datasets whose rows are read when their client is drawn."""
    clients = {part: by_column(dataset, client) for part, dataset in given.items()}
    rest = [name for name in given["train"].column_names if name not in (client, *targets)]
    return from_datasets(
        clients["train"],
        inputs=rest if inputs is None else inputs,
        target=targets,
        test=clients.get("test"),
        validation=clients.get("validation"),
        **settings,
    )


def _refuse_next_token(loss: Loss) -> None:
    if loss == "next_token":
        raise InputError(
            "a frame has one target per row, but loss='next_token' predicts each word of a text: "
            "give token ids to from_arrays, or a file to text_csv"
        )


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _check_columns(table: Columns, wanted: Sequence[str]) -> None:
    """Refuse a frame without the columns, and rows without a value."""
    for column in wanted:
        if column not in table:
            raise InputError(
                f"the frame has no column {column!r}: its columns are {listed(list(table), repr)}"
            )
        if not len(table[column]):
            raise InputError("the frame has no rows: give one per sample")
        if None in table[column]:
            raise InputError(
                f"row {list(table[column]).index(None)}, column {column!r} holds nothing: fill it, "
                "or leave the row out"
            )


def _numbers(table: Columns, columns: Sequence[str]) -> Tensor:
    """Columns of numbers, ``(n, n_columns)``."""
    if not columns:
        raise InputError("no columns are left as inputs: name them, inputs=[...]")
    numbers = np.stack([_column(table, column) for column in columns], axis=1)
    return torch.from_numpy(numbers.astype(np.float32))


def _column(table: Columns, column: str) -> npt.NDArray[Any]:
    values = np.asarray(table[column])
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"column {column!r} holds {table[column][0]!r}, which is no number: convert it, or "
            "leave it out with inputs=[...]; one column of texts stands alone"
        )
    return values


def _targets(table: Columns, columns: Sequence[str]) -> Any:
    """Labels or numbers of each row; of several columns ``(n, n_columns)``."""
    if len(columns) > 1:
        return np.stack([_column(table, column) for column in columns], axis=1)
    values = table[columns[0]]
    return list(values) if isinstance(values[0], str) else _column(table, columns[0])


def _training_rows(client: Sequence[Any], shares: Shares) -> list[int]:
    """Rows that will train, in the order of the frame."""
    rows = rows_by_client(client, len(client))
    parts = [own[shares.deal(owner, len(own)).train] for owner, own in rows.items()]
    return sorted(int(row) for row in np.concatenate(parts))


def _texts(
    texts: Mapping[str, Sequence[str]], trained: Sequence[int], max_tokens: int, min_count: int
) -> dict[str, Tensor]:
    """Encode several splits by the words of the training texts, which are in the first of them."""
    split: dict[str, list[Tokens]] = {
        part: [tokenize(text, max_tokens=max_tokens) for text in own] for part, own in texts.items()
    }
    words = vocabulary([[split["train"][row] for row in trained]], min_count)
    ids = {word: UNKNOWN + 1 + row for row, word in enumerate(words)}
    return {part: encoded(own, ids, UNKNOWN, PADDING, max_tokens) for part, own in split.items()}
