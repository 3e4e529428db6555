"""Why clients are trained one after another where others are trained together, in words."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hasa_opt._utils.showing import first_line, in_a_word
from hasa_opt.federated.batch_norm import running_statistics
from hasa_opt.federated.jobs import Job
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.federated.stepper import steps_entry_by_entry
from hasa_opt.models.supernet import SupernetModel

ALONE = "trained alone"
"""Entry of a history's metadata: reason -> how often a client was trained alone for it."""

FASTER = "it is faster alone"
"""What the engine "auto" says of those that it does not stack."""


def why_alone(server: SupernetModel, jobs: Sequence[Job], settings: LocalTraining) -> str:
    """Say why jobs of equal sizes cannot be stacked, before a stack is tried; empty if they can.

    In a stack each job does the same in every step, its samples are one tensor, and losses of
    classes alone are summed client by client.
    """
    if len(jobs) < 2:
        return "no other client has a subnet and samples of its shapes"
    if not all(job.problem.has_classes(job.split.targets) for job in jobs):
        return "the targets are not classes"
    if not all(isinstance(job.split.inputs, Tensor) for job in jobs):
        return "the inputs are several tensors"
    if any(job.towards is not None for job in jobs):
        return "each client trains a model of its own"
    if settings.scaler:
        return "the scaler divides what each layer gives"
    if any(job.draw is not None for job in jobs):
        return "each batch trains a width of its own"
    if running_statistics(server):
        return "BatchNorm's statistics of a batch are those of one client"
    if not steps_entry_by_entry(settings.optimizer):  # type: ignore[arg-type]
        return f"the optimizer {in_a_word(settings.optimizer)} looks at more than single entries"
    return ""


def not_reproduced(server: SupernetModel) -> str:
    """Say that no stack gives what the plain subnet gives."""
    return f"{type(server).__name__} gives something else, or nothing, for a stack of clients"


def raised(error: Exception) -> str:
    """Say that a stack raised an exception."""
    return f"trained together with others, {first_line(error)}"
