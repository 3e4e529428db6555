"""Processes that train the clients of a round side by side: the same bits for any number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hasa_opt.federated import Execution, LocalTraining, Participation, run
from hasa_opt.federated.engines import MOST, parts
from hasa_opt.federated.jobs import Job
from hasa_opt.federated.units import Extraction
from hasa_opt.federated.workers import _alone
from hasa_opt.models import MLP, extract, fresh, prefix
from hasa_opt.tasks import Lazy, Split, Task

N_CLIENTS = 70


def split_of(client: int) -> Split:
    generator = torch.Generator().manual_seed(client)
    n = 4 + client % 5
    return Split(
        torch.randn(n, 6, generator=generator), torch.randint(0, 3, (n,), generator=generator)
    )


def task_of(train: object = None) -> Task:
    splits = [split_of(client) for client in range(N_CLIENTS)]
    counts = np.ones((N_CLIENTS, 3), dtype=np.int64)
    names = tuple(map(str, range(N_CLIENTS)))
    return Task("toy", names, train or splits, splits, splits, counts, 3)


def model() -> MLP:
    return fresh(MLP(6, 3, hidden=(11,)), 0)


def trained(workers: int | None, task: Task | None = None, **more: object):
    arguments = {"rounds": 2, "training": LocalTraining(batch_size=3)} | more
    widths = np.resize([0.4, 0.4, 0.4, 1.0], N_CLIENTS)
    return run(model(), task or task_of(), widths, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_any_number_of_processes_gives_the_same_bits(engine):
    histories = [
        trained(workers, execution=Execution(engine=engine, workers=workers)) for workers in (1, 2)
    ]
    first, second = histories
    for name, tensor in first.weights.items():
        assert torch.equal(tensor, second.weights[name]), name
    for name in ("train_loss", "test_loss", "flops", "bytes_up"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)
    plain = trained(None, execution=Execution(engine=engine))
    for name, tensor in plain.weights.items():
        torch.testing.assert_close(tensor, first.weights[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_client_that_fails_in_a_process_is_told_like_any_other():
    def load(client: int) -> Split:
        found = split_of(client)
        return found if client != 5 else Split(found.inputs * float("nan"), found.targets)

    sizes = np.array([len(split_of(client)) for client in range(N_CLIENTS)])
    task = task_of(Lazy(sizes, load))
    found = [trained(None, task, execution=Execution(workers=workers)).events for workers in (1, 2)]
    assert found[0] == found[1]
    assert {event.client for event in found[0]} == {5}


@pytest.mark.slow
def test_drawn_clients_and_their_own_biases_go_to_the_processes():
    more = {
        "training": LocalTraining(output_bias="local", batch_size=4),
        "participation": Participation(clients_per_round=9),
    }
    first, second = (
        trained(None, execution=Execution(engine="batched", workers=workers), **more)
        for workers in (1, 2)
    )
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert first.clients.keys() == second.clients.keys()
    assert all(torch.equal(first.clients[name], second.clients[name]) for name in first.clients)


def test_parts_are_few_even_and_small():
    server = model()
    jobs = [
        Job(client, 0.4, prefix(server, 0.4), split_of(0), (0, 0, client)) for client in range(150)
    ]
    sizes = [len(part) for part in parts(jobs, Extraction(server))]
    assert sum(sizes) == 150
    assert len(sizes) == -(-150 // MOST)
    assert max(sizes) - min(sizes) <= 1


def test_a_part_of_a_large_tensor_is_sent_alone():
    whole = torch.arange(1000.0)
    part = _alone(whole[:10])
    assert part.untyped_storage().nbytes() == 40
    assert torch.equal(part, whole[:10])
    assert _alone(whole) is whole


def test_a_model_elsewhere_than_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="the model is on meta"):
        Execution(workers=2).start(extract(model(), 1.0).to("meta"))
