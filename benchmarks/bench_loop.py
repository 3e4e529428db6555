"""Whole rounds with evaluation and bookkeeping, beside a bare PyTorch loop and Apple's pfl.

    python benchmarks/bench_loop.py

Ratios of medians of CPU seconds on one thread, each side measured in turn, but for what two
processes do, which is wall time. All clients train and are tested on validation and test data in
every round. The part with ``pfl`` is left out without it; see ``bench_rounds.py``.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from bench_rounds import FIVE_WIDTHS, line, samples
from torch import Tensor
from torch.nn import functional

import hasa_opt as hasa
from hasa_opt.federated import (
    Evaluation,
    Execution,
    History,
    LocalTraining,
    Participation,
    run,
)
from hasa_opt.models import CNN, MLP, SupernetModel, extract, fresh
from hasa_opt.tasks import Task

SGD = LocalTraining(batch_size=10, learning_rate=0.05, optimizer="sgd")


def task_of(n_clients: int, shape: tuple[int, ...], train: int = 50, held_out: int = 10) -> Task:
    """Clients with random samples of ten classes."""
    parts = (samples([n] * n_clients, *shape) for n in (train, held_out, held_out))
    counts = np.full((n_clients, 10), 5)
    return Task("random", tuple(map(str, range(n_clients))), *parts, counts, 10)


def ours(task: Task, model: SupernetModel, rounds: int, engine: str, **more: object) -> History:
    widths = np.resize(FIVE_WIDTHS, len(task))
    return run(
        model,
        task,
        widths,
        rounds=rounds,
        training=SGD,
        execution=Execution(engine=engine),
        **more,
    )


def part(state: dict[str, Tensor], of: SupernetModel) -> dict[str, Tensor]:
    """The leading entries of the supernet's state that a narrower network has."""
    shapes = {name: tensor.shape for name, tensor in of.state_dict().items()}
    return {name: state[name][tuple(map(slice, shape))] for name, shape in shapes.items()}


def bare(task: Task, model: SupernetModel, rounds: int) -> list[tuple[float, float]]:
    """The same as one writes it without a library: a network per width, an average in place."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    widths = np.resize(FIVE_WIDTHS, len(task)).tolist()
    networks = {width: extract(model, width) for width in FIVE_WIDTHS}
    found = []
    for _ in range(rounds):
        sums, weights = ({name: torch.zeros_like(t) for name, t in state.items()} for _ in "ab")
        for width, split in zip(widths, task.train, strict=True):
            network = networks[width].train()
            network.load_state_dict(part(state, network))
            optimizer = torch.optim.SGD(network.parameters(), lr=SGD.learning_rate, fused=True)
            for rows in torch.randperm(len(split)).split(SGD.batch_size):
                optimizer.zero_grad()
                loss = functional.cross_entropy(network(split.inputs[rows]), split.targets[rows])
                loss.backward()
                optimizer.step()
            for name, tensor in network.state_dict().items():
                place = tuple(map(slice, tensor.shape))
                sums[name][place] += len(split) * tensor
                weights[name][place] += len(split)
        state = {
            name: torch.where(weights[name] > 0, sums[name] / weights[name].clamp(min=1), tensor)
            for name, tensor in state.items()
        }
        for network in networks.values():
            network.eval().load_state_dict(part(state, network))
        with torch.no_grad():
            for width, *splits in zip(widths, task.validation, task.test, strict=True):
                for split in splits:
                    scores = networks[width](split.inputs)
                    right = (scores.argmax(-1) == split.targets).float().mean()
                    loss = functional.cross_entropy(scores, split.targets)
                    found.append((float(loss), float(right)))
    return found


def cpu(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def wall(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def a_round(side: Callable[[int], object], rounds: int = 4) -> float:
    """CPU seconds of one round: the difference of two runs."""
    return (cpu(lambda: side(rounds)) - cpu(lambda: side(1))) / (rounds - 1)


def whole_rounds(name: str, model: SupernetModel, task: Task, batched: float) -> None:
    sides: dict[str, Callable[[int], object]] = {"bare loop": lambda n: bare(task, model, n)}
    for engine in ("sequential", "batched"):
        sides[engine] = lambda n, engine=engine: ours(task, model, n, engine)
    if importlib.util.find_spec("pfl") is not None:
        sides["pfl"] = pfl_rounds(model, task)
    for side in sides.values():
        side(1)  # Warms up.
    spent: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(5):
        for side, call in sides.items():
            spent[side].append(a_round(call))
    found = {side: median(seconds) for side, seconds in spent.items()}
    print(f"{name}: " + ", ".join(f"{side} {1000 * s:.0f} ms" for side, s in found.items()))
    base = found["bare loop"]
    line("batched / bare loop", found["batched"] / base, batched, True)
    line("sequential / bare loop", found["sequential"] / base, 1.3, True)
    if "pfl" in found:
        line("batched / pfl, all at width 1 there", found["batched"] / found["pfl"], 1, True)


def pfl_rounds(model: SupernetModel, task: Task) -> Callable[[int], object]:
    """Federated averaging by pfl, every client tested in every round; all at full width."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    network = fresh(model, 0)

    def metrics(inputs: Tensor, targets: Tensor) -> dict[str, Weighted]:
        with torch.no_grad():
            scores = network(inputs)
            loss = functional.cross_entropy(scores, targets, reduction="sum")
            right = (scores.argmax(-1) == targets).sum()
        weight = len(targets)
        return {"loss": Weighted(float(loss), weight), "accuracy": Weighted(float(right), weight)}

    network.loss = lambda inputs, targets: functional.cross_entropy(network(inputs), targets)
    network.metrics = metrics

    def federated(splits: list) -> FederatedDataset:
        users = {
            row: Dataset(raw_data=[split.inputs, split.targets], user_id=str(row))
            for row, split in enumerate(splits)
        }
        sampler = get_user_sampler("minimize_reuse", list(users))
        return FederatedDataset(users.__getitem__, sampler)

    held_out = [
        type(split).join([split, other])
        for split, other in zip(task.validation, task.test, strict=True)
    ]
    backend = SimulatedBackend(federated(list(task.train)), federated(held_out))
    training = NNTrainHyperParams(
        local_batch_size=SGD.batch_size,
        local_num_epochs=1,
        local_learning_rate=SGD.learning_rate,
    )

    def rounds(number: int) -> object:
        algorithm = FederatedAveraging()
        params = NNAlgorithmParams(number + 1, 1, len(task), len(task))
        central = torch.optim.SGD(network.parameters(), lr=1.0)
        trained = PyTorchModel(network, torch.optim.SGD, central)
        testing = NNEvalHyperParams(local_batch_size=64)
        measured = None
        for iteration in range(number):
            contexts, trained, _ = algorithm.get_next_central_contexts(
                trained, iteration, params, training, testing
            )
            for context in contexts:
                statistics, measured = backend.gather_results(
                    model=trained, training_algorithm=algorithm, central_context=context
                )
                if statistics is not None:
                    algorithm.process_aggregated_statistics(context, measured, trained, statistics)
        return measured

    return rounds


