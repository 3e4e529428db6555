"""BatchNorm in subnets: which running statistics a tested model uses.

What a BatchNorm layer sees depends on the width of all layers below it, so the running mean and
variance of one width are wrong at another, and an average over widths is right at none. They are
therefore never averaged across widths (:func:`aggregate` keeps the server's, whatever clients
tracked), but made for each width on its own after training, in one of two ways: from all clients'
data after the aggregation (:class:`Static`), or by the clients of that width (:class:`PerWidth`).
GroupNorm needs none of this: it normalises each sample by itself, in training and afterwards, and
keeps no statistics. It also works with batches of one sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.federated.batches import batches
from hasa_opt.federated.jobs import Update
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.federated.units import identity
from hasa_opt.models.cuts import Kept
from hasa_opt.models.inputs import Inputs, predict, tensors
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.subnets import extract
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.splits import Split, loaded
from hasa_opt.tasks.task import Task

_NAMES = ("running_mean", "running_var", "num_batches_tracked")
_FAR = 2.0**20
"""A start far from all data: what a layer's statistics keep of it tells the weight of a batch, to
the digits of single precision."""


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Find the entries of ``state_dict()`` that are running statistics; they share the memory."""
    return {
        name: buffer
        for name, buffer in model.named_buffers(remove_duplicate=False)
        if name.rpartition(".")[2] in _NAMES
    }


@torch.no_grad()
def estimate_statistics(
    model: SupernetModel,
    splits: Iterable[Split],
    batch_size: int = 64,
    *,
    drop_single: bool = False,
) -> None:
    """Estimate a model's BatchNorm statistics anew from data (HeteroFL, arXiv:2010.01264).

    The means and variances of all batches are averaged, weighted by their samples; batches that
    hold NaN or infinity are left out. The model runs as in training, dropout included, with a fixed
    seed. Layers that track nothing keep what they hold, and nothing is done without such layers.

    Parameters
    ----------
    model : SupernetModel
        A supernet or a subnet. Its running statistics are overwritten, its mode stays.
    splits : iterable of Split
        For example the training splits of all clients.
    batch_size : int
        Samples per batch.
    drop_single : bool
        Whether a split's last batch is left out where it is a single sample.
    """
    statistics = running_statistics(model)
    if not statistics:
        return
    was_training, device = model.training, next(model.parameters()).device
    model.train()
    before = {name: tensor.clone() for name, tensor in statistics.items()}
    sums = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in statistics.items()}
    momenta: Mapping[str, float] = {}
    seen = 0
    with seeded_rng(0):
        for split in splits:
            single = drop_single and len(split) % batch_size == 1
            order = torch.arange(len(split) - single)
            for inputs, targets in batches(split, batch_size, order, device):
                if not all(bool(part.isfinite().all()) for part in tensors(inputs)):
                    continue
                momenta = momenta or _momenta(model, statistics, inputs)
                _forward_from(model, statistics, inputs, 0.0)
                for name in statistics:
                    sums[name] += statistics[name].to(torch.float64) * len(targets)
                seen += len(targets)
    for name, tensor in statistics.items():
        share = momenta.get(name, 0.0) * seen
        tensor.copy_(sums[name] / share if share else before[name])
    model.train(was_training)


def _momenta(
    model: SupernetModel, statistics: Mapping[str, Tensor], inputs: Inputs
) -> dict[str, float]:
    """Find the weight that each mean and variance gives to a batch; 0 without tracking."""
    ends = []
    for start in (0.0, _FAR):
        with seeded_rng(0):
            _forward_from(model, statistics, inputs, start)
        ends.append({name: t.to(torch.float64, copy=True) for name, t in statistics.items()})
    return {
        name: 1 - float((ends[1][name] - near).median()) / _FAR
        for name, near in ends[0].items()
        if statistics[name].is_floating_point()
    }


def _forward_from(
    model: SupernetModel, statistics: Mapping[str, Tensor], inputs: Inputs, start: float
) -> None:
    """Run a batch with statistics that begin at a value; no batch has been counted."""
    for tensor in statistics.values():
        tensor.fill_(start if tensor.is_floating_point() else 0)
    predict(model, inputs)


