"""The learning problem: losses and metrics against loops and formulas of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import hasa_opt as hasa
from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.federated import Checkpoint, Evaluation, LocalTraining, evaluate, local_train, run
from hasa_opt.federated.evaluation import outcomes
from hasa_opt.models import MLP, Cut, SupernetModel, fresh
from hasa_opt.tasks import LearningProblem, Split, Task

torch.set_num_threads(1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)).astype(np.float32)
W = RNG.normal(size=(4, 3)).astype(np.float32)
SCORES = X @ W
SHARES = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
OWNER = ["ann", "bob"] * 60


def smooth(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def rmse(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).square().mean().sqrt())


# loss, targets, the same loss of torch, metric, metric by numpy
KINDS: dict[str, tuple[Any, Any, Any, Any, Any]] = {
    "regression": (
        "mse", SCORES, functional.mse_loss, None, lambda o, t: np.square(o - t).mean()
    ),
    "one number": (
        "mse", SCORES[:, 0], lambda o, t: functional.mse_loss(o[:, 0], t), "mae",
        lambda o, t: np.abs(o[:, 0] - t).mean(),
    ),
    "several labels": (
        "bce_with_logits", (SCORES > 0).astype(int), functional.binary_cross_entropy_with_logits,
        None, lambda o, t: ((o > 0) == (t > 0.5)).mean(),
    ),
    "soft labels": (
        "cross_entropy", SHARES, functional.cross_entropy, None,
        lambda o, t: (o.argmax(1) == t.argmax(1)).mean(),
    ),
    "a function": (
        smooth, SHARES.argmax(1), smooth, "accuracy", lambda o, t: (o.argmax(1) == t).mean()
    ),
    "a function of numbers": (
        functional.huber_loss, SCORES, functional.huber_loss, rmse,
        lambda o, t: np.sqrt(np.square(o - t).mean()),
    ),
}  # fmt: skip


def problem_of(kind: str) -> LearningProblem:
    loss, _, _, metric, _ = KINDS[kind]
    return LearningProblem(loss, metric, False if callable(metric) else None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_trains_as_a_plain_loop_does(kind: str) -> None:
    loss, targets, plain, _, _ = KINDS[kind]
    split, outputs = Split(X, targets, loss), 1 if np.ndim(targets) == 1 and loss == "mse" else 3
    own = fresh(MLP(4, outputs, [6]), seed=1)
    settings = LocalTraining(epochs=2, batch_size=50, optimizer="sgd", learning_rate=0.1)
    model = copy.deepcopy(own)
    found = local_train(own, split, settings, (0, 0, 0), problem=problem_of(kind))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    from hasa_opt._utils.streams import derive_seed  # the order of the samples is the library's

    shuffle = torch.Generator().manual_seed(derive_seed((0, 0, 0)))
    for _ in range(2):
        for rows in torch.randperm(120, generator=shuffle).split(50):
            mean = plain(model(split.inputs[rows]), split.targets[rows])
            optimizer.zero_grad()
            mean.backward()
            optimizer.step()
            seen += [float(mean.detach())] * len(rows)
    assert found.loss == pytest.approx(np.mean(seen), rel=1e-5)
    for mine, its in zip(own.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_metric_are_those_of_the_whole_split(kind: str) -> None:
    loss, targets, plain, _, by_numpy = KINDS[kind]
    split, outputs = Split(X, targets, loss), 1 if np.ndim(targets) == 1 and loss == "mse" else 3
    model = fresh(MLP(4, outputs, [6]), seed=1)
    found = evaluate(model, split, batch_size=40, problem=problem_of(kind))
    with torch.no_grad():
        given = model(split.inputs)
        assert found.loss == pytest.approx(float(plain(given, split.targets)), rel=1e-5)
        wanted = by_numpy(given.numpy(), split.targets.numpy())
    assert found.metric == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_a_run_learns_whatever_the_problem(kind: str, engine: Any) -> None:
    loss, targets, _, metric, _ = KINDS[kind]
    better = False if callable(metric) else None
    task = tasks.from_arrays(X, targets, OWNER, loss=loss, metric=metric, higher_is_better=better)
    model = fresh(MLP(4, task.n_outputs, [16]), seed=1)
    history = run(
        model, task, [0.5, 1.0], rounds=5, execution=hasa.federated.Execution(engine=engine)
    )
    first, last = history.test_metric[0].mean(), history.test_metric[-1].mean()
    assert last > first if history.higher_is_better else last < first
    assert history.metric == task.problem.metric_name
    assert history.metric in str(history) or history.metric == "accuracy"


class Batches:
    """A metric in the manner of torchmetrics: the mean absolute error."""

    higher_is_better = False

    def __init__(self) -> None:
        self.resets = 0
        self.reset()

    def reset(self) -> None:
        self.resets += 1
        self.total, self.count = 0.0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total += float((outputs[:, 0] - targets).abs().sum())
        self.count += len(targets)

    def compute(self) -> Tensor:
        return torch.tensor(self.total / self.count)

    def __eq__(self, other: object) -> Any:
        return Batches()  # as in torchmetrics, where it is another metric

    __hash__ = object.__hash__


def test_a_metric_object_begins_anew_with_each_client() -> None:
    metric = Batches()
    own = tasks.from_arrays(X, SCORES[:, 0], OWNER, loss="mse", metric=metric)
    named = tasks.from_arrays(X, SCORES[:, 0], OWNER, loss="mse", metric="mae")
    model = fresh(MLP(4, 1), seed=1)
    one, other = (run(model, task, [1.0, 1.0], rounds=2) for task in (own, named))
    np.testing.assert_allclose(one.test_metric, other.test_metric, rtol=1e-6)
    assert metric.resets == 1 + 4
    assert own.problem.describe() == {
        "loss": "mse", "metric": "Batches", "higher_is_better": False
    }  # fmt: skip
    assert not one.higher_is_better


def test_an_object_may_judge_classes() -> None:
    class Right(Batches):
        higher_is_better = True

        def update(self, outputs: Tensor, targets: Tensor) -> None:
            self.total += int((outputs.argmax(1) == targets).sum())
            self.count += len(targets)

    task = tasks.from_arrays(X, SHARES.argmax(1), OWNER, metric=Right())
    plain = tasks.from_arrays(X, SHARES.argmax(1), OWNER)
    one, other = (run(fresh(MLP(4, 3), seed=1), own, [1.0, 1.0], rounds=2) for own in (task, plain))
    np.testing.assert_allclose(one.test_metric, other.test_metric, rtol=1e-6)
    np.testing.assert_allclose(one.test_loss, other.test_loss, rtol=1e-6)
    assert (one.metric, one.higher_is_better) == ("Right", True)


class Placed(Batches):
    """A metric that notes where it is moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[torch.device] = []

    def to(self, device: torch.device) -> Self:
        self.places.append(torch.device(device))
        return self


