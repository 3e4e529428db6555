"""Models of the clients' own over Flower: what devices keep, judge and send, beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import Message
from flwr.clientapp import ClientApp
from support.flower_grid import LocalGrid

from hasa_opt import Clients, models
from hasa_opt.federated import Evaluation, History, LocalTraining, Subnets, run
from hasa_opt.flower import Device, Settings, client_app, serve
from hasa_opt.flower.messages import ARRAYS
from hasa_opt.policies import Setting
from hasa_opt.policies.recommended import Recommended
from hasa_opt.policies.subnets import read_subnets
from hasa_opt.policies.whole_units import Meter
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow

N, ROUNDS = 8, 12
COLUMNS = (
    "train_loss",
    "validation_loss",
    "validation_metric",
    "test_loss",
    "test_metric",
    "interpolation",
    "mean_width",
    "flops",
    "bytes_up",
    "bytes_down",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def task(spread: float) -> Task:
    """Clients whose classes are those of one network, each moved by so much."""
    rng = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, generator=rng)
    own = [base + spread * torch.randn(6, 4, generator=rng) for _ in range(N)]

    def part(size: int, weights: torch.Tensor) -> Split:
        inputs = torch.randn(size, 6, generator=rng)
        return Split(inputs, (inputs @ weights).argmax(1))

    train = [part(20 + 4 * row, own[row]) for row in range(N)]
    held_out = ([part(20, weights) for weights in own] for _ in range(2))
    counts = np.array([np.bincount(split.targets, minlength=4) for split in train])
    return Task("toy", tuple("abcdefgh"), train, *held_out, counts, 4)


def model() -> models.SupernetModel:
    return models.fresh(models.MLP(6, 4, hidden=(16, 8)), 0)


def app(spread: float, directory: Path | None = None) -> ClientApp:
    def device(partition: int, _: int) -> Device:
        return replace(Device.of(task(spread), partition), directory=directory)

    return client_app(model, device)


def settings(**changes: Any) -> Settings:
    common = {"clients": N, "rounds": ROUNDS, "batch_size": 8, "node_timeout_s": 0.2}
    return Settings(**common | changes)


def meter() -> Meter:
    return Meter.of(model().sizes, partial(models.units, model()))


def setting(spread: float, own: Settings) -> Setting:
    columns = Clients(
        task(spread).samples, counts=task(spread).counts, names=task(spread).client_names
    )
    return Setting(columns, np.zeros(N), own.budget, own.menu, own.seed)


def same(found: History, expected: History) -> None:
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    told = [(each.round, each.reason) for each in expected.decisions]
    assert [(each.round, each.reason) for each in found.decisions] == told


def recommended(spread: float, own: Settings) -> History:
    """The same run in the loop."""
    return run(
        model(),
        task(spread),
        Recommended(setting(spread, own), meter(), ROUNDS),
        rounds=ROUNDS,
        training=LocalTraining(batch_size=8, output_bias="local" if spread else "shared"),
        evaluation=Evaluation(on="personal", interpolation="validation"),
        participation=own.participation,
    )


class PowerCut(Exception):
    """Ends a server."""


def cut_in(number: int) -> Callable[[Message, Message], Message]:
    """End the server in a round, once a device has trained in it."""

    def cut(message: Message, reply: Message) -> Message:
        kind, group = message.metadata.message_type, message.metadata.group_id
        if kind == "train" and group == str(number):
            raise PowerCut
        return reply

    return cut


@pytest.mark.parametrize(
    ("spread", "drawn", "ends"), [(2.0, 0, "alone: "), (0.0, 0, "together again"), (0.0, 6, "")]
)
def test_recommended_tries_going_alone_as_in_the_loop(spread: float, drawn: int, ends: str) -> None:
    own = settings(policy="recommended", clients_per_round=drawn)
    found = serve(model(), LocalGrid(app(spread), range(N)), own)
    expected = recommended(spread, own)
    assert any(each.reason.startswith("alone, on trial") for each in expected.decisions)
    assert expected.decisions[-1].reason.startswith(ends)
    assert len(np.unique(expected.interpolation)) > 2
    same(found, expected)
    assert found.events == ()


def test_who_is_alone_sends_and_receives_nothing() -> None:
    grid = LocalGrid(app(2.0), range(N))
    replies: list[tuple[int, bool, bool]] = []

    def note(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train":
            number = int(message.metadata.group_id)
            replies.append((number, ARRAYS in message.content, ARRAYS in reply.content))
        return reply

    grid.change = note
    found = serve(model(), grid, settings(policy="recommended"))
    alone = next(each.round for each in found.decisions if "on trial" in each.reason)
    assert found.decisions[-1].reason.startswith("alone: ")
    for number, received, sent in replies:
        assert received == (number <= alone)
        assert sent == (number < alone)
    assert found.bytes_up[alone:].sum() == 0


@pytest.mark.parametrize(("spread", "number"), [(2.0, 9), (0.0, 7), (0.0, 8)])
def test_a_server_that_is_killed_goes_on_to_the_same_bits(
    tmp_path: Path, spread: float, number: int
) -> None:
    """Before, while and after clients share again, or stay alone; Flower has forgotten all."""
    own = settings(policy="recommended", checkpoint=str(tmp_path / "checkpoint"))
    devices = app(spread, tmp_path / "device")
    with pytest.raises(PowerCut):
        serve(model(), LocalGrid(devices, range(N), cut_in(number)), own)
    resumed = serve(model(), LocalGrid(devices, range(N)), own)
    same(resumed, recommended(spread, own))
    assert len(list((tmp_path / "device").iterdir())) <= 3 * N


def test_a_device_that_has_lost_its_model_begins_anew(tmp_path: Path) -> None:
    own = settings(policy="recommended", checkpoint=str(tmp_path / "checkpoint"))
    with pytest.raises(PowerCut):
        serve(model(), LocalGrid(app(2.0), range(N), cut_in(9)), own)
    with pytest.warns(UserWarning, match="no update was left"):
        found = serve(model(), LocalGrid(app(2.0), range(N)), own)
    lost = [(each.round, each.client) for each in found.events if "no longer has" in each.reason]
    assert lost == [(9, row) for row in range(N)]
    assert np.isfinite(found.train_loss[10:]).all()
    assert found.bytes_down[10].all()


def test_the_mean_of_the_models_of_those_who_answer() -> None:
    """One device is gone when clients share again: it counts as it began."""
    grid = LocalGrid(app(0.0), range(N))

    def leave(message: Message, reply: Message) -> Message | None:
        is_asked = message.metadata.message_type == "query.model"
        return None if is_asked and grid.partition(message.metadata.dst_node_id) == 3 else reply

    grid.change = leave
    found = serve(model(), grid, settings(policy="recommended"))
    whole = recommended(0.0, settings(policy="recommended"))
    assert found.decisions[-1].reason == whole.decisions[-1].reason
    np.testing.assert_array_equal(found.train_loss[:8], whole.train_loss[:8])
    assert not np.array_equal(found.train_loss[8], whole.train_loss[8])
    more = whole.bytes_up[8] - found.bytes_up[8]
    assert np.flatnonzero(more).tolist() == [3], "it has sent nothing, and the others twice"


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate_on": "personal"},
        {"evaluate_on": "personal", "interpolation": "validation", "output_bias": "local"},
        {"output_bias": "local", "aggregation": "selective", "clients_per_round": 5},
        {"evaluate_on": "personal", "interpolation": "1.0", "policy": "fedrolex"},
        {"evaluate_on": "personal", "policy": "federated_dropout", "clients_per_round": 5},
        {"policy": "ditto", "interpolation": "0.5"},
        {"policy": "local", "budget": 0.4},
        {"policy": "clustered", "evaluate_on": "personal", "interpolation": "validation"},
        {"policy": "exclude", "evaluate_on": "personal"},
    ],
    ids=str,
)
def test_personal_models_are_those_of_the_loop(tmp_path: Path, changes: dict[str, Any]) -> None:
    spread, own = 1.0, settings(rounds=5, seed=3, **changes)
    found = serve(model(), LocalGrid(app(spread), range(N)), own)
    expected = run(
        model(),
        task(spread),
        read(found),
        rounds=5,
        seed=3,
        training=own.training,
        server=own.server,
        evaluation=own.evaluation,
        participation=own.participation,
    )
    same(found, expected)
    stored = replace(own, checkpoint=str(tmp_path / "checkpoint"))
    grid = LocalGrid(app(spread), range(N), cut_in(3))
    with pytest.raises(PowerCut):
        serve(model(), grid, stored)
    grid.change = None  # The nodes stay, and Flower keeps what they know.
    same(serve(model(), grid, stored), expected)


def read(found: History) -> Subnets:
    return read_subnets(found.metadata["roster"], found.widths)
