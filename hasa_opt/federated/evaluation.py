"""What clients keep to themselves: their output bias, and the model that they trained last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.federated.batch_norm import Static
from hasa_opt.federated.batches import batches, known_logits, output_layer
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.units import SCHEMES
from hasa_opt.models.cuts import Kept
from hasa_opt.models.subnets import extract, prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.task import IGNORED

if TYPE_CHECKING:
    from hasa_opt.tasks import Split, Task


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a split.

    Parameters
    ----------
    loss
        Mean cross entropy over the targets with a known label, in nats; NaN if there is none.
    accuracy
        Share of the targets that are predicted, between 0 and 1; a label outside the vocabulary
        counts as an error. NaN without targets.
    """

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: SupernetModel, split: Split, batch_size: int = 64) -> Evaluation:
    """Measure loss and top-1 accuracy without training; the model's mode is left as it was."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    loss, correct, n_known, n_targets = 0.0, 0, 0, 0
    head, order = output_layer(model, split), torch.arange(len(split.inputs))
    for inputs, targets in batches(split, batch_size, order, device):
        logits, labels = known_logits(model, head, inputs, targets)
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        n_known += len(labels)
        n_targets += int((targets != IGNORED).sum())
        correct += int((logits.argmax(dim=-1) == labels).sum())
    model.train(was_training)
    return Evaluation(
        loss / n_known if n_known else math.nan, correct / n_targets if n_targets else math.nan
    )


OUTPUT_BIASES = ("shared", "local")
DEPLOYMENTS = ("global", "personal")

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Mixes among which validation data choose."""

_BIAS, _UNITS, _MODEL = "bias", "units", "model"


