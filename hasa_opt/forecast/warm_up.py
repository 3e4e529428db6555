"""A short federated warm-up on one part of the training data, judged sample by sample on the rest.

What :func:`hasa_opt.probe` is made of; the learning side.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.streams import MENU, Key, client_stream
from hasa_opt.federated import LocalTraining, Update, aggregate, estimate_statistics
from hasa_opt.federated.batch_norm import start_statistics
from hasa_opt.federated.batches import batches
from hasa_opt.federated.costs import Costs
from hasa_opt.federated.engines import ENGINES, Job
from hasa_opt.federated.evaluation import find_output_bias
from hasa_opt.federated.participation import draw_clients
from hasa_opt.federated.units import Draw
from hasa_opt.models.subnets import extract, prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks import Lazy, Split, Task
from hasa_opt.tasks.task import IGNORED, folds

__all__ = [
    "Judged",
    "Measured",
    "Plan",
    "WarmUp",
    "halves",
    "judge",
    "measure",
    "menu_draw",
    "personal",
    "warm_up",
]

_GOLDEN = (np.sqrt(5) - 1) / 2
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Plan:
    """What a probe trains and judges.

    Attributes
    ----------
    menu, shares : (n_widths,) floats
        Widths, and how often each is drawn for a batch.
    rounds : int
    training : LocalTraining
    sample : int or None
        Clients that are drawn in each round; None: all.
    seed : int
    budget : float or None
        Width of the control; None: there is none.
    mix : float
        Share of the local model in personal deployment.
    """

    menu: FloatArray
    shares: FloatArray
    rounds: int
    training: LocalTraining
    sample: int | None
    seed: int
    budget: float | None
    mix: float


@dataclass(eq=False)
class WarmUp:
    """What a warm-up gave.

    Attributes
    ----------
    model : SupernetModel
        The server's supernet after the last round.
    states : dict of int to dict of str to Tensor
        Local weights of the clients of the last round.
    bias : str or None
        Name of the output bias, if each client has one of its own; the supernet's is untrained.
    flops : int
        Operations of training.
    """

    model: SupernetModel
    states: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    bias: str | None = None
    flops: int = 0


@dataclass(frozen=True, eq=False)
class Judged:
    """Outcomes of the held-back samples of one client, at each width.

    Attributes
    ----------
    targets, known : (n_samples,) float64
        Targets of each sample, and those of them that have a loss.
    correct, loss : (n_samples, n_widths) float64
        Targets that are predicted; summed loss in nats.
    """

    targets: FloatArray
    known: FloatArray
    correct: FloatArray
    loss: FloatArray


@dataclass(eq=False)
class Measured:
    """What two warm-ups, each judged on the other's training half, have measured.

    Attributes
    ----------
    outcomes : two lists of n_clients Judged
        Columns: the widths of the menu, then the control where there is one.
    personal : two dicts of client to Judged
        With a control: the common model, the client's mixture, and the mixture of another control,
        in which each client has an output bias of its own, if there can be one.
    flops : int
        Operations of training and judging.
    round_flops : (n_widths,) floats
        Operations of a round on all training samples with all clients at each width.
    """

    round_flops: FloatArray
    outcomes: list[list[Judged]] = field(default_factory=list)
    personal: list[dict[int, Judged]] = field(default_factory=list)
    flops: int = 0


def measure(model: SupernetModel, task: Task, plan: Plan) -> Measured:
    """Warm up on each half of the training data, judge on the other.

    Raises
    ------
    InputError
        If a client has a single sample or the model does not fit the task, before any training.
    """
    costs = Costs(model, plan.training.local_epochs)
    parts = halves(task, plan.seed)
    for part in parts:
        half = replace(task, train=part)
        costs.check(half, np.full(len(task), plan.menu[-1]))
        start_statistics(model, half, plan.training)
    rounds = [float(costs.round(task, [width] * len(task))) for width in plan.menu]
    found = Measured(np.array(rounds))
    draw = menu_draw(plan.menu, plan.shares)
    bias = find_output_bias(model)
    for train, held in (parts, parts[::-1]):
        mixed = warm_up(model, train, float(plan.menu[-1]), plan, costs, draw)
        outcomes = judge(mixed.model, plan.menu, train, held)
        found.flops += mixed.flops + _judging(costs, held, plan.menu)
        if plan.budget is not None:
            control = warm_up(model, train, plan.budget, plan, costs)
            uniform = judge(control.model, [plan.budget], train, held)
            outcomes = [_beside(*pair) for pair in zip(outcomes, uniform, strict=True)]
            ways = [control]
            if bias is not None:
                ways.append(warm_up(model, train, plan.budget, plan, costs, bias=bias))
            found.personal.append(personal(ways, plan.budget, plan.mix, train, held))
            found.flops += sum(way.flops for way in ways)
            found.flops += _judging(costs, held, [plan.budget] * (2 + len(ways)))
        found.outcomes.append(outcomes)
    return found


def _judging(costs: Costs, held: Sequence[Split], widths: Sequence[float] | FloatArray) -> int:
    """Operations of judging all clients at each of some widths."""
    pairs = [(split, width) for split in held for width in widths]
    return costs.judging(*zip(*pairs, strict=True))


def _beside(first: Judged, second: Judged) -> Judged:
    """The columns of both; they judge the same samples."""
    return Judged(
        first.targets,
        first.known,
        np.hstack([first.correct, second.correct]),
        np.hstack([first.loss, second.loss]),
    )


def halves(task: Task, seed: int) -> tuple[Lazy, Lazy]:
    """Deal each client's training samples into two halves, at random by the seed.

    Raises
    ------
    InputError
        If a client has a single training sample.
    """
    first, second = folds(task, seed, 2)
    return first.held, second.held


def menu_draw(menu: FloatArray, shares: FloatArray) -> Draw:
    """Draw the width of each batch from a menu, evenly: its shares hold in any few batches.

    Parameters
    ----------
    menu, shares : (n_widths,) floats
        Widths, and how often each is drawn.
    """
    ends = np.cumsum(shares)[:-1]

    def draw(width: float, key: Key) -> Iterator[float]:
        at = client_stream(key, MENU).random()
        while True:
            yield float(menu[np.searchsorted(ends, at, side="right")])
            at = (at + _GOLDEN) % 1.0

    return draw


def warm_up(
    model: SupernetModel,
    splits: Sequence[Split],
    width: float,
    plan: Plan,
    costs: Costs,
    draw: Draw | None = None,
    bias: str | None = None,
) -> WarmUp:
    """Train a supernet for some rounds, all clients at one width.

    Parameters
    ----------
    model : SupernetModel
        Architecture and initial weights; it is not changed.
    splits : n_clients training splits
    width : float
    plan : Plan
    costs : Costs
    draw : Draw, optional
        Draws the narrower width that each batch trains.
    bias : str, optional
        Name of the output bias, if each client is to keep its own.
    """
    done = WarmUp(copy.deepcopy(model), bias=bias)
    local = () if bias is None else (bias,)
    own: dict[int, dict[str, Tensor]] = {}
    engine = ENGINES["auto" if draw is None else "sequential"]
    for number in range(plan.rounds):
        drawn = draw_clients(len(splits), plan.sample, (plan.seed, number)).tolist()
        kept = prefix(done.model, width)
        jobs = (
            Job(
                client,
                width,
                kept,
                splits[client],
                (plan.seed, number, client),
                draw,
                own.get(client, {}),
            )
            for client in drawn
        )
        done.states = {}
        updates = []
        for report in engine(done.model, jobs, plan.training):
            done.flops += costs.flops(report.job.split.inputs, report.result.trained)
            updates.append(Update(width, len(report.job.split), report.state))
            done.states[report.job.client] = report.state
            own[report.job.client] = {name: report.state[name].clone() for name in local}
        done.model.load_state_dict(aggregate(done.model, updates, local=local))
    return done


def judge(
    model: SupernetModel,
    widths: Sequence[float] | FloatArray,
    train: Sequence[Split],
    held: Sequence[Split],
) -> list[Judged]:
    """Judge the subnets of a supernet on each client's held-back samples.

    Parameters
    ----------
    model : SupernetModel
    widths : n_widths floats
    train, held : n_clients splits each
        The training splits give BatchNorm its statistics.
    """
    subnets = [extract(model, width) for width in widths]
    for subnet in subnets:
        estimate_statistics(subnet, train)
    return [judged(subnets, split) for split in held]


def personal(
    ways: Sequence[WarmUp],
    width: float,
    mix: float,
    train: Sequence[Split],
    held: Sequence[Split],
) -> dict[int, Judged]:
    """Judge, at one width, a common model and each client's mixtures with its own last ones.

    Parameters
    ----------
    ways : sequence of WarmUp
        Each gives a mixture; the first one gives the common model. In all of them the same clients
        took part in the last round.
    width, mix : float
    train, held : n_clients splits each

    Returns
    -------
    dict of int to Judged
        Client to its outcomes: the common model in column 0, then the mixtures.
    """
    commons = [extract(way.model, width) for way in ways]
    for common in commons:
        estimate_statistics(common, train)
    return {
        client: judged(
            [
                commons[0],
                *(
                    _mixture(common, way.states[client], way.bias, mix)
                    for way, common in zip(ways, commons, strict=True)
                ),
            ],
            held[client],
        )
        for client in ways[0].states
    }


def _mixture(
    common: SupernetModel, state: Mapping[str, Tensor], bias: str | None, mix: float
) -> SupernetModel:
    """Move a copy of the common model towards a local one; an output bias of its own is all its."""
    mixed = copy.deepcopy(common)
    with torch.no_grad():
        for name, parameter in mixed.named_parameters():
            parameter.lerp_(state[name], 1.0 if name == bias else mix)
    return mixed


@torch.no_grad()
def judged(models: Sequence[SupernetModel], split: Split) -> Judged:
    """Outcomes of a split under several models, sample by sample, without training."""
    order = torch.arange(len(split))
    columns = []
    for model in models:
        was_training, device = model.training, next(model.parameters()).device
        model.eval()
        parts = [_outcomes(model(x), y) for x, y in batches(split, _BATCH, order, device)]
        model.train(was_training)
        columns.append(np.concatenate(parts))
    table = np.stack(columns, axis=-1)
    return Judged(table[:, 0, 0], table[:, 1, 0], table[:, 2], table[:, 3])


def _outcomes(logits: Tensor, targets: Tensor) -> FloatArray:
    """Targets, known targets, correct ones and summed loss of each sample, ``(batch, 4)``."""
    size = len(targets)
    known = targets >= 0
    loss = functional.cross_entropy(
        logits.flatten(0, -2),
        targets.masked_fill(~known, IGNORED).flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    correct = logits.argmax(dim=-1) == targets
    parts = (targets != IGNORED, known, correct, loss)
    sums = [part.reshape(size, -1).double().sum(dim=1) for part in parts]
    return np.asarray(torch.stack(sums, dim=1).numpy(force=True))
