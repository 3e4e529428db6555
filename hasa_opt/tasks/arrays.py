"""Your own data: arrays with the client of each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.errors import InputError
from hasa_opt.tasks.assembly import Recipe, check_names
from hasa_opt.tasks.dealing import Shares, rows_by_client
from hasa_opt.tasks.labels import are_labels, class_names, numbered
from hasa_opt.tasks.learning import Loss, Metric
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import PARTS, Task

__all__ = ["from_arrays"]


def from_arrays(
    inputs: Any,
    targets: Any,
    client: Sequence[str] | Sequence[int] | npt.NDArray[Any],
    *,
    test: tuple[Any, Any, Any] | None = None,
    validation: tuple[Any, Any, Any] | None = None,
    test_share: float = 0.15,
    validation_share: float = 0.0,
    loss: Loss = "cross_entropy",
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    n_outputs: int | None = None,
    counts: Any = None,
    seed: int = 0,
    name: str = "own",
) -> Task:
    """Make a task of arrays or tensors, one row per sample.

    Parameters
    ----------
    inputs : (n, ...) array or tensor, or a mapping of them
        Floats, or token ids padded with 0. Several, by the names under which the model takes them,
        or by their positions from 0.
    targets : (n, ...) array or tensor, or n strings
        What the loss takes, see :mod:`hasa_opt.tasks.targets`. Strings are labels of classes.
    client : n strings or whole numbers
        The client that each sample belongs to.
    test, validation : (inputs, targets, client), optional
        Given splits. A client without samples in them is not measured there.
    test_share, validation_share : float
        Share of each client's samples that is held out where no split is given, drawn by the seed
        and the client's name. Every split that can be filled is, training first, then the test.
    loss, metric, higher_is_better
        As in :class:`LearningProblem`.
    n_outputs : int, optional
        Default: what the targets show, such as the largest class plus one.
    counts : (n_clients, n_labels) integers, optional
        What scores compare clients by. Default, always of training targets: how often each class
        or token occurs, each label is a yes (and no label is), or a number lies in each tenth of
        all clients' numbers.
    seed : int
    name : str

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If the parts disagree, or break a rule of :class:`Task`.
    """
    shares = Shares.beside(test, validation, test_share, validation_share, seed)
    given = {part: _triple(part, triple) for part, triple in _given(test, validation)}
    values = [targets, *(triple[1] for triple in given.values())]
    labels: tuple[str, ...] = ()
    if all(are_labels(part, loss) for part in values):
        labels = class_names(values)
        values = [numbered(part, labels) for part in values]
    whole = Split(inputs, values[0], loss)
    rows = rows_by_client(client, len(whole))
    dealt = {owner: shares.deal(owner, len(own)) for owner, own in rows.items()}
    splits = {
        part: [whole.take(rows[owner][getattr(dealt[owner], part)]) for owner in rows]
        for part in PARTS
    }
    wholes = [whole]
    for (part, triple), encoded in zip(given.items(), values[1:], strict=True):
        wholes.append(Split(triple[0], encoded, loss))
        splits[part] = _by_client(part, wholes[-1], triple[2], list(rows))
    recipe = Recipe(loss, metric, higher_is_better, shares, n_outputs, counts, name)
    targets = [split.targets for split in splits["train"]]
    return recipe.make(list(rows), splits, targets, recipe.outputs(wholes), labels=labels)


def _given(test: Any, validation: Any) -> list[tuple[str, Any]]:
    pairs = [("test", test), ("validation", validation)]
    return [(part, triple) for part, triple in pairs if triple is not None]


def _triple(part: str, given: Any) -> tuple[Any, Any, Any]:
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise InputError(f"{part} is a {type(given).__name__}: give (inputs, targets, client)")
    inputs, targets, client = given
    return inputs, targets, client


def _by_client(part: str, whole: Split, client: Any, names: Sequence[str]) -> list[Split]:
    """Part a given split by client; those without samples have an empty one."""
    rows = rows_by_client(client, len(whole))
    check_names(part, rows, names)
    return [whole.take(rows.get(owner, np.zeros(0, dtype=np.int64))) for owner in names]
