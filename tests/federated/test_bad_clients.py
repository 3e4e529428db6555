"""One client with damaged samples costs that client alone: it is named, and nobody else changes."""

import math
import warnings
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TIMES
from torch import nn

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    ENGINES,
    Execution,
    Faults,
    History,
    LocalTraining,
    Participation,
    run,
)
from hasa_opt.models import CNN, MLP, LSTMLanguageModel, Supernet, SupernetModel, fresh
from hasa_opt.tasks import Lazy, Split, Task

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

SIZES = (14, 20, 16, 18, 14)
WIDTHS = (0.5, 0.5, 0.5, 0.5, 1.0)
TOKENS = st.integers(9, 10**6) | st.integers(-(10**6), -1)  # Outside of the vocabulary of nine.
ENGINE = pytest.mark.parametrize("engine", ENGINES)


def images(*shape: int):
    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.rand(n, *shape, generator=generator)
        return Split(inputs, torch.randint(0, 3, (n,), generator=generator))

    return split


def texts(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 9, (n, 6), generator=generator)
    return Split(tokens[:, :-1], tokens[:, 1:])


def task_of(make_split, n_outputs: int) -> Task:
    train, *held = (
        tuple(make_split(max(3, n // share), 10 * client + share) for client, n in enumerate(SIZES))
        for share in (1, 4, 5)
    )
    counts = np.ones((len(SIZES), n_outputs), dtype=np.int64)
    return Task("toy", ("ada", "bob", "cyd", "dan", "eve"), train, *held, counts, n_outputs)


KINDS = {
    "mlp": (MLP(6, 3, hidden=(8, 6)), task_of(images(6), 3)),
    "cnn": (CNN(3, channels=(4, 8), image_size=8), task_of(images(1, 8, 8), 3)),
    "lstm": (LSTMLanguageModel(9, embedding=4, hidden=6), task_of(texts, 9)),
}


def damaged(task: Task, client: int, place: int, value: float) -> Task:
    """A value in the place of one entry of a client's training samples."""
    inputs = task.train[client].inputs.clone()
    inputs.view(-1)[place % inputs.numel()] = value
    split = Split(inputs, task.train[client].targets)
    train = tuple(split if row == client else own for row, own in enumerate(task.train))
    return replace(task, train=train)


def train(model: SupernetModel, task: Task, engine: str, **participation: object) -> History:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(
            fresh(model, seed=1),
            task,
            WIDTHS,
            rounds=2,
            training=LocalTraining(batch_size=4),
            participation=Participation(**participation),  # type: ignore[arg-type]
            execution=Execution(engine=engine),
        )


def assert_as_if_absent(found: History, model: SupernetModel, task: Task, client: int) -> None:
    """The weights are those of a run without the client, trained one after another."""
    alone = train(model, task, "sequential", faults=Faults(absent=(client,)))
    for name, tensor in alone.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=0, atol=1e-5, msg=name)


@ENGINE
@pytest.mark.fuzz
@settings(max_examples=2 * TIMES, deadline=None)
@given(
    kind=st.sampled_from(["mlp", "cnn"]),
    client=st.integers(0, 4),
    place=st.integers(0, 10**4),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_a_sample_that_is_not_finite_rejects_its_client_alone(
    engine: str, kind: str, client: int, place: int, value: float
) -> None:
    model, task = KINDS[kind]
    found = train(model, damaged(task, client, place, value), engine)
    assert [(e.round, e.client, e.kind) for e in found.events] == [
        (0, client, "rejected"),
        (1, client, "rejected"),
    ]
    assert_as_if_absent(found, model, task, client)


@ENGINE
@pytest.mark.fuzz
@settings(max_examples=2 * TIMES, deadline=None)
@given(client=st.integers(0, 4), place=st.integers(5, 10**4), token=TOKENS)
def test_a_training_that_raises_an_exception_is_a_client_that_dropped_out(
    engine: str, client: int, place: int, token: int
) -> None:
    """Tokens beyond the vocabulary, not in the first sample: that one is tried beforehand."""
    model, task = KINDS["lstm"]
    numel = task.train[client].inputs.numel()
    found = train(model, damaged(task, client, 5 + place % (numel - 5), token), engine)
    assert [(e.round, e.client, e.kind) for e in found.events] == [
        (0, client, "dropped"),
        (1, client, "dropped"),
    ]
    assert all("IndexError: index out of range" in event.reason for event in found.events)
    assert np.isnan(found.train_loss[:, client]).all()
    assert (found.bytes_down[:, client] > 0).all()
    assert (found.bytes_up[:, client] == 0).all()
    assert_as_if_absent(found, model, task, client)


@ENGINE
def test_the_warning_names_the_client_and_the_exception(engine: str) -> None:
    model, task = KINDS["lstm"]
    with pytest.warns(UserWarning, match="round 0: client 'cyd' dropped out.*IndexError"):
        run(
            fresh(model, seed=1),
            damaged(task, 2, 7, 99),
            WIDTHS,
            rounds=1,
            execution=Execution(engine=engine),
        )


def normalised() -> SupernetModel:
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return Supernet(module, torch.zeros(2, 6))


@ENGINE
@pytest.mark.parametrize("client", [0, 4])
def test_batch_statistics_leave_out_samples_that_are_not_finite(engine: str, client: int) -> None:
    task = KINDS["mlp"][1]
    found = train(normalised(), damaged(task, client, 8, math.nan), engine)
    assert np.isfinite(found.test_loss).all()
    assert all(tensor.isfinite().all() for tensor in found.weights.values())


FAILURES = st.sampled_from(
    [
        OSError("gone"),
        KeyError("x"),
        IndexError("beyond"),
        ValueError(""),
        RuntimeError("two\nlines"),
    ]
)


def unloadable(task: Task, client: int, parts: Collection[str], error: Exception) -> Task:
    """The samples of one client are a data set that raises an error."""

    def lazy(part: str) -> Lazy:
        splits = getattr(task, part)

        def load(row: int) -> Split:
            if row == client and part in parts:
                raise error
            return splits[row]

        return Lazy([len(split) for split in splits], load)

    return replace(task, **{part: lazy(part) for part in ("train", "validation", "test")})


@ENGINE
@pytest.mark.fuzz
@settings(max_examples=2 * TIMES, deadline=None)
@given(kind=st.sampled_from(["mlp", "batch norm"]), client=st.integers(0, 4), error=FAILURES)
def test_a_client_whose_samples_cannot_be_loaded_has_dropped_out(
    engine: str, kind: str, client: int, error: Exception
) -> None:
    """Statistics of BatchNorm are of all the others, whatever kind of error ends the loading."""
    model, task = KINDS["mlp"] if kind == "mlp" else (normalised(), KINDS["mlp"][1])
    found = train(model, unloadable(task, client, ["train"], error), engine)
    assert [(e.round, e.client, e.kind) for e in found.events] == [
        (0, client, "dropped"),
        (1, client, "dropped"),
    ]
    assert all(type(error).__name__ in event.reason for event in found.events)
    assert np.isnan(found.train_loss[:, client]).all()
    assert np.isfinite(found.test_loss).all()
    if kind == "mlp":
        assert_as_if_absent(found, model, task, client)


@pytest.mark.fuzz
@settings(max_examples=2 * TIMES, deadline=None)
@given(client=st.integers(0, 4), part=st.sampled_from(["validation", "test"]), error=FAILURES)
def test_a_client_whose_held_back_samples_cannot_be_loaded_is_trained_and_not_tested(
    client: int, part: str, error: Exception
) -> None:
    model, task = KINDS["mlp"]
    found = train(model, unloadable(task, client, [part], error), "auto")
    whole = train(model, task, "auto")
    assert [(e.round, e.client, e.kind) for e in found.events] == [
        (0, client, "untested"),
        (1, client, "untested"),
    ]
    for column in ("validation_loss", "test_loss", "train_loss"):
        expected = getattr(whole, column).copy()
        expected[:, client] = np.nan if column.startswith(part) else expected[:, client]
        np.testing.assert_array_equal(getattr(found, column), expected)


def test_warnings_name_the_client_whose_samples_cannot_be_loaded() -> None:
    model, task = KINDS["mlp"]
    broken = unloadable(task, 2, ["train", "test"], OSError("the disk is gone"))
    reason = (
        r"samples cannot be used: the split of client 2 could not be loaded \(OSError: the disk"
    )
    with (
        pytest.warns(
            UserWarning, match=f"round 0: client 'cyd' dropped out, as its train.*{reason}"
        ),
        pytest.warns(
            UserWarning, match=f"round 0: client 'cyd' was not tested, as its test {reason}"
        ),
    ):
        run(fresh(model, seed=1), broken, WIDTHS, rounds=1)


def test_where_no_samples_can_be_loaded_the_run_does_not_begin() -> None:
    model, task = KINDS["mlp"]

    def load(client: int) -> Split:
        raise OSError("the disk is gone")

    broken = replace(task, train=Lazy(SIZES, load))
    with pytest.raises(InputError, match=r"client 0 could not be loaded \(OSError: the disk"):
        run(fresh(model, seed=1), broken, WIDTHS, rounds=1)


class Broken(MLP):
    """Cannot train; in evaluation it works."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("the graph is broken")
        return super().forward(features)


@ENGINE
@pytest.mark.filterwarnings("ignore")
def test_where_nobody_can_train_the_model_is_to_blame(engine: str) -> None:
    words = "no client could train in round 0: client 'ada' dropped out, as .* RuntimeError: the"
    with pytest.raises(InputError, match=words) as caught:
        train(Broken(6, 3, hidden=(8, 6)), KINDS["mlp"][1], engine)
    assert isinstance(caught.value.__cause__, RuntimeError)
