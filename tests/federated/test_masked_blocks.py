"""Blocks in every engine and model family, beside a loop in which nobody cuts anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.masked_loop import Clients, federated, masks_of
from torch import nn

from hasa_opt.federated import (
    Checkpoint,
    Evaluation,
    Execution,
    History,
    LocalTraining,
    Server,
    Subnets,
    run,
)
from hasa_opt.federated.personal import output_bias
from hasa_opt.models import (
    CNN,
    MLP,
    GRULanguageModel,
    LSTMLanguageModel,
    ResNet,
    SupernetModel,
    TransformerLanguageModel,
    fresh,
)
from hasa_opt.models.traced import Supernet
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)

BLOCKS = [(0.5, 0.0), (0.5, 0.5), (0.4, 0.1), (0.4, 0.6)]  # Two that overlap others, two apart.
ROUNDS, RATE, STEPS, SHARE = 2, 0.3, 2, 0.6


def features(n: int, rng: torch.Generator) -> Split:
    targets = torch.randint(0, 3, (n,), generator=rng)
    return Split(torch.randn(n, 6, generator=rng) + targets[:, None], targets)


def images(n: int, rng: torch.Generator) -> Split:
    targets = torch.randint(0, 3, (n,), generator=rng)
    return Split(torch.randn(n, 1, 4, 4, generator=rng) + targets[:, None, None, None], targets)


def sentences(n: int, rng: torch.Generator) -> Split:
    tokens = torch.randint(2, 11, (n, 6), generator=rng)
    return Split(tokens[:, :-1], tokens[:, 1:])


def user_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))


def user_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3))


def user_images() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 3)
    )


FAMILIES = {
    "mlp": (features, lambda: fresh(MLP(6, 3, hidden=(10, 7)), 1)),
    "cnn": (images, lambda: fresh(CNN(3, channels=(8, 12), image_size=4), 1)),
    "resnet": (images, lambda: fresh(ResNet(3, channels=(8, 12), blocks=1), 1)),
    "lstm": (sentences, lambda: fresh(LSTMLanguageModel(11, embedding=6, hidden=8), 1)),
    "gru": (sentences, lambda: fresh(GRULanguageModel(11, embedding=6, hidden=8), 1)),
    "transformer": (
        sentences,
        lambda: fresh(TransformerLanguageModel(11, embedding=8, heads=4, hidden=8, layers=2), 1),
    ),
    "traced": (features, lambda: Supernet(user_module(), torch.randn(2, 6))),
    "traced_norm": (features, lambda: Supernet(user_norm(), torch.randn(4, 6))),
    "traced_images": (images, lambda: Supernet(user_images(), torch.randn(2, 1, 4, 4))),
}


@dataclass
class Case:
    """A run by the library, and the same one by the masked loop."""

    task: Task
    model: SupernetModel
    engine: str
    variant: str

    def by_library(self, rounds: int, checkpoint: Checkpoint | None = None) -> History:
        bias = "local" if self.variant == "own bias" else "shared"
        on = "personal" if self.variant == "personal" else "subnet"
        widths, starts = np.array(BLOCKS).T
        return run(
            self.model,
            self.task,
            Subnets(widths, starts=starts),
            rounds=rounds,
            training=LocalTraining(
                epochs=STEPS,
                batch_size=64,
                optimizer="sgd",
                learning_rate=RATE,
                output_bias=bias,
            ),
            server=Server(aggregation="selective"),
            evaluation=Evaluation(on=on, interpolation=SHARE),
            execution=Execution(engine=self.engine),
            checkpoint=checkpoint,
        )

    def by_masks(self) -> tuple[dict[str, torch.Tensor], list[float]]:
        """The server's weights, and each client's loss on its test split."""
        local = output_bias(self.model) if self.variant == "own bias" else ""
        clients = Clients(self.model, self.task.train, RATE, STEPS, local)
        weights = federated(clients, [BLOCKS] * ROUNDS)
        share = SHARE if self.variant == "personal" else 0.0
        losses = [
            clients.loss(row, weights, masks_of(self.model, own), self.task.test[row], share)
            for row, own in enumerate(BLOCKS)
        ]
        return weights, losses


def case(family: str, engine: str, variant: str) -> Case:
    make, build = FAMILIES[family]
    rng = torch.Generator().manual_seed(3)
    parts = [[make(20 + 3 * row, rng) for row in range(len(BLOCKS))] for _ in range(3)]
    n_outputs = 11 if make is sentences else 3
    counts = np.ones((len(BLOCKS), n_outputs), dtype=int)
    return Case(Task("toy", tuple("abcd"), *parts, counts, n_outputs), build(), engine, variant)


@pytest.mark.parametrize(
    "resumed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["whole", "resumed"]
)
@pytest.mark.parametrize("engine", ["sequential", "batched"])
@pytest.mark.parametrize("variant", ["plain", "personal", "own bias"])
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_the_whole_network_with_others_at_zero(
    tmp_path: Path, family: str, variant: str, engine: str, resumed: bool
) -> None:
    own = case(family, engine, variant)
    if resumed:
        own.by_library(ROUNDS - 1, Checkpoint(tmp_path))
    found = own.by_library(ROUNDS, Checkpoint(tmp_path, resume=True) if resumed else None)
    weights, losses = own.by_masks()
    for name, tensor in weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.test_loss[-1], losses, rtol=1e-4)
    before = own.model.state_dict()
    assert max(float((before[name] - weights[name]).abs().max()) for name in weights) > 0.005