def many_registered() -> None:
    """The last round of 10,000 registered clients, ten drawn: it tests all of them."""
    task, model = task_of(10_000, (32,)), fresh(MLP(32, 10, hidden=(64,)), 0)
    drawn = Participation(clients_per_round=10)
    seconds = cpu(lambda: ours(task, model, 1, "batched", participation=drawn))
    line("last round, 10,000 registered, CPU s", seconds, 2, True)
    few = Evaluation(clients=100)
    seconds = cpu(lambda: ours(task, model, 1, "batched", participation=drawn, evaluation=few))
    line("  the same, 100 of them tested", seconds, 2, True)
    task = task_of(1_000, (32,))
    seconds = cpu(lambda: ours(task, model, 2, "batched")) / 2
    line("a round of 1,000 clients, CPU s", seconds, 1.5, True)


def checkpoints() -> None:
    """What storing costs in round 5 and in round 400."""
    task, model = task_of(100, (32,)), fresh(MLP(32, 10, hidden=(64,)), 0)
    stored: list[float] = []
    save = History.save_beside

    def timed(self: History, *given: object) -> object:
        started = time.process_time()
        chunks = save(self, *given)
        stored.append(time.process_time() - started)
        return chunks

    History.save_beside = timed
    try:
        with TemporaryDirectory() as place:
            one = Participation(clients_per_round=20)
            ours(task, model, 410, "batched", participation=one, checkpoint=f"{place}/run")
    finally:
        History.save_beside = save
    early, late = median(stored[1:10]), median(stored[-20:])
    print(f"storing a round: {1000 * early:.1f} ms in round 5, {1000 * late:.1f} ms in round 400")
    line("round 400 / round 5", late / early, 1.25, True)


def grown(drawn: int | None, rounds: int) -> float:
    """MiB of memory that a run of 10,000 registered clients adds to its start."""
    torch.set_num_threads(1)
    task, model = task_of(10_000, (4,), 2, 1), fresh(MLP(4, 10, hidden=(8,)), 0)
    taking_part = Participation(clients_per_round=drawn)
    ours(task, model, 2, "batched", participation=taking_part)
    before = peak()
    history = ours(task, model, rounds, "batched", participation=taking_part)
    assert history.rounds == rounds
    return peak() - before


def peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in status if row.startswith("VmHWM:")) / 1024


def memory() -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        few = pool.apply(grown, (10, 200))
        all_of_ten = pool.apply(grown, (None, 10))
    line("200 rounds, 10 of 10,000 drawn, MiB", few, 50, True)
    line("200 rounds, all drawn (10 times 20), MiB", 20 * all_of_ten, 300, True)


def two_workers() -> None:
    """Wall seconds of a study with one process and with two."""
    task = hasa.tasks.load("domains")
    model = CNN.for_data(task.train[0].inputs, task.n_outputs)

    def study(workers: int) -> float:
        asked = hasa.Study(
            task,
            model,
            policies=["uniform", "hasa"],
            seeds=range(4),
            rounds=20,
            execution=Execution(workers=workers),
        )
        return wall(asked.run)

    study(2)
    ratios = [study(1) / study(2) for _ in range(3)]
    line("study, one process / two, wall time", median(ratios), 1.8, False)


def main() -> None:
    torch.set_num_threads(1)
    print("Whole rounds, 100 clients at five widths; CPU seconds, one thread")
    mlp, cnn = fresh(MLP(32, 10, hidden=(64,)), 0), fresh(CNN(10, image_size=8), 0)
    whole_rounds("MLP 32-64-10, 50 samples each", mlp, task_of(100, (32,)), 1 / 3)
    whole_rounds("CNN 16-32, 40 samples", cnn, task_of(100, (1, 8, 8), 40), 1 / 2)
    many_registered()
    checkpoints()
    memory()
    two_workers()


if __name__ == "__main__":
    main()
