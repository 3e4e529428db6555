"""Why clients are trained alone: in words, in each report, and counted by a history."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from support.killed_runs import split, train
from torch import nn
from torch.optim import SGD

from hasa_opt.federated import (
    DRAWS,
    ENGINES,
    Execution,
    History,
    Job,
    LocalTraining,
    Participation,
)
from hasa_opt.models import MLP, fresh, prefix
from hasa_opt.tasks import Split
from hasa_opt.tasks.learning import LearningProblem

torch.set_num_threads(1)


class Lars(SGD):
    """Divides each gradient by its norm."""

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            parameter -= self.param_groups[0]["lr"] * parameter.grad / parameter.grad.norm()


class Mixing(MLP):
    """Subtracts the mean of the batch."""

    def forward(self, features):
        return super().forward(features - features.mean(0))


class Pair(MLP):
    def forward(self, left, right):
        return super().forward(left + right)


class Normed(MLP):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, features):
        return super().forward(self.norm(features))

    def cuts(self):
        own = {
            f"norm.{name}": (None,) * tensor.dim()
            for name, tensor in self.norm.state_dict().items()
        }
        return super().cuts() | own


def numbers(n: int, seed: int) -> Split:
    inputs = split(n, seed).tensor
    return Split(inputs, inputs[:, :3], "mse")


def pairs(n: int, seed: int) -> Split:
    one = split(n, seed)
    return Split({"left": one.tensor, "right": one.tensor}, one.targets)


PLAIN = partial(MLP, 6, 3, hidden=(8,))


@pytest.mark.parametrize(
    ("make", "make_split", "training", "more", "reason"),
    [
        (PLAIN, split, {}, {}, ""),
        (PLAIN, split, {"scaler": True}, {}, "the scaler divides what each layer gives"),
        (
            PLAIN,
            split,
            {"optimizer": partial(Lars, weight_decay=0.1)},
            {},
            "the optimizer Lars(weight_decay=0.1) looks at more than single entries",
        ),
        (
            PLAIN,
            split,
            {},
            {"draw": DRAWS["ordered_dropout"]},
            "each batch trains a width of its own",
        ),
        (
            PLAIN,
            numbers,
            {},
            {"problem": LearningProblem("mse")},
            "the targets are not classes",
        ),
        (partial(Pair, 6, 3, hidden=(8,)), pairs, {}, {}, "the inputs are several tensors"),
        (
            partial(Normed, 6, 3, hidden=(8,)),
            split,
            {},
            {},
            "BatchNorm's statistics of a batch are those of one client",
        ),
        (
            partial(Mixing, 6, 3, hidden=(8,)),
            split,
            {},
            {},
            "Mixing gives something else, or nothing, for a stack of clients",
        ),
    ],
)
def test_each_report_says_why_a_client_was_trained_alone(make, make_split, training, more, reason):
    model = fresh(make(), seed=1)
    jobs = [
        Job(client, 0.5, prefix(model, 0.5), make_split(n, client), (0, 0, client), **more)
        for client, n in enumerate((9, 12, 20))
    ]
    settings = LocalTraining(batch_size=10, **training)
    for engine in ("batched", "sequential"):
        reports = list(ENGINES[engine](model, iter(jobs), settings))
        expected = reason if engine == "batched" else ""
        assert [report.reason for report in reports] == [expected] * 3
        alone = engine == "sequential" or bool(reason)
        assert all((report.method == "sequential") == alone for report in reports)


def test_a_stack_that_raises_says_what():
    model = fresh(MLP(6, 3, hidden=(8,)), seed=1)
    splits = [split(9, 0), Split(split(9, 1).tensor, torch.full((9,), 7))]
    jobs = [
        Job(client, 0.5, prefix(model, 0.5), part, (0, 0, client))
        for client, part in enumerate(splits)
    ]
    good, bad = ENGINES["batched"](model, iter(jobs), LocalTraining())
    assert good.reason.startswith("trained together with others, IndexError: Target 7 is out")
    assert isinstance(bad.error, IndexError)


@pytest.mark.filterwarnings("ignore:round .* no update was left")
def test_a_history_counts_the_reasons_also_of_a_run_that_goes_on(tmp_path):
    training = LocalTraining(optimizer=Lars)
    how = {
        "widths": [0.5, 0.5, 1.0, 0.75],
        "training": training,
        "participation": Participation(),
        "execution": Execution(engine="batched"),
    }
    whole = train(None, **how)
    expected = {
        "no other client has a subnet and samples of its shapes": 12,
        "the optimizer Lars looks at more than single entries": 12,
    }
    assert whole.metadata["trained alone"] == expected
    train(tmp_path, rounds=2, **how)
    assert train(tmp_path, **how).metadata["trained alone"] == expected
    assert History.load(tmp_path / "round-000006").metadata["trained alone"] == expected
    assert "trained alone" not in train(None, rounds=1).metadata


def test_auto_says_that_it_is_faster_alone():
    found = train(None, rounds=1, execution=Execution(engine="auto"), participation=Participation())
    assert found.metadata["trained alone"] == {"it is faster alone": 4}
