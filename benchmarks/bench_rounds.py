"""Federated rounds: the engines beside a bare PyTorch loop and beside Apple's pfl, with targets.

Run it with ``python benchmarks/bench_rounds.py``. Ratios of medians of CPU seconds, on one thread,
each side measured in turn. All sides do the same steps: their averaged weights are compared. The
part with ``pfl`` needs ``pip install '.[bench-pfl]'``, in an environment of its own, since
pfl and OR-tools ask for different versions of absl-py; without it that part says that it is left
out.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hasa_opt._utils.streams import derive_seed
from hasa_opt.federated import (
    ENGINES,
    Execution,
    Job,
    LocalTraining,
    Participation,
    Update,
    aggregate,
    run,
)
from hasa_opt.federated.batches import batches, orders
from hasa_opt.models import CNN, MLP, LSTMLanguageModel, SupernetModel, extract, fresh, prefix
from hasa_opt.tasks import Lazy, Split, Task

FIVE_WIDTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
REPEATS = 7
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Workload:
    """Clients of one round."""

    name: str
    model: SupernetModel
    splits: list[Split]
    settings: LocalTraining
    widths: tuple[float, ...] = FIVE_WIDTHS

    def jobs(self) -> Iterator[Job]:
        """One for each client."""
        for client, split in enumerate(self.splits):
            width = self.widths[client % len(self.widths)]
            yield Job(client, width, prefix(self.model, width), split, (0, 0, client))


def samples(sizes: list[int], *shape: int) -> list[Split]:
    generator = torch.Generator().manual_seed(0)
    return [
        Split(
            torch.randn(n, *shape, generator=generator),
            torch.randint(0, 10, (n,), generator=generator),
        )
        for n in sizes
    ]


def sentences(clients: int, size: int, vocabulary: int, length: int = 11) -> list[Split]:
    """Random sentences of 4 to 11 words: a third is padding, as in the task "docstrings"."""
    generator = torch.Generator().manual_seed(0)
    splits = []
    for _ in range(clients):
        tokens = torch.randint(2, vocabulary, (size, length + 1), generator=generator)
        ends = torch.randint(4, length + 1, (size, 1), generator=generator)
        padding = torch.arange(length) >= ends
        splits.append(
            Split(tokens[:, :-1].masked_fill(padding, 0), tokens[:, 1:].masked_fill(padding, -100))
        )
    return splits


def train(engine: str, work: Workload) -> list[Weights]:
    """Train all clients by an engine of the library."""
    return [report.state for report in ENGINES[engine](work.model, work.jobs(), work.settings)]


def bare_loop(work: Workload) -> list[Weights]:
    """The same steps as one writes them without a library: a network per width, refilled."""
    settings = work.settings
    optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    networks: dict[float, SupernetModel] = {}
    received: dict[float, Weights] = {}
    trained = []
    for job in work.jobs():
        if job.width not in networks:
            networks[job.width] = extract(work.model, job.width)
            state = networks[job.width].state_dict()
            received[job.width] = {name: tensor.clone() for name, tensor in state.items()}
        network = networks[job.width].train()
        network.load_state_dict(received[job.width])
        optimizer = optimizers[settings.optimizer](
            network.parameters(), lr=settings.learning_rate, fused=True
        )
        for order in orders(len(job.split), settings, derive_seed(job.key)):
            device = torch.device("cpu")
            for inputs, targets in batches(job.split, settings.batch_size, order, device):
                logits = network(inputs).flatten(0, -2)
                optimizer.zero_grad()
                functional.cross_entropy(logits, targets.flatten()).backward()
                optimizer.step()
        trained.append({k: v.clone() for k, v in network.state_dict().items()})
    return trained


def measure(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each side, called in turn."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.process_time()
            side()
            spent[name].append(time.process_time() - started)
    return {name: median(seconds) for name, seconds in spent.items()}


def average(work: Workload, states: list[Weights]) -> Weights:
    jobs = zip(work.jobs(), states, strict=True)
    updates = (Update(job.width, len(job.split), state, job.kept) for job, state in jobs)
    return aggregate(work.model, updates)


def difference(left: Weights, right: Weights) -> float:
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def line(what: str, ratio: float, target: float, at_most: bool) -> None:
    met = ratio <= target if at_most else ratio >= target
    limit = f"target at {'most' if at_most else 'least'} {target:g}"
    print(f"  {what:<34}{ratio:>7.2f}  ({limit}){'' if met else '  MISSED'}", flush=True)


def engines(work: Workload, target: float, repeats: int = REPEATS) -> None:
    """Sequential beside the bare loop, batched beside sequential."""
    sides = {
        "bare loop": lambda: bare_loop(work),
        "sequential": lambda: train("sequential", work),
        "batched": lambda: train("batched", work),
    }
    results = {name: side() for name, side in sides.items()}  # Also warms up.
    averages = {name: average(work, states) for name, states in results.items()}
    apart = max(difference(averages["bare loop"], other) for other in averages.values())
    spent = measure(sides, repeats)
    print(f"{work.name}: " + ", ".join(f"{name} {s:.3f} s" for name, s in spent.items()))
    print(f"  largest difference of a weight: {apart:.1e}{'' if apart < 1e-4 else '  FAILED'}")
    line("sequential / bare loop", spent["sequential"] / spent["bare loop"], 1.1, True)
    line("sequential / batched", spent["sequential"] / spent["batched"], target, False)


def beside_pfl(work: Workload, target: float) -> None:
    """One round of federated averaging, everything at full width, beside pfl's simulator."""

    def ours() -> Weights:
        return average(work, train("batched", work))

    theirs = pfl_round(work)
    apart = difference(ours(), theirs())
    spent = measure({"batched": ours, "pfl": theirs}, REPEATS)
    print(f"{work.name}: " + ", ".join(f"{name} {s:.3f} s" for name, s in spent.items()))
    print(f"  largest difference of a weight: {apart:.1e}{'' if apart < 1e-4 else '  FAILED'}")
    line("batched / pfl", spent["batched"] / spent["pfl"], target, True)


