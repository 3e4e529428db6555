"""Blocks over Flower, beside a loop in which nobody cuts anything."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")

from support.flower_grid import LocalGrid
from support.masked_loop import Clients, federated, masks_of
from torch import nn

from hasa_opt.federated import History, Subnets
from hasa_opt.federated.personal import SHARES, output_bias
from hasa_opt.flower import Device, Settings, client_app, serve
from hasa_opt.models import (
    CNN,
    MLP,
    GRULanguageModel,
    ResNet,
    SupernetModel,
    TransformerLanguageModel,
    fresh,
)
from hasa_opt.models.traced import Supernet
from hasa_opt.policies import POLICIES, Policy
from hasa_opt.policies.recommended import Recommended
from hasa_opt.policies.subnets import read_subnets
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow
ROUNDS, RATE, STEPS = 5, 0.3, 2
KINDS = np.array([[60, 50, 0, 1], [0, 1, 40, 70]])


def features(n: int, rng: torch.Generator) -> Split:
    targets = torch.randint(0, 4, (n,), generator=rng)
    return Split(torch.randn(n, 6, generator=rng) + targets[:, None], targets)


def images(n: int, rng: torch.Generator) -> Split:
    targets = torch.randint(0, 4, (n,), generator=rng)
    return Split(torch.randn(n, 1, 4, 4, generator=rng) + targets[:, None, None, None], targets)


def sentences(n: int, rng: torch.Generator) -> Split:
    tokens = torch.randint(1, 4, (n, 6), generator=rng)
    return Split(tokens[:, :-1], tokens[:, 1:])


def user_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 4))


FAMILIES: dict[str, tuple[Callable[..., Split], Callable[[], SupernetModel]]] = {
    "mlp": (features, lambda: fresh(MLP(6, 4, hidden=(10, 7)), 1)),
    "cnn": (images, lambda: fresh(CNN(4, channels=(8, 12), image_size=4), 1)),
    "resnet": (images, lambda: fresh(ResNet(4, channels=(8, 12), blocks=1), 1)),
    "gru": (sentences, lambda: fresh(GRULanguageModel(4, embedding=6, hidden=8), 1)),
    "transformer": (
        sentences,
        lambda: fresh(TransformerLanguageModel(4, embedding=8, heads=4, hidden=8, layers=1), 1),
    ),
    "traced": (features, lambda: Supernet(user_module(), torch.randn(2, 6))),
}


@cache
def task_of(make: Callable[..., Split]) -> Task:
    rng = torch.Generator().manual_seed(3)
    parts = [[make(20 + 3 * row, rng) for row in range(6)] for _ in range(3)]
    return Task("toy", tuple("abcdef"), *parts, KINDS[np.arange(6) % 2], 4)


def run_of(task: Task, build: Callable[[], SupernetModel], **own: Any) -> History:
    app = client_app(build, lambda partition, _: Device.of(task, partition))
    settings = Settings(
        clients=6,
        rounds=ROUNDS,
        aggregation="selective",
        epochs=STEPS,
        batch_size=64,
        optimizer="sgd",
        learning_rate=RATE,
        node_timeout_s=0.2,
        **own,
    )
    return serve(build(), LocalGrid(app, range(6)), settings)


def plans_of(found: History) -> list[Subnets]:
    """What the clients train in each round."""
    plans = {0: read_subnets(found.metadata["roster"], found.widths)}
    plans |= {each.round: each.subnets for each in found.decisions}
    last = [max(each for each in plans if each <= number) for number in range(ROUNDS)]
    return [plans[each].during(number, ROUNDS) for number, each in enumerate(last)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("policy", "share"), [("found", "validation"), ("groups", "0.5")])
def test_groups_over_flower_are_the_whole_network_with_others_at_zero(
    family: str, policy: str, share: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Personal models and output biases of the clients' own as well."""
    at_once = partial(Recommended, confirm=False, alone=False)
    given = Policy("found", POLICIES["uniform"].choose, allocator=at_once)
    monkeypatch.setitem(POLICIES, "found", given)
    make, build = FAMILIES[family]
    task, model = task_of(make), build()
    own = {"evaluate_on": "personal", "interpolation": share, "output_bias": "local"}
    found = run_of(task, build, policy=policy, **own)
    plans = plans_of(found)
    assert plans[0].has_blocks == (policy == "groups")
    assert plans[-1].has_blocks
    rounds = [[(plan.widths[row], plan.start(row)) for row in range(6)] for plan in plans]
    clients = Clients(model, task.train, RATE, STEPS, local=output_bias(model))
    weights = federated(clients, rounds, {each.round for each in found.decisions[1:]})
    for name in weights.keys() - {clients.local}:
        torch.testing.assert_close(found.weights[name], weights[name], rtol=1e-4, atol=1e-5)
    (chosen,) = set(found.interpolation[-1])
    assert chosen == 0.5 if policy == "groups" else chosen in SHARES
    for row, units in enumerate(rounds[-1]):
        loss = clients.loss(row, weights, masks_of(model, units), task.test[row], chosen)
        assert found.test_loss[-1, row] == pytest.approx(loss, rel=1e-4)