class Static:
    """Statistics that are re-estimated from all clients' training data (HeteroFL's sBN).

    What clients track while they train is dropped. After the round's aggregation each model that is
    tested sees all training data once; models made of the same units do so together.

    Parameters
    ----------
    model : SupernetModel
        The supernet.
    splits : sequence of Split
        The training data of all clients; those that cannot be loaded are left out.
    batch_size : int
        Samples per batch.
    drop_single : bool
        Whether a client's last batch is left out where it is a single sample.
    """

    def __init__(
        self,
        model: SupernetModel,
        splits: Sequence[Split],
        batch_size: int,
        drop_single: bool = False,
    ) -> None:
        self._model, self._splits = model, splits
        self._batch_size, self._drop_single = batch_size, drop_single
        self._known: dict[tuple[bytes, ...], dict[str, Tensor]] = {}

    def begin(self) -> None:
        """Begin a round: what is known belongs to the supernet before it."""
        self._known = {}

    def learn(self, update: Update) -> None:
        """Take a client's update into account; these statistics do not need it."""

    def fill(self, model: SupernetModel, kept: Kept) -> None:
        """Set the running statistics of a model that was cut from the newest supernet.

        Parameters
        ----------
        model : SupernetModel
            The model to be tested.
        kept : dict of str to slice or int64 tensor
            The units of the supernet that it holds.
        """
        statistics = running_statistics(model)
        if not statistics:
            return
        units = identity(self._model, kept)
        if units not in self._known:
            splits = (split for _, split in loaded(self._splits))
            estimate_statistics(model, splits, self._batch_size, drop_single=self._drop_single)
            self._known[units] = {name: tensor.clone() for name, tensor in statistics.items()}
        for name, value in self._known[units].items():
            statistics[name].copy_(value)


class PerWidth(Static):
    """Statistics that clients report, averaged over those of one width alone.

    As in slimmable networks (arXiv:1812.08928, arXiv:1903.05134), every width has its own. Each
    client estimates those of its subnet from its own samples once it has trained
    (:func:`local_train`); clients that trained the same units are averaged by samples. Where no
    client trained the units that are tested in this round, they are estimated as in
    :class:`Static`.
    """

    def begin(self) -> None:
        """Begin a round: what is known belongs to the supernet before it."""
        super().begin()
        self._totals: defaultdict[tuple[bytes, ...], float] = defaultdict(float)

    def learn(self, update: Update) -> None:
        """Average a client's statistics into those of its units, by samples."""
        units = identity(self._model, update.units(self._model))
        self._totals[units] += update.samples
        share = update.samples / self._totals[units] if self._totals[units] else 0.0
        known = self._known.setdefault(units, {})
        for name, tensor in running_statistics(self._model).items():
            if tensor.is_floating_point():
                new = update.state[name].to(torch.float64)
                known[name] = torch.lerp(known.get(name, new), new, share)


def start_statistics(model: SupernetModel, task: Task, settings: LocalTraining) -> Static:
    """Start what gives tested models their statistics in a run.

    Parameters
    ----------
    model : SupernetModel
    task : Task
    settings : LocalTraining

    Raises
    ------
    InputError
        If a client's last batch is one sample, and the model's BatchNorm cannot normalise that.
    """
    if running_statistics(model):
        _check_last_batches(model, task, settings)
    kind = Static if settings.batch_norm == "static" else PerWidth
    return kind(model, task.train, settings.batch_size, drop_single=bool(settings.drop_last))


def _check_last_batches(model: SupernetModel, task: Task, settings: LocalTraining) -> None:
    """Refuse batches of one sample if the model cannot normalise them."""
    size, samples = settings.batch_size, task.samples.tolist()
    alone = [row for row, n in enumerate(samples) if size == 1 or settings.used(n) % size == 1]
    found = next(loaded(task.train, alone), None)
    if found is None or _normalises_one(model, found[1]):
        return
    remedy = 'leave such batches out with LocalTraining(drop_last="single")'
    raise InputError(
        f"client {task.client_names[alone[0]]!r} has {samples[alone[0]]} training sample(s) in "
        f"batches of {size}: a batch of one sample is left, which BatchNorm cannot normalise: "
        f"{'use larger batches' if size == 1 else remedy}, or GroupNorm"
    )


def _normalises_one(model: SupernetModel, split: Split) -> bool:
    """Whether a batch of one sample has finite statistics."""
    subnet = extract(model, 1.0)
    try:
        estimate_statistics(subnet, [split.blank()])
    except ValueError:
        return False
    return all(bool(tensor.isfinite().all()) for tensor in running_statistics(subnet).values())
