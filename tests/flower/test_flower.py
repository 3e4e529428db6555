"""The Flower side without Flower's engines: messages are handled in this process."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, Error, Message
from support import environment
from support.flower_app import broken_client, client, device, model, split, task
from support.flower_grid import SUPERLINK, LocalGrid
from torch import nn
from typer.testing import CliRunner

from hasa_opt import Clients, models
from hasa_opt.cli import app
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.federated import (
    Evaluation,
    Faults,
    History,
    LocalTraining,
    Server,
    Subnets,
    run,
)
from hasa_opt.flower import Device, Settings, client_app, serve
from hasa_opt.flower.messages import ARRAYS, MEASURED, PROFILE, TRAINED, load
from hasa_opt.flower.profiles import Profile
from hasa_opt.policies import Setting
from hasa_opt.policies.catalogue import read_policy
from hasa_opt.policies.recommended import Recommended
from hasa_opt.policies.subnets import read_subnets
from hasa_opt.policies.whole_units import Meter
from hasa_opt.tasks import LearningProblem, Split, Task, from_arrays

pytestmark = pytest.mark.slow

ALL = range(10)
MEASURED_COLUMNS = (
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "mean_width",
    "flops",
    "bytes_up",
    "bytes_down",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def settings(**changes: Any) -> Settings:
    return Settings(
        **{"clients": 10, "rounds": 3, "batch_size": 8, "node_timeout_s": 0.2} | changes
    )


def in_process(history: History, own: Settings, faults: Faults | None = None) -> History:
    """The same run by the loop of this library."""
    roster = history.metadata["roster"]
    return run(
        model(),
        task(),
        read_subnets(roster, history.widths),
        rounds=own.rounds,
        seed=own.seed,
        training=own.training,
        server=own.server,
        participation=replace(own.participation, faults=faults),
    )


def equal(first: History, second: History) -> bool:
    return all(torch.equal(first.weights[name], second.weights[name]) for name in second.weights)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aggregation": "selective", "seed": 5},
        {"clients_per_round": 4, "weight_power": 0.5},
        {"optimizer": "sgd", "clip_norm": 0.1, "proximal": 0.5},
        {"policy": "fjord", "budget": 0.4},
        {"policy": "fedrolex"},
        {"policy": "federated_dropout"},
    ],
)
def test_same_bits_and_measurements_as_the_loop(changes: dict[str, Any]) -> None:
    own = settings(**changes)
    found = serve(model(), LocalGrid(client, ALL), own)
    expected = in_process(found, own)
    assert equal(found, expected)
    for name in MEASURED_COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    assert found.events == ()


@cache
def grouped() -> Task:
    """Two kinds of clients, of other labels."""
    kinds = np.where(np.arange(10)[:, None] % 2, [[60, 50, 0, 1]], [[0, 1, 40, 70]])
    return replace(task(), counts=kinds)


def grouped_device(partition: int, partitions: int) -> Device:
    return Device.of(grouped(), partition)


grouped_client = client_app(model, grouped_device)


class PowerCut(Exception):
    """Ends a server."""


def test_an_allocator_decides_as_in_the_loop_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    own = settings(policy="recommended", rounds=7, clients_per_round=8, seed=4)
    found = serve(model(), LocalGrid(grouped_client, ALL), own)
    assert [each.round for each in found.decisions] == [0, 1]
    assert found.decisions[1].subnets.has_blocks
    counted = Clients(grouped().samples, counts=grouped().counts, names=grouped().client_names)
    setting = Setting(counted, np.zeros(10), own.budget, own.menu, own.seed)
    meter = Meter.of(model().sizes, partial(models.units, model()))
    expected = run(
        model(),
        task(),
        Recommended(setting, meter, 7),
        rounds=7,
        seed=4,
        training=replace(own.training, output_bias="local"),
        evaluation=Evaluation(on="personal", interpolation="validation"),
        participation=own.participation,
    )
    assert equal(found, expected)
    for name in MEASURED_COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)

    def cut(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train" and message.metadata.group_id == "4":
            raise PowerCut
        return reply

    stored = replace(own, checkpoint=str(tmp_path / "checkpoint"))
    grid = LocalGrid(grouped_client, ALL, cut)
    with pytest.raises(PowerCut):
        serve(model(), grid, stored)
    grid.change = None
    resumed = serve(model(), grid, stored)
    assert equal(resumed, found)
    np.testing.assert_array_equal(resumed.test_loss, found.test_loss)
    assert [each.round for each in resumed.decisions] == [0, 1]


@pytest.mark.parametrize("policy", ["heterofl_dynamic", "fedrolex_dynamic"])
def test_tiers_that_are_drawn_anew_are_those_of_the_loop(policy: str) -> None:
    own = settings(policy=policy, seed=2)
    found = serve(model(), LocalGrid(client, ALL), own)
    columns = Clients(task().samples, counts=task().counts, names=task().client_names)
    setting = Setting(columns, np.zeros(10), own.budget, own.menu, own.seed)
    meter = Meter.of(model().sizes, partial(models.units, model()))
    read = read_policy(policy)
    allocator = read.allocator(setting, meter, own.rounds, True)
    expected = run(
        model(), task(), allocator, rounds=own.rounds, seed=own.seed,
        training=read.changed("training", own.training), server=read.changed("server", Server()),
    )  # fmt: skip
    assert len({tuple(each.subnets.widths) for each in found.decisions}) == own.rounds
    assert equal(found, expected)
    np.testing.assert_array_equal(found.mean_width, expected.mean_width)
    np.testing.assert_array_equal(found.test_loss, expected.test_loss)


def test_widths_are_those_of_the_policy_within_the_budget() -> None:
    found = serve(model(), LocalGrid(client, ALL), settings(rounds=1, budget=0.4))
    share = found.mean_width[0] @ task().samples / task().samples.sum()
    assert 0.39 < share <= 0.4
    assert len(set(found.widths)) > 1


def test_a_cap_of_a_device_is_kept() -> None:
    def capped(partition: int, partitions: int) -> Device:
        return Device.of(task(), partition, max_width=0.25 if partition == 5 else 1.0)

    found = serve(model(), LocalGrid(client_app(model, capped), ALL), settings(rounds=1))
    assert found.widths[5] <= 0.25 < found.widths.max()


def test_clients_that_a_policy_leaves_out_send_nothing_and_are_tested(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def capped(partition: int, partitions: int) -> Device:
        return Device.of(task(), partition, max_width=0.25 if partition in (2, 5) else 1.0)

    grid = LocalGrid(client_app(model, capped), ALL)
    own = settings(policy="exclude", rounds=2)
    with caplog.at_level("INFO"):
        found = serve(model(), grid, own)
    assert found.widths[[2, 5]].tolist() == [0, 0]
    deployed = found.metadata["roster"]["deployed"]
    assert "c: 66 samples, left out of training, tested at width 0.25" in caplog.text
    expected = run(
        model(),
        task(),
        Subnets(found.widths, deployed=np.array(deployed)),
        rounds=2,
        training=LocalTraining(batch_size=own.batch_size),
    )
    assert equal(found, expected)
    for name in MEASURED_COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    assert found.bytes_up[:, [2, 5]].sum() == found.bytes_down[:, [2, 5]].sum() == 0
    assert np.isfinite(found.test_accuracy).all()
    assert found.events == ()
    asked = [m for m in grid.sent if m.metadata.message_type == "train"]
    assert {grid.partition(m.metadata.dst_node_id) for m in asked} == set(ALL) - {2, 5}


def test_failing_clients_are_left_out_and_named() -> None:
    own = settings()
    found = serve(model(), LocalGrid(broken_client, ALL), own)
    assert equal(found, in_process(found, own, faults=Faults(absent=(2, 5))))
    assert [(event.round, event.client, event.kind) for event in found.events] == [
        (number, row, "dropped") for number in range(3) for row in (2, 5)
    ]
    assert "cannot process an input of shape (1, 5)" in found.events[0].reason


def test_classes_on_another_axis_are_named_and_train_nothing() -> None:
    """Outputs and targets of one shape, three classes of three by three pixels."""

    def pixels(partition: int, partitions: int) -> Device:
        images = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(partition))
        own = Split(images, (images[:, 0] * 3).long())
        return Device(f"node {partition}", own, own, np.ones(3, dtype=np.int64))

    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    supernet = models.Supernet(module, torch.zeros(2, 1, 3, 3))
    grid = LocalGrid(client_app(lambda: supernet, pixels), range(2))
    with pytest.warns(UserWarning, match="no update was left"):
        found = serve(supernet, grid, settings(clients=2, rounds=1, budget=1.0, widths="0.5 1"))
    reasons = [event.reason for event in found.events if event.kind == "dropped"]
    assert len(reasons) == 2
    assert all("have the 3 classes on axis 1" in reason for reason in reasons)


def test_an_error_in_the_name_of_the_superlink_is_no_reply_of_the_node() -> None:
    def killed(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train" and row_of(message) == 7:
            reply = Message(Error(5, "Node unavailable"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = SUPERLINK
        return reply

    own = settings()
    found = serve(model(), LocalGrid(client, ALL, killed), own)
    assert equal(found, in_process(found, own, faults=Faults(absent=(7,))))
    assert {(event.client, event.reason) for event in found.events} == {(7, "no reply came")}


def row_of(message: Message) -> int:
    return int(message.content["work"]["client"])


def test_a_node_that_is_gone_is_not_asked_and_one_that_returns_is() -> None:
    grid = LocalGrid(client, ALL)
    own = settings(rounds=4)
    seen: list[int] = []

    def move(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "evaluate" and row_of(message) == 0:
            number = int(message.metadata.group_id)
            seen.append(number)
            if number == 0:
                grid.leave(4)
            if number == 2:
                grid.join(4)
        return reply

    grid.change = move
    found = serve(model(), grid, own)
    assert seen == [0, 1, 2, 3]
    assert [(event.round, event.client) for event in found.events] == [(1, 4), (2, 4)]
    assert found.events[0].reason == "its node is not connected"
    assert np.isfinite(found.train_loss[3, 4])


def test_width_and_samples_are_the_servers_own_and_shapes_are_exact() -> None:
    def lying(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train" and row_of(message) == 3:
            reply.content["work"] = message.content["work"]
            reply.content["work"]["width"] = 1.0
            state = reply.content[ARRAYS].to_torch_state_dict()
            state["layers.0.bias"] = state["layers.0.bias"][:1]
            reply.content[ARRAYS] = ArrayRecord(state)
        return reply

    own = settings()
    found = serve(model(), LocalGrid(client, ALL, lying), own)
    assert equal(found, in_process(found, own, faults=Faults(absent=(3,))))
    assert {(event.client, event.kind) for event in found.events} == {(3, "rejected")}
    assert "layers.0.bias" in found.events[0].reason


@pytest.mark.parametrize("gone", [MEASURED, TRAINED, ARRAYS])
def test_a_reply_that_cannot_be_read_is_refused_and_named(gone: str) -> None:
    def short(message: Message, reply: Message) -> Message:
        if row_of(message) == 3 and gone in reply.content:
            del reply.content[gone]
        return reply

    def row_of(message: Message) -> int:
        return int(message.content["work"].get("client", -1))

    own = settings(rounds=2)
    found = serve(model(), LocalGrid(client, ALL, short), own)
    assert equal(found, in_process(found, own, faults=Faults(absent=(3,))))
    assert {(event.client, event.kind) for event in found.events} == {(3, "rejected")}
    assert "cannot be read" in found.events[0].reason
    assert np.isnan(found.test_loss[:, 3]).all() == (gone == MEASURED)


def test_devices_that_count_other_labels_are_refused() -> None:
    def other(partition: int, partitions: int) -> Device:
        own = device(partition, partitions)
        return replace(own, counts=own.counts[: 3 if partition == 4 else 4])

    with pytest.raises(InputError, match="devices count 3, 4 labels"):
        serve(model(), LocalGrid(client_app(model, other), ALL), settings())


def test_a_node_of_another_app_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def foreign(message: Message, reply: Message) -> Message:
        del reply.content[PROFILE]["samples"]
        return reply

    with pytest.raises(InputError, match="0 of 10 nodes told who they are"):
        serve(model(), LocalGrid(client, ALL, foreign), settings())
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("counts", [[1.5, 2.0], [2.0**53, 1.0], [-1, 3], ["1", "2"]])
def test_counts_of_a_device_are_exact_or_refused(counts: list[float]) -> None:
    record = Profile(0, "phone", 3, np.array([1, 2]), 1.0, "accuracy", True).record()
    assert Profile.read(record).counts.tolist() == [1, 2]
    with pytest.raises(InputError):
        Profile.read({**record, "counts": counts})


@pytest.mark.filterwarnings("ignore:round . no update")
def test_nobody_answers_and_the_model_stays() -> None:
    def lost(message: Message, reply: Message) -> Message | None:
        return None if message.metadata.message_type == "train" else reply

    with pytest.warns(UserWarning, match="no update was left, the model is kept"):
        found = serve(model(), LocalGrid(client, ALL, lost), settings(rounds=2))
    assert all(torch.equal(found.weights[name], t) for name, t in model().state_dict().items())
    assert [event.kind for event in found.events].count("empty") == 2


def test_clients_are_tested_as_often_as_asked() -> None:
    found = serve(model(), LocalGrid(client, ALL), settings(rounds=5, evaluate_every=2))
    tested = np.isfinite(found.test_accuracy).all(axis=1)
    assert tested.tolist() == [False, True, False, True, True]
    assert equal(found, serve(model(), LocalGrid(client, ALL), settings(rounds=5)))


def test_too_few_nodes_is_said() -> None:
    with pytest.raises(InputError, match=r"9 of 10 nodes are connected after 0.2 s: start"):
        serve(model(), LocalGrid(client, range(9)), settings())


def test_two_nodes_with_one_partition_are_refused() -> None:
    with pytest.raises(InputError, match="two nodes hold partition 3"):
        serve(model(), LocalGrid(client, [*ALL, 3]), settings())


def test_a_node_without_partition_is_said(caplog: pytest.LogCaptureFixture) -> None:
    grid = LocalGrid(client, ALL)
    del next(iter(grid.contexts.values())).node_config["partition-id"]
    with pytest.raises(InputError, match="9 of 10 nodes told who they are"):
        serve(model(), grid, settings())


def test_a_budget_below_the_narrowest_width_is_refused_before_training() -> None:
    grid = LocalGrid(client, ALL)
    with pytest.raises(InfeasibleError, match="below the narrowest"):
        serve(model(), grid, settings(budget=0.1))
    assert {message.metadata.message_type for message in grid.sent} == {f"query.{PROFILE}"}


def test_batch_norm_is_refused() -> None:
    layers = (
        torch.nn.Linear(6, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 4),
    )
    net = models.Supernet(torch.nn.Sequential(*layers), torch.zeros(2, 6))
    with pytest.raises(InputError, match="GroupNorm"):
        serve(net, LocalGrid(client, ALL), settings())


def test_private_histograms_differ_are_released_once_and_are_not_repeatable() -> None:
    def released(grid: LocalGrid) -> list[list[int]]:
        seen: list[list[int]] = []

        def note(message: Message, reply: Message) -> Message:
            if message.metadata.message_type == f"query.{PROFILE}":
                seen.append(list(load(reply, PROFILE)["counts"]))
            return reply

        grid.change = note
        serve(model(), grid, settings(rounds=1, epsilon=0.5))
        return seen

    grid = LocalGrid(client, ALL)
    first = released(grid)
    truth = task().counts.tolist()
    assert all(row not in truth for row in first)
    assert min(min(row) for row in first) >= 0
    assert released(grid) == first
    assert released(LocalGrid(client, ALL)) != first


@pytest.mark.slow
def test_killed_server_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = serve(model(), LocalGrid(client, ALL), settings(rounds=5))
    place = tmp_path / "checkpoint"
    program = [sys.executable, "-m", "support.flower_killed", place]
    killed = subprocess.run(program, env=environment(), check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    assert sorted(path.name for path in place.glob("round-*")) == ["round-000001", "round-000002"]
    grid = LocalGrid(client, ALL)
    found = serve(model(), grid, settings(rounds=5, checkpoint=str(place)))
    assert equal(found, whole)
    np.testing.assert_array_equal(found.test_accuracy, whole.test_accuracy)
    queries = [m.metadata.message_type for m in grid.sent if "query" in m.metadata.message_type]
    assert queries == ["query.identity"] * 10


@pytest.mark.parametrize("moved", [(0, 1), (3, 9)])
def test_a_run_goes_on_with_the_clients_to_which_it_allocated(
    tmp_path: Path, moved: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Two devices have changed places while the server was down: their widths are not theirs."""
    place = str(tmp_path / "checkpoint")
    serve(model(), LocalGrid(client, ALL), settings(rounds=1, checkpoint=place))

    def swapped(partition: int, partitions: int) -> Device:
        return device(dict([moved, moved[::-1]]).get(partition, partition), partitions)

    grid = LocalGrid(client_app(model, swapped), ALL)
    with pytest.raises(InputError, match="8 of 10 nodes told who they are"):
        serve(model(), grid, settings(rounds=2, checkpoint=place))
    names = "abcdefghij"
    words = f"partition {moved[0]} holds client {names[moved[1]]!r}, not {names[moved[0]]!r}"
    assert words in caplog.text