def pfl_round(work: Workload) -> Callable[[], Weights]:
    """Set pfl up for the same round: the samples in the order in which we draw them."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    network = fresh(work.model, 0)
    network.loss = lambda inputs, targets: functional.cross_entropy(network(inputs), targets)
    network.metrics = lambda inputs, targets: {}
    users = {}
    for job in work.jobs():
        (order,) = orders(len(job.split), work.settings, derive_seed(job.key))
        users[job.client] = Dataset(
            raw_data=[job.split.inputs[order], job.split.targets[order]], user_id=str(job.client)
        )
    sampler = get_user_sampler("minimize_reuse", list(users))
    data = FederatedDataset(users.__getitem__, sampler)
    settings = work.settings
    params = NNAlgorithmParams(2, 10**9, len(users), None)
    training = NNTrainHyperParams(
        local_batch_size=settings.batch_size,
        local_num_epochs=settings.epochs,
        local_learning_rate=settings.learning_rate,
    )
    backend, algorithm = SimulatedBackend(data, data), FederatedAveraging()

    def once() -> Weights:
        network.load_state_dict(work.model.state_dict())
        central = torch.optim.SGD(network.parameters(), lr=1.0)
        model = PyTorchModel(network, torch.optim.SGD, central)
        contexts, model, _ = algorithm.get_next_central_contexts(model, 1, params, training)
        statistics, metrics = backend.gather_results(
            model=model, training_algorithm=algorithm, central_context=contexts[0]
        )
        algorithm.process_aggregated_statistics(contexts[0], metrics, model, statistics)
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}

    return once


def train_split(client: int) -> Split:
    """400 kB of one client's data."""
    generator = torch.Generator().manual_seed(client)
    inputs = torch.randn(50, 2000, generator=generator)
    return Split(inputs, torch.randint(0, 3, (50,), generator=generator))


def held_out_split(client: int) -> Split:
    return Split(torch.zeros(1, 2000), torch.zeros(1, dtype=torch.int64))


def peak_mib(registered: int) -> int:
    """Peak memory of this process after two rounds with 100 of so many clients."""
    torch.set_num_threads(1)
    held_out = Lazy(np.ones(registered, dtype=np.int64), held_out_split)
    task = Task(
        "many",
        tuple(map(str, range(registered))),
        Lazy(np.full(registered, 50), train_split),
        held_out,
        held_out,
        np.ones((registered, 3), dtype=np.int64),
        3,
    )
    model = fresh(MLP(2000, 3, hidden=(8,)), 0)
    run(
        model,
        task,
        np.resize(FIVE_WIDTHS, registered),
        rounds=2,
        participation=Participation(clients_per_round=100),
        execution=Execution(engine="batched"),
    )
    # Not ru_maxrss, which a child inherits from the process that starts it.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) // 1024


def memory() -> None:
    """Peak memory by the number of registered clients, each in a process of its own."""
    few, many = 1000, 4000
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = [pool.apply(peak_mib, (registered,)) for registered in (few, many)]
    print(f"100 clients a round: {few} registered {peaks[0]} MiB, {many} registered {peaks[1]} MiB")
    line("peak memory, many / few registered", peaks[1] / peaks[0], 1.1, True)


def main() -> None:
    torch.set_num_threads(1)
    mlp = fresh(MLP(32, 10, hidden=(64,)), 0)
    cnn = fresh(CNN(10, image_size=8), 0)
    text = fresh(LSTMLanguageModel(2000, embedding=64, hidden=64), 0)
    sgd, adam = (
        LocalTraining(epochs=1, batch_size=10, learning_rate=rate, optimizer=name)
        for rate, name in ((0.05, "sgd"), (0.01, "adam"))
    )
    ragged = torch.randint(20, 81, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    print("One round, clients of five widths; CPU seconds, one thread")
    engines(Workload("MLP 32-64-10, 100 clients of 50", mlp, samples([50] * 100, 32), sgd), 8)
    engines(Workload("the same, 20 to 80 samples, Adam", mlp, samples(ragged, 32), adam), 8)
    images = samples([40] * 100, 1, 8, 8)
    engines(Workload("CNN 16-32 on 8x8 pixels, 100 clients of 40", cnn, images, sgd), 3)
    words = sentences(100, 32, 2000)
    tokens = LocalTraining(epochs=1, batch_size=8, learning_rate=0.002, optimizer="adam")
    engines(Workload("LSTM 64, 2000 words, 100 clients of 32", text, words, tokens), 1.5, 3)
    memory()
    if importlib.util.find_spec("pfl") is None:
        print("pfl is not installed: left out (pip install '.[bench-pfl]')")
        return
    print("One round of federated averaging, all widths 1, with the aggregation")
    full = (1.0,)
    beside_pfl(Workload("MLP, 100 clients of 50", mlp, samples([50] * 100, 32), sgd, full), 1 / 8)
    beside_pfl(Workload("CNN, 100 clients of 40", cnn, images, sgd, full), 1)


if __name__ == "__main__":
    main()