class Personal:
    """State of the clients of one run that the server never sees.

    Parameters
    ----------
    model
        The supernet.
    local_bias
        Whether each client has an output bias of its own, which is neither sent nor averaged.
    keep_models
        Whether the clients keep the model that they trained last.

    Raises
    ------
    InputError
        If the model has no output bias that could be kept.
    """

    def __init__(self, model: SupernetModel, local_bias: bool, keep_models: bool) -> None:
        self.bias = output_bias(model) if local_bias else None
        self._keep_models = keep_models
        self._held: dict[int, dict[str, Tensor]] = {}

    @property
    def local(self) -> frozenset[str]:
        """Names of the parameters that are not averaged."""
        return frozenset() if self.bias is None else frozenset({self.bias})

    def own(self, client: int) -> dict[str, Tensor]:
        """Parameters that a client has instead of the server's."""
        held = self._held.get(client, {})
        return {self.bias: held[_BIAS]} if self.bias is not None and _BIAS in held else {}

    def take(self, client: int, state: Mapping[str, Tensor], kept: Kept) -> None:
        """Let a client keep what it has trained."""
        held: dict[str, Tensor] = {}
        if self.bias is not None:
            held[_BIAS] = state[self.bias].clone()
        if self._keep_models:
            held |= {f"{_UNITS}/{group}": _listed(units) for group, units in kept.items()}
            held |= {f"{_MODEL}/{name}": tensor.clone() for name, tensor in state.items()}
        if held:
            self._held[client] = held

    def globally(
        self, server: SupernetModel, client: int, width: float, kept: Kept, statistics: Static
    ) -> SupernetModel:
        """Cut a client's subnet of the newest supernet, with the client's own output bias."""
        subnet = extract(server, width, kept)
        statistics.fill(subnet, kept)
        with torch.no_grad():
            for name, tensor in self.own(client).items():
                subnet.get_parameter(name).copy_(tensor)
        return subnet

    def personally(
        self,
        server: SupernetModel,
        client: int,
        width: float,
        kept: Kept,
        statistics: Static,
        mixes: Sequence[float],
    ) -> Iterator[SupernetModel]:
        """Mix a client's last local model into its subnet: ``global + mix (local - global)``.

        The subnet is that of the units which the client trained last. A client that has trained
        nothing has the global one. Running statistics are the global ones.
        """
        held = self._held.get(client, {})
        last: Kept = _below(held, _UNITS) or kept
        local = _below(held, _MODEL)
        for mix in mixes:
            subnet = self.globally(server, client, width, last, statistics)
            with torch.no_grad():
                for name, parameter in subnet.named_parameters():
                    parameter.lerp_(local.get(name, parameter), mix)
            yield subnet

    def state(self) -> dict[str, Tensor]:
        """All that clients hold, by names such as ``"3/model/decoder.bias"``."""
        return {
            f"{client}/{name}": tensor
            for client, held in self._held.items()
            for name, tensor in held.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` gave."""
        self._held = {}
        for key, tensor in state.items():
            client, _, name = key.partition("/")
            self._held.setdefault(int(client), {})[name] = tensor


def output_bias(model: SupernetModel) -> str:
    """Name of the bias of a model's output layer.

    Raises
    ------
    InputError
        If no linear layer with a bias gives the outputs.
    """
    found = find_output_bias(model)
    if found is None:
        raise InputError(
            f"{type(model).__name__} has no linear output layer with a bias: "
            'use output_bias="shared"'
        )
    return found


def find_output_bias(model: SupernetModel) -> str | None:
    """Name of the bias of a model's output layer; None if no linear layer gives the outputs."""
    cuts, shapes = model.cuts(), {name: t.shape for name, t in model.state_dict().items()}
    found = [
        name
        for name, shape in shapes.items()
        if name.endswith("bias") and cuts[name] == (None,) and shape == (model.n_outputs,)
        if len(shapes.get(name.removesuffix("bias") + "weight", ())) == 2
    ]
    return found[-1] if found else None


def _below(held: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    """Entries whose names begin with a folder, without it."""
    prefix = f"{folder}/"
    return {name[len(prefix) :]: held[name] for name in held if name.startswith(prefix)}


def _listed(units: slice | Tensor) -> Tensor:
    """Units of a group as indices."""
    if isinstance(units, slice):
        return torch.arange(units.start or 0, units.stop, units.step or 1)
    return units


OTHERS = ("never", "last", "every")


@dataclass(frozen=True)
class Deployments:
    """Tests clients after a round, on the models that they would use.

    Parameters
    ----------
    task
        The clients' data.
    widths
        Width of each client's subnet, shape (n_clients,).
    scheme, evaluate, deploy, mix, others
        As for :func:`hasa_opt.federated.run`.
    statistics
        Gives tested models their running statistics.
    personal
        What the clients keep to themselves.
    """

    task: Task
    widths: FloatArray
    scheme: str
    evaluate: Literal["subnet", "supernet"]
    deploy: Literal["global", "personal"]
    mix: float | Literal["validation"]
    others: Literal["never", "last", "every"]
    statistics: Static
    personal: Personal

    def measure(self, server: SupernetModel, clients: IntArray, now: Round, last: bool) -> None:
        """Write losses and accuracies of the newest supernet into a round's row."""
        others = self.others == "every" or (self.others == "last" and last)
        mix = np.nan
        if self.deploy == "personal" or others:
            mix = self._chosen_mix(server, clients, now)
            now.row["mix"][clients] = mix
        if self.evaluate == "supernet" or others:
            self.statistics.fill(server, prefix(server, 1.0))
        for client in clients.tolist():
            model = self._deployed(server, client, now, mix)
            for part, splits in (("validation", self.task.validation), ("test", self.task.test)):
                found = evaluate(model, splits[client])
                now.row[f"{part}_loss"][client] = found.loss
                now.row[f"{part}_accuracy"][client] = found.accuracy
            if others:
                test = self.task.test[client]
                whole = self._whole(server, client)
                (mixed,) = self._personal(server, client, now, [mix])
                now.row["supernet_accuracy"][client] = evaluate(whole, test).accuracy
                now.row["personal_accuracy"][client] = evaluate(mixed, test).accuracy

    def _deployed(
        self, server: SupernetModel, client: int, now: Round, mix: float
    ) -> SupernetModel:
        if self.evaluate == "supernet":
            return self._whole(server, client)
        if self.deploy == "personal":
            return next(self._personal(server, client, now, [mix]))
        width, kept = self.widths[client], self._kept(server, client, now)
        return self.personal.globally(server, client, width, kept, self.statistics)

    def _whole(self, server: SupernetModel, client: int) -> SupernetModel:
        """Give the uncut supernet, whose running statistics are known."""
        if not self.personal.own(client):
            return server
        kept = prefix(server, 1.0)
        return self.personal.globally(server, client, 1.0, kept, self.statistics)

    def _personal(
        self, server: SupernetModel, client: int, now: Round, mixes: Sequence[float]
    ) -> Iterator[SupernetModel]:
        width, kept = self.widths[client], self._kept(server, client, now)
        return self.personal.personally(server, client, width, kept, self.statistics, mixes)

    def _kept(self, server: SupernetModel, client: int, now: Round) -> Kept:
        return SCHEMES[self.scheme](server, self.widths[client], (now.seed, now.number, client))

    def _chosen_mix(self, server: SupernetModel, clients: IntArray, now: Round) -> float:
        """Choose the mix with the most correct predictions on all validation data together.

        The common model where there are none.
        """
        if self.mix != "validation":
            return self.mix
        correct = np.zeros(len(MIXES))
        for client in clients.tolist():
            split = self.task.validation[client]
            if targets := count_targets(split):
                for row, model in enumerate(self._personal(server, client, now, MIXES)):
                    correct[row] += evaluate(model, split).accuracy * targets
        return MIXES[int(np.argmax(correct.round(6)))]


def count_targets(split: Split) -> int:
    """Count the targets by which a split is judged; padding is none."""
    return int((split.targets != IGNORED).sum())
