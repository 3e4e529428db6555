"""Whether a model fits the samples of a task: tried on one sample before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import each, predict, tensors
from hasa_opt.models.profile import unsuitable
from hasa_opt.models.subnets import extract
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.learning import CLASSES, LearningProblem
from hasa_opt.tasks.splits import Split, samples_to_try
from hasa_opt.tasks.task import Task

_TRIED = 3
"""Samples that a function of outputs and targets is tried on: more than one, and no usual size."""


def check_fit(model: SupernetModel, task: Task) -> None:
    """Refuse a model that does not give one row of outputs for each target of the task.

    Of clients whose samples are alike in type and shape the first is tried; of lazy splits, which
    would have to be loaded, the first that can be.

    Parameters
    ----------
    model : SupernetModel
    task : Task

    Raises
    ------
    InputError
        If the model cannot process a sample, or its outputs do not match the targets; the types
        or shapes are named. If no lazy split has a target to learn.
    """
    tried, splits = set(), samples_to_try(task.train).values()
    for split in splits:
        if split.kind not in tried:
            tried.add(split.kind)
            check_split(model, split, f"task {task.name!r}", task.n_outputs, task.problem)
    task.check_learnable(splits)


def check_split(
    model: SupernetModel,
    split: Split,
    whose: str,
    n_outputs: int,
    problem: LearningProblem = CLASSES,
) -> None:
    """Refuse a model whose outputs are not what the loss compares with the targets of a split.

    Parameters
    ----------
    model : SupernetModel
    split : Split
        Its first sample is tried.
    whose : str
        Whose samples they are, for messages.
    n_outputs : int
        Classes that the targets may be.
    problem : LearningProblem
        What is learned.

    Raises
    ------
    InputError
        As for :func:`check_fit`.
    """
    own = callable(problem.loss) or not isinstance(problem.metric, str)
    rows = [0] * (_TRIED if own else 1)
    inputs, targets = each(lambda part: part[rows].cpu(), split.inputs), split.targets[rows]
    for part in tensors(inputs):
        _check_type(model, whose, part.dtype)
    whole = extract(model, 1.0).to("cpu").eval()
    problem.to("cpu")
    try:
        outputs = predict(whole, inputs)
    except (IndexError, RuntimeError, ValueError, TypeError) as error:
        raise unsuitable(model, inputs, error) from error
    if problem.has_classes(targets):
        _check_outputs(whole, outputs, (*targets.shape, n_outputs), whose)
    elif problem.loss == "cross_entropy":
        _check_outputs(whole, outputs, tuple(targets.shape), whose)
    elif callable(problem.loss):
        _check_loss(problem, outputs, targets, whose)
    else:
        _check_numbers(problem.loss, outputs, targets, whose)
    if callable(problem.metric) and not problem.metric_object:
        _check_metric(problem, outputs, targets)


def _check_loss(problem: LearningProblem, outputs: Any, targets: Tensor, whose: str) -> None:
    """Refuse a loss function that raises, or that nothing can be learned from."""
    try:
        with _NoOuter(f"the loss {problem.loss_name}"):
            loss = problem.summed_loss(outputs, targets).total
    except InputError:
        raise
    except Exception as error:  # Whatever the caller's function raises.
        raise InputError(
            f"the loss {problem.loss_name} cannot compare the model's outputs, {_shapes(outputs)}, "
            f"with targets of shape {tuple(targets.shape)} of {whose} ({first_line(error)}): "
            "correct it, or the model"
        ) from error
    if not loss.requires_grad:
        raise InputError(
            f"the loss {problem.loss_name} has no gradient: compute it from the model's outputs "
            "with functions of torch alone"
        )


@torch.no_grad()
def _check_metric(problem: LearningProblem, outputs: Any, targets: Tensor) -> None:
    """Refuse a metric function that compares outputs with the targets of other samples."""
    metric: Any = problem.metric
    try:
        with _NoOuter(f"the metric {problem.metric_name}"):
            metric(outputs, targets)
    except InputError:
        raise
    except Exception:  # Such as a correlation's, of few samples that are alike.
        return


class _NoOuter(TorchFunctionMode):
    """Refuses to compare a column of outputs with a row of targets.

    In torch ``(n, 1)`` beside ``(n,)`` is each output beside each target, ``(n, n)``.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = (*args, *(kwargs or {}).values())
        shapes = {tuple(part.shape) for part in given if isinstance(part, Tensor)}
        found = func(*args, **(kwargs or {}))
        spread = isinstance(found, Tensor) and tuple(found.shape) == (_TRIED, _TRIED)
        if {(_TRIED, 1), (_TRIED,)} <= shapes and (spread or func.__name__.endswith("_loss")):
            raise InputError(
                f"{self._what} compares numbers of shapes (n, 1) and (n,), which torch spreads to "
                "(n, n): let the model end in .squeeze(-1), or compare outputs[:, 0]"
            )
        return found