class Weighted(nn.CrossEntropyLoss):
    """A loss with weights of classes that notes where it is moved to."""

    def __init__(self) -> None:
        super().__init__(weight=torch.tensor([1.0, 2.0, 3.0]))
        self.places: list[torch.device] = []

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        moved = super()._apply(*args, **kwargs)
        self.places.append(self.weight.device)
        return moved


def test_loss_and_metric_move_to_where_the_model_is() -> None:
    loss, metric = Weighted(), Placed()
    problem = LearningProblem(loss, metric)
    meta = MLP(4, 3).to("meta")
    split = Split(X, SHARES.argmax(1), loss)
    with pytest.raises((RuntimeError, NotImplementedError)):  # Tensors of meta hold no loss.
        local_train(meta, split, LocalTraining(), (0, 0, 0), problem=problem)
    assert loss.places[-1] == metric.places[-1] == torch.device("meta")
    loss = Weighted()
    problem = LearningProblem(loss, Placed())
    with pytest.raises((RuntimeError, NotImplementedError)):
        evaluate(meta, split, problem=problem)
    assert loss.places[-1] == problem.metric.places[-1] == torch.device("meta")


def test_a_run_moves_loss_and_metric() -> None:
    loss, metric = Weighted(), Placed()
    task = tasks.from_arrays(X, SHARES.argmax(1), OWNER, loss=loss, metric=metric)
    history = run(fresh(MLP(4, 3), seed=1), task, [1.0, 1.0], rounds=1)
    assert set(metric.places) == set(loss.places) == {torch.device("cpu")}
    plain = tasks.from_arrays(
        X, SHARES.argmax(1), OWNER,
        loss=lambda outputs, targets: functional.cross_entropy(outputs, targets, loss.weight),
    )  # fmt: skip
    wanted = run(fresh(MLP(4, 3), seed=1), plain, [1.0, 1.0], rounds=1)
    np.testing.assert_array_equal(history.test_loss, wanted.test_loss)


def test_what_is_no_accuracy_is_not_called_one() -> None:
    task = tasks.from_arrays(X, SCORES, OWNER, loss="mse")
    rows = []
    history = run(
        fresh(MLP(4, 3), seed=1),
        task,
        [1.0, 1.0],
        rounds=1,
        on_round=lambda _, row: rows.append(row),
    )
    assert "test_metric" in rows[0]
    assert "test_accuracy" not in rows[0]
    for name in ("test_accuracy", "validation_accuracy", "final_accuracy"):
        with pytest.raises(InputError, match="the metric is mse, no accuracy"):
            getattr(history, name)
    assert history.final_metric.shape == (2,)


