"""What a round costs each client: operations and bytes."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping

import torch

from hasa_opt._utils.checks import FloatArray
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.models.inputs import Inputs, each, kind
from hasa_opt.models.profile import parameter_bytes, training_flops, units
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.splits import Split, samples_to_try
from hasa_opt.tasks.task import Task


class Costs:
    """Operations and bytes of subnets; those of equal sizes are profiled once.

    Parameters
    ----------
    model : SupernetModel
    training : LocalTraining
    local : collection of str
        Names of the parameters that clients keep to themselves, so that they are not sent.
    """

    def __init__(
        self, model: SupernetModel, training: LocalTraining, local: Collection[str] = ()
    ) -> None:
        self._model, self._training = model, training
        kept = (model.get_parameter(name) for name in local)
        self._unsent = sum(parameter.nbytes for parameter in kept)
        self._flops: dict[Hashable, int] = {}
        self._bytes: dict[tuple[int, ...], int] = {}

    def check(self, task: Task, widths: FloatArray) -> None:
        """Refuse subnets that cannot process samples; of lazy ones, the first that loads is tried.

        Raises
        ------
        InputError
            Naming the shape of the input.
        """
        for row, split in samples_to_try(task.train).items():
            self.flops(split.inputs, {float(widths[row]): 1})

    def planned(self, width: float, samples: int, epochs: int | None = None) -> dict[float, int]:
        """How many samples train which width, where each batch trains all of the subnet."""
        passes = self._training.epochs if epochs is None else epochs
        return {width: self._training.used(samples) * passes}

    def flops(self, inputs: Inputs, trained: Mapping[float, int]) -> int:
        """Operations of training, where so many samples of the inputs' shape train each width."""
        total, read = 0, kind(inputs)
        for width, count in trained.items():
            key = (*self._model.subnet_sizes(width).values(), read)
            if key not in self._flops:
                sample = each(lambda part: torch.zeros_like(part[:1]), inputs)  # Any would do.
                self._flops[key] = training_flops(self._model, width, sample)
            total += count * self._flops[key]
        return total

    def once(self, splits: Iterable[Split], widths: Iterable[float]) -> int:
        """Operations of training on every sample once, each client's at its width."""
        pairs = zip(splits, widths, strict=True)
        return sum(self.flops(split.inputs, {float(width): len(split)}) for split, width in pairs)

    def judging(self, splits: Iterable[Split], widths: Iterable[float]) -> int:
        """Operations of a forward pass over every sample: a third of those of training."""
        return self.once(splits, widths) // 3

    def forward(self, inputs: Inputs, samples: int, width: float, passes: int) -> int:
        """Operations of forward passes over so many samples of the inputs' shape."""
        return passes * self.flops(inputs, {width: samples}) // 3

    def round(self, task: Task, widths: Iterable[float]) -> int:
        """Operations of a round in which all clients train."""
        pairs = zip(range(len(task)), widths, strict=True)
        return sum(
            self.flops(split.inputs, self.planned(float(width), len(split)))
            for split, width in ((task.train[client], width) for client, width in pairs)
        )

    def mean_width(self, trained: Mapping[float, int]) -> float:
        """Share of the units that was trained, over all samples; NaN if nothing was."""
        samples, whole = sum(trained.values()), units(self._model, 1.0)
        total = sum(units(self._model, width) * count for width, count in trained.items())
        return total / (samples * whole) if samples else math.nan

    def transfer(self, width: float) -> int:
        """Bytes of one transfer of a subnet."""
        key = tuple(self._model.subnet_sizes(width).values())
        if key not in self._bytes:
            self._bytes[key] = parameter_bytes(self._model, width) - self._unsent
        return self._bytes[key]
