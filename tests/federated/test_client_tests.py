"""Which clients are tested after a round, and that testing them together changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.federated import Evaluation, LocalTraining, Participation, evaluate, run
from hasa_opt.federated.evaluation import are_apart, evaluate_together
from hasa_opt.models import MLP, Cut, LSTMLanguageModel, SupernetModel, extract, fresh
from hasa_opt.tasks import Split, Task
from hasa_opt.tasks.learning import LearningProblem

torch.set_num_threads(1)


def features(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.randn(n, 6, generator=generator), torch.randint(0, 3, (n,), generator=generator)
    )


def sentences(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 11, (n, 8), generator=generator)
    padding = torch.arange(7) >= torch.randint(2, 7, (n, 1), generator=generator)
    return Split(tokens[:, :-1].masked_fill(padding, 0), tokens[:, 1:].masked_fill(padding, -100))


def task_of(n_clients: int = 9) -> Task:
    parts = [
        [features(5 + row % 4, 100 * part + row) for row in range(n_clients)] for part in range(3)
    ]
    counts = np.ones((n_clients, 3), dtype=np.int64)
    return Task("toy", tuple("abcdefghijklmno"[:n_clients]), *parts, counts, 3)


def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(10, 7)), seed=1)


SIZES = (3, 0, 70, 1, 400)


@pytest.mark.parametrize(
    ("make", "model"),
    [(features, mlp()), (sentences, fresh(LSTMLanguageModel(11, embedding=6, hidden=8), 0))],
)
def test_splits_are_evaluated_together_as_by_themselves(make, model):
    splits = [make(n, seed) for seed, n in enumerate(SIZES)]
    alone = [evaluate(model, split) for split in splits]
    together = evaluate_together(model, splits)
    np.testing.assert_allclose([m.loss for m in together], [m.loss for m in alone], rtol=1e-5)
    np.testing.assert_array_equal([m.metric for m in together], [m.metric for m in alone])


def test_splits_of_other_shapes_and_numbers_are_evaluated_with_their_like():
    problem = LearningProblem("mse")
    splits = [
        Split(torch.randn(n, 6), torch.randn(n, *shape), "mse")
        for n, shape in ((4, (3,)), (5, (3,)), (2, (3,)))
    ]
    model = mlp()
    alone = [evaluate(model, split, problem=problem) for split in splits]
    together = evaluate_together(model, splits, problem)
    np.testing.assert_allclose([m.loss for m in together], [m.loss for m in alone], rtol=1e-5)
    np.testing.assert_allclose([m.metric for m in together], [m.metric for m in alone], rtol=1e-5)


class Centred(SupernetModel):
    """Subtracts the mean of the batch, so that samples have an influence on each other."""

    def __init__(self, size: int = 8) -> None:
        super().__init__({"hidden": size}, 3)
        self.hidden, self.out = nn.Linear(6, size), nn.Linear(size, 3)

    def cuts(self):
        group = Cut("hidden")
        return {
            "hidden.weight": (group, None),
            "hidden.bias": (group,),
            "out.weight": (None, group),
            "out.bias": (None,),
        }

    def build(self, sizes):
        return Centred(sizes["hidden"])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(inputs - inputs.mean(0))))


def test_samples_with_an_influence_on_each_other_are_kept_apart():
    task, model = task_of(), Centred()
    assert not are_apart(model, task.test[0])
    assert are_apart(mlp(), task.test[0])
    history = run(model, task, [0.5] * 9, rounds=1)
    model.load_state_dict(history.weights)
    subnet = extract(model, 0.5)
    expected = [evaluate(subnet, split).loss for split in task.test]
    np.testing.assert_allclose(history.test_loss[0], expected, rtol=1e-6)


def test_padding_with_an_influence_is_noticed():
    class Backwards(LSTMLanguageModel):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.flip(1)).flip(1)

    assert are_apart(fresh(LSTMLanguageModel(11, embedding=6, hidden=8), 0), sentences(5, 0))
    assert not are_apart(fresh(Backwards(11, embedding=6, hidden=8), 0), sentences(5, 0))


@pytest.mark.parametrize("on", ["subnet", "supernet", "personal"])
@pytest.mark.parametrize("bias", ["shared", "local"])
def test_all_kinds_of_models_are_what_each_client_would_use(on, bias, monkeypatch):
    arguments = {
        "rounds": 2,
        "training": LocalTraining(output_bias=bias),
        "evaluation": Evaluation(on=on, also=("supernet", "personal")),
    }
    widths = [0.3, 0.5, 1.0] * 3
    together = run(mlp(), task_of(), widths, **arguments)
    monkeypatch.setattr("hasa_opt.federated.client_tests.ClientTests._apart", False)
    alone = run(mlp(), task_of(), widths, **arguments)
    for name in ("validation_loss", "test_loss", "test_metric", "supernet_metric"):
        np.testing.assert_allclose(
            getattr(together, name), getattr(alone, name), rtol=1e-5, err_msg=name
        )


def rows_tested(history) -> list[list[int]]:
    return [np.flatnonzero(~np.isnan(row)).tolist() for row in history.test_loss]


def test_every_so_many_rounds_and_after_the_last():
    history = run(mlp(), task_of(), [0.5] * 9, rounds=5, evaluation=Evaluation(every=2))
    assert [bool(rows) for rows in rows_tested(history)] == [False, True, False, True, True]
    assert not np.isnan(history.train_loss).any()


def test_a_sample_of_the_clients_is_tested():
    participation = Participation(clients_per_round=5)
    runs = [
        run(
            mlp(),
            task_of(),
            [0.5] * 9,
            rounds=4,
            seed=seed,
            participation=participation,
            evaluation=Evaluation(clients=3),
        )
        for seed in (0, 0, 1)
    ]
    first, again, other = map(rows_tested, runs)
    assert [len(rows) for rows in first] == [3, 3, 3, 3]
    assert first == again != other
    for rows, losses in zip(first[:-1], runs[0].train_loss, strict=False):
        assert not np.isnan(losses[rows]).any()  # of those that took part
    everybody = run(mlp(), task_of(), [0.5] * 9, rounds=1, evaluation=Evaluation(clients=99))
    assert len(rows_tested(everybody)[0]) == 9


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 1.5}, {"clients": 0}, {"clients": "a"}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(InputError, match=r"must be an integer of at least 1"):
        Evaluation(**wrong)
