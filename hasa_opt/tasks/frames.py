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
from hasa_opt.tasks.dealing import Shares, rows_by_client
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.task import PADDING, UNKNOWN, Task
from hasa_opt.tasks.text import Tokens, lookup, tokenize, vocabulary

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
    frame : data frame of any library, or mapping of column to values
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
    if loss == "next_token":
        raise InputError(
            "a frame has one target per row, but loss='next_token' predicts each word of a text: "
            "give token ids to from_arrays, or a file to text_csv"
        )
    tables = [columns_of(frame, "frame")]
    given = {"test": test, "validation": validation}
    tables += [columns_of(other, part) for part, other in given.items() if other is not None]
    targets = [target] if isinstance(target, str) else list(target)
    rest = [column for column in tables[0] if column not in (client, *targets)]
    read = rest if inputs is None else [inputs] if isinstance(inputs, str) else list(inputs)
    for table in tables:
        _check_columns(table, [client, *targets, *read])
    shares = Shares(0.0 if test is not None else test_share,
                    0.0 if validation is not None else validation_share, seed)  # fmt: skip
    if len(read) == 1 and isinstance(tables[0][read[0]][0], str):
        trained = _training_rows(tables[0][client], shares)
        encoded = _texts([table[read[0]] for table in tables], trained, max_tokens, min_count)
    else:
        encoded = [torch.from_numpy(_numbers(table, read)) for table in tables]
    triples = [
        (samples, _targets(table, targets), table[client])
        for samples, table in zip(encoded, tables, strict=True)
    ]
    present = ["train", *(part for part, other in given.items() if other is not None)]
    found = dict(zip(present, triples, strict=True))
    return from_arrays(
        *found["train"],
        test=found.get("test"),
        validation=found.get("validation"),
        test_share=test_share,
        validation_share=validation_share,
        loss=loss,
        metric=metric,
        higher_is_better=higher_is_better,
        n_outputs=n_outputs,
        counts=counts,
        seed=seed,
        name=name,
    )


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


def _numbers(table: Columns, columns: Sequence[str]) -> npt.NDArray[np.float32]:
    """Columns of numbers, ``(n, n_columns)``."""
    if not columns:
        raise InputError("no columns are left as inputs: name them, inputs=[...]")
    return np.stack([_column(table, column) for column in columns], axis=1).astype(np.float32)


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
    texts: Sequence[Sequence[str]], trained: Sequence[int], max_tokens: int, min_count: int
) -> list[Tensor]:
    """Encode several splits by the words of the training texts, which are in the first of them."""
    split: list[list[Tokens]] = [
        [tokenize(text, max_tokens=max_tokens) for text in part] for part in texts
    ]
    words = vocabulary([[split[0][row] for row in trained]], min_count)
    ids = {word: UNKNOWN + 1 + row for row, word in enumerate(words)}
    encoded = []
    for part in split:
        table = torch.full((len(part), max_tokens), PADDING, dtype=torch.int64)
        for row, tokens in enumerate(part):
            table[row, : len(tokens)] = lookup(tokens, ids, UNKNOWN)
        encoded.append(table)
    return encoded
