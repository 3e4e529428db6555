"""Labels: strings that name classes, and the numbers that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hasa_opt._utils.checks import IntArray, array, listed
from hasa_opt.errors import InputError
from hasa_opt.tasks.learning import Loss, takes_classes

__all__ = ["are_labels", "class_names", "numbered"]


def are_labels(targets: Any, loss: Loss) -> bool:
    """Whether targets are strings.

    Raises
    ------
    InputError
        If they are, and the loss takes numbers.
    """
    if isinstance(targets, Tensor):
        return False
    table = array(targets, "the targets")
    if not table.size or not _is_text(table):
        return False
    if loss == "next_token":
        raise InputError(
            f"the targets hold {str(table.flat[0])!r}: loss='next_token' takes token ids, so give "
            "these, or a file of texts to text_csv"
        )
    if not takes_classes(loss):
        raise InputError(
            f"the targets hold {str(table.flat[0])!r}: loss={loss!r} takes numbers, and strings "
            "name classes"
        )
    return True


def _is_text(table: npt.NDArray[Any]) -> bool:
    return table.dtype.kind in "UT" or (
        table.dtype.kind == "O" and all(isinstance(value, str) for value in table.flat)
    )


def class_names(tables: Iterable[Any]) -> tuple[str, ...]:
    """All labels that occur, in alphabetical order."""
    return tuple(sorted({str(label) for table in tables for label in np.asarray(table).flat}))


def numbered(labels: Any, names: Sequence[str]) -> IntArray:
    """Numbers of labels, in the order of their names.

    Raises
    ------
    InputError
        For a label that is none of the names.
    """
    table, ids = np.asarray(labels), {label: row for row, label in enumerate(names)}
    strange = next((str(label) for label in table.flat if str(label) not in ids), None)
    if strange is not None:
        raise InputError(f"the label {strange!r} is none of labels=[{listed(names, repr)}]")
    numbers = np.array([ids[str(label)] for label in table.flat], dtype=np.int64)
    return numbers.reshape(table.shape)
