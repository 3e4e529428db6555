"""Targets of a split by the loss that they are for: type, shape, and what stands for none.

=================  ==================================  ==========================================
loss               targets                             ignored
=================  ==================================  ==========================================
"cross_entropy"    whole numbers from 0, ``(n, ...)``  -100
"cross_entropy"    rows that sum to 1, ``(n, ..., C)`` none
"next_token"       whole numbers from 0, ``(n, T)``    -100; -1 is a word outside the vocabulary
"mse"              finite numbers, ``(n, ...)``        none
"bce_with_logits"  from 0 to 1, ``(n, ...)``           none
a function         any numbers, ``(n, ...)``           what the function ignores
=================  ==================================  ==========================================
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hasa_opt._utils.checks import array
from hasa_opt._utils.rational import written
from hasa_opt.errors import InputError
from hasa_opt.tasks.learning import OF_CLASSES, Loss, check_loss

__all__ = ["INTEGERS", "as_targets", "as_tensor", "check_shape"]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

_ROUNDING = 1e-3
"""How far from 1 a row of probabilities may sum to: more than half precision leaves of 1,000."""


def as_tensor(values: Any, what: str) -> Tensor:
    """Convert arrays and lists; tensors stay what they are.

    Raises
    ------
    InputError
        For what holds no numbers, or rows of several lengths.
    """
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


def as_targets(given: Tensor, loss: Loss) -> Tensor:
    """Convert targets to the type of their kind.

    Parameters
    ----------
    given : (n, ...) tensor
    loss : str or function

    Raises
    ------
    InputError
        If they are not what the loss takes: the value or type, and the remedy.
    """
    check_loss(loss)
    if given.dim() == 0:
        raise InputError(f"the targets are the number {given.item()}: give one per input")
    if given.is_complex():
        raise InputError(f"the targets are {given.dtype}: give real numbers")
    is_whole = given.dtype in (*INTEGERS, torch.bool)
    if callable(loss):
        return given.to(torch.int64) if is_whole else given
    if loss in ("mse", "bce_with_logits"):
        return _numbers(given, loss)
    if is_whole:
        return given.to(torch.int64)
    if loss == "cross_entropy" and _are_shares(given):
        return given
    raise InputError(
        f"the targets are {given.dtype}, but classes and tokens are whole numbers from 0: give "
        "targets.long(); of one-hot targets give targets.argmax(axis) of the classes' axis; soft "
        'labels are rows that sum to 1, and numbers need loss="mse"'
    )


def _numbers(given: Tensor, loss: str) -> Tensor:
    """Targets of losses that compare numbers."""
    numbers = given if given.is_floating_point() else given.to(torch.float32)
    wrong = ~numbers.isfinite()
    if bool(wrong.any()):
        raise InputError(
            f"the targets hold {float(numbers[wrong][0])}: loss={loss!r} takes finite numbers, so "
            "leave such samples out, or give a loss function that ignores them"
        )
    if loss == "bce_with_logits":
        wrong = (numbers < 0) | (numbers > 1)
        if bool(wrong.any()):
            raise InputError(
                f"the targets hold {written(float(numbers[wrong][0]))}: loss={loss!r} takes shares "
                "from 0 to 1; one class of several is loss='cross_entropy'"
            )
    return numbers


def _are_shares(given: Tensor) -> bool:
    """Whether rows are probabilities."""
    if given.dim() < 2:
        return False
    return bool(((given.sum(-1) - 1).abs() < _ROUNDING).all() and (given >= 0).all())


def check_shape(targets: Tensor, inputs: Tensor, loss: Loss) -> None:
    """Refuse classes in a column, and one-hot rows; positions of a sequence may look the same.

    Raises
    ------
    InputError
        Naming the shape and the remedy.
    """
    if loss not in OF_CLASSES:
        return
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