def test_classes_may_be_judged_by_their_loss() -> None:
    task = tasks.from_arrays(X, SHARES.argmax(1), OWNER, metric="loss")
    found = evaluate(fresh(MLP(4, 3), seed=1), task.train[0], problem=task.problem)
    assert found.metric == found.loss
    assert (task.problem.scale.name, task.problem.scale.higher_is_better) == ("loss", False)


@pytest.mark.parametrize("kind", KINDS)
def test_outcomes_of_single_samples_add_up_to_the_split(kind: str) -> None:
    """By the metric where it is a name; by the loss where it judges whole splits."""
    loss, targets, _, metric, _ = KINDS[kind]
    split, outputs = Split(X, targets, loss), 1 if np.ndim(targets) == 1 and loss == "mse" else 3
    model, problem = fresh(MLP(4, outputs, [6]), seed=1), problem_of(kind)
    wanted = evaluate(model, split, problem=problem)
    found = outcomes(model, split, 50, problem.for_single_samples)
    judged, known, score, summed = found.sum(axis=0)
    assert len(found) == len(split)
    assert summed / known == pytest.approx(wanted.loss, rel=1e-5)
    expected = wanted.loss if callable(metric) else wanted.metric
    assert score / judged == pytest.approx(expected, rel=1e-5)


