"""A short federated warm-up on one part of the training data, judged sample by sample on the rest.

What :func:`hasa_opt.probe` is made of; the learning side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.streams import FOLDS, MENU, Key, client_number, client_stream, generator
from hasa_opt.errors import InputError
from hasa_opt.federated.batch_norm import Static
from hasa_opt.federated.engines import ENGINES
from hasa_opt.federated.evaluation import outcomes
from hasa_opt.federated.federation import Federation
from hasa_opt.federated.jobs import Draw
from hasa_opt.federated.participation import Participation
from hasa_opt.federated.rounds import Round
from hasa_opt.federated.seen import Watch
from hasa_opt.federated.settings import LocalTraining, Server
from hasa_opt.models.subnets import extract, prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.recommended import TOGETHER
from hasa_opt.policies.subnets import Subnets
from hasa_opt.tasks.learning import CLASSES, LearningProblem
from hasa_opt.tasks.splits import Lazy, Split
from hasa_opt.tasks.task import Task

__all__ = [
    "Judged",
    "Plan",
    "WarmUp",
    "halves",
    "judge",
    "menu_draw",
    "unwatched",
    "warm_up",
]

_GOLDEN = (np.sqrt(5) - 1) / 2
"""Step by which places in a unit interval are spread evenly, however many there are."""

MOST_WATCHED = 200
"""Clients whose updates are compared, at most: a choice, as each update is kept for some rounds."""

JUDGED_AT_ONCE = 64
"""Samples of one forward pass where models are judged: a choice, which changes no result."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What a probe trains and judges.

    Attributes
    ----------
    menu, shares : (n_widths,) floats
        Widths, and how often each is drawn for a batch.
    rounds : int
    training : LocalTraining
    participation : Participation
    seed : int
    """

    menu: FloatArray
    shares: FloatArray
    rounds: int
    training: LocalTraining
    participation: Participation
    seed: int


@dataclass(eq=False)
class WarmUp:
    """What a warm-up gave.

    Attributes
    ----------
    federation : Federation
        Holds the server's supernet after the last round.
    flops : int
        Operations of training.
    similarities : list of (n_clients, n_clients) floats
        Cosines of the clients' updates over each
        :data:`~hasa_opt.policies.recommended.TOGETHER` rounds; none of more than
        :data:`MOST_WATCHED` clients, and where not all take part in each round.
    """

    federation: Federation
    flops: int
    similarities: list[FloatArray]


@dataclass(frozen=True, eq=False)
class Judged:
    """Outcomes of the held-back samples of one client, at each width.

    Attributes
    ----------
    targets, known : (n_samples,) float64
        Targets of each sample, and those of them that have a loss.
    score, loss : (n_samples, n_widths) float64
        The metric and the loss, each summed over targets: such as how many are predicted.
    """

    targets: FloatArray
    known: FloatArray
    score: FloatArray
    loss: FloatArray


def halves(task: Task, seed: int) -> tuple[Lazy, Lazy]:
    """Deal each client's training samples into two halves, at random by the seed.

    Raises
    ------
    InputError
        If a client has a single training sample.
    """
    small = np.flatnonzero(task.samples < 2)
    if small.size:
        raise InputError(
            f"client {task.client_names[small[0]]!r} has 1 training sample, of which no half is "
            f"left to judge the other: leave the client out ({small.size} such client(s))"
        )

    def half(number: int) -> Lazy:
        def load(client: int) -> Split:
            size = int(task.samples[client])
            rng = generator(seed, FOLDS, client_number(task.client_names[client]))
            return task.train[client].take(np.sort(rng.permutation(size)[number::2]))

        return Lazy((task.samples + 1 - number) // 2, load)

    return half(0), half(1)


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


def unwatched(task: Task, plan: Plan) -> str:
    """Why the clients' updates are not compared, or nothing."""
    if len(task) > MOST_WATCHED:
        return f"there are more than {MOST_WATCHED} clients"
    if plan.participation.clients_per_round is not None:
        return "not all clients take part in each round"
    return f"that takes {TOGETHER} rounds" if plan.rounds < TOGETHER else ""


def warm_up(
    model: SupernetModel,
    half: Task,
    plan: Plan,
    first: int = 0,
    groups: IntArray | None = None,
    count: Callable[[int], object] | None = None,
) -> WarmUp:
    """Train a supernet for the rounds of a plan, all clients at drawn widths of the menu.

    Parameters
    ----------
    model : SupernetModel
        Architecture and initial weights; it is not changed.
    half : Task
        The clients with the training samples of the warm-up.
    plan : Plan
    first : int
        Number of the first round.
    groups : (n_clients,) integers, optional
        Each group trains a model of its own. Default: all train one.
    count : callable, optional
        Called after each round with how many are finished.
    """
    schedule = plan.training.schedule
    again = None if schedule is None else lambda number: schedule(number % plan.rounds)
    federation = Federation(
        copy.deepcopy(model),
        Subnets(np.full(len(half), plan.menu[-1]), models=groups),
        half.client_names,
        half.samples,
        rounds=first + plan.rounds,
        training=replace(plan.training, output_bias="shared", schedule=again),
        server=Server(max_update_norm=None),
        participation=plan.participation,
        seed=plan.seed,
        statistics=Static(model, half.train, JUDGED_AT_ONCE, drop_single=True),
        draw=menu_draw(plan.menu, plan.shares),
        problem=half.problem,
    )
    flops, similarities = 0, []
    if first == 0 and not unwatched(half, plan):
        federation.watch = Watch(federation.model, federation.personal.local, half.samples)
    for number in range(first, first + plan.rounds):
        last = Round(federation, number)
        last.train(ENGINES["sequential"], half.train)
        last.close()
        flops += int(last.row["flops"].sum())
        if count is not None:
            count(number + 1 - first)
        if federation.watch is not None and (number + 1) % TOGETHER == 0:
            now = federation.subnets
            similarities.append(
                federation.watch.seen(number + 1, plan.rounds, now, now).update_similarity
            )
            federation.watch.begin()
    return WarmUp(federation, flops, similarities)


def judge(way: WarmUp, widths: Sequence[float] | FloatArray, held: Sequence[Split]) -> list[Judged]:
    """Judge subnets of each client's warmed-up supernet on its held-back samples.

    Parameters
    ----------
    way : WarmUp
    widths : n_widths floats
    held : n_clients splits
    """
    federation = way.federation
    numbers = [federation.own.number(client) for client in range(len(held))]
    subnets = {number: _subnets(federation, number, widths) for number in set(numbers)}
    return [
        judged(subnets[number], split, federation.problem)
        for number, split in zip(numbers, held, strict=True)
    ]


def _subnets(
    federation: Federation, number: int | None, widths: Sequence[float] | FloatArray
) -> list[SupernetModel]:
    """Subnets of the supernet, or of the model of a group, ready to be judged."""
    model, subnets = federation.own.model(number), []
    for width in widths:
        kept = prefix(model, width)
        subnets.append(extract(model, width, kept))
        federation.statistics.fill(subnets[-1], kept)
    return subnets


def judged(
    models: Iterable[SupernetModel], split: Split, problem: LearningProblem = CLASSES
) -> Judged:
    """Outcomes of a split under several models, sample by sample, without training."""
    by = problem.for_single_samples
    columns = [outcomes(model, split, JUDGED_AT_ONCE, by) for model in models]
    table = np.stack(columns, axis=-1)
    return Judged(table[:, 0, 0], table[:, 1, 0], table[:, 2], table[:, 3])