def test_the_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    place = str(tmp_path / "checkpoint")
    serve(model(), LocalGrid(client, ALL), settings(checkpoint=place))
    with pytest.raises(InputError, match=r"learning_rate 0\.02, not 0\.1"):
        serve(model(), LocalGrid(client, ALL), settings(checkpoint=place, learning_rate=0.1))


def test_history_is_written_where_asked(tmp_path: Path) -> None:
    found = serve(model(), LocalGrid(client, ALL), settings(output=str(tmp_path / "out")))
    assert equal(History.load(tmp_path / "out"), found)


def test_settings_are_read_among_the_users_own() -> None:
    given = {"hasa.rounds": 7, "hasa.budget": 1, "hasa.batch-size": 4, "mine": "x"}
    found = Settings.read(given)
    assert (found.rounds, found.budget, found.batch_size) == (7, 1.0, 4)
    assert isinstance(found.budget, float)


def test_a_policy_brings_its_method() -> None:
    given = Settings(policy="heterofl", aggregation="full")
    assert (given.server.aggregation, given.training.scaler) == ("selective", True)
    assert Settings(policy="uniform").server.aggregation == "full"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hasa.round": 7}, "unknown setting 'round'"),
        ({"hasa.server-optimizer": "adam"}, "unknown setting 'server-optimizer'"),
        ({"hasa.clip-norm": -1.0}, "clip-norm = -1.0 must be at least 0"),
        ({"hasa.rounds": "7"}, "hasa.rounds = '7' is of another type: give a whole number"),
        ({"hasa.rounds": True}, "give a whole number"),
        ({"hasa.rounds": 0}, "rounds = 0 must be above 0"),
        ({"hasa.widths": "0.2; 0.5"}, "are not all numbers"),
        ({"hasa.policy": "best"}, "policy 'best' is not known"),
        ({"hasa.policy": "hasa+personal"}, "has options"),
        ({"hasa.evaluate-on": "supernet"}, "unknown evaluate-on 'supernet'"),
        ({"hasa.interpolation": "half"}, "is no number: write one from 0 to 1"),
        ({"hasa.interpolation": "1.5"}, "must be from 0 to 1"),
        ({"hasa.output-bias": "own"}, "unknown output_bias 'own'"),
        ({"hasa.optimizer": "lion"}, "unknown optimizer 'lion'"),
        ({"hasa.epsilon": -1.0}, "epsilon = -1.0 must be at least 0"),
        ({"hasa.scaler": 1}, "give true or false"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings.read(given)


@pytest.mark.parametrize("partition", [-1, 10])
def test_a_partition_that_the_task_has_not_is_refused(partition: int) -> None:
    with pytest.raises(InputError, match="clients 0 to 9"):
        Device.of(task(), partition)


def test_devices_are_checked() -> None:
    own = device(0, 10)
    with pytest.raises(InputError, match="train split of device 'x' is empty"):
        Device("x", split(0, 0), own.test, own.counts)
    with pytest.raises(InputError, match=r"max_width 1\.5"):
        Device("x", own.train, own.test, own.counts, max_width=1.5)


def test_a_device_without_validation_reports_nan() -> None:
    def short(partition: int, partitions: int) -> Device:
        own = device(partition, partitions)
        return Device(own.name, own.train, own.test, own.counts)

    found = serve(model(), LocalGrid(client_app(model, short), ALL), settings(rounds=1))
    assert np.isnan(found.validation_loss).all()
    assert np.isfinite(found.test_loss).all()


def prices() -> Task:
    """Numbers to predict, from which each of ten clients is a little apart."""
    inputs = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    owner = np.arange(400) % 10
    targets = inputs[:, 0] - inputs[:, 1] + torch.tensor(owner) / 10
    return from_arrays(inputs, targets, owner, loss="mse", metric="mae", validation_share=0.1)


def network() -> models.SupernetModel:
    return models.fresh(models.MLP(6, 1, hidden=(16, 8)), 0)


def test_other_problems_are_judged_by_their_metric_and_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own_task = prices()
    app = client_app(network, lambda partition, _: Device.of(own_task, partition))
    first = settings(rounds=1, checkpoint=str(tmp_path))
    serve(network(), LocalGrid(app, ALL), first)
    own = replace(first, rounds=3)
    with caplog.at_level("INFO"):
        found = serve(network(), LocalGrid(app, ALL), own)
    assert (found.metric, found.higher_is_better) == ("mae", False)
    assert re.search(r"Mean test mae of the clients' subnets: [0-9.]+$", caplog.text, re.M)
    expected = run(
        network(), own_task, found.widths, rounds=3, training=LocalTraining(batch_size=8)
    )
    assert equal(found, expected)
    for name in ("train_loss", "test_loss", "test_metric", "validation_metric"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)


def test_devices_that_are_judged_by_several_metrics_are_refused() -> None:
    def mixed(partition: int, partitions: int) -> Device:
        own = Device.of(prices(), partition)
        return replace(own, problem=LearningProblem("mse")) if partition == 3 else own

    with pytest.raises(InputError, match=r"judged by mae \(lower is better\), mse \(lower"):
        serve(network(), LocalGrid(client_app(network, mixed), ALL), settings(rounds=1))


@pytest.mark.slow
def test_a_device_does_not_import_the_server_half() -> None:
    code = (
        "import sys; from hasa_opt.flower import Device, client_app; "
        "bad = {'hasa_opt.flower.server', 'hasa_opt.flower.server', 'sympy', 'numba'};"
        "print(sorted(bad & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


EXAMPLE = Path(__file__).parents[2] / "examples" / "flower"


def written(directory: Path) -> dict[str, str]:
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_text("utf-8") for path in found}


def new(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["flower", "new", *map(str, arguments)])


@pytest.mark.slow
def test_the_example_is_what_the_command_writes(tmp_path: Path) -> None:
    done = new(tmp_path / "app")
    assert done.exit_code == 0, done.output
    assert "make simulate" in done.output
    tracked = written(EXAMPLE)
    kept = {name: text for name, text in tracked.items() if name in written(tmp_path / "app")}
    assert kept == written(tmp_path / "app")


@pytest.mark.slow
def test_an_app_of_a_file_of_texts_reads_that_file(tmp_path: Path) -> None:
    source = tmp_path / 'my "texts".csv'
    rows = [f"{who},{who}{n % 9} word{n % 7} word{n % 5}" for who in "xyz" for n in range(40)]
    source.write_text("\n".join(["who,what", *rows]))
    place = tmp_path / "app"
    options = ("--data", source, "--text-column", "what", "--client-column", "who")
    done = new(place, *options, "--model", "gru", "--hidden", 8, "--embedding", 4)
    assert done.exit_code == 0, done.output
    code = (
        "from supernet_app.task import data, device, model; from supernet_app.client import app; "
        "print(type(model()).__name__, max(model().sizes.values()), len(data()), device(2, 3).name)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["GRULanguageModel", "8", "3", "z"]


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = new(tmp_path, "--task", "digits")
    assert isinstance(done.exception, InputError)
    assert "is not empty: choose a new directory" in str(done.exception)
    assert written(tmp_path) == {"mine.txt": "mine"}


@pytest.mark.parametrize("options", [("--task", "words"), ("--model", "gpt")])
def test_nothing_is_written_for_a_wrong_name(tmp_path: Path, options: tuple[str, str]) -> None:
    done = new(tmp_path / "app", *options)
    assert isinstance(done.exception, InputError)
    assert not (tmp_path / "app").exists()