def test_ignored_targets_do_not_count_in_the_outcomes_of_a_loss_function() -> None:
    def ignoring(given: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(given, wanted, ignore_index=-100)

    classes = SHARES.argmax(1)
    classes[:40] = -100
    split, problem = Split(X, classes, ignoring), LearningProblem(ignoring, "accuracy")
    model = fresh(MLP(4, 3), seed=1)
    judged, _, score, _ = outcomes(model, split, 50, problem).sum(axis=0)
    assert judged == 80
    assert score / judged == pytest.approx(evaluate(model, split, problem=problem).metric)


def test_the_share_of_the_local_model_is_the_best_by_the_metric() -> None:
    """Clients whose numbers have opposite signs do best on their own models alone."""
    signs = np.where(np.array(OWNER) == "ann", 1.0, -1.0).astype(np.float32)
    task = tasks.from_arrays(X, SCORES[:, 0] * signs, OWNER, validation_share=0.2, loss="mse")
    judged = Evaluation(on="personal", interpolation="validation")
    training, model = LocalTraining(epochs=10), fresh(MLP(4, 1), seed=1)
    history = run(model, task, [1.0, 1.0], rounds=2, training=training, evaluation=judged)
    assert history.interpolation[-1].min() >= 0.75


def test_a_checkpoint_is_of_its_learning_problem(tmp_path: Any) -> None:
    def go(metric: Any, resume: bool) -> Any:
        task = tasks.from_arrays(X, SCORES, OWNER, loss="mse", metric=metric)
        place = Checkpoint(tmp_path, resume=resume)
        return run(fresh(MLP(4, 3), seed=1), task, [1.0, 1.0], rounds=2, checkpoint=place)

    first = go("mse", resume=False)
    assert np.array_equal(go("mse", resume=True).test_metric, first.test_metric)
    with pytest.raises(InputError, match="metric 'mse', not 'mae'"):
        go("mae", resume=True)


# ------------------------------------------------------------------------------- who is to blame


def task_of(targets: Any, loss: Any = "mse") -> Task:
    return tasks.from_arrays(X, targets, OWNER, loss=loss)


@pytest.mark.parametrize(
    ("targets", "loss", "message"),
    [
        (SCORES[:, 0], "cross_entropy", 'targets are torch.float32.*numbers need loss="mse"'),
        (np.where(SCORES > 2, np.nan, SCORES), "mse", "hold nan: loss='mse' takes finite numbers"),
        (SCORES, "bce_with_logits", "takes shares from 0 to 1"),
        (np.eye(3)[SHARES.argmax(1)], "cross_entropy", "are one-hot rows"),
        (SHARES.argmax(1), "huber", "loss 'huber' is not known"),
    ],
)
def test_targets_that_the_loss_does_not_take(targets: Any, loss: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_of(targets, loss)


@pytest.mark.parametrize(
    ("targets", "loss", "outputs", "message"),
    [
        (SCORES[:, 0], "mse", 2, r"outputs of shape \(1, 2\) for targets of shape \(1,\)"),
        (SCORES, "mse", 1, r"outputs of shape \(1, 1\) for targets of shape \(1, 3\)"),
        (SHARES, "cross_entropy", 2, "predicts 2 outputs, but task 'own' has 3"),
        (SCORES, lambda o, t: o - t, 3, "must give the batch's mean"),
        (SCORES, lambda o, t: o["logits"], 3, "cannot compare the model's outputs"),
        (SCORES, lambda o, t: t.mean(), 3, "has no gradient"),
    ],
)
def test_a_model_that_the_loss_does_not_take(
    targets: Any, loss: Any, outputs: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(MLP(4, outputs), task_of(targets, loss), [1.0, 1.0], rounds=1)


# ------------------------------------------------------------------------------- several inputs


class Pair(SupernetModel):
    """Reads two tensors, by position or by name, and gives a tensor, a tuple or a dictionary."""

    def __init__(self, hidden: int, form: str) -> None:
        super().__init__({"hidden": hidden}, 3)
        self.form = form
        self.body, self.head = nn.Linear(4, hidden), nn.Linear(hidden, 3)

    def forward(self, features: Tensor, mask: Tensor) -> Any:
        scores = self.head(self.body(features * mask).relu())
        return {"tensor": scores, "tuple": (scores, features), "dict": {"scores": scores}}[
            self.form
        ]

    def cuts(self) -> Mapping[str, tuple[Cut | None, ...]]:
        hidden = Cut("hidden")
        return {
            "body.weight": (hidden, None),
            "body.bias": (hidden,),
            "head.weight": (None, hidden),
            "head.bias": (None,),
        }

    def build(self, sizes: Mapping[str, int]) -> Self:
        return type(self)(sizes["hidden"], self.form)


MASK = RNG.random((120, 4)) < 0.8
CLASSES = (X * MASK @ W).argmax(1)
LOSSES: dict[str, Any] = {
    "tensor": "cross_entropy",
    "tuple": lambda outputs, targets: functional.cross_entropy(outputs[0], targets),
    "dict": lambda outputs, targets: functional.cross_entropy(outputs["scores"], targets),
}
SEVERAL: dict[str, Any] = {
    "names": {"mask": torch.from_numpy(MASK), "features": X},
    "positions": {0: X, 1: MASK},
}


class Single(Pair):
    """Reads the product of both as one tensor."""

    def forward(self, features: Tensor) -> Any:  # type: ignore[override]
        return super().forward(features, torch.ones_like(features))


@pytest.mark.parametrize("inputs", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("form", LOSSES)
def test_several_inputs_and_any_outputs_train_as_one_tensor_does(form: str, inputs: Any) -> None:
    task = tasks.from_arrays(inputs, CLASSES, OWNER, loss=LOSSES[form])
    plain = tasks.from_arrays(X * MASK, CLASSES, OWNER)
    history = run(fresh(Pair(8, form), seed=1), task, [0.5, 1.0], rounds=3)
    one = run(fresh(Single(8, "tensor"), seed=1), plain, [0.5, 1.0], rounds=3)
    np.testing.assert_allclose(history.train_loss, one.train_loss, rtol=1e-5)
    np.testing.assert_allclose(history.test_loss, one.test_loss, rtol=1e-5)
    assert history.flops.tolist() == one.flops.tolist()


def test_items_may_be_mappings_or_tuples() -> None:
    rows = {name: [row for row in range(120) if OWNER[row] == name] for name in ("ann", "bob")}
    named, placed = (
        {name: [(make(row), int(CLASSES[row])) for row in own] for name, own in rows.items()}
        for make in (
            lambda row: {"mask": MASK[row], "features": X[row]},
            lambda row: (torch.from_numpy(X[row]), torch.from_numpy(MASK[row])),
        )
    )
    runs = [
        run(fresh(Pair(8, "tensor"), seed=1), task, [0.5, 1.0], rounds=2)
        for task in (
            tasks.from_datasets(named),
            tasks.from_datasets(placed),
            tasks.from_arrays(SEVERAL["names"], CLASSES, OWNER),
        )
    ]
    for history in runs[1:]:
        np.testing.assert_array_equal(history.train_loss, runs[0].train_loss)
        np.testing.assert_array_equal(history.test_metric, runs[0].test_metric)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"features": X}, r"Pair cannot process inputs of 'features': \(1, 4\)"),
        ({"mask": MASK, "features": X[:5]}, "5 inputs and 120 targets"),
        ({2: X, 3: MASK}, "inputs are named 2"),
        ({}, "empty mapping"),
    ],
)
def test_inputs_that_the_model_does_not_take(inputs: Any, message: str) -> None:
    def go() -> None:
        task = tasks.from_arrays(inputs, CLASSES, OWNER)
        run(Pair(8, "tensor"), task, [1.0, 1.0], rounds=1)

    with pytest.raises(InputError, match=message):
        go()


def test_a_named_loss_needs_one_tensor() -> None:
    task = tasks.from_arrays(SEVERAL["names"], CLASSES, OWNER)
    with pytest.raises(InputError, match="which is no tensor: let its forward"):
        run(Pair(8, "dict"), task, [1.0, 1.0], rounds=1)
