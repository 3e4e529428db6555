"""Whether a model fits the samples of a task: tried on one sample before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from hasa_opt.errors import InputError
from hasa_opt.models.profile import unsuitable
from hasa_opt.models.subnets import extract
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.splits import Lazy
from hasa_opt.tasks.task import Task


def check_fit(model: SupernetModel, task: Task) -> None:
    """Refuse a model that does not give one row of outputs for each target of the task.

    Of clients whose samples are alike in type and shape the first is tried; of lazy splits, which
    would have to be loaded, the first client's.

    Parameters
    ----------
    model : SupernetModel
    task : Task

    Raises
    ------
    InputError
        If the model cannot process a sample, or its outputs do not match the targets; the types
        or shapes are named.
    """
    subnet = extract(model, 1.0).to("cpu").eval()
    tried = set()
    for split in task.train[:1] if isinstance(task.train, Lazy) else task.train:
        inputs, targets = split.inputs[:1].cpu(), split.targets[:1]
        kind = (inputs.dtype, inputs.shape, targets.shape)
        if kind not in tried:
            tried.add(kind)
            _check_type(subnet, task, inputs.dtype)
            _check_outputs(subnet, task, inputs, targets)


def _check_type(model: SupernetModel, task: Task, given: torch.dtype) -> None:
    """Refuse numbers of another precision than the weights'."""
    weights = next(model.parameters()).dtype
    if given.is_floating_point and given != weights:
        raise InputError(
            f"the model's weights are {weights}, but task {task.name!r} has inputs of type "
            f"{given}: convert the model with .to({given})"
        )


def _check_outputs(model: SupernetModel, task: Task, inputs: Tensor, targets: Tensor) -> None:
    """Compare the outputs for one sample with its targets."""
    try:
        outputs = model(inputs)
    except (IndexError, RuntimeError, ValueError) as error:
        raise unsuitable(model, inputs, error) from error
    wanted = (*targets.shape, task.n_outputs)
    given = tuple(outputs.shape)
    if given == wanted and model.n_outputs == task.n_outputs:
        axis = _axis_of_classes(model, outputs)
    elif given[:-1] == wanted[:-1]:
        raise InputError(
            f"the model predicts {model.n_outputs} outputs, but task {task.name!r} has "
            f"{task.n_outputs}: build the model with {task.n_outputs}"
        )
    elif (given[0], *given[2:], *given[1:2]) == wanted:
        axis = 1
    else:
        raise InputError(
            f"the model gives outputs of shape {given} for targets of shape {wanted[:-1]}: they "
            f"must have the shape {wanted}, the {task.n_outputs} classes last"
        )
    if axis != len(wanted) - 1:
        raise InputError(
            f"the model's outputs, of shape {given}, have the {task.n_outputs} classes on axis "
            f"{axis}: they must be the last axis, so let its forward() end with "
            f".movedim({axis}, -1)"
        )


def _axis_of_classes(model: SupernetModel, outputs: Tensor) -> int:
    """Find which axis of the outputs the classes are on, where several axes have their number.

    The weights that belong to one class, a part of the last layer, change the outputs at one place
    of that axis alone. Where no layer shows this, it is taken to be the last axis.
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
    return last


def _reaches_one_class(outputs: Tensor, weights: Tensor) -> bool:
    """Whether the outputs depend on the first class's weights, and on no others in a layer."""
    (slopes,) = torch.autograd.grad(
        outputs.sum(), weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return bool(slopes[0].any()) and not bool(slopes[1:].any())