def _check_numbers(loss: str, outputs: Any, targets: Tensor, whose: str) -> None:
    """Refuse outputs that are not one number for each of the targets."""
    if not isinstance(outputs, Tensor) or _in_rows(outputs) != _in_rows(targets):
        raise InputError(
            f"the model gives outputs of shape {_shapes(outputs)} for targets of shape "
            f"{_shapes(targets)} of {whose}: loss={loss!r} takes one output for each target, so "
            "let the model end in as many"
        )


def _in_rows(numbers: Tensor) -> tuple[int, ...]:
    """Shape of numbers, where one number in a column is one number."""
    shape = tuple(numbers.shape)
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def _shapes(outputs: Any) -> str:
    """Shapes of outputs, in the structure that they have."""
    return str(tree_map_only(Tensor, lambda tensor: tuple(tensor.shape), outputs))


def _check_type(model: SupernetModel, whose: str, given: torch.dtype) -> None:
    """Refuse numbers of another precision than the weights'."""
    weights = next(model.parameters()).dtype
    if given.is_floating_point and given != weights:
        raise InputError(
            f"the model's weights are {weights}, but {whose} has inputs of type {given}: convert "
            f"the model with .to({given})"
        )


def _check_outputs(model: SupernetModel, outputs: Any, wanted: tuple[int, ...], whose: str) -> None:
    """Refuse outputs that are not of the shape of the targets, with the classes behind it."""
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"the model gives {_shapes(outputs)}, which is no tensor: let its forward() return the "
            "scores of the classes, or give the task a loss function of outputs and targets"
        )
    given, classes = tuple(outputs.shape), wanted[-1]
    if given == wanted and model.n_outputs == classes:
        axis = _axis_of_classes(model, outputs)
    elif given[:-1] == wanted[:-1]:
        raise InputError(
            f"the model predicts {model.n_outputs} outputs, but {whose} has {classes}: build the "
            f"model with {classes}"
        )
    elif (given[0], *given[2:], *given[1:2]) == wanted:
        axis = 1
    else:
        raise InputError(
            f"the model gives outputs of shape {given} for targets of shape {wanted[:-1]}: they "
            f"must have the shape {wanted}, the {classes} classes last"
        )
    if axis != len(wanted) - 1:
        raise InputError(
            f"the model's outputs, of shape {given}, have the {classes} classes on axis {axis}: "
            f"they must be the last axis, so let its forward() end with .movedim({axis}, -1)"
        )


def _axis_of_classes(model: SupernetModel, outputs: Tensor) -> int:
    """Find which axis of the outputs the classes are on, where several axes have their number.

    The weights that belong to one class, a part of the last layer, change the outputs at one place
    of that axis alone. Shares of the classes, or their logarithms, show it too: along that axis
    they sum to 1. Where nothing shows it, it is taken to be the last axis.
    """
    last = outputs.dim() - 1
    likely = [axis for axis in range(last, 0, -1) if outputs.shape[axis] == model.n_outputs]
    if len(likely) == 1:
        return last
    cuts = model.cuts()
    for name, weights in reversed(list(model.named_parameters())):
        if len(weights) == model.n_outputs and cuts[name][0] is None and weights.requires_grad:
            for axis in likely:
                if _reaches_one_class(outputs.select(axis, 0), weights):
                    return axis
    for shares in (outputs, outputs.exp()):
        of_one = [axis for axis in likely if _are_ones(shares.sum(axis))]
        if len(of_one) == 1:
            return of_one[0]
    return last


def _are_ones(sums: Tensor) -> bool:
    return torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-3)


def _reaches_one_class(outputs: Tensor, weights: Tensor) -> bool:
    """Whether the outputs depend on the first class's weights, and on no others in a layer."""
    (slopes,) = torch.autograd.grad(
        outputs.sum(), weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return bool(slopes[0].any()) and not bool(slopes[1:].any())
